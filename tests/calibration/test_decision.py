"""Three-way triage by hand, and its shares by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from custom.calibration.conformal import confident_threshold, p_values
from custom.calibration.decision import DecisionRule
from custom.errors import NomalyError


@pytest.mark.parametrize(
    ("p_value", "decision"),
    [
        (0.01, "flag"),
        (0.05, "flag"),
        (0.0501, "uncertain"),
        (0.2, "uncertain"),
        (0.2001, "likely_normal"),
        (1.0, "likely_normal"),
    ],
)
def test_p_value_decides_between_three_answers(p_value: float, decision: str) -> None:
    assert DecisionRule(0.05, None, 0.2).decide(p_value, 99) == decision


def test_confident_mode_flags_exactly_above_its_threshold() -> None:
    rng = np.random.default_rng(0)
    healthy, scores = rng.normal(size=200), rng.normal(1.0, 1.0, 500)
    rule = DecisionRule(0.05, 0.95)
    flagged = [rule.decide(p, 200) == "flag" for p in p_values(healthy, scores)]
    assert flagged == (scores > confident_threshold(healthy, 0.05, 0.95)).tolist()
    assert rule.flag_level(200) < 0.05


def test_another_alpha_keeps_the_rest_of_the_rule() -> None:
    rule = DecisionRule(0.05, 0.95, 0.2)
    assert rule.at(None) is rule
    assert rule.at(0.01) == DecisionRule(0.01, 0.95, 0.2)
    assert rule.at(0.5) == DecisionRule(0.5, 0.95, 0.5)  # nothing is uncertain then


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0.0,), r"alpha must be in \(0, 1\), got 0.0: 0.05 flags at most 5 %"),
        ((0.05, 1.0), r"confidence must be in \(0, 1\), or null to meet alpha on average, got 1.0"),
        ((0.05, None, 0.01), r"likely_normal_p must be in \[alpha, 1\) = \[0.05, 1\), got 0.01"),
    ],
)
def test_values_out_of_range_are_refused(values: tuple, message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        DecisionRule(*values)


def test_too_few_studies_for_the_confident_mode_name_how_many_are_needed() -> None:
    with pytest.raises(
        NomalyError,
        match="calibration needs at least 59 healthy studies for alpha = 0.05 with confidence 0.95, got 58",
    ):
        DecisionRule(0.05, 0.95).flag_level(58)


def test_p_value_out_of_range_is_refused() -> None:
    with pytest.raises(NomalyError, match=r"p_value must be a p-value in \[0, 1\], got nan"):
        DecisionRule().decide(float("nan"), 99)


def test_likely_normal_is_said_of_the_stated_share_of_healthy_studies() -> None:
    scores = np.random.default_rng(3).normal(size=(4000, 100))
    rule = DecisionRule(0.05, None, 0.2)
    answers = [rule.decide(p_values(draw[:99], draw[99:])[0], 99) for draw in scores]
    assert answers.count("likely_normal") / 4000 == pytest.approx(0.8, abs=0.02)
    assert answers.count("uncertain") / 4000 == pytest.approx(0.15, abs=0.02)
