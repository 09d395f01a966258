"""A data set of 2-D images and volumes: the commands in a row, and each study by the calibration of its kind."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from custom.detector.weights import read_tensors
from custom.runs.tables import read_results_csv
from custom.synthetic.dataset import make_phantom
from tiny import TINY_NETWORK, TINY_TRAINING

SECTIONS = {
    "num_training": 8,
    "num_validation": 10,
    "num_calibration": 5,
    "num_test_healthy": 2,
    "num_test_abnormal": 2,
}
GEOMETRY = {"shape": (30, 36, 28), "spacing": (6.0, 6.0, 6.0)}
CALIBRATION = {"alpha": 0.2, "pixel_false_positive_rate": 0.2, "false_regions_per_study": 1000}
COUNTS = {"training": 16, "validation": 20, "calibration": 10, "test": 8}


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Tiny synthetic heads, each also as a PNG image of its middle slice."""
    folder = Path(make_phantom(tmp_path_factory.mktemp("both") / "data", "head", **SECTIONS, **GEOMETRY))
    datalist = json.loads((folder / "datalist.json").read_text())
    for section, items in datalist.items():
        datalist[section] = [*items, *flat(folder, items)]
    (folder / "datalist.json").write_text(json.dumps(datalist))
    return folder


def flat(folder: Path, items: list[dict]) -> Iterator[dict]:
    """The middle slices, as items of their own."""
    for item in items:
        volume = nib.load(folder / item["image"]).get_fdata()
        name = item["image"].replace("images/", "images/slice_").replace(".nii.gz", ".png")
        Image.fromarray((volume[..., volume.shape[2] // 2] / 4).astype(np.uint8).T).save(folder / name)
        yield {key: value for key, value in item.items() if key != "mask"} | {"image": name}


@pytest.fixture(scope="module")
def run(nomaly, data: Path, tmp_path_factory) -> Path:
    """Folder of a tiny network that was trained, adapted, calibrated and evaluated on both kinds."""
    folder = tmp_path_factory.mktemp("run")
    given, small = ("--dataset_dir", data), TINY_NETWORK["ra"]
    trained, adapted, calibrated = folder / "models" / "model.pt", folder / "adapted", folder / "calibrated.pt"
    steps = [
        (("train", "ra_brain", *given, "--output", folder), TINY_TRAINING),
        (("adapt", "ra_brain", *given, "--weights", trained, "--output", adapted), {"fit_steps": 2}),
        (
            ("calibrate", "ra_brain", *given, "--weights", adapted / "model.pt", "--into_weights", calibrated),
            CALIBRATION,
        ),
        (
            ("evaluate", "ra_brain", *given, "--weights", calibrated, "--output", folder / "evaluation"),
            {"baseline_epochs": 1},
        ),
    ]
    for words, parameters in steps:
        done = nomaly(*words, **small, **parameters)
        assert done.code == 0, done.err
    return folder


def test_statistics_and_calibration_of_each_kind_are_in_one_file_of_weights(run: Path, data: Path) -> None:
    assert {name: len(items) for name, items in json.loads((data / "datalist.json").read_text()).items()} == COUNTS
    state = read_tensors(run / "calibrated.pt")
    assert state["part_statistics.studies"].tolist() == [10, 10]
    slices = [state[f"calibration.{kind}.slices"].tolist() for kind in ("image", "volume")]
    assert slices[0] == [1, 1] and slices[1][0] > 1
    assert [len(state[f"calibration.{kind}.healthy_scores"]) for kind in ("image", "volume")] == [5, 5]
    assert state["calibration.image.pixel_threshold"] != state["calibration.volume.pixel_threshold"]


def test_each_study_of_an_evaluation_is_compared_with_those_of_its_kind(run: Path) -> None:
    content = json.loads((run / "calibration.json").read_text())
    rows = read_results_csv(run / "evaluation" / "results.csv")
    assert [row.kind for row in rows].count("image") == [row.kind for row in rows].count("volume") == 4
    for row in rows:
        healthy = [study["score"] for study in content[row.kind]["studies"]]
        assert row.healthy_studies == len(healthy) == 5
        assert row.p_value == pytest.approx((1 + sum(score >= row.score for score in healthy)) / 6)
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
    assert (metrics["n_healthy"], metrics["n_abnormal"]) == (4, 4)


def test_kind_that_a_site_does_not_calibrate_keeps_that_of_the_weights(nomaly, run: Path, data: Path, tmp_path) -> None:
    volumes = tmp_path / "healthy"
    volumes.mkdir()
    for item in json.loads((data / "datalist.json").read_text())["validation"][:6]:  # volumes
        shutil.copy(data / item["image"], volumes)
    words = ("calibrate", "ra_brain", "--healthy", volumes, "--weights", run / "calibrated.pt")
    done = nomaly(*words, "--into_weights", tmp_path / "site.pt", **CALIBRATION, **TINY_NETWORK["ra"])
    assert done.code == 0 and "Calibrated on 6 healthy volumes" in done.err, done.err
    assert "2-D images keep the calibration of the weights (5 healthy studies)." in done.err
    before, after = read_tensors(run / "calibrated.pt"), read_tensors(tmp_path / "site.pt")
    assert (before["calibration.image.healthy_scores"] == after["calibration.image.healthy_scores"]).all()
    assert len(after["calibration.volume.healthy_scores"]) == 6
