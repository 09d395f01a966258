"""The commands in a row on tiny phantoms: what they write exists, agrees, and can be had again."""

from __future__ import annotations

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from skimage.measure import label as label_components
from sklearn.metrics import average_precision_score, roc_auc_score

from custom.commands.bundle import BUNDLES, run_bundle
from custom.detector.weights import read_tensors
from custom.reporting.training_history import read_history
from custom.runs.notes import PHANTOM
from custom.runs.tables import StudyResult, read_results_csv
from custom.studies.loading import case_name
from pages import Page
from tiny import ALPHA_OF_FINDINGS

VARIANTS = {path.parent.name: json.loads(path.read_text()) for path in sorted(BUNDLES.glob("*/variant.json"))}
# Bundles of one method and one kind of images work alike: the first of each is enough.
KINDS = {(variant["method"], variant["images"]): name for name, variant in reversed(VARIANTS.items())}
ALPHA = 0.2

pytestmark = pytest.mark.parametrize("bundle", sorted(KINDS.values()))


def untimed(folder: Path) -> list[StudyResult]:
    """Rows of a run without what a clock says."""
    return [replace(row, seconds=None) for row in read_results_csv(folder / "results.csv")]


def read_result(folder: Path, name: str) -> np.ndarray:
    """A map, mask or image that was written, as axes of its file: NIfTI or PNG."""
    (path,) = folder.glob(f"{name}.*")
    if path.suffix != ".png":
        return np.asarray(nib.load(path).dataobj)
    with Image.open(path) as picture:
        return np.asarray(picture)


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


# Training and calibration


def test_training_leaves_weights_state_and_curves(bundle: str, trained) -> None:
    names = set(files_of(trained(bundle)))
    assert {"models/model.pt", "models/checkpoint.pt", "models/calibration.json"} <= names
    assert any(name.startswith("train/tensorboard/events") for name in names)


def test_report_of_the_training_tells_the_epoch_of_its_checkpoint(bundle: str, trained, tiny_data) -> None:
    history = read_history(trained(bundle) / "models" / "history.jsonl")
    assert [epoch.epoch for epoch in history.epochs] == [1, 2] and len(history.validated) == 2
    checkpoint = read_tensors(trained(bundle) / "models" / "checkpoint.pt")
    number, best = history.chosen
    assert (number, best.auroc) == (checkpoint["best"]["epoch"], checkpoint["best"]["synthetic_auroc"])
    phases = ["warm-up", "introspective"] if VARIANTS[bundle]["method"] == "ra" else [None, None]
    assert [epoch.phase for epoch in history.epochs] == phases
    page = Page((trained(bundle) / "train" / "training.html").read_text())
    assert f"Best is the network of epoch {number}: healthy error {best.healthy_error:.3g}" in page.text
    assert PHANTOM in page.text and "Only 5 healthy validation studies: add at least 5." in page.text
    assert f"nomaly calibrate {bundle} --dataset_dir {tiny_data(bundle)} --weights {trained(bundle)}" in page.text
    assert re.search(r"max_epochs\s+2\s+", page.text) and re.search(r"Training images\s+\d+\s", page.text)
    assert (
        sum(name == "img" for name, _ in page.elements) == 3 * (1 + 2 * 2) + 1
    )  # three studies at two epochs, one outline


def test_calibration_is_in_the_weights_and_in_a_readable_file(bundle: str, trained, tiny_data) -> None:
    state = read_tensors(trained(bundle) / "models" / "model.pt")
    kind = "volume" if VARIANTS[bundle]["images"] == "head" else "image"
    content = json.loads((trained(bundle) / "models" / "calibration.json").read_text())
    state = {name.removeprefix(f"calibration.{kind}."): value for name, value in state.items()}
    summary = content[kind]
    assert {"image", "volume"} & content.keys() == {kind}
    cases = [item["subject"] for item in json.loads((tiny_data(bundle) / "datalist.json").read_text())["validation"]]
    assert sorted(study["study"] for study in summary["studies"]) == cases and summary["healthy_studies"] == 5
    assert state["healthy_scores"].tolist() == [study["score"] for study in summary["studies"]]
    assert state["healthy_masses"].tolist() == [study["mass"] for study in summary["studies"]]
    assert state["decision"].tolist() == [ALPHA, 0, 0.2]
    assert float(state["pixel_threshold"]) == summary["pixel_threshold"] > 0
    assert state["slices"].tolist() == summary["slices"]
    assert state["plane"].tolist() == summary["plane"] == 2 * [32 * 32]


