"""A federated training of two sites by NVFlare's simulator, where it is installed, and what is told of mistakes."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from custom.detector.weights import read_tensors
from custom.synthetic.dataset import make_phantom
from tests.support.scripts import load_script

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "federated" / "job.py"
PHANTOM = {"num_validation": 2, "num_calibration": 0, "num_test_healthy": 1, "num_test_abnormal": 1, "size": 32}
KNOBS = {"warmup_epochs": 1, "val_interval": 1, "batch_size": 1}
# NVFlare's simulator parts words at the spaces of paths.
without_spaces = pytest.mark.skipif(" " in f"{sys.executable}{ROOT}", reason="a path has spaces, which NVFlare parts")
with_nvflare = pytest.mark.skipif(
    importlib.util.find_spec("nvflare") is None, reason="NVFlare is not installed: pip install .[federated]"
)


@pytest.fixture(scope="module")
def sites(tmp_path_factory) -> dict[str, Path]:
    """Data sets of one and of three films."""
    folder = tmp_path_factory.mktemp("two sites")
    numbers = {"a": 1, "b": 3}
    return {
        name: Path(make_phantom(folder / name, "chest", seed, num_training=number, **PHANTOM))
        for seed, (name, number) in enumerate(numbers.items())
    }


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch, sites: dict[str, Path], tmp_path: Path, capsys):
    """Run the script in this process with both sites; gives its exit code and what it says of a mistake."""
    module = load_script("federated/job.py")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)

    def run(*words: str) -> tuple[int, str]:
        given = [f"--site={name}={folder}" for name, folder in sites.items()]
        defaults = ["ra_chest", *given, "--output", str(tmp_path / "new"), "--rounds", "1"]
        monkeypatch.setattr(sys, "argv", ["job.py", *defaults, *words])
        return module.main(), capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    "words, message",
    [
        (
            ["--site=c"],
            "job.py: --site must be given at least twice, each as NAME=FOLDER with a different name",
        ),
        (
            ["--site=server=c"],
            "job.py: --site must not be named server, which NVFlare uses itself: choose another name.",
        ),
        (
            ["--ckpt_dir=old"],
            "job.py: --ckpt_dir is set by the job: use --site, --output, --rounds and --local_epochs.",
        ),
        (["--output=file"], "job.py: --output must be a new folder, but "),
        (["--write_job=full"], "job.py: --write_job must be a new folder, but full contains files: give another, or"),
        (["--site=a=elsewhere"], "job.py: --site must be given at least twice, each as NAME=FOLDER"),
        (["--site=c=nowhere"], "job.py: dataset_dir must be an existing folder, got "),
        (["--rounds=0"], "job.py: --rounds must be 1 or more, got 0."),
        (["--local_epochs=0"], "job.py: --local_epochs must be 1 or more, got 0."),
        (["--output=a b"], "job.py: --output must not have spaces in its path, at which NVFlare splits it, got "),
        (["--output=full"], "job.py: --output must be a new folder, but "),
        ([], "job.py: NVFlare must be installed, but is not: run `pip install .[federated]`."),
    ],
)
def test_mistakes_are_told_before_anything_starts(
    job, words: list[str], message: str, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full" / "results").mkdir(parents=True)
    (tmp_path / "file").write_text("mine")
    code, told = job(*words)
    assert code == 2 and told.startswith(message) and told.count("\n") == 1
    assert not (tmp_path / "new").exists()


@with_nvflare
def test_misspelt_option_gets_the_nearest_name_and_options_may_stand_anywhere(job, monkeypatch, tmp_path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    code, message = job("--local-epoch", "2", "--batch_size=1")
    assert code == 2 and "no parameter is called local_epoch: did you mean --local_epochs?" in message


def test_python_whose_path_has_spaces_is_told_before_nvflare_fails(job, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
    monkeypatch.setattr(sys, "executable", "/a b/bin/python")
    advice = "must not have spaces in its path, at which NVFlare splits it, got /a b/bin/python."
    assert job() == (2, f"job.py: Python (NOMALY_VENV makes it elsewhere) {advice}\n")
    assert not (tmp_path / "new").exists()


def command(sites: dict[str, Path], output: Path, *words: str | Path) -> subprocess.CompletedProcess:
    """Run the script in a process of its own for a round of both sites."""
    given = [f"--site={name}={folder}" for name, folder in sites.items()]
    arguments = [sys.executable, SCRIPT, "ra_chest", *given, "--output", output, "--rounds", "1", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(list(map(str, arguments)), env=environment, capture_output=True, text=True)


@with_nvflare
@without_spaces
@pytest.mark.slow  # a minute
def test_nvflare_averages_two_sites_by_their_slices(sites: dict[str, Path], tiny_network, tmp_path: Path) -> None:
    parameters = tiny_network("ra_chest") | KNOBS
    words = [word for name, value in parameters.items() for word in (f"--{name}", json.dumps(value))]
    done = command(sites, tmp_path / "run", *words)
    assert done.returncode == 0, done.stderr

    model = read_tensors(tmp_path / "run" / "models" / "model.pt")
    kept = [read_tensors(tmp_path / "run" / "sites" / name / "models" / "checkpoint.pt")["network"] for name in sites]
    assert model["calibration.image.healthy_scores"].numel() == 0
    for key, value in model.items():
        if key.startswith("reconstructor.") and value.is_floating_point():
            mean = (1 * kept[0][key].double() + 3 * kept[1][key].double()) / 4
            torch.testing.assert_close(value.double(), mean, rtol=1e-5, atol=1e-6, msg=key)


@with_nvflare
@without_spaces
@pytest.mark.slow  # half a minute
def test_what_stops_a_site_is_told_in_its_own_words(sites: dict[str, Path], tiny_network, tmp_path: Path) -> None:
    parameters = tiny_network("ra_chest") | KNOBS | {"batch_size": 2}  # site a has one film
    words = [word for name, value in parameters.items() for word in (f"--{name}", json.dumps(value))]
    done = command(sites, tmp_path / "run", *words)
    assert done.returncode == 2
    told = done.stderr.splitlines()[-1]
    reason = "a: training needs at least one whole batch of 2 images, got 1: "
    assert told.startswith(f"job.py: the training stopped before all sites finished. {reason}") and "b: " not in told
    assert told.endswith(f" Logs: {tmp_path}/run/nvflare.") and not (tmp_path / "run" / "models").exists()


@with_nvflare
@pytest.mark.slow  # 10 seconds
def test_written_job_names_no_data(sites: dict[str, Path], tmp_path: Path) -> None:
    done = command(sites, tmp_path / "run", "--write_job", tmp_path / "job")
    assert done.returncode == 0, done.stderr
    texts = {path.name: path.read_text() for path in (tmp_path / "job" / "nomaly").rglob("*") if path.is_file()}
    assert {"meta.json", "config_fed_client.json", "config_fed_server.json", "client.py"} <= texts.keys()
    assert not any(str(folder) in text for folder in sites.values() for text in texts.values())
    own = [json.loads((tmp_path / "run" / "sites" / name / "site.json").read_text()) for name in sites]
    assert [settings["dataset_dir"] for settings in own] == list(map(str, sites.values()))
