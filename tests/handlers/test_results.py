"""The results folder of a detector whose map is |x - 0.5|: table, maps, run information and report, by hand."""

from __future__ import annotations

import csv
import errno
import json
import logging
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Compose, SpatialCrop
from PIL import Image

from custom.calibration.by_kind import Calibrations
from custom.detector.weights import model_hash
from custom.errors import NomalyError
from custom.handlers.results import ResultsFolder
from custom.runs import study_outputs
from custom.runs.inputs import pending_items
from custom.runs.notes import WEIGHTS
from custom.runs.records import StudyRecord, StudyRecords
from custom.runs.study_outputs import StudyOutputs
from custom.runs.tables import read_results_csv
from custom.scoring.score import StudyScore
from custom.scoring.settings import scoring_settings
from custom.studies.loading import LoadStudyd
from custom.studies.own_files import STUDY_FILES, list_own
from custom.transforms.intensity import ScaleStudyIntensityd

PREPROCESSING = Compose([LoadStudyd(min_size=4), ScaleStudyIntensityd(lower=0, upper=100, target=1.0)])
MAXIMUM = StudyScore("max")


@pytest.fixture
def head(tmp_path: Path) -> dict[str, Any]:
    """A grey volume of 1 ml voxels with two bright ones side by side and a dark one far away: two lesions of 3 ml."""
    volume = np.full((6, 7, 3), 50, np.float32)
    volume[0, 0, 0] = volume[1, 0, 0] = 100
    volume[5, 6, 2] = 0
    path = tmp_path / "head.nii.gz"
    nib.save(nib.Nifti1Image(volume, np.diag([-10.0, -10.0, 10.0, 1.0])), path)
    return {"image": str(path), "case": "head"}


@pytest.fixture
def calibrated(grey_detector):
    """The grey detector with four healthy scores and a threshold of 0.3."""
    values = {"pixel_threshold": 0.3, "pixel_false_positive_rate": 0.01, "plane": (42, 42)}
    for state in (grey_detector.calibration.image, grey_detector.calibration.volume):
        state.fill_healthy([0.1, 0.2, 0.3, 0.4], [0.0, 0.0, 0.05, 0.1])
        state.fill(**values)
        state.fill_scoring(scoring_settings(MAXIMUM, grey_detector).stored())
    return grey_detector


@pytest.fixture
def results(run_grey, grey_detector, tmp_path: Path):
    """Run the detector on items into tmp_path/out."""

    def run(*items: dict, **settings) -> Path:
        settings = {"title": "Anomalies found", "alpha": 0.2, "items": items} | settings
        handler = ResultsFolder(str(tmp_path / "out"), grey_detector, **settings)
        input_check = {
            name: getattr(grey_detector, name) for name in ("input_check", "score_all") if hasattr(grey_detector, name)
        }
        pending = pending_items(items, str(tmp_path / "out"), settings.get("resume", False))
        run_grey(pending, PREPROCESSING, MAXIMUM, val_handlers=[handler], **input_check)
        return tmp_path / "out"

    return run


def test_row_has_score_decision_and_size_of_the_lesions(results, calibrated, head) -> None:
    (row,) = read_results_csv(results(head) / "results.csv")
    assert (row.study, row.status, row.error) == ("head", "ok", "")
    assert (row.score, row.p_value, row.decision) == (pytest.approx(0.5), pytest.approx(0.2), "flag")
    assert (row.region_count, row.region_size, row.region_unit) == (2, pytest.approx(3.0), "ml")
    assert (row.group, row.note) == (None, "")


def test_weights_of_phantoms_are_told_at_the_start_and_in_each_row(results, calibrated, head, caplog) -> None:
    with caplog.at_level("WARNING"):
        (row,) = read_results_csv(results(head, notes=["Synthetic phantom", WEIGHTS]) / "results.csv")
    assert row.note == WEIGHTS
    assert caplog.messages[:2] == ["Synthetic phantom", WEIGHTS]


