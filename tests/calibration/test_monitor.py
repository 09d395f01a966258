"""Drift of healthy p-values: the realised alarm rate, the power, the named onset, and what is refused."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.stats import norm

from custom.calibration.conformal import p_values
from custom.calibration.monitor import (
    SEED,
    cusum,
    cusum_limit,
    deviates,
    monitor,
    ranks_of,
    simulated_ranks,
    two_sample_test,
)
from custom.errors import NomalyError


def series(n: int, m: int, seed: int, shift: float = 0.0, start: int = 0) -> np.ndarray:
    """p-values of m studies against n, all standard normal, but moved by `shift` from position `start` on."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=m)
    scores[start:] += shift
    return p_values(rng.normal(size=n), scores)


# The parts


def test_ranks_are_those_of_the_conformal_p_values() -> None:
    healthy, scores = [1.0, 2.0, 3.0], [4.0, 2.5, 0.0] * 4
    assert ranks_of(p_values(healthy, scores), 3).tolist() == [1, 2, 4] * 4


def test_deviate_is_the_normal_score_of_the_mid_p_value_and_rises_with_the_score() -> None:
    # n = 3: the mid p-values of the four ranks are 1/8, 3/8, 5/8 and 7/8.
    np.testing.assert_allclose(deviates(3), norm.isf([1 / 8, 3 / 8, 5 / 8, 7 / 8]))
    assert (np.diff(deviates(3)) < 0).all()


def test_cusum_equals_its_recursion() -> None:
    z = np.random.default_rng(0).normal(size=50)
    up = down = 0.0
    for i, (higher, lower) in enumerate(zip(*cusum(z))):
        up, down = max(0.0, up + z[i] - 0.5), max(0.0, down - z[i] - 0.5)
        assert (higher, lower) == (pytest.approx(up, abs=1e-12), pytest.approx(down, abs=1e-12))


def test_cusum_by_hand() -> None:
    higher, lower = cusum(np.array([1.0, 1.0, -2.0, 0.5]))
    np.testing.assert_allclose(higher, [0.5, 1.0, 0.0, 0.0])
    np.testing.assert_allclose(lower, [0.0, 0.0, 1.5, 0.5])


def test_simulated_ranks_are_uniform_but_share_their_calibration_set() -> None:
    ranks = simulated_ranks(np.random.default_rng(0), 20000, 3, 2)
    # Each of the four ranks has probability 1/4; two studies of one run agree with 2 / (n + 2), not 1 / (n + 1).
    np.testing.assert_allclose(np.bincount(ranks[:, 0])[1:] / 20000, 0.25, atol=0.015)
    assert np.mean(ranks[:, 0] == ranks[:, 1]) == pytest.approx(2 / 5, abs=0.015)


def test_kolmogorov_smirnov_by_ranks_is_that_of_the_scores() -> None:
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(4)
    healthy, scores = rng.gamma(2, size=31), rng.gamma(3, size=44)
    expected = ks_2samp(healthy, scores, method="exact")
    found = monitor(p_values(healthy, scores), 31)
    assert found.ks_statistic == pytest.approx(expected.statistic) and found.ks_p == pytest.approx(expected.pvalue)


def test_limit_is_reproducible_and_widens_with_fewer_calibration_studies_and_longer_series() -> None:
    assert cusum_limit.__wrapped__(50, 100, 0.01) == cusum_limit(50, 100, 0.01)  # not just remembered
    assert cusum_limit(19, 100, 0.01) > cusum_limit(50, 100, 0.01) > cusum_limit(200, 100, 0.01)
    assert cusum_limit(50, 100, 0.01) < cusum_limit(50, 300, 0.01) and cusum_limit(50, 100, 0.1) < cusum_limit(
        50, 100, 0.01
    )


def test_limit_is_fast() -> None:
    started = time.process_time()
    cusum_limit(199, 240, 0.005)
    assert time.process_time() - started < 2


# No drift


