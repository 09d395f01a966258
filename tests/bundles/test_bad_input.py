"""What a user can get wrong, through the command line: the exit code, the sentence, and that nothing is lost."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from custom import files
from custom.runs.tables import read_results_csv

BUNDLE = "ra_brain"


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file below a folder with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def says(outcome, code: int, *phrases: str) -> None:
    """A command ended with this code, and these phrases are in the last line that it wrote, which names the
    software.
    """
    last = outcome.err.strip().splitlines()[-1] if outcome.err.strip() else ""
    assert outcome.code == code, outcome.err
    assert [phrase for phrase in phrases if phrase not in last] == [], last
    assert last.startswith("nomaly: ") and "Traceback" not in outcome.err


@pytest.fixture
def models(trained, tmp_path: Path) -> Path:
    """Folder of a trained and calibrated detector that a test may spoil."""
    return Path(shutil.copytree(trained(BUNDLE) / "models", tmp_path / "run" / "models"))


@pytest.fixture
def detect(nomaly, models: Path, tiny_network, tmp_path: Path) -> Callable:
    """Detect on studies into tmp_path/results."""

    def run(*studies: Path, **parameters):
        words = ("--output", tmp_path / "results", "--weights", models / "model.pt")
        return nomaly("detect", BUNDLE, *studies, *words, **tiny_network(BUNDLE) | parameters)

    return run


@pytest.fixture
def dataset(tiny_phantom: Path, tmp_path: Path) -> Callable[..., Path]:
    """The tiny phantom, real as far as anyone can see, with items of its list changed or added by section."""

    def make(change: Callable[[dict], None]) -> Path:
        folder = tmp_path / "data"
        shutil.copytree(tiny_phantom, folder, ignore=shutil.ignore_patterns("phantom.json", "unseen"))
        datalist = json.loads((folder / "datalist.json").read_text())
        change(datalist)
        (folder / "datalist.json").write_text(json.dumps(datalist))
        return folder

    return make


def save_volume(path: Path, array: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(array.astype(np.float32), np.diag([-6.0, -6.0, 6.0, 1.0])), path)
    return path


def head_array(tiny_phantom: Path) -> np.ndarray:
    return nib.load(tiny_phantom / "images" / "healthy_000.nii.gz").get_fdata()


# Data sets


def test_missing_dataset_folder_is_named(train_tiny, tmp_path: Path) -> None:
    done = train_tiny(BUNDLE, tmp_path / "no", tmp_path / "run")
    says(done, 2, f"dataset_dir must be an existing folder, got {tmp_path}/no; check the path.")
    assert not (tmp_path / "run").exists()


def test_empty_dataset_folder_is_told_what_it_lacks(train_tiny, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = train_tiny(BUNDLE, tmp_path / "empty", tmp_path / "run")
    says(done, 2, f"dataset_dir must contain datalist.json, but {tmp_path}/empty does not; write one")
    assert not (tmp_path / "run").exists()


def test_abnormal_training_item_is_refused(train_tiny, dataset, tmp_path: Path) -> None:
    folder = dataset(lambda datalist: datalist["training"][1].update(label=1))
    done = train_tiny(BUNDLE, folder, tmp_path / "run")
    says(done, 2, "training[1]", "section `training` must be healthy (label 0), got label 1; move the item to `test`.")
    assert not (tmp_path / "run").exists()


def test_subject_in_two_sections_is_refused(train_tiny, dataset, tmp_path: Path) -> None:
    folder = dataset(lambda datalist: datalist["test"][0].update(subject="train_000"))
    done = train_tiny(BUNDLE, folder, tmp_path / "run")
    says(done, 2, "a subject must be in one section only, but `train_000` is in `training` and in `test`")
    assert not (tmp_path / "run").exists()


def test_unreadable_training_image_stops_with_its_name(train_tiny, dataset, tmp_path: Path) -> None:
    folder = dataset(lambda datalist: None)
    broken = folder / "images" / "train_002.nii.gz"
    broken.write_bytes(broken.read_bytes()[:900])
    done = train_tiny(BUNDLE, folder, tmp_path / "run")
    says(done, 2, f"Study {broken}: the file must be a readable PNG, JPEG, NIfTI or DICOM image", "may be truncated")
    assert not (tmp_path / "run" / "models").exists()


def test_unreadable_validation_image_is_left_out_with_a_word(train_tiny, dataset, tmp_path: Path) -> None:
    folder = dataset(lambda datalist: None)
    (folder / "images" / "val_003.nii.gz").write_bytes(b"no image")
    done = train_tiny(BUNDLE, folder, tmp_path / "run", max_epochs=1)
    assert done.code == 0 and (tmp_path / "run" / "models" / "model.pt").is_file()
    assert f"Study val_003 failed: Study {folder}/images/val_003.nii.gz: the file must be a readable" in done.err


def test_validation_without_any_readable_image_stops(train_tiny, dataset, tmp_path: Path) -> None:
    folder = dataset(lambda datalist: None)
    for path in (folder / "images").glob("val_*"):
        path.write_bytes(b"no image")
    done = train_tiny(BUNDLE, folder, tmp_path / "run", max_epochs=1)
    says(
        done,
        2,
        "validation needs at least one healthy study that can be read, but found none: fix the validation section",
    )
    assert not (tmp_path / "run" / "models").exists()


def test_evaluation_without_test_studies_is_refused(nomaly, models, dataset, tiny_network, tmp_path: Path) -> None:
    folder = dataset(lambda datalist: datalist["test"].clear())
    parameters = {"dataset_dir": folder, "output": tmp_path / "results", "weights": models / "model.pt"}
    done = nomaly("evaluate", BUNDLE, **parameters, **tiny_network(BUNDLE))
    says(done, 2, "section `test` must list at least one study")
    assert not (tmp_path / "results").exists()


def test_test_section_without_any_readable_study_leaves_its_reasons(
    nomaly, models: Path, dataset, tiny_network, tmp_path: Path
) -> None:
    folder = dataset(lambda datalist: None)
    for path in [*(folder / "images").glob("healthy_*"), *(folder / "images").glob("abnormal_*")]:
        path.write_bytes(b"no image")
    words = ("--dataset_dir", folder, "--output", tmp_path / "results", "--weights", models / "model.pt")
    done = nomaly("evaluate", BUNDLE, *words, baseline_epochs=1, **tiny_network(BUNDLE))
    rows = read_results_csv(tmp_path / "results" / "results.csv")
    assert (done.code, {row.status for row in rows}, len(rows)) == (1, {"failed"}, 8)
    assert (tmp_path / "results" / "report.html").is_file()


def test_training_too_short_for_a_validation_still_leaves_a_network(train_tiny, tiny_phantom, tmp_path: Path) -> None:
    done = train_tiny(BUNDLE, tiny_phantom, tmp_path, max_epochs=1, val_interval=5)
    assert done.code == 0 and (tmp_path / "models" / "model.pt").is_file()
    assert "WARNING No validation was run" in done.err


# Studies


def test_broken_study_fails_alone_and_the_others_are_done(detect, tiny_phantom: Path, tmp_path: Path) -> None:
    studies = tmp_path / "studies"
    studies.mkdir()
    for number in range(3):
        shutil.copy(tiny_phantom / "images" / f"healthy_00{number}.nii.gz", studies)
    broken = studies / "healthy_001.nii.gz"
    broken.write_bytes(broken.read_bytes()[:900])
    done = detect(studies)
    rows = read_results_csv(tmp_path / "results" / "results.csv")
    assert done.code == 1
    assert [(row.study, row.status) for row in rows] == [
        ("healthy_000", "ok"),
        ("healthy_001", "failed"),
        ("healthy_002", "ok"),
    ]
    assert rows[1].error.startswith(f"Study {broken}: the file must be a readable") and rows[1].score is None
    assert f"Study healthy_001 failed: {rows[1].error}" in done.err
    names = {path.parent.name for path in (tmp_path / "results").rglob("map.nii.gz")}
    assert names == {"healthy_000", "healthy_002"}
    assert "healthy_001" in (tmp_path / "results" / "report.html").read_text()


def colour_picture(folder: Path, head: np.ndarray) -> Path:
    pixels = (head[..., 14] / 4).astype(np.uint8).T
    Image.fromarray(np.stack([pixels, pixels // 2, pixels // 3], -1)).save(folder / "study.png")
    return folder / "study.png"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (colour_picture, "the image must be grey (1 channel), but it is colour (3 channels)"),
        (
            lambda folder, head: save_volume(folder / "study.nii.gz", np.where(head > 500, np.nan, head)),
            "all intensities must be finite, but",
        ),
        (
            lambda folder, head: save_volume(folder / "study.nii.gz", np.full_like(head, 7)),
            "the image must not be constant, but all its intensities equal 7",
        ),
        (
            lambda folder, head: save_volume(folder / "study.nii.gz", head[::3, ::3]),
            "each in-plane side must have at least min_size = 16 pixels, but the plane is 10 x 12",
        ),
        (
            lambda folder, head: save_volume(folder / "study.nii.gz", head[..., -3:]),
            "slab_mm [45.0, 75.0] selects no slice of",
        ),
    ],
    ids=["colour", "nan", "constant", "small", "outside the slab"],
)
def test_study_that_cannot_be_scored_says_why(make, reason: str, detect, tiny_phantom: Path, tmp_path: Path) -> None:
    done = detect(make(tmp_path, head_array(tiny_phantom)))
    (row,) = read_results_csv(tmp_path / "results" / "results.csv")
    assert (done.code, row.status, row.decision) == (1, "failed", None)
    assert reason in row.error and reason in done.err and "Traceback" not in done.err


def test_folder_without_images_is_refused(detect, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = detect(tmp_path / "empty")
    says(done, 2, f"studies must name at least one study, got {tmp_path}/empty: give image files (.nii.gz, ")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("gone.nii.gz", None, r"Study .*gone\.nii\.gz: file not found\. Check the path for spelling and mounts\."),
        ("empty.png", b"", r"Study .*empty\.png: the file is empty \(0 bytes\)\. Copy or export it again\."),
        ("text.png", b"text", r"Study .*text\.png: the file must be a readable PNG, .*UnidentifiedImageError.*"),
    ],
)
def test_only_study_that_cannot_be_read_is_refused_before_the_detector_is_loaded(
    name: str, content: bytes | None, reason: str, detect, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = detect(tmp_path / name)
    assert done.code == 2 and re.fullmatch(f"nomaly: {reason}\n", done.err), done.err
    assert done.out == "" and not (tmp_path / "results").exists()


# Results folder


def test_results_are_not_written_over_unless_asked(detect, tiny_phantom: Path, tmp_path: Path) -> None:
    first, second = (tiny_phantom / "images" / f"healthy_00{number}.nii.gz" for number in (0, 1))
    assert detect(first).code == 0
    before = files_of(tmp_path / "results")
    sentence = f"output_dir {tmp_path}/results already contains results (results.csv): choose another output_dir"
    says(detect(second), 2, sentence, "or overwrite true to replace them.")
    assert files_of(tmp_path / "results") == before
    assert detect(second, overwrite=True).code == 0
    assert [row.study for row in read_results_csv(tmp_path / "results" / "results.csv")] == ["healthy_001"]


def test_results_folder_that_is_a_file_is_refused(detect, tiny_phantom: Path, tmp_path: Path) -> None:
    (tmp_path / "results").write_text("my notes")
    done = detect(tiny_phantom / "images" / "healthy_000.nii.gz")
    says(done, 2, f"Cannot write {tmp_path}/results/run.json", "choose another folder")
    assert (tmp_path / "results").read_text() == "my notes"


# Weights

COMMANDS = {
    "calibrate": lambda phantom: ["calibrate", BUNDLE, "--dataset_dir", phantom],
    "evaluate": lambda phantom: ["evaluate", BUNDLE, "--dataset_dir", phantom],
    "detect": lambda phantom: ["detect", BUNDLE, phantom / "images" / "healthy_000.nii.gz"],
}


@pytest.fixture
def run_command(nomaly, tiny_phantom: Path, tiny_network, tmp_path: Path) -> Callable:
    """One of COMMANDS with weights."""

    def run(command: str, weights: Path, **parameters):
        words = [*COMMANDS[command](tiny_phantom), "--weights", weights]
        words += ["--output", tmp_path / "results"]
        return nomaly(*words, **tiny_network(BUNDLE) | parameters)

    return run


@pytest.mark.parametrize("command", COMMANDS)
def test_weights_of_another_architecture_are_refused(command: str, run_command, models: Path, tmp_path: Path) -> None:
    before = files_of(models)
    done = run_command(command, models / "model.pt", latent_size=4)
    says(
        done,
        2,
        f"{models}/model.pt were made with other parameters: latent_size is 8, not 4. Use the",
        "give --latent_size 8.",
    )
    assert files_of(models) == before and not (tmp_path / "results").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_missing_weights_say_to_train_first(command: str, run_command, tmp_path: Path) -> None:
    done = run_command(command, tmp_path / "no.pt")
    says(done, 2, f"weights file not found: {tmp_path}/no.pt. Train the bundle first (nomaly train), or give")
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_truncated_weights_are_refused(command: str, run_command, models: Path) -> None:
    weights = models / "model.pt"
    weights.write_bytes(weights.read_bytes()[:2000])
    says(run_command(command, weights), 2, f"{weights} cannot be read as a weights file")


def test_run_of_another_size_is_not_continued(train_tiny, models: Path, tiny_phantom: Path) -> None:
    before = files_of(models)
    done = train_tiny(BUNDLE, tiny_phantom, models.parent, max_epochs=3, latent_size=4)
    says(done, 2, f"{models}/checkpoint.pt were made with other parameters: latent_size is 8, not 4.")
    assert files_of(models) == before


def test_run_on_other_data_is_not_continued(train_tiny, models: Path, dataset) -> None:
    before = files_of(models)
    done = train_tiny(BUNDLE, dataset(lambda datalist: datalist["training"].pop()), models.parent, max_epochs=3)
    says(done, 2, f"{models}/checkpoint.pt was trained with datalist", "give the same datalist, another ckpt_dir")
    assert files_of(models) == before


def test_network_without_its_run_is_not_trained_over(train_tiny, models: Path, tiny_phantom: Path) -> None:
    (models / "checkpoint.pt").unlink()
    before = files_of(models)
    done = train_tiny(BUNDLE, tiny_phantom, models.parent)
    says(done, 2, f"ckpt_dir {models} already contains a model.pt", "give another ckpt_dir")
    assert files_of(models) == before


# Calibration


def test_too_few_healthy_studies_say_how_many_are_needed(run_command, models: Path) -> None:
    before = files_of(models)
    done = run_command("calibrate", models / "model.pt", alpha=0.05)
    says(
        done,
        2,
        "calibration needs at least 19 healthy studies for alpha = 0.05, got 5: add healthy studies or choose",
    )
    assert files_of(models) == before


def test_unreadable_healthy_studies_do_not_count(nomaly, models, tiny_network, tiny_phantom, tmp_path: Path) -> None:
    healthy = tmp_path / "healthy"
    healthy.mkdir()
    for number in range(4):
        shutil.copy(tiny_phantom / "images" / f"healthy_00{number}.nii.gz", healthy)
    (healthy / "healthy_002.nii.gz").write_bytes(b"")
    words = ("--healthy", healthy, "--weights", models / "model.pt", "--no-pseudonymise")
    done = nomaly("calibrate", BUNDLE, *words, alpha=0.2, **tiny_network(BUNDLE))
    says(done, 2, "calibration needs at least 4 healthy studies for alpha = 0.2, got 3")
    assert "Study healthy_002 failed" in done.err and "the file is empty (0 bytes)" in done.err


def test_confident_mode_says_how_many_it_needs(run_command, models: Path) -> None:
    done = run_command("calibrate", models / "model.pt", alpha=0.2, confidence=0.95)
    says(
        done,
        2,
        "calibration needs at least 14 healthy studies for alpha = 0.2 with confidence 0.95, got 5: add healthy",
    )


def test_abnormal_study_among_the_healthy_ones_is_refused(nomaly, dataset, models, tiny_network) -> None:
    data = dataset(lambda datalist: datalist["validation"][1].update(label=1))
    done = nomaly("calibrate", BUNDLE, "--healthy", data, "--weights", models / "model.pt", **tiny_network(BUNDLE))
    says(done, 2, "section `validation` must be healthy (label 0), got label 1; move the item to `test`")


def test_healthy_studies_go_by_hidden_names_and_a_key_leads_back(
    nomaly, models, tiny_network, tiny_phantom, tmp_path: Path
) -> None:
    healthy = tmp_path / "Doe_Jane"
    healthy.mkdir()
    sources = sorted((tiny_phantom / "images").glob("*.nii.gz"))[:5]
    for source in sources:
        shutil.copy(source, healthy)
    words = ("--healthy", healthy, "--weights", models / "model.pt", "--output", tmp_path / "site.json")
    done = nomaly("calibrate", BUNDLE, *words, alpha=0.2, **tiny_network(BUNDLE))
    text = (tmp_path / "site.json").read_text()
    assert done.code == 0 and not [word for word in ("Doe", sources[0].name[:-7]) if word in text + done.err + done.out]
    with open(tmp_path / "site_key.csv", newline="") as file:
        key = {row["study"]: row["path"] for row in csv.DictReader(file)}
    assert sorted(key) == sorted(study["study"] for study in json.loads(text)["volume"]["studies"])
    assert sorted(key.values()) == [str(healthy / source.name) for source in sources]


def test_one_study_twice_among_the_healthy_ones_is_refused(
    nomaly, models, tiny_network, tiny_phantom, tmp_path
) -> None:
    healthy, before = tmp_path / "healthy", files_of(models)
    healthy.mkdir()
    for number in range(4):
        shutil.copy(tiny_phantom / "images" / f"healthy_00{number}.nii.gz", healthy)
    shutil.copy(healthy / "healthy_003.nii.gz", healthy / "copy.nii.gz")
    words = ("--healthy", healthy, "--weights", models / "model.pt", "--no-pseudonymise")
    done = nomaly("calibrate", BUNDLE, *words, alpha=0.2, **tiny_network(BUNDLE))
    says(done, 2, "healthy studies must differ, but copy and healthy_003 contain the same image: remove one of them.")
    assert files_of(models) == before


def test_calibrating_by_a_field_that_no_study_has_is_refused(run_command, models: Path) -> None:
    done = run_command("calibrate", models / "model.pt", alpha=0.2, group_field="scanner")
    says(done, 2, "healthy studies must have the field `scanner` for calibration by it, but", "add it to the datalist")


@pytest.mark.parametrize("command", ["evaluate", "detect"])
def test_calibration_of_other_weights_is_refused(command: str, run_command, models: Path, tmp_path: Path) -> None:
    content = json.loads((models / "calibration.json").read_text())
    (models / "calibration.json").write_text(json.dumps(content | {"model_hash": "0123456789abcdef"}))
    done = run_command(command, models / "model.pt", calibration_file=models / "calibration.json")
    says(
        done,
        2,
        "calibration.json was made with other weights",
        "(0123456789abcdef; these are",
        "Calibrate these weights",
    )
    assert not (tmp_path / "results").exists()


def test_smaller_alpha_than_the_confident_calibration_allows_is_refused(run_command, models: Path) -> None:
    content = json.loads((models / "calibration.json").read_text())
    site = models / "calibration.json"
    site.write_text(json.dumps(content | {"confidence": 0.5}))  # needs 4 studies at alpha 0.2, 14 at 0.05
    assert run_command("detect", models / "model.pt", calibration_file=site).code == 0
    done = run_command("detect", models / "model.pt", calibration_file=site, alpha=0.05, overwrite=True)
    says(done, 2, "calibration needs at least 14 healthy studies for alpha = 0.05 with confidence 0.5, got 5")


# Evaluation


@pytest.mark.parametrize(("label", "missing"), [(0, "abnormal"), (1, "healthy")])
def test_test_set_of_one_class_tells_what_cannot_be_computed(
    label: int, missing: str, nomaly, models, dataset, tiny_network, tmp_path: Path
) -> None:
    data = dataset(lambda lists: lists.update(test=[item for item in lists["test"] if item["label"] == label]))
    words = ("--dataset_dir", data, "--weights", models / "model.pt", "--output", tmp_path / "results")
    parameters = {"synthetic_lesions": False, "baseline_epochs": 1, **tiny_network(BUNDLE)}
    assert nomaly("evaluate", BUNDLE, *words, **parameters).code == 0
    metrics = json.loads((tmp_path / "results" / "metrics.json").read_text())
    assert metrics["image"]["auroc"] is None
    assert f"no {missing} study" in metrics["not_computable"]["image.auroc"]
    table = (tmp_path / "results" / "metrics.md").read_text()
    assert f"not computable: {metrics['not_computable']['image.auroc']}" in table


def test_mask_of_another_size_fails_its_study_alone(nomaly, models, dataset, tiny_network, tmp_path: Path) -> None:
    data = dataset(lambda lists: None)
    masked = next(item for item in json.loads((data / "datalist.json").read_text())["test"] if item.get("mask"))
    save_volume(data / masked["mask"], np.ones((5, 6, 7)))
    words = ("--dataset_dir", data, "--weights", models / "model.pt", "--output", tmp_path / "results")
    assert nomaly("evaluate", BUNDLE, *words, baseline_epochs=1, **tiny_network(BUNDLE)).code == 1
    failed = [row for row in read_results_csv(tmp_path / "results" / "results.csv") if row.status == "failed"]
    assert len(failed) == 1 and "a mask must have the grid of its image" in failed[0].error


# Disk full


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, no file reaches the disk whole."""

    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return lambda: monkeypatch.setattr(os, "fsync", refuse)