def test_each_lesion_has_size_place_strength_and_p_value(results, calibrated, head) -> None:
    calibrated.calibration.volume.fill(healthy_masses=[0.0, 0.0, 0.25, 0.5])
    with open(results(head) / "regions.csv", newline="") as table:
        pair, single = csv.DictReader(table)
    # two voxels over 0.3 by 0.2 each, centre between (0, 0, 0) and (1, 0, 0); one dark voxel at (5, 6, 2); 10 mm a side
    assert (pair["study"], pair["region"], pair["unit"], pair["position_unit"]) == ("head", "1", "ml", "mm")
    assert [float(pair[key]) for key in "xyz"] == [-5, 0, 0] and float(pair["size"]) == pytest.approx(2)
    assert [float(single[key]) for key in "xyz"] == [-50, -60, 20]
    assert float(pair["mass"]) == pytest.approx(0.4) and float(pair["peak"]) == pytest.approx(0.5)
    assert float(pair["p_value"]) == pytest.approx(2 / 5)  # one healthy study of four has a region as massive
    assert float(single["p_value"]) == pytest.approx(3 / 5)  # its mass of 0.2 is reached by two


def test_volume_gets_a_scene_for_slicer_and_a_picture_a_note(results, calibrated, head, tmp_path: Path) -> None:
    Image.fromarray(np.arange(42, dtype=np.uint8).reshape(7, 6)).save(tmp_path / "film.png")
    folder = results(head, {"image": str(tmp_path / "film.png"), "case": "film"}, slicer=True)
    assert {"slicer.mrml", "slicer_image.nii.gz"} <= set(os.listdir(folder / "head"))
    assert "mask.nii.gz" in (folder / "head" / "slicer.mrml").read_text()  # with its findings
    volume, film = read_results_csv(folder / "results.csv")
    assert "Slicer" not in volume.note and film.note.endswith("No scene for 3D Slicer: the image has no geometry.")
    assert not (folder / "film" / "slicer.mrml").exists()
    results(head, overwrite=True)  # without
    assert not (folder / "head" / "slicer.mrml").exists()


def test_scene_without_images_is_refused(grey_detector, tmp_path: Path) -> None:
    with pytest.raises(
        NomalyError, match="^slicer needs write_images true, of which it shows the files: give true, or"
    ):
        ResultsFolder(str(tmp_path), grey_detector, "", [], write_images=False, slicer=True)


def test_only_a_region_that_is_significant_itself_is_a_finding(results, calibrated, head) -> None:
    calibrated.calibration.volume.fill(
        healthy_masses=[0.0, 0.0, 0.0, 0.3]
    )  # p = 0.2, at alpha, for the pair, 0.4 for the other
    folder = results(head)
    (row,) = read_results_csv(folder / "results.csv")
    assert (row.region_count, row.region_size, row.region_unit) == (1, pytest.approx(2.0), "ml")
    with open(folder / "regions.csv", newline="") as table:
        assert [row["p_value"] for row in csv.DictReader(table)] == ["0.2", "0.4"]
    mask = nib.load(folder / "head" / "mask.nii.gz").get_fdata()
    assert [*map(tuple, np.argwhere(mask))] == [(0, 0, 0), (1, 0, 0)]
    record = StudyRecords(folder).read("head")
    assert {number for view in record.view.slices for number in view.regions} == {1}


def test_regions_end_where_the_body_ends(calibrated, run_grey, head, tmp_path: Path) -> None:
    _, [study] = run_grey([head], PREPROCESSING, MAXIMUM)
    study["foreground"] = study["foreground"].clone()
    study["foreground"][:, 0, 0, 0] = False  # half of the pair
    record = StudyOutputs(tmp_path, True, False, {"alpha": 0.2}).make(study)
    assert record.result.region_size == pytest.approx(2.0)  # of 3 ml
    assert nib.load(tmp_path / "head" / "mask.nii.gz").get_fdata().sum() == 2


