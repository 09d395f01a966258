"""The wheel: code, configs, cards and weights of all bundles; it detects in an empty folder, without the repository."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from custom.commands import bundle, steps

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE", "custom", "nomaly", "bundles")
TOOLS = ("black", "mypy", "pytest", "nvflare", "onnx", "playwright", "mkdocs", "monailabel", "holoscan", "mlflow")
WEIGHTS = ("model.pt", "provenance.json")
MOST_MEGABYTES = 100  # that a registry accepts for a file


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of a copy of the repository: building leaves folders beside the sources."""
    pytest.importorskip("setuptools")
    copy, target = tmp_path_factory.mktemp("sources"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        ignored = shutil.ignore_patterns("__pycache__", *(("data", "output", "eval") if name == "bundles" else ()))
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, copy)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(target)]
    subprocess.run([*command, str(copy)], check=True, cwd=target, capture_output=True)
    return next(target.glob("nomaly-*.whl"))


@pytest.mark.slow
def test_wheel_holds_the_code_and_every_file_that_a_bundle_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        requirements = archive.read(next(n for n in names if n.endswith("METADATA"))).decode()
    for package in ("custom", "nomaly"):
        files = {
            p.relative_to(ROOT).as_posix() for p in (ROOT / package).rglob("*") if p.suffix in (".py", ".jinja", ".csv")
        }
        assert files <= names
    for folder in (path.parent for path in (ROOT / "bundles").glob("*/variant.json")):
        files = [p for part in ("configs", "docs") for p in (folder / part).iterdir()]
        files += [folder / "LICENSE", *(folder / "models" / name for name in WEIGHTS if (folder / "models").is_dir())]
        assert {f"nomaly/{path.relative_to(ROOT).as_posix()}" for path in files} <= names
    assert not any(name.startswith(("tests", "docs", "scripts", "nomaly/bundles/_base")) for name in names)
    assert {"custom/py.typed", "nomaly/py.typed"} <= names
    assert wheel.stat().st_size < MOST_MEGABYTES * 10**6
    needed = [line for line in requirements.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert len(needed) > 10 and not [line for line in needed if any(tool in line.lower() for tool in TOOLS)]


def test_demo_installs_neither_tools_nor_servers() -> None:
    pinned = (ROOT / "requirements.txt").read_text(encoding="utf-8").lower()
    assert "torch==" in pinned and not [tool for tool in TOOLS if tool in pinned]
    installs = [
        line for line in (ROOT / "scripts" / "environment.sh").read_text().splitlines() if "${install[@]}" in line
    ]
    assert [line.split('"${install[@]}" ')[1] for line in installs] == [
        "-r requirements.txt",
        '-e ".[dev]" -c requirements.txt',  # only with need=dev
        "--no-deps -e .",
    ]


@pytest.mark.slow
def test_installed_wheel_detects_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    environment, empty = tmp_path / "venv", tmp_path / "empty"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    binaries = environment / ("Scripts" if os.name == "nt" else "bin")
    own = sysconfig.get_path("purelib", "venv", {"base": str(environment), "platbase": str(environment)})
    # The libraries of this environment, without its own copy of Nomaly, which a file of paths leads to.
    (Path(own) / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [sys.executable, "-m", "pip", "--python", str(binaries / "python"), "install", "--quiet", "--no-deps"]
    subprocess.run([*install, "--ignore-installed", str(wheel)], check=True, capture_output=True)
    empty.mkdir()
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(*words: str | Path) -> subprocess.CompletedProcess[str]:
        command = [str(binaries / words[0]), *map(str, words[1:])]
        return subprocess.run(command, cwd=empty, env=variables, capture_output=True, text=True)

    places = run("python", "-c", "import custom, nomaly; print(custom.__file__, nomaly.__file__)").stdout.split()
    assert len(places) == 2 and all(Path(place).is_relative_to(environment) for place in places)
    film = ROOT / "tests" / "golden" / "chest" / "abnormal_3.png"
    done = run("nomaly", "detect", "ra_chest", film, "--output", "out", "--no_input_check")
    assert done.returncode == 0, done.stderr
    with open(empty / "out" / "results.csv", encoding="utf-8", newline="") as stream:
        [row] = csv.DictReader(stream)
    expected = json.loads((ROOT / "tests" / "golden" / "expected.json").read_text())["ra_chest"]["abnormal_3"]
    assert float(row["score"]) == pytest.approx(expected["score"], rel=1e-4) and row["decision"] == expected["decision"]
    assert [path.name for path in empty.iterdir()] == ["out"]
    text = f"import nomaly; print(repr(nomaly.load('ra_chest', input_check=False)({str(film)!r}).score))"
    assert float(run("python", "-c", text).stdout) == float(row["score"])
    listed = run("nomaly", "--help").stdout
    assert all(path.parent.name in listed for path in (ROOT / "bundles").glob("*/variant.json"))


def test_bundles_are_those_of_the_repository_where_it_is_and_else_of_the_package(monkeypatch, tmp_path) -> None:
    assert bundle.shipped_bundles() == bundle.BUNDLES == ROOT / "bundles"
    monkeypatch.setattr(bundle, "REPOSITORY", tmp_path / "bundles")
    assert bundle.shipped_bundles() == ROOT / "nomaly" / "bundles"


def test_runs_of_an_installed_bundle_write_to_the_current_folder(monkeypatch, tmp_path) -> None:
    shutil.copytree(ROOT / "bundles" / "ra_chest" / "configs", tmp_path / "ra_chest" / "configs")
    monkeypatch.setattr(bundle, "BUNDLES", tmp_path)
    monkeypatch.chdir(tmp_path)
    Image.new("L", (64, 64), 90).save(tmp_path / "healthy.png")
    ran: list[dict] = []
    monkeypatch.setattr(bundle, "run_configs", lambda files, overrides, tracking=None: ran.append(overrides))

    bundle.run_bundle("ra_chest", ["train"], {})
    bundle.run_bundle("ra_chest", ["evaluate"], {"output_dir": "mine"})
    steps.calibrate("ra_chest", [], {"studies": "healthy.png"}, "site")
    steps.calibrate("ra_chest", [], {"studies": "healthy.png"})
    steps.calibrate("ra_chest", [], {"studies": "healthy.png", "into_weights": "mine.pt"})
    steps.adapt("ra_chest", [], {})

    assert ran[0]["output_dir"] == os.path.join("results", "ra_chest", "train")
    assert ran[0]["phantom_dir"] == os.path.join("results", "ra_chest", "phantom")
    assert ran[1]["output_dir"] == "mine" and "output_dir" not in ran[2]
    assert ran[2]["calibration_file"] == os.path.join("site", "calibration.json")
    assert ran[3]["calibration_file"] == os.path.join("results", "ra_chest", "calibrate", "calibration.json")
    assert "calibration_file" not in ran[4]  # beside the copy of the weights
    assert ran[5]["output_dir"] == os.path.join("results", "ra_chest", "adapt")


def test_runs_of_any_other_bundle_write_where_its_config_states() -> None:
    assert bundle.outside(ROOT / "bundles" / "ra_chest", "train", {}) == {}
