"""Conformal p-values and thresholds: hand-derived values, and the promises by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from custom.calibration.conformal import (
    check_enough,
    confident_alpha,
    confident_threshold,
    minimum_n,
    p_values,
)
from custom.errors import NomalyError

DRAWS = 4000


def test_p_value_counts_healthy_scores_at_or_above() -> None:
    p = p_values([1.0, 2.0, 2.0, 3.0], [0.0, 2.0, 2.5, 3.0, 9.0])
    assert p.tolist() == [5 / 5, 4 / 5, 2 / 5, 2 / 5, 1 / 5]


@pytest.mark.parametrize(
    ("alpha", "confidence", "expected"),
    [
        (0.05, None, 19),
        (0.02, None, 49),
        (0.01, None, 99),
        (0.05, 0.95, 59),
        (0.02, 0.95, 149),
        (0.01, 0.95, 299),
        (0.5, 0.75, 2),  # 0.5^2 = 1 - 0.75 exactly
    ],
)
def test_smallest_calibration_set_is_the_hand_derived_one(
    alpha: float, confidence: float | None, expected: int
) -> None:
    assert minimum_n(alpha, confidence) == expected


def test_smallest_set_can_flag_and_one_study_less_cannot() -> None:
    assert p_values(np.arange(19), [100.0])[0] <= 0.05
    assert p_values(np.arange(18), [100.0])[0] > 0.05


def test_too_small_set_is_refused_with_the_number_needed() -> None:
    check_enough(19, 0.05)
    with pytest.raises(NomalyError, match="at least 19 healthy studies for alpha = 0.05, got 18"):
        check_enough(18, 0.05)
    with pytest.raises(NomalyError, match="at least 59 healthy studies for alpha = 0.05 with confidence 0.95, got 58"):
        confident_threshold(np.arange(58), 0.05)


def test_confident_threshold_of_the_smallest_set_is_its_maximum() -> None:
    assert confident_threshold(np.arange(59), 0.05, 0.95) == 58
    # Wilks: the second largest of 93 is the first to do (P(Bin(93, 0.05) <= 1) = 0.0500 > 0.05 at 92)
    assert confident_threshold(np.arange(92), 0.05, 0.95) == 91
    assert confident_threshold(np.arange(93), 0.05, 0.95) == 91


@pytest.mark.parametrize("n", [59, 93, 200])
def test_confident_alpha_flags_exactly_the_scores_above_the_threshold(n: int) -> None:
    generator = np.random.default_rng(n)
    healthy, scores = generator.integers(0, 40, n), generator.integers(0, 45, 300)  # many ties
    by_threshold = scores > confident_threshold(healthy, 0.05)
    by_p_value = p_values(healthy, scores) <= confident_alpha(n, 0.05)
    assert np.array_equal(by_threshold, by_p_value)
    assert confident_alpha(n, 0.05) <= 0.05


def healthy_draws(kind: str, size: tuple[int, ...], seed: int) -> np.ndarray:
    """Continuous scores, or scores rounded to a grid: a Poisson law whose ties are many."""
    generator = np.random.default_rng(seed)
    return generator.gamma(2.0, size=size) if kind == "continuous" else generator.poisson(6.0, size=size).astype(float)


@pytest.mark.parametrize("kind", ["continuous", "ties"])
@pytest.mark.parametrize(("n", "alpha"), [(19, 0.05), (50, 0.05), (120, 0.02), (40, 0.1)])
def test_false_alarms_of_fresh_healthy_studies_stay_at_alpha(kind: str, n: int, alpha: float) -> None:
    draws = healthy_draws(kind, (DRAWS, n + 1), seed=n)
    flags = [p_values(row[:-1], row[-1:])[0] <= alpha for row in draws]
    standard_error = np.sqrt(alpha * (1 - alpha) / DRAWS)
    assert np.mean(flags) <= alpha + 3 * standard_error
    if kind == "continuous":  # and the promise is not kept by never flagging: P = floor(alpha (n + 1)) / (n + 1)
        assert np.mean(flags) >= np.floor(alpha * (n + 1)) / (n + 1) - 3 * standard_error


@pytest.mark.parametrize("kind", ["continuous", "ties"])
@pytest.mark.parametrize(("n", "alpha"), [(59, 0.05), (100, 0.05), (149, 0.02)])
def test_confident_threshold_keeps_the_rate_in_95_percent_of_draws(kind: str, n: int, alpha: float) -> None:
    population = np.sort(healthy_draws(kind, (400_000,), seed=1))
    thresholds = np.array([confident_threshold(row, alpha) for row in healthy_draws(kind, (DRAWS, n), seed=n)])
    rates = 1 - np.searchsorted(population, thresholds, side="right") / len(population)
    kept = np.mean(rates <= alpha)
    assert kept >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / DRAWS)
    if kind == "continuous" and n in (59, 149):  # at the smallest n the bound is tight: (1 - alpha)^n is just below 5 %
        assert kept <= 0.97


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: p_values([], [1.0]), "healthy_scores must hold at least one score"),
        (lambda: p_values([1.0], [np.nan]), "scores must be finite numbers"),
        (lambda: minimum_n(0.0), r"alpha must be in \(0, 1\), got 0.0"),
        (lambda: minimum_n(0.05, 1.0), r"confidence must be in \(0, 1\), got 1.0"),
    ],
)
def test_meaningless_arguments_are_refused_by_name(call: object, message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        call()