def test_without_a_p_value_nothing_is_a_finding(results, calibrated, head) -> None:
    calibrated.calibration.volume.fill(plane=(64, 64))
    folder = results(head)
    (row,) = read_results_csv(folder / "results.csv")
    assert (row.region_count, row.region_size, row.region_unit) == (None, None, None)
    assert not (folder / "head" / "mask.nii.gz").exists()  # an empty one would look like a normal result
    assert not any(view.regions for view in StudyRecords(folder).read("head").view.slices)
    with open(folder / "regions.csv", newline="") as table:
        assert [row["p_value"] for row in csv.DictReader(table)] == ["", ""]


def test_lesions_of_a_picture_lie_at_columns_and_rows(results, calibrated, tmp_path: Path) -> None:
    pixels = np.full((7, 6), 128, np.uint8)
    pixels[2, 4] = 255  # row 2, column 4
    pixels[6, 0] = 0
    Image.fromarray(pixels).save(tmp_path / "film.png")
    folder = results({"image": str(tmp_path / "film.png"), "case": "film"})
    with open(folder / "regions.csv", newline="") as table:
        rows = [(row["x"], row["y"], row["z"], row["position_unit"], row["unit"]) for row in csv.DictReader(table)]
    assert sorted(rows) == [("0.0", "6.0", "", "px", "px"), ("4.0", "2.0", "", "px", "px")]


def test_lesion_of_a_coronal_slice_lies_where_the_world_of_its_file_says(results, calibrated, tmp_path: Path) -> None:
    film = np.full((6, 7, 1), 50, np.float32)
    film[5, 4], film[0, 0] = 100, 0
    affine = np.array([[-2.0, 0, 0, 90], [0, 0, 3, 20], [0, 2, 0, 300], [0, 0, 0, 1]])  # axis 1 is the patient's height
    nib.save(nib.Nifti1Image(film, affine), tmp_path / "coronal.nii.gz")
    folder = results({"image": str(tmp_path / "coronal.nii.gz"), "case": "coronal"})
    with open(folder / "regions.csv", newline="") as table:
        places = {tuple(float(row[key]) for key in "xyz"): row["position_unit"] for row in csv.DictReader(table)}
    assert places == {(80, 20, 308): "mm", (90, 20, 300): "mm"}  # affine @ (5, 4, 0, 1) and (0, 0, 0, 1)
    np.testing.assert_array_equal(nib.load(folder / "coronal" / "mask.nii.gz").affine, affine)


