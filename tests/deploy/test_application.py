"""The MONAI Deploy application itself, in its own environment, beside nomaly detect. About 2 minutes."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

import dicom
from custom.runs.tables import StudyResult, read_results_csv
from tests.support.servers import needs_environment

ROOT = Path(__file__).parents[2]
pytestmark = needs_environment("deploy")
LONGEST_RUN = 300  # seconds, on a busy machine
MOMENTS = ("InstanceCreationDate", "InstanceCreationTime", "ContentDate", "ContentTime")
OBJECTS = {"segmentation.dcm", "map.dcm", "report.dcm"}


@dataclass
class Run:
    """What the application did."""

    code: int
    told: str
    output: Path

    @property
    def rows(self) -> dict[str, StudyResult]:
        """Rows of its results by study."""
        return rows_of(self.output)


def rows_of(output: Path) -> dict[str, StudyResult]:
    """Rows of a run's results by study, without the time that each took."""
    rows = read_results_csv(output / "results.csv")
    for row in rows:
        row.seconds = None
    return {row.study: row for row in rows}


def deploy(bundle: Path, folder: Path, output: Path, *words: str) -> Run:
    """Run the application as a user does."""
    command = ["bash", str(ROOT / "scripts" / "monai_deploy.sh"), "--bundle", bundle, "--input", folder]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}  # other numbers round otherwise
    done = subprocess.run(
        [*map(str, command), "--output", str(output), *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LONGEST_RUN,
    )
    return Run(done.returncode, done.stdout, output)


@pytest.fixture(scope="module")
def bundles(tiny_bundle, tmp_path_factory) -> dict[str, Path]:
    """Copies of two bundles whose networks are tiny, with their weights; their gates are off."""
    folder = tmp_path_factory.mktemp("bundles")
    return {bundle: tiny_bundle(bundle, folder / bundle) for bundle in ("ra_brain", "ra_chest")}


@pytest.fixture(scope="module")
def study(tiny_data, tmp_path_factory) -> Path:
    """A study as a PACS might send it: two heads, a film, a file with a broken header, and one that is no DICOM."""
    folder, uid = tmp_path_factory.mktemp("input") / "Doe_Jane", pydicom.uid.generate_uid()
    for name, number in (("first", 0), ("second", -1)):
        write_head(folder / name, tiny_data, number, StudyInstanceUID=uid)
    data = tiny_data("ra_chest")
    film = np.asarray(Image.open(data / image_of(data, -1)).convert("L")).T
    dicom.write_film(folder / "film.dcm", np.ascontiguousarray(film))
    (folder / "broken").write_bytes(b"\0" * 128 + b"DICM" + b"words of no header")
    (folder / "notes.txt").write_text("no image")
    return folder


def image_of(data: Path, number: int) -> str:
    """Path of a test study of a data set, relative to it."""
    return json.loads((data / "datalist.json").read_text())["test"][number]["image"]


def write_head(folder: Path, tiny_data, number: int, **tags) -> None:
    """Write a head of the tiny phantom as a DICOM series."""
    data = tiny_data("ra_brain")
    head = nib.load(data / image_of(data, number))
    dicom.write_series(folder, np.rint(head.get_fdata()).astype(np.uint16), head.affine, **tags)


def without_moments(file: Path) -> dict:
    """A DICOM object without the times at which it was made."""
    found = pydicom.dcmread(file)
    for equipment in found.get("ContributingEquipmentSequence", []):
        equipment.ContributionDateTime = ""
    return {element.tag: element.value for element in found if element.keyword not in MOMENTS}


@pytest.mark.parametrize("bundle, inputs", [("ra_brain", ("first", "second")), ("ra_chest", ("film.dcm",))])
def test_selected_series_get_what_nomaly_detect_gives(bundle, inputs, bundles, study, nomaly, tmp_path):
    expected = tmp_path / "detect"
    paths = [study / name for name in (*inputs, "broken")]
    assert nomaly("detect", bundles[bundle], *paths, "--output", expected, "--pseudonymise").code == 1

    run = deploy(bundles[bundle], study, tmp_path / "deploy")

    assert run.code == 1, run.told
    assert run.rows == rows_of(expected)
    assert sorted(row.status for row in run.rows.values()) == ["failed", *["ok"] * len(inputs)]
    for row in run.rows.values():
        here, there = run.output / row.study, expected / row.study
        if row.status == "ok":
            names = {file.name for file in here.iterdir()}
            assert names > OBJECTS and names == {file.name for file in there.iterdir()}
            # The pins are those of the main environment, so that not a bit may differ.
            assert [name for name in names - OBJECTS if (here / name).read_bytes() != (there / name).read_bytes()] == []
            assert [name for name in OBJECTS if without_moments(here / name) != without_moments(there / name)] == []
    assert "Doe" not in run.told


def test_series_can_be_chosen_by_other_tags(bundles, tiny_data, tmp_path):
    for number, name in enumerate(("T1 axial", "T2 axial")):
        write_head(tmp_path / "study" / str(number), tiny_data, number, SeriesDescription=name)

    words = ["--series", "SeriesDescription=^t1", "--series", "ImageOrientationPatient=Axial"]
    run = deploy(bundles["ra_brain"], tmp_path / "study", tmp_path / "run", *words)

    assert (run.code, len(run.rows)) == (0, 1), run.told
    assert "Not selected, so not scored: 1 of MR. Use --series to select others." in run.told
    key = (run.output / "key.csv").read_text()
    assert str(tmp_path / "study" / "0") in key and str(tmp_path / "study" / "1") not in key


def test_rejected_series_gets_a_report_with_the_reason(bundles, tiny_data, tmp_path):
    write_head(tmp_path / "study", tiny_data, 0, BodyPartExamined="KNEE")

    run = deploy(bundles["ra_brain"], tmp_path / "study", tmp_path / "run", "--input_check", "true")

    [row] = run.rows.values()
    assert (run.code, row.status) == (0, "not_assessable"), run.told
    assert "the body part is KNEE" in row.note
    assert [file.name for file in (run.output / row.study).iterdir()] == ["report.dcm"]


@pytest.mark.parametrize(
    "name, words, message",
    [
        ("nothing", [], "no DICOM images found in .*nothing: give the folder of a study"),
        ("notes.txt", [], "no DICOM images found in .*notes.txt"),
        ("film.dcm", [], r"the input must contain a series with Modality \^\(MR\)\$, got 1 of CR: use another bundle"),
        (
            "film.dcm",
            ["--series=Modality=CR", "--series=PatientName=D"],
            "--series must use tags that MONAI Deploy can ",
        ),
    ],
)
def test_input_without_a_series_of_the_bundle_ends_with_one_sentence(name, words, message, bundles, study, tmp_path):
    folder = tmp_path / name
    folder.mkdir()
    if name != "nothing":
        shutil.copy(study / name, folder)

    run = deploy(bundles["ra_brain"], folder, tmp_path / "run", *words)

    assert run.code == 2 and not run.output.exists()
    assert re.fullmatch(f"monai_deploy.sh: {message}.*\n", run.told), run.told
