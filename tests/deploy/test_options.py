"""Options of the MONAI Deploy application."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from custom import __version__
from custom.commands.bundle import BUNDLES
from custom.deploy import options
from custom.deploy.__main__ import main
from custom.deploy.options import INPUT, MODELS, OUTPUT, read_options
from custom.errors import NomalyError

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_container(monkeypatch):
    """No folders of a container around the test."""
    for variable in (INPUT, OUTPUT, MODELS):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A command line without mistakes."""
    return ["--bundle", "ra_chest", "--input", str(tmp_path), "--output", str(tmp_path / "results")]


def test_series_of_the_bundles_modalities_are_scored_by_default(words, tmp_path):
    found = read_options(words)

    assert (found.bundle, found.input, found.output) == (BUNDLES / "ra_chest", tmp_path, tmp_path / "results")
    assert [bool(re.search(found.series["Modality"], word)) for word in ("CR", "DX", "MR", "CRX")] == [1, 1, 0, 0]
    assert found.parameters == {}


def test_conditions_of_the_user_come_beside_the_modality_or_in_its_place(words):
    found = read_options([*words, "--series", "SeriesDescription=t1.*=3", "--series=Modality=^OT$"])

    assert found.series == {"Modality": "^OT$", "SeriesDescription": "t1.*=3"}


def test_other_options_are_parameters_of_detection(words):
    assert read_options([*words, "--overwrite", "true", "--alpha=0.02"]).parameters == {
        "overwrite": True,
        "alpha": 0.02,
    }


def test_container_sets_the_folders_and_contains_one_bundle(monkeypatch, tmp_path):
    shutil.copytree(BUNDLES / "ra_wrist" / "configs", tmp_path / "models" / "ra_wrist" / "configs")
    for variable, place in ((INPUT, ""), (OUTPUT, "results"), (MODELS, "models")):
        monkeypatch.setenv(variable, str(tmp_path / place))

    found = read_options([])

    assert (found.bundle, found.input) == (tmp_path / "models" / "ra_wrist", tmp_path)
    assert found.output == tmp_path / "results"


@pytest.mark.parametrize(
    "more, message",
    [
        (["--bundle", "ra_foot"], "BUNDLE must be a bundle's name or path, got ra_foot: choose one of memmc_"),
        (["--input", "nowhere"], "--input must be a folder, but nowhere is not a folder: check its spelling"),
        (["--series", "t1"], "--series must be KEYWORD=PATTERN with a DICOM keyword, got t1: for example "),
        (["--series", "0008,0060=MR"], "--series must be KEYWORD=PATTERN with a DICOM keyword, got 0008,0060=MR"),
        (["--series", "SeriesName=t1"], "--series must be KEYWORD=PATTERN with a DICOM keyword, got SeriesName=t1"),
        (["--series", "Modality=("], r"--series must have a valid regular expression, got \( \(missing \)"),
        (["--studies", "x"], "--studies is set by the application: use --input"),
        (["--overwrite"], "--overwrite must have a value"),
    ],
)
def test_mistakes_are_reported(words, more, message):
    with pytest.raises(NomalyError, match=message):
        read_options([*words, *more])


def test_missing_folders_are_asked_for(capsys):
    with pytest.raises(SystemExit, match="2"):
        read_options(["--bundle", "ra_chest"])

    assert "required: --input, --output" in capsys.readouterr().err


def test_help_needs_no_package_at_all():
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from custom.deploy.__main__ import main; main(['--help'])"

    output = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)

    assert (output.returncode, output.stderr) == (0, "") and "--series KEYWORD=PATTERN" in output.stdout


def test_environment_without_monai_deploy_is_reported(words, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "monai.deploy", None)
    monkeypatch.setenv("HOLOSCAN_LOG_LEVEL", "OFF")

    assert main(words) == 2
    output = capsys.readouterr().err
    assert re.fullmatch(
        r"monai_deploy.sh: MONAI Deploy must be installed, but monai.deploy\S* is not: use .*\n", output
    )


def test_package_has_the_version_of_the_project():
    output = yaml.safe_load((Path(options.__file__).parent / "app.yaml").read_text())

    assert output["application"]["version"] == __version__ and set(output) == {"application", "resources"}
