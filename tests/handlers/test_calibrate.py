"""Calibration of a detector whose map is |x - 0.5|, with scores and threshold known by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from custom.calibration.state import scoring_rule
from custom.errors import NomalyError
from custom.handlers.calibrate import Calibrate
from custom.networks.weights import read_tensors
from custom.scoring.score import StudyScore


def items(*greys: float, slices: int = 2) -> list[dict[str, Any]]:
    """Studies (1, 4, 4, slices) of one grey value each."""
    return [
        {"image": torch.full((1, 4, 4, slices), grey), "case": f"h{number}", "label": 0}
        for number, grey in enumerate(greys)
    ]


def handler(detector, folder: Path, **settings) -> Calibrate:
    defaults = {"alpha": 0.2, "pixel_false_positive_rate": 0.25, "score": StudyScore("mean")}
    return Calibrate(detector, str(folder / "model.pt"), **defaults | settings)


def test_scores_and_threshold_are_those_of_the_healthy_studies(run_grey, grey_detector, tmp_path: Path) -> None:
    studies = items(0.9, 0.6, 0.7, 0.8) + [{**items(0.5, slices=3)[0], "case": "longer"}]
    run_grey(studies, val_handlers=[handler(grey_detector, tmp_path, pixel_false_positive_rate=0.2)])
    calibration = grey_detector.calibration
    assert calibration.healthy_scores.tolist() == pytest.approx([0, 0.1, 0.2, 0.3, 0.4], abs=1e-6)
    # 176 pixels: 48 of 0, 32 each of 0.1, 0.2, 0.3 and 0.4; 35 may lie above, which are those of 0.4 alone.
    assert float(calibration.pixel_threshold) == pytest.approx(0.3, rel=1e-3)
    assert float(calibration.pixel_false_positive_rate) == 0.2
    assert (calibration.slices.tolist(), calibration.plane.tolist()) == ([2, 3], [16, 16])
    assert calibration.score_rule.tolist() == list(scoring_rule(StudyScore("mean"), grey_detector))


def test_weights_and_readable_file_hold_the_calibration(run_grey, grey_detector, tmp_path: Path) -> None:
    run_grey(items(0.9, 0.6, 0.7, 0.8), val_handlers=[handler(grey_detector, tmp_path)])
    state = read_tensors(tmp_path / "model.pt")
    assert state["calibration.healthy_scores"].dtype == torch.float64
    assert state["calibration.healthy_scores"].tolist() == grey_detector.calibration.healthy_scores.tolist()
    summary = json.loads((tmp_path / "calibration.json").read_text())
    assert list(summary["scores"]) == ["h1", "h2", "h3", "h0"]  # ascending by score
    assert (summary["healthy_studies"], summary["alpha"], summary["slices"]) == (4, 0.2, [2, 2])
    assert summary["plane"] == [16, 16]


def test_study_that_failed_is_left_out(run_grey, grey_detector, tmp_path: Path) -> None:
    broken = {**items(float("nan"))[0], "case": "broken"}
    run_grey([broken, *items(0.6, 0.7, 0.8, 0.9)], val_handlers=[handler(grey_detector, tmp_path)])
    assert len(grey_detector.calibration.healthy_scores) == 4


def test_too_few_studies_write_nothing(run_grey, grey_detector, tmp_path: Path) -> None:
    message = "must hold at least 4 studies for alpha = 0.2, got 3: add healthy studies or choose a larger alpha"
    with pytest.raises(NomalyError, match=message):
        run_grey(items(0.6, 0.7, 0.8), val_handlers=[handler(grey_detector, tmp_path)])
    assert not grey_detector.calibration.is_calibrated and list(tmp_path.iterdir()) == []


def test_calibrating_again_replaces_the_earlier_scores(run_grey, grey_detector, tmp_path: Path) -> None:
    run_grey(items(0.6, 0.7, 0.8, 0.9), val_handlers=[handler(grey_detector, tmp_path)])
    run_grey(items(0.5, 0.5, 0.5, 0.5, 0.5), val_handlers=[handler(grey_detector, tmp_path)])
    assert grey_detector.calibration.healthy_scores.tolist() == [0, 0, 0, 0, 0]
    assert read_tensors(tmp_path / "model.pt")["calibration.healthy_scores"].shape == (5,)


def test_second_run_of_one_handler_forgets_the_studies_of_the_first(run_grey, grey_detector, tmp_path: Path) -> None:
    calibrate = handler(grey_detector, tmp_path)
    run_grey(items(0.6, 0.7, 0.8, 0.9, 1.0), val_handlers=[calibrate])
    run_grey(items(0.5, 0.5, 0.5, 0.5, slices=1), val_handlers=[calibrate])
    assert grey_detector.calibration.healthy_scores.tolist() == [0, 0, 0, 0]
    assert grey_detector.calibration.slices.tolist() == [1, 1]
    assert float(grey_detector.calibration.pixel_threshold) == pytest.approx(0, abs=1e-8)


def test_several_studies_of_one_subject_are_warned_of(run_grey, grey_detector, tmp_path: Path, caplog) -> None:
    run_grey(items(0.6, 0.7, 0.8, 0.9), val_handlers=[handler(grey_detector, tmp_path)])
    assert "subjects only" not in caplog.text
    repeated = [{**study, "subject": "p"} for study in items(0.6, 0.7, 0.8, 0.9)]
    run_grey(repeated, val_handlers=[handler(grey_detector, tmp_path)])
    assert "4 healthy studies are of 1 subjects only" in caplog.text


def test_planes_are_kept_from_the_smallest_to_the_largest(run_grey, grey_detector, tmp_path: Path) -> None:
    larger = {**items(0.9)[0], "image": torch.full((1, 5, 6, 2), 0.9), "case": "larger"}
    run_grey([*items(0.6, 0.7, 0.8), larger], val_handlers=[handler(grey_detector, tmp_path)])
    assert grey_detector.calibration.plane.tolist() == [16, 30]


def test_pictures_and_volumes_are_not_calibrated_together(run_grey, grey_detector, tmp_path: Path) -> None:
    picture = {**items(0.5, slices=1)[0], "case": "picture"}
    with pytest.raises(NomalyError, match="healthy studies must be all pictures or all volumes, got both"):
        run_grey([*items(0.6, 0.7, 0.8), picture], val_handlers=[handler(grey_detector, tmp_path)])
    assert list(tmp_path.iterdir()) == []
