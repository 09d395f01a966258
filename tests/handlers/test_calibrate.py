"""Calibration of a detector whose map is |x - 0.5|, with scores and threshold known by hand."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from custom.calibration.decision import DecisionRule
from custom.detector.configuration import Configuration
from custom.detector.weights import read_tensors, save_tensors
from custom.errors import NomalyError
from custom.handlers.calibrate import Calibrate
from custom.input_check.check import InputCheck
from custom.runs.notes import WEIGHTS, data_notes
from custom.scoring.score import StudyScore
from custom.scoring.settings import scoring_settings


def items(*greys: float, slices: int = 2) -> list[dict[str, Any]]:
    """Studies (1, 4, 4, slices) of one grey value each."""
    return [
        {"image": torch.full((1, 4, 4, slices), grey), "case": f"h{number}", "label": 0}
        for number, grey in enumerate(greys)
    ]


def handler(detector, folder: Path, **settings) -> Calibrate:
    defaults = {"rule": DecisionRule(0.2), "pixel_false_positive_rate": 0.25, "score": StudyScore("mean")}
    files = {"calibration_file": str(folder / "calibration.json"), "overwrite": True}
    return Calibrate(detector, str(folder / "model.pt"), **files | defaults | settings)


def test_scores_and_threshold_are_those_of_the_healthy_studies(run_grey, grey_detector, tmp_path: Path) -> None:
    studies = items(0.9, 0.6, 0.7, 0.8) + [{**items(0.5, slices=3)[0], "case": "longer"}]
    run_grey(studies, val_handlers=[handler(grey_detector, tmp_path, pixel_false_positive_rate=0.2)])
    calibration = grey_detector.calibration.volume
    assert calibration.healthy_scores.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=1e-6)
    # 176 pixels: 48 of 0, 32 each of 0.1, 0.2, 0.3 and 0.4; 35 may lie above, which are those of 0.4 alone.
    assert float(calibration.pixel_threshold) == pytest.approx(0.3, rel=1e-3)
    assert float(calibration.pixel_false_positive_rate) == 0.2
    assert (calibration.slices.tolist(), calibration.plane.tolist()) == ([2, 3], [16, 16])
    assert calibration.scoring_settings == scoring_settings(StudyScore("mean"), grey_detector).stored()


def test_copy_of_the_weights_and_readable_file_hold_the_calibration(run_grey, grey_detector, tmp_path: Path) -> None:
    copy = {"into_weights": str(tmp_path / "copy.pt")}
    run_grey(items(0.9, 0.6, 0.7, 0.8), val_handlers=[handler(grey_detector, tmp_path, **copy)])
    state = read_tensors(tmp_path / "copy.pt")
    assert state["calibration.volume.healthy_scores"].dtype == torch.float64
    assert (
        state["calibration.volume.healthy_scores"].tolist() == grey_detector.calibration.volume.healthy_scores.tolist()
    )
    summary = json.loads((tmp_path / "calibration.json").read_text())
    volumes = summary["volume"]
    assert [study["study"] for study in volumes["studies"]] == ["h1", "h2", "h3", "h0"]  # ascending by score
    assert (volumes["healthy_studies"], summary["alpha"], volumes["slices"]) == (4, 0.2, [2, 2])
    assert volumes["plane"] == [16, 16]
    assert (summary["device"], summary["precision"]) == ("cpu", "float32")


def test_calibration_in_bfloat16_is_recorded_as_such(run_grey, grey_detector, tmp_path: Path) -> None:
    run_grey(items(0.9, 0.6, 0.7, 0.8), val_handlers=[handler(grey_detector, tmp_path)], amp=True)
    assert json.loads((tmp_path / "calibration.json").read_text())["precision"] == "bfloat16 (autocast)"


def test_study_that_failed_is_left_out(run_grey, grey_detector, tmp_path: Path) -> None:
    broken = {**items(float("nan"))[0], "case": "broken"}
    run_grey([broken, *items(0.6, 0.7, 0.8, 0.9)], val_handlers=[handler(grey_detector, tmp_path)])
    assert len(grey_detector.calibration.volume.healthy_scores) == 4


def test_too_few_studies_write_nothing(run_grey, grey_detector, tmp_path: Path) -> None:
    message = "calibration needs at least 4 healthy studies for alpha = 0.2, got 3: add healthy studies or"
    with pytest.raises(NomalyError, match=message):
        run_grey(items(0.6, 0.7, 0.8), val_handlers=[handler(grey_detector, tmp_path)])
    assert not grey_detector.calibration.is_calibrated and list(tmp_path.iterdir()) == []


def test_calibrating_again_replaces_the_earlier_scores(run_grey, grey_detector, tmp_path: Path) -> None:
    run_grey(items(0.6, 0.7, 0.8, 0.9), val_handlers=[handler(grey_detector, tmp_path)])
    run_grey(items(0.5, 0.4, 0.3, 0.2, 0.1), val_handlers=[handler(grey_detector, tmp_path)])
    assert grey_detector.calibration.volume.healthy_scores.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=1e-6)
    assert json.loads((tmp_path / "calibration.json").read_text())["volume"]["healthy_studies"] == 5


def test_second_run_of_one_handler_forgets_the_studies_of_the_first(run_grey, grey_detector, tmp_path: Path) -> None:
    calibrate = handler(grey_detector, tmp_path)
    run_grey(items(0.6, 0.7, 0.8, 0.9, 1.0), val_handlers=[calibrate])
    run_grey(items(0.5, 0.51, 0.52, 0.53, slices=1), val_handlers=[calibrate])
    assert grey_detector.calibration.image.healthy_scores.tolist() == pytest.approx([0, 0.01, 0.02, 0.03], abs=1e-6)
    assert grey_detector.calibration.image.slices.tolist() == [1, 1]
    assert float(grey_detector.calibration.image.pixel_threshold) == pytest.approx(0.02, rel=1e-3)


def test_several_studies_of_one_subject_are_warned_of(run_grey, grey_detector, tmp_path: Path, caplog) -> None:
    run_grey(items(0.6, 0.7, 0.8, 0.9), val_handlers=[handler(grey_detector, tmp_path)])
    assert "from only" not in caplog.text
    repeated = [{**study, "subject": "p"} for study in items(0.6, 0.7, 0.8, 0.9)]
    run_grey(repeated, val_handlers=[handler(grey_detector, tmp_path)])
    assert "4 healthy studies are from only 1 subjects" in caplog.text


def test_planes_are_kept_from_the_smallest_to_the_largest(run_grey, grey_detector, tmp_path: Path) -> None:
    larger = {**items(0.9)[0], "image": torch.full((1, 5, 6, 2), 0.9), "case": "larger"}
    run_grey([*items(0.6, 0.7, 0.8), larger], val_handlers=[handler(grey_detector, tmp_path)])
    assert grey_detector.calibration.volume.plane.tolist() == [16, 30]


def both_kinds(images: int) -> list[dict[str, Any]]:
    """Volumes of scores 0.1 to 0.4 and 2-D images of scores 0.01, 0.02 ..."""
    flat = items(*(0.51 + 0.01 * number for number in range(images)), slices=1)
    return [*items(0.6, 0.7, 0.8, 0.9), *({**study, "case": f"image {study['case']}"} for study in flat)]


def test_each_kind_of_study_has_its_own_scores_threshold_and_region_size(
    run_grey, grey_detector, tmp_path: Path, caplog
) -> None:
    with caplog.at_level("INFO"):
        run_grey(both_kinds(5), val_handlers=[handler(grey_detector, tmp_path)])
    image, volume = grey_detector.calibration.image, grey_detector.calibration.volume
    assert volume.healthy_scores.tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=1e-6)
    assert image.healthy_scores.tolist() == pytest.approx([0.01, 0.02, 0.03, 0.04, 0.05], abs=1e-6)
    # a quarter of the pixels may be above: one of four volumes, one of five 2-D images
    assert [float(state.pixel_threshold) for state in (volume, image)] == pytest.approx([0.3, 0.04], rel=1e-3)
    assert (image.slices.tolist(), volume.slices.tolist()) == ([1, 1], [2, 2])
    content = json.loads((tmp_path / "calibration.json").read_text())
    assert (content["image"]["healthy_studies"], content["volume"]["healthy_studies"]) == (5, 4)
    assert "Calibrated on 5 healthy 2-D images: flag at" in caplog.text
    assert "Calibrated on 4 healthy volumes: flag at" in caplog.text


def test_too_few_studies_of_one_kind_are_named_and_nothing_is_written(run_grey, grey_detector, tmp_path: Path) -> None:
    message = "2-D images: calibration needs at least 4 healthy studies for alpha = 0.2, got 3: .* Or leave the 2-D"
    with pytest.raises(NomalyError, match=message):
        run_grey(both_kinds(3), val_handlers=[handler(grey_detector, tmp_path)])
    assert list(tmp_path.iterdir()) == [] and not grey_detector.calibration.is_calibrated


def test_kind_without_studies_keeps_its_calibration_but_not_its_rule(
    run_grey, grey_detector, tmp_path: Path, caplog
) -> None:
    run_grey(items(0.6, 0.7, 0.8, 0.9), val_handlers=[handler(grey_detector, tmp_path)])
    before = grey_detector.calibration.volume.healthy_scores.clone()
    with caplog.at_level("INFO"):
        calibrate = handler(grey_detector, tmp_path, rule=DecisionRule(0.25, None, 0.3))
        run_grey(items(0.5, 0.51, 0.52, 0.53, slices=1), val_handlers=[calibrate])
    assert torch.equal(grey_detector.calibration.volume.healthy_scores, before)
    assert "Volumes keep the calibration of the weights (4 healthy studies)." in caplog.text
    content = json.loads((tmp_path / "calibration.json").read_text())
    assert "image" in content and "volume" not in content
    assert {state.decision_rule.alpha for state in grey_detector.calibration.calibrated.values()} == {0.25}


def spotted(case: str, *spots: int, value: float = 0.9, **fields) -> dict[str, Any]:
    """A mid grey study (1, 16, 16, 1) with a bright stroke of so many pixels a spot, each in a row of its own."""
    image = torch.full((1, 16, 16, 1), 0.5)
    for row, length in enumerate(spots):
        image[0, :length, 4 * row, 0] = value
    return {"image": image, "case": case, "label": 0, **fields}


def test_least_region_and_heaviest_regions_follow_from_healthy_maps(run_grey, grey_detector, tmp_path: Path) -> None:
    studies = [spotted("a", 6, 2), spotted("b", 3), spotted("c", 1), spotted("d", 1, value=0.95)]
    calibrate = handler(grey_detector, tmp_path, pixel_false_positive_rate=0.1, false_regions_per_study=0.5)
    run_grey(studies, val_handlers=[calibrate])
    state = grey_detector.calibration.image
    # 14 of 1024 pixels are over 0, fewer than a tenth: the threshold is 0. Two regions of four studies may stay.
    assert float(state.pixel_threshold) == pytest.approx(0, abs=1e-8)
    assert int(state.minimum_region) == 3 and float(state.false_regions_per_study) == 0.5
    # by score c, d, b, a; their heaviest kept regions: none, none, 3 x 0.4 and 6 x 0.4
    assert state.healthy_masses.tolist() == pytest.approx([0, 0, 1.2, 2.4], rel=1e-5)


def test_rule_is_stored_with_the_weights(run_grey, grey_detector, tmp_path: Path) -> None:
    rule = DecisionRule(0.2, 0.5, 0.6)
    copy = {"into_weights": str(tmp_path / "copy.pt")}
    run_grey(items(0.6, 0.7, 0.8, 0.9), val_handlers=[handler(grey_detector, tmp_path, rule=rule, **copy)])
    assert read_tensors(tmp_path / "copy.pt")["calibration.volume.decision"].tolist() == [0.2, 0.5, 0.6]
    assert grey_detector.calibration.decision_rule == rule


def test_confident_mode_asks_for_more_studies(run_grey, grey_detector, tmp_path: Path) -> None:
    message = "calibration needs at least 14 healthy studies for alpha = 0.2 with confidence 0.95, got 4"
    with pytest.raises(NomalyError, match=message):
        rule = DecisionRule(0.2, 0.95)
        run_grey(items(0.6, 0.7, 0.8, 0.9), val_handlers=[handler(grey_detector, tmp_path, rule=rule)])


def test_calibration_leaves_the_weights_alone_and_is_not_replaced_unasked(
    run_grey, grey_detector, tmp_path: Path
) -> None:
    settings = {"calibration_file": str(tmp_path / "site.json"), "overwrite": False}
    run_grey(items(0.6, 0.7, 0.8, 0.9), val_handlers=[handler(grey_detector, tmp_path, **settings)])
    assert [path.name for path in tmp_path.iterdir()] == ["site.json"]
    first = (tmp_path / "site.json").read_text()
    with pytest.raises(NomalyError, match="site.json already exists: give another name, or overwrite true"):
        run_grey(items(0.5, 0.7, 0.8, 0.9), val_handlers=[handler(grey_detector, tmp_path, **settings)])
    assert (tmp_path / "site.json").read_text() == first
    run_grey(
        items(0.5, 0.7, 0.8, 0.9), val_handlers=[handler(grey_detector, tmp_path, **settings | {"overwrite": True})]
    )
    assert (tmp_path / "site.json").read_text() != first


def test_weights_with_the_calibration_are_a_new_file(run_grey, grey_detector, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"given")
    (tmp_path / "link.pt").symlink_to(tmp_path / "model.pt")
    (tmp_path / "mine.pt").write_bytes(b"mine")
    for name, overwrite, message in (
        ("model.pt", True, "into_weights must be a new file, but .*model.pt holds the weights to calibrate"),
        ("link.pt", True, "into_weights must be a new file"),
        ("mine.pt", False, "into_weights .*mine.pt already exists: give another name, or overwrite true"),
    ):
        settings = {"into_weights": str(tmp_path / name), "overwrite": overwrite}
        with pytest.raises(NomalyError, match=message):
            run_grey(items(0.6, 0.7, 0.8, 0.9), val_handlers=[handler(grey_detector, tmp_path, **settings)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.pt", "mine.pt", "model.pt"]
    assert ((tmp_path / "model.pt").read_bytes(), (tmp_path / "mine.pt").read_bytes()) == (b"given", b"mine")


def test_copy_of_weights_that_saw_only_phantoms_still_says_so(run_grey, grey_detector, tmp_path: Path) -> None:
    save_tensors(grey_detector.state_dict(), tmp_path / "model.pt")
    digest = hashlib.sha256((tmp_path / "model.pt").read_bytes()).hexdigest()
    (tmp_path / "provenance.json").write_text(json.dumps({"synthetic_training": True, "sha256": digest}))
    grey_detector.configuration = Configuration({"bundle": "grey", "network": {}})
    copy = tmp_path / "site" / "copy.pt"
    settings = {"into_weights": str(copy)}
    run_grey(items(0.6, 0.7, 0.8, 0.9), val_handlers=[handler(grey_detector, tmp_path, **settings)])
    assert data_notes(None, [], str(copy)) == data_notes(None, [], str(tmp_path / "model.pt")) == [WEIGHTS]


def by_scanner(*names: str | None) -> list[dict[str, Any]]:
    greys = [0.55 + 0.01 * number for number in range(len(names))]
    return [study if name is None else {**study, "scanner": name} for study, name in zip(items(*greys), names)]


def test_groups_are_calibrated_apart(run_grey, grey_detector, tmp_path: Path) -> None:
    grouped = handler(grey_detector, tmp_path, group_field="scanner")
    run_grey(by_scanner(*"ABABABAB"), val_handlers=[grouped])
    state = grey_detector.calibration.volume
    assert (state.group_field, state.group_names) == ("scanner", ["A", "B"])
    assert state.healthy_groups.tolist() == [0, 1] * 4
    assert {
        study["group"] for study in json.loads((tmp_path / "calibration.json").read_text())["volume"]["studies"]
    } == {
        "A",
        "B",
    }


def test_group_that_is_too_small_is_named(run_grey, grey_detector, tmp_path: Path) -> None:
    with pytest.raises(
        NomalyError, match="group B: calibration needs at least 4 healthy studies for alpha = 0.2, got 3"
    ):
        run_grey(by_scanner(*"AAAABBB"), val_handlers=[handler(grey_detector, tmp_path, group_field="scanner")])


def test_study_without_a_group_is_named(run_grey, grey_detector, tmp_path: Path) -> None:
    with pytest.raises(NomalyError, match="must have the field `scanner` for calibration by it, but h1 does not: add"):
        run_grey(by_scanner("A", None, "A"), val_handlers=[handler(grey_detector, tmp_path, group_field="scanner")])


def test_one_image_twice_is_refused_by_both_names(run_grey, grey_detector, tmp_path: Path) -> None:
    with pytest.raises(NomalyError, match="must differ, but h1 and h4 contain the same image: remove one of them"):
        run_grey(items(0.6, 0.7, 0.8, 0.9, 0.7), val_handlers=[handler(grey_detector, tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_equal_scores_are_refused(run_grey, grey_detector, tmp_path: Path) -> None:
    # 0.25 and 0.75 are equally far from mid grey, whichever pixels they are at
    studies = [{**study, "image": study["image"].clone()} for study in items(0.75, 0.75, 0.75, 0.75)]
    for number, study in enumerate(studies):
        study["image"][0, 0, 0, :] = 0.25
        study["image"][0, number, 1, :] = 0.25
    with pytest.raises(
        NomalyError, match="must have different scores, but all 4 have 0.25: the detector does not dist"
    ):
        run_grey(studies, val_handlers=[handler(grey_detector, tmp_path)])


def test_study_far_out_of_the_healthy_ones_is_pointed_out(run_grey, grey_detector, tmp_path: Path, caplog) -> None:
    run_grey(items(0.60, 0.61, 0.62, 0.63, 0.65), val_handlers=[handler(grey_detector, tmp_path)])
    assert "is an outlier" not in caplog.text
    run_grey(items(0.60, 0.61, 0.62, 0.63, 0.95), val_handlers=[handler(grey_detector, tmp_path)])
    assert "Study h4 is an outlier (score 0.45, median 0.12); please check that it is healthy" in caplog.text


def test_scanner_that_is_brighter_is_not_far_out_of_its_own_group(run_grey, grey_detector, tmp_path, caplog) -> None:
    studies = items(0.60, 0.61, 0.62, 0.63, 0.64, 0.90, 0.91, 0.92, 0.93, 0.94)
    grouped = [{**study, "scanner": "A" if number < 5 else "B"} for number, study in enumerate(studies)]
    run_grey(grouped, val_handlers=[handler(grey_detector, tmp_path, group_field="scanner")])
    assert "is an outlier" not in caplog.text


def textured(number: int) -> dict[str, Any]:
    """A healthy study (1, 16, 16, 2) of its own mid grey noise."""
    noise = torch.rand(1, 16, 16, 2, generator=torch.Generator().manual_seed(number))
    return {"image": 0.5 + 0.2 * noise, "case": f"t{number}", "label": 0}


def test_gate_is_learned_from_all_studies_and_kept_with_weights_and_file(
    run_grey, grey_detector, tmp_path: Path
) -> None:
    copy = {"into_weights": str(tmp_path / "copy.pt")}
    run_grey([textured(number) for number in range(19)], val_handlers=[handler(grey_detector, tmp_path, **copy)])
    input_check = grey_detector.calibration.volume.input_check
    assert int(input_check.studies) == 19 and input_check.limit("histogram") > 0 and input_check.limit("edges") > 0
    limits = read_tensors(tmp_path / "copy.pt")["calibration.volume.input_check.limits"]
    assert torch.equal(limits, input_check.limits)
    stored = json.loads((tmp_path / "calibration.json").read_text())["volume"]["input_check"]
    assert list(stored["limits"].values()) == limits.tolist()
    reasons = InputCheck(grey_detector).reasons
    assert [reasons(textured(number)["image"]) for number in range(19)] == [[]] * 19
    assert "the grey values differ from" in reasons(0.1 * textured(0)["image"])[0]


def test_gate_of_few_studies_knows_their_spacing_alone(run_grey, grey_detector, tmp_path: Path, caplog) -> None:
    run_grey(items(0.6, 0.7, 0.8, 0.9), val_handlers=[handler(grey_detector, tmp_path)])
    assert (
        int(grey_detector.calibration.volume.input_check.studies) == 4
        and not grey_detector.calibration.volume.input_check.limits.any()
    )
    assert "The input check is limited to spacing and size" in caplog.text
