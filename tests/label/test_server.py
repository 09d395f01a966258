"""The server itself, in its own environment: requests as a viewer makes them, beside nomaly detect."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import itk
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from custom.commands.bundle import BUNDLES
from custom.reporting.results import StudyResult, read_results_csv

ROOT = Path(__file__).parents[2]
VENV = Path(os.environ.get("NOMALY_LABEL_VENV", ROOT / ".venv-label"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (VENV / "installed").is_file(),
        reason=f"MONAI Label is not installed in {VENV}: run scripts/monai_label.sh --install",
    ),
]
LONGEST_START = 120  # seconds, on a busy machine


@dataclass
class Server:
    """A server that runs: its address, its studies and the folder that it may pass files through."""

    address: str
    studies: Path
    passing: Path

    def get(self, path: str) -> dict:
        """Answer to a GET."""
        return json.loads(self.request("GET", path)[1])

    def infer(self, model: str, image: str = "", output: str = "", params: dict | None = None, file=None, **query):
        """Status and body of an infer request; `file` = (name, bytes)."""
        words = "".join(f"&{name}={quote(value)}" for name, value in ({"output": output} | query).items() if value)
        files = [("file", *file)] if file else []
        return self.request("POST", f"/infer/{model}?image={quote(image)}{words}", {"params": params or {}}, files)

    def request(self, method: str, path: str, fields: dict | None = None, files: list | None = None):
        """Status and body of a multipart request."""
        mark, parts = uuid.uuid4().hex, []
        for name, value in (fields or {}).items():
            parts.append(f'Content-Disposition: form-data; name="{name}"\r\n\r\n{json.dumps(value)}'.encode())
        for name, filename, content in files or []:
            head = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\n\r\n'
            parts.append(head.encode() + content)
        body = b"".join(b"--%s\r\n%s\r\n" % (mark.encode(), part) for part in parts) + f"--{mark}--\r\n".encode()
        headers = {"Content-Type": f"multipart/form-data; boundary={mark}"} if parts else {}
        data = body if parts else None
        request = urllib.request.Request(self.address + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command(*words: str | Path) -> list[str]:
    """Command line of the server."""
    return ["bash", str(ROOT / "scripts" / "monai_label.sh"), *map(str, words)]


@pytest.fixture(scope="module")
def bundles(trained, tiny_network, tmp_path_factory) -> dict[str, Path]:
    """Copies of two bundles whose networks are tiny, with their weights."""
    folders = {}
    for bundle in ("ra_brain", "ra_chest"):
        folder = tmp_path_factory.mktemp("bundles") / bundle
        shutil.copytree(BUNDLES / bundle / "configs", folder / "configs")
        config = json.loads((folder / "configs" / "inference.json").read_text())
        (folder / "configs" / "inference.json").write_text(json.dumps(config | tiny_network(bundle) | {"gate": False}))
        shutil.copytree(trained(bundle) / "models", folder / "models")
        folders[bundle] = folder
    return folders


@pytest.fixture(scope="module")
def server(bundles, tiny_data, tmp_path_factory) -> Iterator[Server]:
    """The server with both bundles, a volume, a picture, and a file that is no image."""
    folder = tmp_path_factory.mktemp("server")
    studies, passing = folder / "studies", folder / "passing"
    studies.mkdir()
    passing.mkdir()
    for bundle, name in (("ra_brain", "head.nii.gz"), ("ra_chest", "film.png")):
        data = tiny_data(bundle)
        shutil.copy(data / json.loads((data / "datalist.json").read_text())["test"][-1]["image"], studies / name)
    (studies / "broken.png").write_bytes(b"no picture")
    port = free_port()
    words = [f"--bundle={folder}" for folder in bundles.values()]
    environment = {**os.environ, "TMPDIR": str(passing), "OMP_NUM_THREADS": "1"}
    with open(folder / "log", "w") as log:
        started = command(*words, "--studies", studies, "--port", str(port))
        process = subprocess.Popen(started, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            running = Server(f"http://127.0.0.1:{port}", studies, passing)
            wait_for(running, process, folder / "log")
            yield running
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
    assert code == 0, (folder / "log").read_text()
    assert list(passing.glob("nomaly-label-*")) == []  # nothing of a patient stays behind


def wait_for(server: Server, process: subprocess.Popen, log: Path) -> None:
    """Wait until the server answers."""
    end = time.monotonic() + LONGEST_START
    while time.monotonic() < end and process.poll() is None:
        try:
            server.get("/info/")
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"the server did not start: {log.read_text()}")


@pytest.fixture(scope="module")
def detected(nomaly, bundles, server, tmp_path_factory):
    """Row and folder of what nomaly detect finds in a study of the server."""

    def detect(bundle: str, name: str) -> tuple[StudyResult, Path]:
        output = tmp_path_factory.mktemp("detect")
        assert nomaly("detect", bundles[bundle], server.studies / name, "--output", output).code == 0
        [row] = read_results_csv(output / "results.csv")
        return row, output / row.study

    return detect


def test_info_lists_the_models_with_their_options(server):
    info = server.get("/info/")

    assert list(info["models"]) == ["ra_brain", "ra_chest"] and info["trainers"] == {}
    for name, dimension in (("ra_brain", 3), ("ra_chest", 2)):
        model = info["models"][name]
        assert (model["type"], model["labels"], model["dimension"]) == ("segmentation", {"anomaly": 1}, dimension)
        assert model["config"] == {"threshold": "calibrated", "output": ["mask", "bands"]}
        assert "Not a medical device" in model["description"]
    assert set(server.get("/datastore/?output=all")["objects"]) == {"head", "film", "broken"}


def test_volume_has_the_mask_map_and_numbers_of_nomaly_detect(server, detected, tmp_path):
    row, folder = detected("ra_brain", "head.nii.gz")

    told = json.loads(server.infer("ra_brain", "head", "json")[1])
    for output in ("mask", "map"):
        (tmp_path / f"{output}.nii.gz").write_bytes(server.infer("ra_brain", "head", "image", {"output": output})[1])

    # NumPy 1 there, NumPy 2 here: sums of float64 may be rounded in another order
    assert told["score"] == pytest.approx(row.score, rel=1e-6)
    assert [told[name] for name in ("p_value", "decision", "lesion_count")] == [
        row.p_value,
        row.decision,
        row.lesion_count,
    ]
    for name, tolerance in (("mask", 0), ("map", 1e-5)):
        here, there = nib.load(folder / f"{name}.nii.gz"), nib.load(tmp_path / f"{name}.nii.gz")
        assert np.allclose(here.get_fdata(), there.get_fdata(), rtol=0, atol=tolerance)
        assert np.array_equal(here.affine, there.affine) and here.get_data_dtype() == there.get_data_dtype()


def test_picture_has_the_mask_and_numbers_of_nomaly_detect(server, detected):
    row, folder = detected("ra_chest", "film.png")

    told = json.loads(server.infer("ra_chest", "film", "json")[1])
    mask = np.asarray(Image.open(io.BytesIO(server.infer("ra_chest", "film", "image")[1])))

    assert told["score"] == pytest.approx(row.score, rel=1e-6)
    assert (told["p_value"], told["decision"]) == (row.p_value, row.decision)
    assert np.array_equal(mask == 1, np.asarray(Image.open(folder / "mask.png")) == 255)
    assert {*np.unique(mask)} == {0, 1}


def test_upload_and_session_give_what_the_store_gives(server):
    film = (server.studies / "film.png").read_bytes()
    status, session = server.request("PUT", "/session/", files=[("files", "Doe.png", film)])
    assert status == 200

    by_name = server.infer("ra_chest", "film", "image")
    assert by_name[0] == 200
    assert server.infer("ra_chest", output="image", file=("film.png", film)) == by_name
    assert server.infer("ra_chest", "Doe", "image", session_id=json.loads(session)["session_id"]) == by_name


def test_answer_to_a_viewer_has_image_and_numbers(server):
    status, body = server.infer("ra_chest", "film", params={"threshold": "calibrated", "output": "bands"})

    assert status == 200
    assert b'name="params"' in body and b'name="image"' in body and b"over twice the threshold" in body


def test_nrrd_is_given_to_viewers_that_ask_for_it(server, tmp_path):
    wanted = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False}  # as OHIF does
    (tmp_path / "mask.nrrd").write_bytes(server.infer("ra_brain", "head", "image", wanted)[1])
    (tmp_path / "mask.nii.gz").write_bytes(server.infer("ra_brain", "head", "image")[1])

    nrrd, nifti = (itk.imread(str(tmp_path / f"mask.{suffix}")) for suffix in ("nrrd", "nii.gz"))
    assert b"encoding: raw" in (tmp_path / "mask.nrrd").read_bytes()[:1000]
    assert np.array_equal(itk.array_from_image(nrrd), itk.array_from_image(nifti)) and itk.array_from_image(nrrd).any()
    for part in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert np.allclose(np.asarray(getattr(nrrd, part)()), np.asarray(getattr(nifti, part)()))


def test_labels_are_kept_among_the_studies(server):
    mask = server.infer("ra_chest", "film", "image")[1]

    assert server.request("PUT", "/datastore/label?image=film&tag=final", files=[("label", "x.png", mask)])[0] == 200
    assert (server.studies / "labels" / "final" / "film.png").read_bytes() == mask


@pytest.mark.parametrize(
    "request_, status, words",
    [
        ({"model": "ra_foot", "image": "film"}, 404, "model must be one of ra_brain, ra_chest, got 'ra_foot'"),
        ({"model": "ra_chest", "image": "nothing"}, 404, "image must be the name of an image of the server"),
        ({"model": "ra_chest", "image": "../../etc/passwd"}, 404, "image must be the name of an image of the server"),
        ({"model": "ra_chest", "image": "/etc/passwd"}, 404, "image must be the name of an image of the server"),
        (
            {"model": "ra_chest", "image": "film", "params": {"image": "/etc/passwd"}},
            404,
            "image must be the name of an image of the server",
        ),
        ({"model": "ra_chest", "image": "broken"}, 422, "the file must be a readable PNG"),
        ({"model": "ra_chest", "file": ("x.txt", b"words")}, 422, "image must be a file of one of .nii.gz, .nii, .dcm"),
        ({"model": "ra_chest", "file": ("x.png", b"")}, 422, "the file must hold an image, but it is empty (0 bytes)"),
        ({"model": "ra_brain", "file": ("x.nii.gz", b"no gzip")}, 422, "the file must be a readable"),
        ({"model": "ra_foot", "file": ("x.png", b"left")}, 404, "model must be one of"),
        (
            {"model": "ra_chest", "image": "film", "params": {"threshold": -1}},
            422,
            "threshold must be a number above 0",
        ),
        (
            {"model": "ra_chest", "image": "film", "params": {"output": "heat"}},
            422,
            "output must be one of mask, bands",
        ),
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


def test_wrong_weights_end_the_start_with_one_sentence(bundles, server):
    def start(*words: str | Path) -> subprocess.CompletedProcess:
        words = (*words, "--studies", server.studies, "--port", str(free_port()))
        return subprocess.run(command(*words), capture_output=True, text=True, timeout=LONGEST_START)

    missing = start("--bundle", bundles["ra_chest"], "--weights", "none.pt")
    foreign = start("--bundle", BUNDLES / "ra_chest", "--weights", bundles["ra_brain"] / "models" / "model.pt")

    assert missing.returncode == foreign.returncode == 2
    assert "weights of ra_chest must be a file, but there is none at none.pt" in missing.stderr
    assert "is of another architecture" in foreign.stderr and "Traceback" not in foreign.stderr
