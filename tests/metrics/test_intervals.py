"""Intervals against scipy, loops and hand-derived values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest

from custom.errors import NomalyError
from custom.metrics.intervals import bootstrap_weights, clopper_pearson, mean_stat, rate_stat


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
    # 1 of 1 and 1 of 3 lesions found: 2 of 4; drawn are the first twice, each once, the second twice
    weights = np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    result = mean_stat([1, 1], weights, [1, 3])
    assert result["value"] == 0.5
    assert (result["low"], result["high"]) == pytest.approx(tuple(np.quantile([1, 0.5, 1 / 3], [0.025, 0.975])))
    assert mean_stat([2, 4], weights)["value"] == 3
    assert mean_stat([0, 0], weights, [0, 0]) is None


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
    # by hand: 2 of 2 and 1 of 3 lesions are found, and a third study has none
    weights = bootstrap_weights(["a", "b", "c"], 50, 1)
    result = rate_stat([2, 1, 0], ["a", "b", "c"], weights, [2, 3, 0])
    drawn = np.array([(2 * a + b) / (2 * a + 3 * b) for a, b, _ in weights if a + b])
    assert result["value"] == 3 / 5
    assert (result["low"], result["high"]) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
    everything = rate_stat([2, 3, 0], ["a", "b", "c"], weights, [2, 3, 0])
    assert (everything["low"], everything["high"]) == clopper_pearson(2, 2)


def test_rate_of_nothing_is_missing() -> None:
    assert rate_stat([], [], np.zeros((3, 0))) is None
    assert rate_stat([0], ["a"], np.ones((3, 1)), [0]) is None


def test_bootstrap_without_subjects_is_refused() -> None:
    with pytest.raises(NomalyError, match="subjects must name at least one patient"):
        bootstrap_weights([])