@pytest.mark.parametrize(("n", "m"), [(19, 60), (99, 240)])
def test_alarm_rate_under_exchangeability_is_at_most_the_promised(n: int, m: int) -> None:
    rate, runs = 0.1, 2000
    rng = np.random.default_rng(SEED + 1)  # not the runs that the limit is made from
    ranks = simulated_ranks(rng, runs, n, m)
    limit = cusum_limit(n, m, rate / 2)
    over = np.maximum(*cusum(deviates(n)[ranks - 1])).max(axis=1) > limit + 1e-9
    # 0.05 is expected; four standard errors of these runs and of the limit's: 4 sqrt(.05 * .95 (1 / 2000 + 1 / 4000)).
    assert 0.026 < over.mean() < 0.074


@pytest.mark.parametrize("n", [19, 60])
def test_alarms_of_both_tests_together_keep_the_rate(n: int) -> None:
    ranks = simulated_ranks(np.random.default_rng(SEED + 1), 2000, n, 40)
    # All series at once, as a call for each takes longer; that calls tell the same is checked on some.
    uneven = two_sample_test(ranks, n)[1] <= 0.05
    jumps = np.maximum(*cusum(deviates(n)[ranks - 1])).max(axis=1) > cusum_limit(n, 40, 0.05) + 1e-9
    some = np.flatnonzero(uneven | jumps)[:40].tolist() + list(range(40))
    for result, i in [(monitor(ranks[i] / (n + 1), n, 0.1), i) for i in some]:
        assert (result.uneven, result.drifted) == (uneven[i], uneven[i] | jumps[i])
    # Two standard errors at 0.1: 0.013. The two tests often alarm together, so that the realised rate lies below.
    assert 0.05 < np.mean(uneven | jumps) < 0.1 + 0.013
    assert np.mean(uneven) < 0.05 + 0.01


@pytest.mark.slow
def test_all_looks_at_a_planned_series_together_keep_the_rate() -> None:
    n, rate, ranks = 40, 0.1, simulated_ranks(np.random.default_rng(2), 600, 40, 80)

    def alarmed(planned: int | None) -> np.ndarray:
        looks = (20, 45, 80)
        return np.array([any(monitor(r[:m] / (n + 1), n, rate, planned).drifted for m in looks) for r in ranks])

    # Two standard errors at 0.1: 0.024.
    assert alarmed(80).mean() < rate + 0.024 < alarmed(None).mean()


def test_planned_length_takes_the_limit_of_the_whole_series_and_the_other_test_at_its_end() -> None:
    p = np.tile([0.01, 1.0], 60)
    early, last = monitor(p[:60], 99, planned_studies=120), monitor(p, 99, planned_studies=120)
    assert early.limit == last.limit == cusum_limit(99, 120, 0.005)
    assert early.ks_p < 0.005 and not early.drifted and last.drifted


def test_independent_uniforms_would_alarm_too_often() -> None:
    """Why the limit is simulated with the shared calibration set: one for independent p-values is too low."""
    n, m, rng = 19, 240, np.random.default_rng(0)
    independent = deviates(n)[rng.integers(0, n + 1, (2000, m))]
    naive = np.quantile(np.maximum(*cusum(independent)).max(axis=1), 0.95)
    shared = np.maximum(*cusum(deviates(n)[simulated_ranks(rng, 2000, n, m) - 1])).max(axis=1)
    assert np.mean(shared > naive) > 0.15


