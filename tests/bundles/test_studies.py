"""A hospital's studies through the command line: DICOM in and out, privacy, runs that are stopped or shared."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image

from custom.commands.bundle import BUNDLES
from custom.runs.tables import StudyResult, read_results_csv
from dicom import write_film, write_series
from tiny import ALPHA_OF_FINDINGS

IDENTIFIERS = ("Doe", "Jane", "P-0001", "A-0001", "19700102")
ROOT = BUNDLES.parent


@pytest.fixture(scope="module")
def head(unseen) -> nib.Nifti1Image:
    """The phantom's oblique head with a lesion, in whole numbers."""
    image = nib.load(unseen("ra_brain"))
    return nib.Nifti1Image(np.round(image.get_fdata()).astype(np.uint16), image.affine)


@pytest.fixture(scope="module")
def hospital(head, tmp_path_factory) -> Path:
    """A folder as an archive exports it: a head series, a chest film and a broken file of one patient in one place."""
    folder = tmp_path_factory.mktemp("export") / "Doe^Jane"
    write_series(folder / "DICOM", np.asarray(head.dataobj), head.affine, StudyDescription="Headache of Jane Doe")
    film = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint16)
    write_film(folder / "DICOM" / "Doe_Jane_chest", film)
    (folder / "Doe_Jane_broken.dcm").write_bytes((folder / "DICOM" / "Doe_Jane_chest").read_bytes()[:900])
    return folder


@pytest.fixture(scope="module")
def exported(nomaly, parameters, hospital, tmp_path_factory):
    """What is printed, and the results folder, of a run over the export."""
    output = tmp_path_factory.mktemp("results") / "run"
    settings = {**parameters("ra_brain"), "input_check": False, "alpha": ALPHA_OF_FINDINGS}
    return nomaly("detect", "ra_brain", hospital, "--output", output, "--pseudonymise", **settings), output


def untimed(folder: Path) -> list[StudyResult]:
    return [replace(row, seconds=None) for row in read_results_csv(folder / "results.csv")]


def test_series_gives_what_the_same_head_as_a_file_gives(
    nomaly, parameters, head, hospital, exported, tmp_path
) -> None:
    nib.save(head, tmp_path / "head.nii.gz")
    words = (tmp_path / "head.nii.gz", "--output", tmp_path / "out")
    settings = {**parameters("ra_brain"), "input_check": False, "alpha": ALPHA_OF_FINDINGS}
    assert nomaly("detect", "ra_brain", *words, **settings).code == 0
    (alone,) = untimed(tmp_path / "out")
    _, output = exported
    (row,) = [row for row in untimed(output) if row.region_unit == "ml"]
    assert replace(row, study="", score=0, region_size=0) == replace(alone, study="", score=0, region_size=0)
    assert (row.score, row.region_size) == (pytest.approx(alone.score, rel=1e-4), pytest.approx(alone.region_size))
    # a series is sorted along its normal, so its own third axis may run the other way
    mine, other = (
        nib.load(folder / name / "mask.nii.gz")
        for folder, name in ((tmp_path / "out", alone.study), (output, row.study))
    )
    np.testing.assert_allclose(np.abs(other.affine), np.abs(mine.affine), rtol=1e-4, atol=0.01 * 400)
    assert {tuple(place) for place in world(mine)} == {tuple(place) for place in world(other)}


def world(mask: nib.Nifti1Image) -> np.ndarray:
    """Places (n, 3) of a mask in whole millimetres of its world."""
    voxels = np.argwhere(np.asarray(mask.dataobj) > 0)
    return np.round(nib.affines.apply_affine(mask.affine, voxels)).astype(int)


def test_segmentation_marks_in_each_frame_what_the_mask_marks(hospital, exported) -> None:
    _, output = exported
    (row,) = [row for row in untimed(output) if row.region_unit == "ml"]
    mask = np.asarray(nib.load(output / row.study / "mask.nii.gz").dataobj) > 0
    segmentation = hd.seg.segread(output / row.study / "segmentation.dcm")
    places = {}
    for path in sorted((hospital / "DICOM").glob("0*.dcm")):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        places[header.SOPInstanceUID] = float(np.dot(header.ImagePositionPatient, normal(header)))
    ordered = sorted(places, key=places.get)
    frames = segmentation.get_pixels_by_source_instance(ordered, combine_segments=True, ignore_spatial_locations=True)
    np.testing.assert_array_equal(frames > 0, mask.transpose(2, 1, 0))
    assert mask.any() and segmentation.PatientName == "Doe^Jane"  # an archive files it by that
    report = pydicom.dcmread(output / row.study / "report.dcm")
    assert report.Modality == "SR" and "esearch use" in report.SeriesDescription
    assert {segmentation.StudyInstanceUID, report.StudyInstanceUID} == {header.StudyInstanceUID}


def normal(header: pydicom.Dataset) -> np.ndarray:
    """Normal of a slice."""
    row, column = np.reshape(header.ImageOrientationPatient, (2, 3)).astype(float)
    return np.cross(row, column)


def test_broken_file_fails_alone_and_nothing_tells_who_the_patient_is(hospital, exported) -> None:
    done, output = exported
    assert done.code == 1
    assert sorted(row.status for row in untimed(output)) == ["failed", "ok", "ok"]
    printed = {"output": done.out, "log": done.err}
    written = {
        str(path.relative_to(output)): path.read_text(errors="replace") + str(path.relative_to(output))
        for path in output.rglob("*")
        if path.is_file() and path.suffix in (".csv", ".json", ".html", ".md") and path.name != "key.csv"
    }
    assert {"results.csv", "regions.csv", "run.json", "report.html"} < set(written)
    told = {name: word for name, text in (printed | written).items() for word in IDENTIFIERS if word in text}
    assert told == {}
    assert not [path for path in output.rglob("*") if any(word in str(path.name) for word in IDENTIFIERS)]
    key = {row["study"]: row["path"] for row in csv.DictReader(open(output / "key.csv", newline=""))}
    assert sorted(key) == sorted(row.study for row in untimed(output))
    assert [path for path in key.values() if path.endswith("Doe_Jane_broken.dcm")]