def test_full_disk_while_calibrating_keeps_the_weights(run_command, models: Path, full_disk) -> None:
    before = files_of(models)
    full_disk()
    done = run_command("calibrate", models / "model.pt", alpha=0.2, into_weights=models / "calibrated.pt")
    says(done, 2, f"Cannot write {models}/calibrated.pt: No space left on device.", "unchanged", "free some space")
    assert files_of(models) == before


def test_full_disk_while_training_keeps_the_run(train_tiny, models: Path, tiny_phantom: Path, full_disk) -> None:
    before = files_of(models)
    full_disk()
    done = train_tiny(BUNDLE, tiny_phantom, models.parent, max_epochs=3)
    says(done, 2, f"Cannot write {models}/", "No space left on device. The previous content is unchanged.")
    assert files_of(models) == before


def test_full_disk_ends_the_run_which_goes_on_when_there_is_room(
    detect, tiny_phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace

    def replace_unless_full(source, target):
        if Path(target).parent.name == "healthy_001":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        replace(source, target)

    studies = [tiny_phantom / "images" / f"healthy_00{number}.nii.gz" for number in range(3)]
    with monkeypatch.context() as full:
        full.setattr(files.os, "replace", replace_unless_full)
        done = detect(*studies)
    says(done, 2, "results/healthy_001/map.nii.gz: No space left on device. The previous content is unchanged.")
    assert not (tmp_path / "results" / "results.csv").exists()
    assert list((tmp_path / "results" / "healthy_001").iterdir()) == []
    written = (tmp_path / "results" / "healthy_000" / "map.nii.gz").stat().st_mtime_ns
    assert detect(*studies, resume=True).code == 0
    rows = read_results_csv(tmp_path / "results" / "results.csv")
    assert [(row.study, row.status) for row in rows] == [(f"healthy_00{number}", "ok") for number in range(3)]
    assert (tmp_path / "results" / "healthy_000" / "map.nii.gz").stat().st_mtime_ns == written
