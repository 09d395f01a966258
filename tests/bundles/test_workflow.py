"""The commands in a row on a tiny phantom and on pictures: what they write exists, agrees, and can be had again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from skimage.measure import label as label_components
from sklearn.metrics import average_precision_score, roc_auc_score

from custom.cli import BUNDLES, run_bundle
from custom.data.notes import PHANTOM
from custom.networks.weights import read_tensors
from custom.reporting.results import StudyResult, read_results_csv

NAMES = sorted(path.parent.name for path in BUNDLES.glob("*/variant.json"))
ALPHA = 0.2

pytestmark = pytest.mark.parametrize("bundle", NAMES)


def untimed(folder: Path) -> list[StudyResult]:
    """Rows of a run without what a clock says."""
    return [replace(row, seconds=None) for row in read_results_csv(folder / "results.csv")]


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def knobs(trained, tiny_network) -> Callable[[str], dict]:
    """What a user of the tiny detector of a bundle gives to every command after training."""
    return lambda bundle: {"weights": trained(bundle) / "models" / "model.pt", "alpha": ALPHA, **tiny_network(bundle)}


@pytest.fixture(scope="module")
def unseen(tiny_phantom: Path) -> Path:
    """An oblique head of another resolution with a lesion."""
    return tiny_phantom / "unseen" / "head_with_lesion.nii.gz"


@pytest.fixture(scope="module")
def detection(nomaly, knobs, unseen: Path, tmp_path_factory) -> Callable[[str], Path]:
    """Results folder of the unseen head."""
    folders: dict[str, Path] = {}

    def folder(bundle: str) -> Path:
        if bundle not in folders:
            folders[bundle] = tmp_path_factory.mktemp(bundle) / "detection"
            assert nomaly("detect", bundle, unseen, "--output", folders[bundle], **knobs(bundle)).code == 0
        return folders[bundle]

    return folder


@pytest.fixture(scope="module")
def evaluation(nomaly, knobs, tiny_phantom: Path, tmp_path_factory) -> Callable[[str], Path]:
    """Results folder of the labelled test section."""
    folders: dict[str, Path] = {}

    def folder(bundle: str) -> Path:
        if bundle not in folders:
            folders[bundle] = tmp_path_factory.mktemp(bundle) / "evaluation"
            words = ("--dataset_dir", tiny_phantom, "--output", folders[bundle])
            assert nomaly("evaluate", bundle, *words, floor_epochs=1, **knobs(bundle)).code == 0
        return folders[bundle]

    return folder


# Training and calibration


def test_training_leaves_weights_state_and_curves(bundle: str, trained) -> None:
    names = set(files_of(trained(bundle)))
    assert {"models/model.pt", "models/checkpoint.pt", "models/calibration.json"} <= names
    assert any(name.startswith("train/tensorboard/events") for name in names)


def test_calibration_is_in_the_weights_and_in_a_readable_file(bundle: str, trained, tiny_phantom: Path) -> None:
    state = read_tensors(trained(bundle) / "models" / "model.pt")
    summary = json.loads((trained(bundle) / "models" / "calibration.json").read_text())
    cases = [item["subject"] for item in json.loads((tiny_phantom / "datalist.json").read_text())["validation"]]
    assert sorted(summary["scores"]) == cases and summary["healthy_studies"] == len(cases) == 5
    assert state["calibration.healthy_scores"].tolist() == list(summary["scores"].values())
    assert float(state["calibration.pixel_threshold"]) == summary["pixel_threshold"] > 0
    assert state["calibration.slices"].tolist() == summary["slices"]


# Detection


def test_maps_lie_on_the_grid_of_the_oblique_head(bundle: str, detection, unseen: Path) -> None:
    source = nib.load(unseen)
    assert abs(source.affine[1, 2]) > 0.1  # oblique, or the test would prove little
    for name in ("map", "mask", "pseudo_healthy"):
        written = nib.load(detection(bundle) / "head_with_lesion" / f"{name}.nii.gz")
        assert written.shape == source.shape, name
        np.testing.assert_allclose(written.affine, source.affine, atol=1e-6)
        assert np.isfinite(written.get_fdata()).all() and written.get_fdata().max() > 0, name


def test_row_of_a_study_agrees_with_its_mask_and_calibration(bundle: str, detection, unseen: Path, trained) -> None:
    (row,) = read_results_csv(detection(bundle) / "results.csv")
    mask = nib.load(detection(bundle) / "head_with_lesion" / "mask.nii.gz")
    voxels = np.asarray(mask.dataobj)
    assert set(np.unique(voxels)) == {0, 1}
    assert row.lesion_count == label_components(voxels, connectivity=3).max()
    assert row.lesion_unit == "ml"
    assert row.lesion_volume == pytest.approx(voxels.sum() * np.prod(mask.header.get_zooms()) / 1000, rel=1e-5)
    healthy = list(json.loads((trained(bundle) / "models" / "calibration.json").read_text())["scores"].values())
    p_value = (1 + sum(score >= row.score for score in healthy)) / (len(healthy) + 1)
    assert row.p_value == pytest.approx(p_value)
    assert row.decision == ("flag" if p_value <= ALPHA else "normal")


def test_run_information_names_what_made_the_results(bundle: str, detection, trained) -> None:
    run = json.loads((detection(bundle) / "run.json").read_text())
    calibration = json.loads((trained(bundle) / "models" / "calibration.json").read_text())
    assert (run["bundle"], run["alpha"], run["seed"]) == (bundle, ALPHA, 0)
    assert run["weight_hash"] == calibration["weight_hash"]
    assert run["calibration"]["pixel_threshold"] == calibration["pixel_threshold"]
    assert {"nomaly", "torch", "monai", "numpy", "python"} <= set(run["versions"])


def test_detecting_twice_gives_identical_numbers_and_maps(
    bundle: str, nomaly, knobs, detection, unseen: Path, tmp_path: Path
) -> None:
    assert nomaly("detect", bundle, unseen, "--output", tmp_path / "again", **knobs(bundle)).code == 0
    assert untimed(tmp_path / "again") == untimed(detection(bundle))
    for name in ("map", "mask", "pseudo_healthy"):
        first, again = (
            nib.load(f / "head_with_lesion" / f"{name}.nii.gz") for f in (detection(bundle), tmp_path / "again")
        )
        np.testing.assert_array_equal(np.asarray(again.dataobj), np.asarray(first.dataobj))


def test_inference_config_without_studies_takes_the_test_section(
    bundle: str, knobs, evaluation, tiny_phantom: Path, tmp_path: Path, quiet_process: None
) -> None:
    folders = {"dataset_dir": str(tiny_phantom), "output_dir": str(tmp_path)}
    run_bundle(bundle, ["inference"], {**knobs(bundle), **folders, "write_images": False})
    assert untimed(tmp_path) == untimed(evaluation(bundle))
    assert not any(path.is_dir() for path in tmp_path.iterdir())  # no maps


# Evaluation


def test_table_has_a_row_for_each_study_of_the_test_section(bundle: str, evaluation, tiny_phantom: Path) -> None:
    rows = read_results_csv(evaluation(bundle) / "results.csv")
    test = json.loads((tiny_phantom / "datalist.json").read_text())["test"]
    assert [row.study for row in rows] == [item["subject"] for item in test]
    assert {row.status for row in rows} == {"ok"}


def test_metrics_equal_those_that_scikit_learn_finds(bundle: str, evaluation) -> None:
    metrics = json.loads((evaluation(bundle) / "metrics.json").read_text())
    rows = metrics["scores"]
    labels, scores = [row["label"] for row in rows], [row["score"] for row in rows]
    assert (metrics["n_healthy"], metrics["n_abnormal"]) == (labels.count(0), labels.count(1)) == (4, 4)
    assert metrics["image"]["auroc"]["value"] == pytest.approx(roc_auc_score(labels, scores))
    assert metrics["image"]["auprc"]["value"] == pytest.approx(average_precision_score(labels, scores))
    for name, label in (("false_alarm_rate", 0), ("sensitivity", 1)):
        flagged = [row["decision"] == "flag" for row in rows if row["label"] == label]
        assert metrics[name]["value"] == pytest.approx(np.mean(flagged)), name
    table = read_results_csv(evaluation(bundle) / "results.csv")
    keys = ("score", "p_value", "decision")
    assert [[row[key] for key in keys] for row in rows] == [[getattr(row, key) for key in keys] for row in table]


def test_report_says_loudly_that_the_data_are_synthetic(bundle: str, evaluation) -> None:
    report = (evaluation(bundle) / "report.html").read_text()
    assert PHANTOM in report
    assert json.loads((evaluation(bundle) / "metrics.json").read_text())["synthetic"] is True
    assert PHANTOM in json.loads((evaluation(bundle) / "run.json").read_text())["notes"]
    assert all(row.study in report for row in read_results_csv(evaluation(bundle) / "results.csv"))


def test_evaluating_twice_gives_identical_metrics(
    bundle: str, nomaly, knobs, evaluation, tiny_phantom: Path, tmp_path: Path
) -> None:
    words = ("--dataset_dir", tiny_phantom, "--output", tmp_path)
    assert nomaly("evaluate", bundle, *words, floor_epochs=1, **knobs(bundle)).code == 0
    assert (tmp_path / "metrics.json").read_bytes() == (evaluation(bundle) / "metrics.json").read_bytes()
    assert untimed(tmp_path) == untimed(evaluation(bundle))


def test_healthy_studies_get_synthetic_twins_when_asked(
    bundle: str, nomaly, knobs, tiny_phantom: Path, tmp_path: Path
) -> None:
    words = ("--dataset_dir", tiny_phantom, "--output", tmp_path)
    done = nomaly("evaluate", bundle, *words, floor_epochs=1, synthetic_lesions=True, **knobs(bundle))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (done.code, metrics["n_healthy"], metrics["n_abnormal"]) == (0, 4, 8)


# Going on


def test_training_again_has_nothing_to_do_and_more_epochs_go_on(
    bundle: str, trained, train_tiny, tiny_phantom: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained(bundle) / "models", tmp_path / "models")
    before = files_of(tmp_path / "models")
    again = train_tiny(bundle, tiny_phantom, tmp_path)
    assert again.code == 0
    assert f"Nothing to train: {tmp_path}/models/checkpoint.pt has 2 epochs; raise max_epochs to go on." in again.err
    assert files_of(tmp_path / "models") == before

    longer = train_tiny(bundle, tiny_phantom, tmp_path, max_epochs=3)
    assert longer.code == 0
    assert f"Continuing {tmp_path}/models/checkpoint.pt after epoch 2." in longer.err
    assert "Epoch 3: " in longer.err and "Epoch 2: " not in longer.err
    assert read_tensors(tmp_path / "models" / "checkpoint.pt")["epoch"] == 3


# Pictures


@pytest.fixture(scope="module")
def picture_detector(nomaly, train_tiny, tiny_network, tiny_pictures: Path, tmp_path_factory) -> Callable[[str], dict]:
    """Knobs of a detector that is trained and calibrated on pictures."""
    made: dict[str, dict] = {}

    def knobs(bundle: str) -> dict:
        if bundle not in made:
            folder = tmp_path_factory.mktemp(f"{bundle}_pictures")
            assert train_tiny(bundle, tiny_pictures, folder, batch_size=2).code == 0
            made[bundle] = {"weights": folder / "models" / "model.pt", "alpha": ALPHA, **tiny_network(bundle)}
            done = nomaly("calibrate", bundle, "--dataset_dir", tiny_pictures, **made[bundle])
            assert done.code == 0, done.err
        return made[bundle]

    return knobs


def test_map_of_a_picture_has_the_size_of_the_picture(
    bundle: str, nomaly, picture_detector, tiny_pictures: Path, tmp_path: Path
) -> None:
    picture = tiny_pictures / "abnormal_000.png"
    done = nomaly("detect", bundle, picture, "--output", tmp_path, **picture_detector(bundle))
    assert done.code == 0, done.err
    (row,) = read_results_csv(tmp_path / "results.csv")
    assert row.status == "ok" and row.decision in ("flag", "normal")
    assert row.lesion_unit in ("px", None)
    for name in ("map", "mask", "pseudo_healthy"):
        with Image.open(tmp_path / "abnormal_000" / f"{name}.png") as written, Image.open(picture) as source:
            assert written.size == source.size == (30, 36), name


def test_volume_gets_no_p_value_from_pictures_or_the_reverse(
    bundle: str, nomaly, knobs, picture_detector, unseen: Path, tiny_pictures: Path, tmp_path: Path
) -> None:
    picture = tiny_pictures / "abnormal_000.png"
    for name, study, detector in (("volume", unseen, picture_detector), ("picture", picture, knobs)):
        assert nomaly("detect", bundle, study, "--output", tmp_path / name, **detector(bundle)).code == 0
        (row,) = read_results_csv(tmp_path / name / "results.csv")
        assert row.score > 0 and (row.p_value, row.decision) == (None, None)


def test_pictures_without_masks_are_evaluated_without_pixel_metrics(
    bundle: str, nomaly, picture_detector, tiny_pictures: Path, tmp_path: Path
) -> None:
    words = ("--dataset_dir", tiny_pictures, "--output", tmp_path)
    done = nomaly("evaluate", bundle, *words, floor_epochs=1, **picture_detector(bundle))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (done.code, metrics["n_abnormal"], metrics["pixel"], metrics["synthetic"]) == (0, 4, None, False)
    assert PHANTOM not in (tmp_path / "report.html").read_text()


def test_folder_of_pictures_is_one_study_each(
    bundle: str, nomaly, picture_detector, tiny_pictures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        shutil.copy(tiny_pictures / f"healthy_00{number}.png", folder)
    (folder / "notes.txt").write_text("not an image")
    assert nomaly("detect", bundle, folder, "--output", tmp_path / "out", **picture_detector(bundle)).code == 0
    rows = read_results_csv(tmp_path / "out" / "results.csv")
    assert [row.study for row in rows] == ["healthy_000", "healthy_001", "healthy_002"]