def test_film_gets_its_map_and_report_as_dicom(hospital, exported) -> None:
    _, output = exported
    (row,) = [row for row in untimed(output) if row.status == "ok" and row.region_unit != "ml"]
    written = pydicom.dcmread(output / row.study / "map.dcm")
    assert (written.Rows, written.Columns, written.PatientID) == (64, 64, "P-0001")
    values = written.pixel_array * float(written.RescaleSlope) + float(written.RescaleIntercept)
    expected = np.asarray(nib.load(output / row.study / "map.nii.gz").dataobj)
    np.testing.assert_allclose(values, expected.squeeze().T, atol=expected.max() / 65535)


def test_studies_are_named_after_their_files(nomaly, parameters, hospital, tmp_path: Path) -> None:
    film = hospital / "DICOM" / "Doe_Jane_chest"
    words = (film, "--output", tmp_path / "out")
    assert (
        nomaly("detect", "ra_brain", *words, input_check=False, write_dicom=False, **parameters("ra_brain")).code == 0
    )
    assert [row.study for row in untimed(tmp_path / "out")] == ["Doe_Jane_chest"]
    assert not (tmp_path / "out" / "key.csv").exists()
    assert sorted(path.name for path in (tmp_path / "out" / "Doe_Jane_chest").iterdir()) == [
        *("map.nii.gz", "pseudo_healthy.nii.gz")  # no mask: a film has no p-value of heads
    ]


# Many studies


@pytest.fixture(scope="module")
def films(tiny_data, tmp_path_factory) -> Path:
    """Twenty-four films, two of them broken."""
    folder = tmp_path_factory.mktemp("films")
    sources = sorted((tiny_data("ra_chest") / "images").glob("*.png"))
    for number in range(24):
        with Image.open(sources[number % len(sources)]) as film:
            film.rotate(number).save(folder / f"film_{number:02}.png")
    (folder / "film_05.png").write_bytes(b"")
    shutil.copy(__file__, folder / "film_17.png")
    return folder


def command(films: Path, output: Path, parameters: dict, *words: str) -> list[str]:
    options = [part for name, value in parameters.items() for part in (f"--{name}", str(value))]
    return ["-m", "custom.cli", "detect", "ra_chest", str(films), "--output", str(output), *words, *options]


def run_process(words: list[str], *launcher: str, **options) -> subprocess.Popen:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, *launcher, *words], cwd=ROOT, env=env, **streams, **options)


@pytest.fixture(scope="module")
def whole(nomaly, parameters, films, tmp_path_factory) -> Path:
    """Results of the films by one process that is not stopped."""
    output = tmp_path_factory.mktemp("whole") / "out"
    assert (
        nomaly("detect", "ra_chest", films, "--output", output, input_check=False, **parameters("ra_chest")).code == 1
    )
    return output


def assert_same(output: Path, whole: Path) -> None:
    assert untimed(output) == untimed(whole)
    assert (output / "regions.csv").read_bytes() == (whole / "regions.csv").read_bytes()
    for path in whole.glob("case-*/*"):
        assert (output / path.relative_to(whole)).read_bytes() == path.read_bytes()
    assert not [path for path in output.rglob(".*")]


@pytest.mark.parametrize("settings", [{"num_workers": 2}, {"studies_per_batch": 1}, {"studies_per_batch": 5}])
def test_loading_processes_and_lists_of_studies_change_nothing(
    nomaly, parameters, films, whole, tmp_path, settings
) -> None:
    done = nomaly(
        "detect",
        "ra_chest",
        films,
        "--output",
        tmp_path / "out",
        input_check=False,
        **parameters("ra_chest") | settings,
    )
    rows, expected = untimed(tmp_path / "out"), untimed(whole)
    assert done.code == 1 and [row.study for row in rows] == [row.study for row in expected]
    assert_same(tmp_path / "out", whole)


@pytest.mark.slow
def test_run_that_is_killed_and_resumed_equals_one_that_is_not(parameters, films, whole, tmp_path: Path) -> None:
    words = command(films, tmp_path / "out", parameters("ra_chest"), "--no-input-check")
    records, kept = tmp_path / "out" / "records", {}
    for least in (5, 14):
        process = run_process([*words, *(["--resume"] if kept else [])], start_new_session=True)
        while len([*records.glob("*.json")]) < least and process.poll() is None:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL and not (tmp_path / "out" / "results.csv").exists()
        again = {path: path.stat().st_mtime_ns for path in records.glob("*.json")}
        done = {path for path in kept if json.loads(path.read_text())["result"]["status"] == "ok"}
        assert all(again[path] == kept[path] for path in done) and len(again) >= least  # nothing lost or done again
        kept = again
    refused = run_process(words)
    assert "already contains results (records): choose another" in refused.communicate()[0]
    assert run_process([*words, "--resume"]).wait() == 1
    assert_same(tmp_path / "out", whole)


@pytest.mark.slow
def test_two_processes_that_share_a_run_equal_one(parameters, films, whole, tmp_path: Path) -> None:
    words = command(films, tmp_path / "out", parameters("ra_chest"), "--no-input-check")
    process = run_process(words, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    printed = process.communicate()[0]
    assert printed.count("Running: python -m monai.bundle") == 1, printed
    assert_same(tmp_path / "out", whole)
