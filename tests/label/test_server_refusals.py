"""What the server refuses, while it stays up: requests, and bundles at its start."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from tests.support.label_server import LONGEST_START, NEEDS_LABEL, RENAMED, VENV, Server, command, free_port, run_server

pytestmark = NEEDS_LABEL


@pytest.mark.parametrize(
    "request_, status, words",
    [
        (
            {"model": "ra_foot", "image": "film"},
            404,
            "model must be one of ra_brain, ra_chest, films of site B (2), got",
        ),
        ({"model": "ra_chest", "image": "nothing"}, 404, "image must be the name of an image on the server"),
        ({"model": "ra_chest", "image": "../../etc/passwd"}, 404, "image must be a name without / and \\ that"),
        ({"model": "ra_chest", "image": "/etc/passwd"}, 404, "image must be a name without / and \\ that"),
        ({"model": "ra_chest", "image": "labels"}, 404, "image must be the name of an image on the server"),
        ({"model": "ra_chest", "session_id": "ended"}, 404, "got '': /datastore/ lists them; sessions expire."),
        ({"model": "ra_chest", "session_id": "../../x"}, 404, "session_id must be a name without / and \\ that"),
        (
            {"model": "ra_chest", "image": "film", "params": {"image": "/etc/passwd"}},
            404,
            "image must be the name of an image on the server",
        ),
        ({"model": "ra_chest", "image": "broken"}, 422, "the file must be a readable PNG"),
        ({"model": "ra_chest", "image": "broken_film"}, 422, "DICOM"),
        ({"model": "ra_brain", "image": "broken_series"}, 422, "DICOM"),
        ({"model": "ra_brain", "image": "empty_series"}, 422, "DICOM"),
        ({"model": "ra_chest", "file": ("x.dcm", b"no film")}, 422, "DICOM"),
        ({"model": "ra_chest", "file": ("x.txt", b"words")}, 422, "image must be one of .nii.gz, .nii, .dcm"),
        ({"model": "ra_chest", "file": ("x.png", b"")}, 422, "the file is empty (0 bytes)"),
        ({"model": "ra_brain", "file": ("x.nii.gz", b"no gzip")}, 422, "the file must be a readable"),
        ({"model": "ra_foot", "file": ("x.png", b"left")}, 404, "model must be one of"),
        (
            {"model": "ra_chest", "image": "film", "params": {"threshold": -1}},
            422,
            "threshold must be a number above 0",
        ),
        (
            {"model": "ra_chest", "image": "film", "params": {"treshold": 1}},
            422,
            "treshold is not an option: did you mean threshold?",
        ),
        (
            {"model": "ra_chest", "image": "film", "params": {"output": "heat"}},
            422,
            "output must be one of mask, bands",
        ),
        (
            {"model": "ra_chest", "image": "film", "params": {"save_label": True, "label_tag": "../../x"}},
            422,
            "label_tag must be a name without / and \\ that",
        ),
        ({"model": "ra_chest", "image": "film", "params": ["no options"]}, 500, "the request failed: "),
        ({"model": "ra_chest"}, 500, "Neither Image nor File"),
    ],
)
def test_bad_requests_are_answered_with_their_reason_and_leave_nothing(server, request_, status, words):
    found, body = server.infer(**request_)

    assert (found, words in json.loads(body)["detail"]) == (status, True), body
    assert server.infer("ra_chest", "film", "json")[0] == 200
    end = time.monotonic() + 10  # MONAI Label removes files after it has answered
    while left := [path for path in server.passing.glob("nomaly-label-*/tmp*") if path.is_file()]:
        assert time.monotonic() < end, left
        time.sleep(0.1)


def test_other_web_pages_may_not_ask(server):
    def allowed(origin: str) -> str | None:
        request = urllib.request.Request(f"{server.address}/info/", headers={"Origin": origin})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.headers.get("Access-Control-Allow-Origin")

    assert allowed("https://example.org") is None
    assert allowed(server.address) == server.address


def files_of(server: Server) -> set[Path]:
    """All that lies in the folder of the studies and beside it, but what the server passes through."""
    return {path for path in server.studies.parent.rglob("*") if server.passing not in path.parents}


def test_nothing_is_written_outside_of_the_studies(server):
    film = (server.studies / "film.png").read_bytes()
    before = files_of(server)

    for path, name in (
        ("/datastore/?image=../evil", "file"),
        ("/datastore/image?image=%2e%2e%2fevil", "file"),
        ("/datastore/label?image=film&tag=../../evil", "label"),
        ("/session/?uncompress=true", "files"),
    ):
        status, body = server.request("PUT", path, files=[(name, "x.png", film)])
        assert status in (404, 422) and " must be " in json.loads(body)["detail"], body
    assert files_of(server) == before


@pytest.mark.parametrize(
    "method, path, fields, status, words",
    [
        ("GET", "/session/none", None, 404, "Session (none) Not Found"),
        ("DELETE", "/session/none", None, 404, "Session Not Found"),
        ("DELETE", "/datastore/image?id=none", None, 404, "lists the images: Image none not found."),
        ("PUT", "/datastore/label/info?label=none&tag=final", {"info": {}}, 404, "lists the labels: Label: none"),
        ("PUT", "/model/ra_chest", None, 422, "file"),
        ("GET", "/ohif/../../../app.py", None, 404, "the path must not contain .."),
    ],
)
def test_other_bad_requests_are_answered_with_their_reason(server, method, path, fields, status, words):
    found, body = server.request(method, path, fields)

    assert (found, words in str(json.loads(body)["detail"])) == (status, True), body


def test_params_that_are_not_json_are_refused(server):
    data = urllib.parse.urlencode({"params": "{threshold: 1}"}).encode()

    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.urlopen(f"{server.address}/infer/ra_chest?image=film", data, timeout=60)

    assert (answer.value.code, "params must be JSON: " in json.load(answer.value)["detail"]) == (422, True)


def test_upload_that_is_too_large_is_refused_before_it_is_sent(server):
    connection = http.client.HTTPConnection(server.address.removeprefix("http://"), timeout=60)
    connection.putrequest("POST", "/infer/ra_chest")
    connection.putheader("Content-Length", str(5 * 2**30))
    connection.endheaders()

    answer = connection.getresponse()

    assert answer.status == 413 and "a request must have at most 4 GiB, got 5.0" in json.load(answer)["detail"]
    assert server.infer("ra_chest", "film", "json")[0] == 200


def test_bundle_of_another_release_has_a_server_of_its_own(bundles, server, tmp_path):
    packed = shutil.copytree(bundles[RENAMED], tmp_path / "ra_chest")
    (packed / "custom" / "__init__.py").write_text('__version__ = "0.0.9"\n')

    words = [VENV / "bin" / "python", "-m", "custom.label.server", "--bundle", "."]
    with run_server(words, free_port(), server.studies, tmp_path / "log", cwd=packed) as other:
        answer = json.loads(other.infer("ra_chest", "film", "json")[1])

    assert answer["nomaly"] == "0.0.9"
    assert answer["score"] == json.loads(server.infer("ra_chest", "film", "json")[1])["score"]


def test_bundles_that_cannot_be_served_end_the_start_with_one_sentence(bundles, server, tmp_path):
    def start(*words: str | Path) -> str:
        words = (*words, "--studies", server.studies, "--port", str(free_port()))
        result = subprocess.run(command(*words), capture_output=True, text=True, timeout=LONGEST_START)
        assert result.returncode == 2 and "Traceback" not in result.stderr, result.stderr
        return result.stderr

    packed = shutil.copytree(bundles[RENAMED], tmp_path / "packed")
    (packed / "custom" / "__init__.py").write_text('__version__ = "0.0.9"\n')
    weights = bundles["ra_chest"] / "models" / "model.pt"
    loose = Path(shutil.copy(bundles["ra_brain"] / "models" / "model.pt", tmp_path))

    assert "weights of ra_chest: file not found: " in start("--bundle", "ra_chest=none.pt")
    assert 'weights must belong to bundle "Brain MRI anomaly detection' in start(f"--bundle=ra_brain={weights}")
    assert "weights must be of the bundle ra_chest, but " in start("--bundle", "ra_chest", "--weights", loose)
    assert "packed must be for Nomaly" in start("--bundle", bundles["ra_chest"], "--bundle", packed)