def test_rounded_scores_do_not_alarm_more_often_than_promised() -> None:
    def rounded(seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        return p_values(rng.normal(size=80).round(1), rng.normal(size=60).round(1))

    assert np.mean([monitor(rounded(seed), 80, 0.2).drifted for seed in range(400)]) < 0.2 + 0.04


def test_ties_with_all_calibration_scores_look_like_lower_scores() -> None:
    found = monitor(p_values(np.ones(50), np.ones(40)), 50)
    assert found.drifted and found.direction == "lower" and found.higher.max() == 0


# Drift


@pytest.mark.parametrize("shift", [1.0, -1.0])
@pytest.mark.parametrize("n", [99, 200])
def test_shift_of_one_standard_deviation_is_found_within_60_studies(n: int, shift: float) -> None:
    limit, runs = cusum_limit(n, 200, 0.005), 400
    rng = np.random.default_rng(7)
    scores = rng.normal(size=(runs, 200))
    scores[:, 100:] += shift
    ranks = np.stack([ranks_of(p_values(rng.normal(size=n), row), n) for row in scores])
    statistic = cusum(deviates(n)[ranks - 1])[0 if shift > 0 else 1]
    first = np.argmax(statistic > limit, axis=1)
    assert np.mean((first >= 100) & (first < 160)) >= 0.95


def test_small_calibration_set_finds_only_a_large_shift() -> None:
    """n = 19: the calibration set itself may lie off by chance, and the limit must allow for it."""
    found = {
        shift: np.mean([monitor(series(19, 200, seed, shift, 100), 19).alarm is not None for seed in range(100)])
        for shift in (1.0, 3.0)
    }
    assert found[3.0] > 0.9 > found[1.0]


def test_named_onset_is_near_the_truth_and_the_alarm_comes_after_it() -> None:
    found = [monitor(series(150, 200, seed, 1.0, 100), 150) for seed in range(100)]
    onsets = [result.onset for result in found if result.alarm is not None and result.alarm >= 100]
    assert len(onsets) >= 95 and np.mean(np.abs(np.array(onsets) - 100) <= 12) >= 0.85
    assert all(result.onset <= result.alarm for result in found if result.alarm is not None)


@pytest.mark.parametrize(("shift", "direction"), [(2.0, "higher"), (-2.0, "lower")])
def test_direction_is_that_of_the_scores(shift: float, direction: str) -> None:
    assert monitor(series(100, 100, 5, shift, 40), 100).direction == direction


def test_onset_follows_the_last_zero_before_the_alarm() -> None:
    # Twenty middling studies keep the CUSUM at 0; then each adds z - 1/2.
    p = np.array([0.5] * 20 + [0.01] * 20)
    found = monitor(p, 99)
    assert found.onset == 20 and found.higher[19] == 0 and found.higher[found.alarm - 1] <= found.limit
    assert found.higher[found.alarm] > found.limit and found.direction == "higher"


def test_change_of_spread_alone_is_told_by_kolmogorov_and_smirnov() -> None:
    p = np.tile([0.01, 1.0], 60)  # far up and far down in turn: no CUSUM grows
    found = monitor(p, 99)
    assert found.alarm is None and found.direction is None and found.uneven and found.drifted


# What is refused


@pytest.mark.parametrize(
    ("p", "n", "rate", "message"),
    [
        ([0.5] * 9, 19, 0.01, r"p_values must cover at least 10 studies, got 9: wait for more\."),
        ([0.5] * 9 + [0.0], 19, 0.01, r"p_values must be in \(0, 1\], got 0: exclude studies without a p-value\."),
        ([0.5] * 9 + [1.05], 19, 0.01, r"p_values must be in \(0, 1\], got 1.05"),
        ([0.5] * 9 + [float("nan")], 19, 0.01, r"p_values must be in \(0, 1\], got nan"),
        (
            [0.5] * 9 + [0.33],
            19,
            0.01,
            r"multiples of 1 / 20 with healthy_studies = 19, got 0.33: they are from a calibr",
        ),
        ([0.5] * 9 + [0.0001], 19, 0.01, r"multiples of 1 / 20 with healthy_studies = 19, got 0.0001"),
        ([0.5] * 10, 0, 0.01, r"healthy_studies must be the number of calibration studies, at least 1, got 0\."),
        ([0.5] * 10, 19, 0.0, r"alarm_rate must be in \[0.001, 0.5\], got 0.0: 0.01 is usual\."),
    ],
)
def test_series_that_cannot_be_tested_is_refused(p: list[float], n: int, rate: float, message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        monitor(p, n, rate)


def test_more_studies_than_planned_are_refused() -> None:
    with pytest.raises(
        NomalyError, match=r"planned_studies must be at least the 10 studies given, got 9: start a new series\."
    ):
        monitor([0.5] * 10, 19, 0.01, 9)
