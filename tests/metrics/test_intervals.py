"""Intervals against scipy, loops and hand-derived values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from custom.errors import NomalyError
from custom.metrics.intervals import MIN_SUBJECTS, bootstrap_weights, clopper_pearson, mean_stat, rate_stat, stat


def test_bootstrap_draws_whole_subjects_with_replacement() -> None:
    weights = bootstrap_weights(["a", "b", "a", "c"], n=500, seed=1)
    assert weights.shape == (500, 4)
    assert np.array_equal(weights[:, 0], weights[:, 2])  # both studies of subject a together
    assert (weights[:, [0, 1, 3]].sum(1) == 3).all()  # as many draws as subjects
    assert np.array_equal(weights, bootstrap_weights(["a", "b", "a", "c"], n=500, seed=1))


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (3, 16), (10, 10)])
def test_binomial_interval_equals_scipy_exact_interval(successes: int, n: int) -> None:
    expected = binomtest(successes, n).proportion_ci(0.95, method="exact")
    assert clopper_pearson(successes, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_mean_of_parts_pools_them_and_resamples_the_studies() -> None:
    # 1 of 1 and 1 of 3 lesions found, and all of four times 2: 10 of 12; drawn are the first six times, each once, the
    # second six times
    subjects, weights = list("abcdef"), np.array([[6.0, 0, 0, 0, 0, 0], [1.0] * 6, [0, 6.0, 0, 0, 0, 0]])
    result = mean_stat([1, 1, 2, 2, 2, 2], subjects, weights, [1, 3, 2, 2, 2, 2])
    assert result["value"] == 10 / 12
    assert (result["low"], result["high"]) == pytest.approx(tuple(np.quantile([1, 10 / 12, 1 / 3], [0.025, 0.975])))
    assert mean_stat([2, 4], ["a", "b"], weights[:, :2])["value"] == 3
    assert mean_stat([0, 0], ["a", "b"], weights[:, :2], [0, 0]) is None


def test_too_few_patients_have_no_resampled_interval() -> None:
    drawn = np.linspace(0, 1, 41)
    assert stat(0.5, drawn, MIN_SUBJECTS - 1) == {"value": 0.5, "low": None, "high": None}
    assert stat(0.5, drawn, MIN_SUBJECTS) == {"value": 0.5, "low": pytest.approx(0.025), "high": pytest.approx(0.975)}


def test_patients_are_counted_who_have_any_part() -> None:
    # five patients in six studies, of whom four have any lesion
    subjects, counts = ["a", "a", "b", "c", "d", "e"], [2, 2, 2, 2, 2, 0]
    weights = bootstrap_weights(subjects, 50)
    assert mean_stat([1] * 6, subjects, weights)["low"] == 1
    assert mean_stat([1] * 5 + [0], subjects, weights, counts)["low"] is None
    assert rate_stat([1] * 5 + [0], subjects, weights, counts) == {"value": 0.5, "low": None, "high": None}
    assert rate_stat([2] * 5 + [0], subjects, weights, counts)["low"] == clopper_pearson(4, 4)[0]


def test_rate_among_patients_of_one_study_each_has_the_exact_interval() -> None:
    weights = bootstrap_weights(list("abcdefghij"))
    result = rate_stat([True] * 3 + [False] * 7, list("abcdefghij"), weights)
    assert (result["value"], (result["low"], result["high"])) == (0.3, clopper_pearson(3, 10))


def test_rate_among_repeated_patients_is_as_wide_as_without_the_repeats() -> None:
    hits, subjects = [True, False, False, True, False, False] * 5, [str(i) for i in range(30)]
    thrice = rate_stat(hits * 3, subjects * 3, bootstrap_weights(subjects * 3))
    exact = rate_stat(hits, subjects, bootstrap_weights(subjects))
    assert thrice["value"] == exact["value"] == 1 / 3
    assert 0.9 < (thrice["high"] - thrice["low"]) / (exact["high"] - exact["low"]) <= 1


@pytest.mark.parametrize("hit", [True, False])
def test_rate_of_all_or_none_has_an_interval_of_as_many_patients(hit: bool) -> None:
    subjects = ["a", "a", "b", "b"]  # every resampling has the same rate and tells nothing
    result = rate_stat([hit] * 4, subjects, bootstrap_weights(subjects))
    assert (result["low"], result["high"]) == clopper_pearson(2 * hit, 2)


def test_rate_of_parts_pools_them_and_resamples_the_studies() -> None:
    # by hand: 2 of 2 and 1 of 3 lesions are found, three times none of 1, and a sixth study has none
    subjects, counts = list("abcdef"), [2, 3, 1, 1, 1, 0]
    weights = bootstrap_weights(subjects, 50, 1)
    result = rate_stat([2, 1, 0, 0, 0, 0], subjects, weights, counts)
    drawn = [(2 * a + b) / (2 * a + 3 * b + c + d + e) for a, b, c, d, e, _ in weights if a + b + c + d + e]
    assert result["value"] == 3 / 8
    assert (result["low"], result["high"]) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
    everything = rate_stat(counts, subjects, weights, counts)
    assert (everything["low"], everything["high"]) == clopper_pearson(5, 5)


def test_rate_of_nothing_is_missing() -> None:
    assert rate_stat([], [], np.zeros((3, 0))) is None
    assert rate_stat([0], ["a"], np.ones((3, 1)), [0]) is None


def test_bootstrap_without_subjects_is_refused() -> None:
    with pytest.raises(NomalyError, match="subjects must name at least one patient"):
        bootstrap_weights([])