def test_results_of_an_earlier_run_do_not_stand_beside_new_ones(results, calibrated, head) -> None:
    folder = results(head)
    calibrated.calibration = Calibrations()  # no longer calibrated: neither lesions nor a mask
    results(head, overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == [
        *("head", "records", "report.html", "results.csv", "run.json")
    ]
    assert sorted(path.name for path in (folder / "head").iterdir()) == ["map.nii.gz", "pseudo_healthy.nii.gz"]


def test_study_that_the_evaluation_cannot_take_fails_alone(results, calibrated, head) -> None:
    def add(study: dict) -> None:
        if study["case"] == "dark":
            raise NomalyError("the study shows no body")

    evaluation = SimpleNamespace(start=lambda: None, add=add, fail=lambda study: None, result=lambda: None)
    folder = results({**head, "case": "dark"}, head, evaluation=evaluation)
    rows = read_results_csv(folder / "results.csv")
    assert [(row.status, row.error) for row in rows] == [("failed", "the study shows no body"), ("ok", "")]
    with open(folder / "regions.csv", newline="") as table:
        assert {row["study"] for row in csv.DictReader(table)} == {"head"}  # none of the failed study


def test_reason_for_no_p_value_stands_in_the_table(results, calibrated, head) -> None:
    calibrated.calibration.volume.fill(plane=(64, 64))
    folder = results(head)
    (row,) = read_results_csv(folder / "results.csv")
    assert row.note == "No p-value: calibrated on slices of 64 pixels, but the slices of this study have 42."
    assert (row.p_value, row.decision, row.region_count) == (None, None, None)
    assert row.note.replace("'", "&#39;") in (folder / "report.html").read_text()


def test_maps_are_the_detectors_on_the_grid_of_the_file(results, calibrated, head) -> None:
    folder = results(head) / "head"
    source = nib.load(head["image"])
    found = {path.name.split(".")[0]: nib.load(path) for path in folder.iterdir()}
    assert sorted(found) == ["map", "mask", "pseudo_healthy"]
    for image in found.values():
        np.testing.assert_array_equal(image.affine, source.affine)
    np.testing.assert_allclose(found["map"].get_fdata(), np.abs(source.get_fdata() / 100 - 0.5), atol=1e-6)
    np.testing.assert_array_equal(found["mask"].get_fdata(), source.get_fdata() != 50)
    np.testing.assert_allclose(found["pseudo_healthy"].get_fdata(), 50, atol=1e-4)  # in the file's own units


def test_healthy_study_has_no_lesions_and_no_unit(results, calibrated, head) -> None:
    calibrated.calibration.volume.fill(pixel_threshold=0.6)
    (row,) = read_results_csv(results(head) / "results.csv")
    assert (row.region_count, row.region_size, row.region_unit) == (0, 0, None)


def test_lesion_of_a_film_stored_as_one_slice_is_an_area(results, calibrated, tmp_path: Path) -> None:
    # by hand: two bright pixels of 10 mm side on grey
    film = np.full((6, 7, 1), 50, np.float32)
    film[0, 0] = film[1, 0] = 100
    film[5, 6] = 0
    path = tmp_path / "film.nii.gz"
    nib.save(nib.Nifti1Image(film, np.diag([-10.0, -10.0, 10.0, 1.0])), path)
    (row,) = read_results_csv(results({"image": str(path), "case": "film"}) / "results.csv")
    assert (row.region_count, row.region_size, row.region_unit) == (2, pytest.approx(300.0), "mm2")


def test_uncalibrated_detector_warns_and_decides_nothing(results, head, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "custom.handlers.results"):
        folder = results(head)
    (record,) = caplog.records
    assert record.message.startswith("The detector is not calibrated: no p-values, decisions")
    assert record.message.endswith("Run nomaly calibrate first.")
    (row,) = read_results_csv(folder / "results.csv")
    assert (row.score, row.p_value, row.decision, row.region_count) == (pytest.approx(0.5), None, None, None)
    assert sorted(path.name for path in (folder / "head").iterdir()) == ["map.nii.gz", "pseudo_healthy.nii.gz"]
    assert json.loads((folder / "run.json").read_text())["calibration"] == {}
    assert "Not calibrated" in (folder / "report.html").read_text()


def test_maps_are_left_out_where_not_wanted(results, calibrated, head) -> None:
    folder = results(head, write_images=False)
    assert sorted(path.name for path in folder.iterdir()) == [
        *("records", "regions.csv", "report.html", "results.csv", "run.json")
    ]
    assert read_results_csv(folder / "results.csv")[0].region_count == 2


def test_failed_study_has_a_row_and_a_place_in_the_report(results, calibrated, head, tmp_path: Path) -> None:
    broken = {"image": str(tmp_path / "gone.nii.gz"), "case": "gone"}
    folder = results(broken, head)
    rows = read_results_csv(folder / "results.csv")
    assert [(row.study, row.status) for row in rows] == [("gone", "failed"), ("head", "ok")]
    assert "file not found" in rows[0].error and rows[0].score is None
    assert not (folder / "gone").exists() and "gone" in (folder / "report.html").read_text()


def test_results_can_be_written_although_every_study_failed(results, calibrated, tmp_path: Path) -> None:
    folder = results({"image": str(tmp_path / "gone.nii.gz"), "case": "gone"})
    assert [row.status for row in read_results_csv(folder / "results.csv")] == ["failed"]
    assert (folder / "report.html").is_file()


def test_run_information_tells_calibration_and_weights(results, calibrated, head) -> None:
    run = json.loads((results(head, info={"bundle": "grey", "seed": 3}) / "run.json").read_text())
    assert (run["bundle"], run["seed"], run["model_hash"]) == ("grey", 3, model_hash(calibrated))
    assert run["threads"] == torch.get_num_threads()
    assert run["decision_rule"] == {"alpha": 0.2, "confidence": None, "likely_normal_p": 0.2}
    assert run["calibration"] == {
        kind: {
            "healthy_studies": 4,
            "pixel_threshold": pytest.approx(0.3),
            "pixel_false_positive_rate": pytest.approx(0.01),
            "minimum_region": 1,
            "false_regions_per_study": 0,
            "groups": {},
        }
        for kind in ("image", "volume")
    }
    assert run["minimum_studies_for_alpha"] == 4


def test_notes_and_title_stand_in_the_report(results, calibrated, head) -> None:
    report = (results(head, notes=["Synthetic data.", None, ""], title="My title") / "report.html").read_text()
    assert "Synthetic data." in report and "My title" in report


def test_earlier_results_are_kept_unless_overwrite_is_asked(results, calibrated, head) -> None:
    folder = results(head)
    table = (folder / "results.csv").read_bytes()
    message = r"already contains results \(results.csv\): choose another output_dir, resume true to continue"
    with pytest.raises(NomalyError, match=message):
        results({**head, "case": "other"})
    assert (folder / "results.csv").read_bytes() == table and not (folder / "other").exists()
    results({**head, "case": "other"}, overwrite=True)
    assert [row.study for row in read_results_csv(folder / "results.csv")] == ["other"]


def test_evaluation_gets_every_study_that_was_scored(results, calibrated, head, tmp_path: Path) -> None:
    added: list[str] = []
    failed: list[dict] = []
    evaluation = SimpleNamespace(
        start=added.clear, add=lambda study: added.append(study["case"]), fail=failed.append, result=lambda: None
    )
    broken = {"image": str(tmp_path / "gone.nii.gz"), "case": "gone"}
    folder = results(head, broken, {**head, "case": "again"}, evaluation=evaluation)
    assert [study["case"] for study in failed] == ["gone"]
    assert added == ["head", "again"] and not (folder / "metrics.json").exists()


def test_study_whose_maps_cannot_be_written_fails_alone(results, calibrated, head, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "head").write_text("a file where a folder is needed")
    rows = read_results_csv(results(head, {**head, "case": "other"}) / "results.csv")
    assert [row.status for row in rows] == ["failed", "ok"] and "File exists" in rows[0].error


# Stopped runs


def test_stopped_run_goes_on_where_it_was(results, calibrated, head, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [{**head, "case": case} for case in "abc"]
    begun = []

    def make(self, study: dict) -> StudyRecord:
        begun.append(study["case"])
        if begun == ["a", "b"]:
            raise KeyboardInterrupt
        return original(self, study)

    original = StudyOutputs.make
    monkeypatch.setattr(StudyOutputs, "make", make)
    with pytest.raises(KeyboardInterrupt):
        results(*items)
    folder = results(*items, resume=True)
    assert begun == ["a", "b", "b", "c"]
    rows = read_results_csv(folder / "results.csv")
    assert [(row.study, row.status, row.score) for row in rows] == [(case, "ok", pytest.approx(0.5)) for case in "abc"]
    report = (folder / "report.html").read_text()
    assert report.count("data:image/webp") >= 3  # the pictures of all three stand in it


def test_failed_study_is_tried_again_when_a_run_goes_on(results, calibrated, head) -> None:
    film = Path(head["image"])
    away = film.rename(film.with_name("away.nii.gz"))
    folder = results(head, {"image": str(away), "case": "other"})
    assert [row.status for row in read_results_csv(folder / "results.csv")] == ["failed", "ok"]
    shutil.copy(away, film)
    results(head, {"image": str(away), "case": "other"}, resume=True)
    assert [row.status for row in read_results_csv(folder / "results.csv")] == ["ok", "ok"]


def test_going_on_with_another_alpha_is_refused(results, calibrated, head) -> None:
    results(head)
    with pytest.raises(
        NomalyError, match="cannot resume the run .* made with a different decision rule. Repeat the opt"
    ):
        results(head, resume=True, alpha=0.25)


def test_full_disk_ends_the_run_instead_of_failing_every_study(results, calibrated, head, monkeypatch) -> None:
    def full(passing: str, path: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("custom.runs.source_geometry.os.replace", full)
    with pytest.raises(NomalyError, match="No space left on device. The previous content .* free some space"):
        results(head, {**head, "case": "other"})


# Studies that the input check refuses


def refusing(*reasons: str) -> SimpleNamespace:
    """An input check that rejects every study for these reasons."""
    return SimpleNamespace(
        reasons_of_file=lambda image: [*reasons], reasons_of_images=lambda images, codes=None: [[] for _ in images]
    )


def test_study_that_is_assessed_in_spite_of_the_gate_says_so(results, calibrated, head) -> None:
    calibrated.input_check = refusing("the modality is CT")
    calibrated.score_all = True
    (row,) = read_results_csv(results(head) / "results.csv")
    assert (row.status, row.score) == ("ok", pytest.approx(0.5))
    assert row.note == "Scored although the input check rejects it: the modality is CT."


def test_volume_of_which_a_slab_is_assessed_says_which(results, calibrated, head, monkeypatch) -> None:
    monkeypatch.setattr(f"{__name__}.PREPROCESSING", Compose([PREPROCESSING, CropSlabd()]))
    (row,) = read_results_csv(results(head) / "results.csv")
    assert row.note.endswith("Only slices 2 to 3 of 3 along axis 3 were analysed.")


class CropSlabd:
    """Leave out the first slice."""

    def __call__(self, item: dict[str, Any]) -> dict[str, Any]:
        return {**item, "image": SpatialCrop(roi_start=(0, 0, 1), roi_end=(6, 7, 3))(item["image"])}


@pytest.mark.parametrize("earlier", ["map.nii.gz", "mask.nii.gz", "segmentation.dcm"])
def test_nothing_of_an_earlier_run_stands_beside_a_refused_or_failed_study(results, calibrated, head, earlier) -> None:
    folder = results(head, {"image": "/gone.nii.gz", "case": "gone"})
    for case in ("head", "gone"):
        (folder / case).mkdir(exist_ok=True)
        (folder / case / earlier).write_text("of an earlier run")
        list_own(folder / case, STUDY_FILES)
    for record in (folder / "records").glob("*.json"):
        record.unlink()  # as after a kill between images and record
    calibrated.input_check = refusing("it is a chest")
    results(head, {"image": "/gone.nii.gz", "case": "gone"}, overwrite=True)
    assert not [path for case in ("head", "gone") for path in (folder / case).glob("*") if path.name == earlier]


def test_whatever_goes_wrong_in_writing_is_the_failure_of_its_study(results, calibrated, head, monkeypatch) -> None:
    def save(image, arrays) -> dict:
        if image.meta["case"] == "head":
            raise TypeError("cannot handle this")
        return arrays_of(image, arrays)

    arrays_of = study_outputs.source_arrays
    monkeypatch.setattr(study_outputs, "source_arrays", save)
    rows = read_results_csv(results(head, {**head, "case": "other"}) / "results.csv")
    assert [(row.status, row.error) for row in rows] == [("failed", "TypeError: cannot handle this"), ("ok", "")]


def test_refused_study_has_a_row_with_the_reason_and_nothing_else(results, calibrated, head) -> None:
    calibrated.input_check = refusing("the slices are 5 mm apart", "the modality is CT")
    folder = results(head)
    (row,) = read_results_csv(folder / "results.csv")
    assert (row.study, row.status, row.error) == ("head", "not_assessable", "")
    assert row.note == "Not assessable: the slices are 5 mm apart; the modality is CT."
    assert (row.score, row.p_value, row.decision, row.region_count) == (None, None, None, None)
    assert not (folder / "head").exists()
    report = (folder / "report.html").read_text()
    assert "1 study is not assessable" in report and '"assessed":false' in report.replace(" ", "")
    assert '<img src="data:image/webp' in report  # the worklist shows what it looks like