# Detection


def test_row_of_a_study_agrees_with_its_mask_and_calibration(bundle: str, detection, unseen, trained) -> None:
    (row,) = read_results_csv(detection(bundle) / "results.csv")
    study = detection(bundle) / case_name(unseen(bundle))
    if VARIANTS[bundle]["images"] == "frame":  # kept at its own size, of which no healthy study is
        assert (row.p_value, row.decision, row.region_count, row.region_size) == (None, None, None, None)
        assert row.note.startswith(
            "No p-value: calibrated on slices of 1024 pixels, but the slices of this study have "
        )
        assert not [*study.glob("mask.*")]
        return
    mask = read_result(study, "mask")
    if VARIANTS[bundle]["images"] == "head":
        white, unit, size = 1, "ml", np.prod(nib.load(study / "mask.nii.gz").header.get_zooms()) / 1000
    else:
        white, unit, size = 255, "px", 1
    assert set(np.unique(mask)) <= {0, white}
    # on the study's own voxels a finding may fall into several parts that touched on the network's grid
    assert 1 <= row.region_count <= label_components(mask > 0, connectivity=mask.ndim).max()
    assert row.region_size == pytest.approx((mask > 0).sum() * size, rel=1e-5) and row.region_unit == unit
    calibration = json.loads((trained(bundle) / "models" / "calibration.json").read_text())[row.kind]
    assert row.healthy_studies == calibration["healthy_studies"]
    healthy = [study["score"] for study in calibration["studies"]]
    p_value = (1 + sum(score >= row.score for score in healthy)) / (len(healthy) + 1)
    assert row.p_value == pytest.approx(p_value)
    assert row.decision == ("flag" if p_value <= ALPHA_OF_FINDINGS else "likely_normal")


def test_run_information_names_what_made_the_results(bundle: str, detection, trained) -> None:
    run = json.loads((detection(bundle) / "run.json").read_text())
    calibration = json.loads((trained(bundle) / "models" / "calibration.json").read_text())
    assert (run["bundle"], run["decision_rule"]["alpha"], run["seed"]) == (bundle, ALPHA_OF_FINDINGS, 0)
    assert run["model_hash"] == calibration["model_hash"]
    assert run["calibration"].keys() == {"image", "volume"} & calibration.keys()
    for kind, found in run["calibration"].items():
        assert found["pixel_threshold"] == calibration[kind]["pixel_threshold"]
    assert {"nomaly", "torch", "monai", "numpy", "python"} <= set(run["versions"])


def test_detecting_twice_gives_identical_numbers_and_maps(
    bundle: str, nomaly, parameters, detection, unseen, tmp_path: Path
) -> None:
    words = ("--output", tmp_path / "again")
    alpha = {"alpha": ALPHA_OF_FINDINGS}
    assert nomaly("detect", bundle, unseen(bundle), *words, **parameters(bundle) | alpha).code == 0
    assert untimed(tmp_path / "again") == untimed(detection(bundle))
    case = case_name(unseen(bundle))
    for name in ("map", "mask", "pseudo_healthy"):
        if not [*(detection(bundle) / case).glob(f"{name}.*")]:
            assert name == "mask"  # without a p-value
            continue
        first, again = (read_result(folder / case, name) for folder in (detection(bundle), tmp_path / "again"))
        assert name == "mask" or first.max() > 0
        np.testing.assert_array_equal(again, first)


def test_inference_config_without_studies_takes_the_test_section(
    bundle: str, parameters, evaluation, tiny_data, tmp_path: Path, quiet_process: None
) -> None:
    folders = {"dataset_dir": str(tiny_data(bundle)), "output_dir": str(tmp_path)}
    run_bundle(bundle, ["inference"], {**parameters(bundle), **folders, "write_images": False})
    assert untimed(tmp_path) == untimed(evaluation(bundle))
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["records"]  # no maps


def test_lesions_of_a_study_have_a_table_that_agrees_with_its_row(bundle: str, detection) -> None:
    (row,) = read_results_csv(detection(bundle) / "results.csv")
    with open(detection(bundle) / "regions.csv", newline="") as table:
        lesions = list(csv.DictReader(table))
    findings = [lesion for lesion in lesions if lesion["p_value"] and float(lesion["p_value"]) <= ALPHA_OF_FINDINGS]
    assert {lesion["study"] for lesion in lesions} == {row.study} and len(findings) == (row.region_count or 0)
    assert sum(float(lesion["size"]) for lesion in findings) == pytest.approx(row.region_size or 0)
    masses = [float(lesion["mass"]) for lesion in lesions]
    assert masses == sorted(masses, reverse=True) and min(masses) > 0


