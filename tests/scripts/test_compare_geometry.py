"""The comparison with dcm2niix on a series with known geometry: by the program itself, and by a stand-in for it."""

from __future__ import annotations

import csv
import importlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from dicom import write_film, write_series
from tests.support.scripts import load_script

VOLUME = np.random.default_rng(0).integers(0, 1000, (20, 24, 6)).astype(np.uint16)
# Oblique, 1 x 1.5 x 4 mm.
AFFINE = nib.affines.from_matvec(
    np.array([[-0.96, 0.28, 0], [-0.28, -0.96, 0], [0, 0, 1.0]]) @ np.diag([1, 1.5, 4]), [30, -20, 7]
)
compare_geometry = load_script("compare_geometry.py")
VERDICTS = ("agree", "DISAGREE")
PACKAGES = {"pydicom": "data", "nibabel": "nicom/tests/data"}  # folders of the files of their own tests
AGREEING = {"pydicom": 8, "nibabel": 1}
# Its header states signed pixels, its JPEG 2000 stream unsigned ones: pydicom and Nomaly follow the stream.
OTHER_VALUES = {"test_files/J2K_pixelrep_mismatch.dcm"}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder with a series, a series that lacks a slice, and a film, which has no position."""
    folder = tmp_path / "corpus"
    write_series(folder / "head", VOLUME, AFFINE)
    write_series(folder / "incomplete", VOLUME, AFFINE)[2].unlink()
    write_film(folder / "film.dcm", VOLUME[..., 0])
    return folder


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[[np.ndarray, np.ndarray], str]:
    """Make a program that takes the options of dcm2niix and gives a known volume."""

    def make(volume: np.ndarray, affine: np.ndarray) -> str:
        nib.save(nib.Nifti1Image(volume, affine), tmp_path / "known.nii")
        program = tmp_path / "stand_in"
        copy = f"shutil.copy({str(tmp_path / 'known.nii')!r}, sys.argv[sys.argv.index('-o') + 1])"
        program.write_text(f"#!{sys.executable}\nimport shutil, sys\n{copy}\n")
        program.chmod(0o755)
        return str(program)

    return make


def run(corpus: Path, program: str, output: Path) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit code, and rows of the CSV by series."""
    code = compare_geometry.main([str(corpus), "--dcm2niix", program, "--output", str(output)])
    with open(output, newline="") as stream:
        return code, {row["series"]: row for row in csv.DictReader(stream)}


def flipped(axis: int) -> tuple[np.ndarray, np.ndarray]:
    """The same volume, stored in the opposite order along an axis."""
    other = np.eye(4)
    other[axis, axis], other[axis, 3] = -1, VOLUME.shape[axis] - 1
    return np.flip(VOLUME, axis), AFFINE @ other


@pytest.mark.skipif(compare_geometry.find_program(None) is None, reason="needs dcm2niix")
def test_series_agrees_with_dcm2niix(corpus: Path, tmp_path: Path, capsys) -> None:
    code, rows = run(corpus, compare_geometry.find_program(None), tmp_path / "geometry.csv")
    assert code == 0 and rows["head"]["verdict"] == "agree"
    assert rows["head"]["nomaly"] == rows["head"]["dcm2niix"] == "20 x 24 x 6"
    assert float(rows["head"]["corner_mm"]) < 0.001 and float(rows["head"]["value_difference"]) == 0


@pytest.mark.slow
@pytest.mark.skipif(compare_geometry.find_program(None) is None, reason="needs dcm2niix")
@pytest.mark.parametrize("package", PACKAGES)
def test_test_files_of_a_package_have_the_geometry_and_values_of_dcm2niix(package: str, tmp_path: Path, capsys) -> None:
    corpus = Path(importlib.import_module(package).__file__).parent / PACKAGES[package]
    if not corpus.is_dir():
        pytest.skip(f"{package} is installed without its test files")
    _, rows = run(corpus, compare_geometry.find_program(None), tmp_path / "geometry.csv")
    found = {verdict: {name for name, row in rows.items() if row["verdict"] == verdict} for verdict in VERDICTS}
    assert found["DISAGREE"] <= OTHER_VALUES
    assert len(found["agree"]) >= AGREEING[package]


@pytest.mark.parametrize("axis", [1, 2])
def test_order_of_rows_and_slices_is_no_disagreement(corpus, stand_in, tmp_path: Path, capsys, axis: int) -> None:
    code, rows = run(corpus, stand_in(*flipped(axis)), tmp_path / "geometry.csv")
    assert code == 0 and rows["head"]["verdict"] == "agree"
    assert rows.keys() == {"head", "incomplete"}  # a film has no position to compare
    assert rows["incomplete"]["verdict"] == "not read by Nomaly" and "1 is missing" in rows["incomplete"]["note"]
    assert "1 agree, 1 not read by Nomaly" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change, note",
    [
        (lambda volume, affine: (volume, affine + np.outer([0, 0, 1, 0], [0, 0, 0, 0.5])), "corners"),
        (lambda volume, affine: (volume + (volume == volume.max()) + 3, affine), "values"),
        (lambda volume, affine: (np.flip(volume, 0), affine), "values"),
        (lambda volume, affine: (volume[..., :-1], affine), "shape, corners, values"),
    ],
)
def test_other_geometry_or_values_disagree(corpus, stand_in, tmp_path: Path, capsys, change, note: str) -> None:
    code, rows = run(corpus, stand_in(*change(VOLUME, AFFINE)), tmp_path / "geometry.csv")
    assert code == 1 and rows["head"]["verdict"] == "DISAGREE"
    assert rows["head"]["note"].startswith(f"{note};")


def test_series_that_dcm2niix_leaves_out_is_no_disagreement(corpus: Path, tmp_path: Path, capsys) -> None:
    code, rows = run(corpus, shutil.which("true"), tmp_path / "geometry.csv")
    assert code == 0 and rows["head"]["verdict"] == "not converted by dcm2niix"


def test_missing_program_is_reported_with_its_installation(corpus: Path, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        compare_geometry.main([str(corpus), "--dcm2niix", "no_such_program"])
    assert ended.value.code == 2 and "pip install dcm2niix" in capsys.readouterr().err


def test_folder_without_series_is_an_error(tmp_path: Path, stand_in, capsys) -> None:
    write_film(tmp_path / "films" / "film.dcm", VOLUME[..., 0])
    with pytest.raises(SystemExit) as ended:
        compare_geometry.main([str(tmp_path / "films"), "--dcm2niix", stand_in(VOLUME, AFFINE)])
    assert ended.value.code == 2 and "no cross-sectional DICOM series" in capsys.readouterr().err
