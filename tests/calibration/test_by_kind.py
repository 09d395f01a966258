"""A study takes the calibration of its kind, and weights of earlier releases have one calibration."""

from __future__ import annotations

import pytest
import torch

from custom.calibration.by_kind import Calibrations
from custom.calibration.decision import DecisionRule
from custom.calibration.state import CalibrationState
from custom.scoring.settings import ScoringSettings
from custom.studies.kinds import kind_of

SCORING = ScoringSettings({"score": {"mode": "top_q", "q": 0.02}})


def calibrate(state: CalibrationState, count: int, slices: int = 1) -> None:
    """Fill with the scores 0, 1, 2 ... of studies of 100 pixels."""
    state.fill_healthy([*map(float, range(count))], [0.0] * count)
    state.fill(slices=(slices, slices), plane=(100, 100))
    state.fill_scoring(SCORING.stored())


def test_one_slice_is_an_image_and_several_are_a_volume() -> None:
    assert [kind_of((3, 10, 10, slices)) for slices in (1, 2, 30)] == ["image", "volume", "volume"]


def test_study_takes_the_calibration_of_its_kind() -> None:
    calibrations = Calibrations()
    calibrate(calibrations.image, 4)
    calibrate(calibrations.volume, 9, slices=12)
    assert calibrations.of((1, 10, 10, 1)).p_value(2.5) == 2 / 5 and calibrations.of((10, 10, 7)).p_value(2.5) == 7 / 10
    assert [calibrations.refusal((10, 10, slices), SCORING) for slices in (1, 7)] == [None, None]


@pytest.mark.parametrize(
    ("kind", "shape", "refusal"),
    [
        ("image", (10, 10, 2), "calibrated on 2-D images, but this is a volume"),
        ("volume", (10, 10, 1), "calibrated on volumes, but this is a 2-D image"),
    ],
)
def test_study_of_a_kind_that_is_not_calibrated_is_refused(kind: str, shape: tuple[int, ...], refusal: str) -> None:
    calibrations = Calibrations()
    assert calibrations.refusal(shape, SCORING) == "the detector is not calibrated: run nomaly calibrate"
    calibrate(calibrations.of_kind(kind), 4)
    assert calibrations.refusal(shape, SCORING) == refusal


@pytest.mark.parametrize(("slices", "kind"), [(1, "image"), (15, "volume")])
def test_calibration_of_earlier_weights_is_that_of_its_kind(slices: int, kind: str) -> None:
    earlier, loaded = CalibrationState(), Calibrations()
    calibrate(earlier, 4, slices)
    earlier.fill(decision=(0.1, 0.9, 0.3))
    for state in (loaded.image, loaded.volume):
        calibrate(state, 30)
    loaded.load_state_dict(earlier.state_dict())
    assert [*loaded.calibrated] == [kind]
    assert all(
        torch.equal(value, loaded.of_kind(kind).state_dict()[name]) for name, value in earlier.state_dict().items()
    )
    assert loaded.decision_rule == DecisionRule(0.1, 0.9, 0.3)


def test_both_calibrations_are_kept_in_one_state() -> None:
    saved, loaded = Calibrations(), Calibrations()
    calibrate(saved.image, 4)
    calibrate(saved.volume, 9, slices=12)
    saved.fill_rule(DecisionRule(0.1, 0.9, 0.4))
    loaded.load_state_dict(saved.state_dict())
    assert {kind: len(state.healthy_scores) for kind, state in loaded.calibrated.items()} == {"image": 4, "volume": 9}
    assert {state.decision_rule for state in loaded.calibrated.values()} == {DecisionRule(0.1, 0.9, 0.4)}