def test_site_calibrates_beside_the_weights_and_its_decisions_follow(
    bundle: str, nomaly, parameters, trained, tiny_data, tiny_network, tmp_path: Path
) -> None:
    weights, before = trained(bundle) / "models" / "model.pt", files_of(trained(bundle) / "models")
    items = json.loads((tiny_data(bundle) / "datalist.json").read_text())
    words = ("--weights", weights, "--output", tmp_path / "site.json", "--dataset_dir", tiny_data(bundle))
    settings = {"alpha": 0.3, "likely_normal_p": 0.5, **tiny_network(bundle)}
    assert nomaly("calibrate", bundle, *words, **settings).code == 0
    assert files_of(trained(bundle) / "models") == before  # the weights and their own calibration stay
    site = json.loads((tmp_path / "site.json").read_text())
    kind = "volume" if VARIANTS[bundle]["images"] == "head" else "image"
    assert (site["alpha"], site[kind]["healthy_studies"]) == (0.3, len(items["validation"]))

    image = tiny_data(bundle) / items["test"][0]["image"]
    settings = {name: value for name, value in parameters(bundle).items() if name != "alpha"}
    words = (image, "--calibration", tmp_path / "site.json", "--output", tmp_path / "out")
    assert nomaly("detect", bundle, *words, **settings).code == 0
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["decision_rule"] == {"alpha": 0.3, "confidence": None, "likely_normal_p": 0.5}
    assert read_results_csv(tmp_path / "out" / "results.csv")[0].p_value is not None


# Evaluation


def test_table_has_a_row_for_each_study_of_the_test_section(bundle: str, evaluation, tiny_data) -> None:
    rows = read_results_csv(evaluation(bundle) / "results.csv")
    test = json.loads((tiny_data(bundle) / "datalist.json").read_text())["test"]
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
    bundle: str, nomaly, parameters, evaluation, tiny_data, tmp_path: Path
) -> None:
    words = ("--dataset_dir", tiny_data(bundle), "--output", tmp_path)
    assert nomaly("evaluate", bundle, *words, baseline_epochs=1, **parameters(bundle)).code == 0
    assert (tmp_path / "metrics.json").read_bytes() == (evaluation(bundle) / "metrics.json").read_bytes()
    assert untimed(tmp_path) == untimed(evaluation(bundle))


def test_healthy_studies_get_synthetic_twins_when_asked(
    bundle: str, nomaly, parameters, tiny_data, tmp_path: Path
) -> None:
    words = ("--dataset_dir", tiny_data(bundle), "--output", tmp_path)
    done = nomaly("evaluate", bundle, *words, baseline_epochs=1, synthetic_lesions=True, **parameters(bundle))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (done.code, metrics["n_healthy"], metrics["n_abnormal"]) == (0, 4, 8)


# Going on


def test_training_again_has_nothing_to_do_and_more_epochs_go_on(
    bundle: str, trained, train_tiny, tiny_data, tmp_path: Path
) -> None:
    shutil.copytree(trained(bundle) / "models", tmp_path / "models")
    before = files_of(tmp_path / "models")
    again = train_tiny(bundle, tiny_data(bundle), tmp_path)
    assert again.code == 0
    assert (
        f"Nothing to train: {tmp_path}/models/checkpoint.pt already has 2 epochs; increase max_epochs to train longer."
        in again.err
    )
    assert files_of(tmp_path / "models") == before

    longer = train_tiny(bundle, tiny_data(bundle), tmp_path, max_epochs=3)
    assert longer.code == 0
    assert [epoch.epoch for epoch in read_history(tmp_path / "models" / "history.jsonl").epochs] == [1, 2, 3]
    report = tmp_path / "train" / "training.html"
    assert f"The report of the training is {report}. To open it:" in longer.out
    assert "Finished: 3 epochs in " in Page(report.read_text()).text
    assert f"Resuming {tmp_path}/models/checkpoint.pt after epoch 2." in longer.err
    assert "Epoch 3: " in longer.err and "Epoch 2: " not in longer.err
    assert read_tensors(tmp_path / "models" / "checkpoint.pt")["epoch"] == 3
