"""For which studies a calibration holds."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from custom.calibration.decision import DecisionRule
from custom.calibration.state import CalibrationState
from custom.scoring.settings import ScoringSettings

SCORING = ScoringSettings({"score": {"mode": "top_q", "q": 0.02}})


def calibrated(slices: tuple[int, int] = (1, 1), plane: tuple[int, int] = (100, 200), **groups) -> CalibrationState:
    """Calibrated on four studies of so many slices, each of so many pixels."""
    state = CalibrationState()
    state.fill_healthy([0.4, 0.1, 0.2, 0.3], [9.0, 0.0, 5.0, 5.0], **groups)
    state.fill(slices=slices, plane=plane)
    state.fill_scoring(SCORING.stored())
    return state


BY_SCANNER = {"groups": ["A", "B", "A", "A"], "field": "scanner"}


@pytest.mark.parametrize(
    ("shape", "holds"),
    [
        ((9, 10, 1), True),  # 90 pixels, a tenth fewer than the smallest
        ((89, 1, 1), False),
        ((15, 10, 1), True),
        ((22, 10, 1), True),  # 220 pixels, a tenth more than the largest
        ((221, 1, 1), False),
        ((40, 40, 1), False),
    ],
)
def test_plane_may_differ_by_a_tenth_from_the_calibrated_ones(shape: tuple[int, ...], holds: bool) -> None:
    refusal = calibrated().refusal(shape, SCORING)
    assert refusal == (
        None
        if holds
        else f"calibrated on slices of 100 to 200 pixels, but the slices of this study have {shape[0] * shape[1]}"
    )


def test_scores_made_with_other_settings_are_not_compared() -> None:
    other = ScoringSettings({"score": {"mode": "top_q", "q": 0.05}})
    assert calibrated().refusal((10, 15, 1), other) == (
        "calibrated with other settings of score, map or ensemble (score.q: 0.02 at calibration, 0.05 now): calibrate "
        "again with the current settings, or restore the earlier ones"
    )


def test_state_of_an_earlier_release_keeps_its_mode_and_checksum() -> None:
    earlier = {**calibrated().state_dict(), "score_rule": torch.tensor([0.0, 7.0], dtype=torch.float64)}
    del earlier["scoring"]
    state = CalibrationState()
    state.load_state_dict(earlier)
    assert state.scoring_settings == {"version": 0, "checksum": [0.0, 7.0]}


def test_state_that_is_empty_says_what_to_do() -> None:
    refusal = CalibrationState().refusal((10, 15, 1), SCORING)
    assert refusal == "the detector is not calibrated: run nomaly calibrate"


def test_healthy_studies_keep_their_masses_and_groups_when_sorted_by_score() -> None:
    state = calibrated(**BY_SCANNER)
    assert state.healthy_scores.tolist() == [0.1, 0.2, 0.3, 0.4]
    assert state.healthy_masses.tolist() == [0.0, 5.0, 5.0, 9.0]
    assert state.healthy_groups.tolist() == [1, 0, 0, 0]
    assert (state.group_field, state.group_names) == ("scanner", ["A", "B"])


def test_p_value_counts_the_healthy_studies_of_the_group_alone() -> None:
    together, apart = calibrated(), calibrated(**BY_SCANNER)
    assert together.p_value(0.15) == 4 / 5  # of four studies three score at least 0.15
    assert apart.p_value(0.15, "A") == 4 / 4 and apart.p_value(0.25, "A") == 3 / 4
    assert apart.p_value(0.15, "B") == 1 / 2
    assert [apart.healthy_count(group) for group in ("A", "B")] == [3, 1] and together.healthy_count() == 4


def test_study_of_no_or_an_unknown_group_gets_no_p_value() -> None:
    state = calibrated(**BY_SCANNER)
    assert state.refusal((10, 15, 1), SCORING, "A") is None
    assert state.refusal((10, 15, 1), SCORING) == (
        "calibrated by scanner, but this study has none: add it to the datalist, or give --study_group"
    )
    assert state.refusal((10, 15, 1), SCORING, "C") == "not calibrated for scanner 'C', only for A, B"
    assert calibrated().refusal((10, 15, 1), SCORING, "whatever") is None  # nobody asks without groups


def test_region_is_compared_with_the_most_massive_one_of_each_healthy_study() -> None:
    state = calibrated()  # masses 0, 5, 5, 9
    assert state.region_p_values([10.0, 9.0, 5.0, 0.1]).tolist() == [1 / 5, 2 / 5, 4 / 5, 4 / 5]
    assert state.region_p_values([]).tolist() == []


@pytest.mark.parametrize(("group", "shift"), [("A", 0.0), ("B", 3.0)])
def test_false_alarms_of_each_group_stay_at_alpha_though_scanners_differ(group: str, shift: float) -> None:
    # Simulated: scores of scanner B lie 3 standard deviations higher; calibrated together nearly all flags were its.
    draws, n, alpha = 2000, 19, 0.05
    generator = np.random.default_rng(0)
    flags = 0
    for _ in range(draws):
        state = CalibrationState()
        scores = generator.normal(size=2 * n) + 3.0 * (np.arange(2 * n) >= n)
        state.fill_healthy(scores, np.zeros(2 * n), ["A"] * n + ["B"] * n, "scanner")
        flags += state.p_value(generator.normal() + shift, group) <= alpha
    assert flags / draws == pytest.approx(alpha, abs=3 * np.sqrt(alpha * (1 - alpha) / draws))


def test_healthy_study_has_any_significant_region_with_probability_alpha_at_most() -> None:
    # Simulated: a study has up to nine regions of random mass; alpha is met exactly on average, as 0.05 = 2 / 40.
    draws, n, alpha = 2000, 39, 0.05
    generator = np.random.default_rng(1)
    any_significant = 0
    for _ in range(draws):
        regions = [generator.gamma(2.0, size=generator.integers(1, 10)) for _ in range(n + 1)]
        state = CalibrationState()
        state.fill_healthy(np.zeros(n), [masses.max() for masses in regions[:n]])
        any_significant += (state.region_p_values(regions[n]) <= alpha).any()
    assert any_significant / draws == pytest.approx(alpha, abs=3 * np.sqrt(alpha * (1 - alpha) / draws))


def test_state_loads_into_a_new_one_with_any_number_of_scores_and_groups() -> None:
    saved, loaded = calibrated(**BY_SCANNER), CalibrationState()
    saved.fill(decision=(0.1, 0.9, 0.3))
    assert not loaded.is_calibrated
    loaded.load_state_dict(saved.state_dict())
    assert loaded.is_calibrated and loaded.plane.tolist() == [100, 200]
    assert loaded.healthy_scores.tolist() == [0.1, 0.2, 0.3, 0.4] and loaded.group_names == ["A", "B"]
    assert loaded.decision_rule == DecisionRule(0.1, 0.9, 0.3)


def test_new_state_decides_by_the_default_rule() -> None:
    assert CalibrationState().decision_rule == DecisionRule()
