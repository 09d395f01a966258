"""Options of the MONAI Label server, read with the standard library only."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from custom.errors import NomalyError
from custom.label.bundles import BUNDLES, Model
from custom.label.options import read_options

ROOT = Path(__file__).parents[2]


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A weights file, of which only the existence is looked at."""
    file = tmp_path / "model.pt"
    file.touch()
    return file


def test_bundle_with_weights_is_served_under_its_name(weights, tmp_path):
    words = ["--bundle", "ra_brain", "--weights", str(weights), "--studies", str(tmp_path), "--port", "18999"]
    (tmp_path / "site.json").touch()

    found = read_options([*words, "--calibration", str(tmp_path / "site.json")])

    assert found.models == {"ra_brain": Model(BUNDLES / "ra_brain", weights.resolve(), tmp_path / "site.json")}
    assert (found.studies, found.port) == (str(tmp_path.resolve()), 18999)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--bundle", "ra_foot"], "--bundle must be a bundle's name or path, got ra_foot: choose one of memmc_"),
        (
            ["--bundle", "ra_chest=WEIGHTS", "--studies", "nowhere"],
            "--studies must be a folder, but nowhere is not one",
        ),
        (["--bundle", "ra_chest=WEIGHTS", "--port", "70000"], "--port must be between 1 and 65535, got 70000"),
    ],
)
def test_mistakes_are_reported(words, message, weights, tmp_path):
    words = ["--studies", str(tmp_path), *(word.replace("WEIGHTS", str(weights)) for word in words)]

    with pytest.raises(NomalyError, match=message):
        read_options(words)


def test_port_in_use_is_reported(weights, tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(NomalyError, match=f"--port must be free, but {port} cannot be used"):
            read_options([f"--bundle=ra_chest={weights}", "--studies", str(tmp_path), f"--port={port}"])


def test_address_of_a_server_of_studies_is_kept_as_it_is(weights, monkeypatch):
    monkeypatch.setattr("custom.label.options.why_unreachable", lambda address: "")
    words = [f"--bundle=ra_chest={weights}", "--studies=http://127.0.0.1:8042/dicom-web", "--port=18999"]

    assert read_options(words).studies == "http://127.0.0.1:8042/dicom-web"


def test_server_of_studies_that_does_not_answer_is_reported(weights):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/dicom-web"
        with pytest.raises(NomalyError, match=rf"--studies must be .*, but {address} does not respond \(.*\): "):
            read_options([f"--bundle=ra_chest={weights}", "--studies", address, "--port=18999"])


def test_help_and_mistakes_need_no_package_at_all():
    def run(*words: str) -> subprocess.CompletedProcess:
        command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); "]
        command[-1] += f"from custom.label.options import main; sys.exit(main({list(words)!r}))"
        return subprocess.run(command, capture_output=True, text=True)

    assert "--studies" in run("--help").stdout and "DICOMweb" in run("--help").stdout
    mistake = run("--studies", "nowhere", "--bundle", "ra_foot")
    assert mistake.returncode == 2 and mistake.stderr.startswith("monai_label.sh: --bundle must be")
    assert mistake.stderr.count("\n") == 1
