"""Drift detection: the p-values of new healthy studies must stay uniform, as at calibration.

Conformal p-values against one calibration set of n studies are ranks among its scores. They share that set, so they
are not independent: a calibration set with slightly high scores by chance shifts all of them. Both tests below take
this into account. Neither assumes a distribution of the scores, only that without drift the calibration studies and the
new healthy studies are exchangeable, and that scores are continuous (a tie makes p larger, so many ties look like a
drift to lower scores). Each test gets half of the alarm rate:

- the exact two-sample Kolmogorov-Smirnov test of the new scores against those of the calibration, from ranks only;
- a two-sided CUSUM (Page, Biometrika 1954) of z = -Phi^-1((r - 1/2) / (n + 1)), with the rank r = p (n + 1), so that
  p - 1 / (2 (n + 1)) is the mid p-value and large z = higher scores; its limit is simulated for this n and this length.

The alarm rate holds for one check of a series. Repeated checks of a growing series give more alarms (12 checks of up to
240 studies: 3.7 % instead of 1 %), unless its length is planned: the limit is then that of the whole series, and the
Kolmogorov-Smirnov test, which has no such limit, counts only at its end.

Abnormal studies have small p-values without any drift. Give healthy studies, or studies later found to be healthy;
otherwise the case mix is monitored instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri
from scipy.stats import ks_2samp

from custom.errors import NomalyError

REFERENCE = 0.5  # k of the CUSUM: half of one standard deviation, the shift that it then detects fastest
RUNS = 4000
SEED = 0
LEAST_STUDIES = 10
_BLOCK = 2_000_000  # simulated numbers at a time, some tens of megabytes


@dataclass(frozen=True)
class Monitoring:
    """Result for a series of m studies; positions count from 0.

    Args:
        healthy_studies: number n of calibration studies.
        alarm_rate: maximum probability of an alarm without drift, for one check of a series of this length, or over all
            checks of a series that grows to the planned length.
        planned_studies: that length; m if no length was planned.
        ks_statistic: largest distance between the two distribution functions, in [0, 1].
        ks_p: its exact p-value.
        limit: the CUSUM alarms above this value.
        higher: (m,) CUSUM for rising scores.
        lower: (m,) CUSUM for falling scores.
        alarm: first study above the limit; None without an alarm.
        onset: first study of the rise before the alarm, the one after the CUSUM was last 0; None without an alarm.
        direction: "higher" or "lower", the change of the scores; None without an alarm of the CUSUM.
    """

    healthy_studies: int
    alarm_rate: float
    planned_studies: int
    ks_statistic: float
    ks_p: float
    limit: float
    higher: NDArray[np.float64]
    lower: NDArray[np.float64]
    alarm: int | None
    onset: int | None
    direction: str | None

    @property
    def peak(self) -> float:
        """Largest value of the CUSUM over the series, in either direction."""
        return float(max(self.higher.max(), self.lower.max()))

    @property
    def uneven(self) -> bool:
        """Whether the Kolmogorov-Smirnov test alarms; only possible at the end of a planned series."""
        return self.ks_p <= self.alarm_rate / 2 and len(self.higher) >= self.planned_studies

    @property
    def drifted(self) -> bool:
        """Whether either test alarms."""
        return self.alarm is not None or self.uneven


def monitor(
    p_values: ArrayLike, healthy_studies: int, alarm_rate: float = 0.01, planned_studies: int | None = None
) -> Monitoring:
    """Test a series of conformal p-values of healthy studies for drift.

    Args:
        p_values: (m,) from `custom.calibration.conformal.p_values`, in chronological order.
        healthy_studies: number n of calibration studies, the same for all p-values.
        alarm_rate: maximum probability of an alarm without drift, in [0.001, 0.5].
        planned_studies: planned length of a series that is checked repeatedly; None for a single check.

    Raises:
        NomalyError: there are too few studies or more than planned, a p-value is not from this calibration, or the
            alarm rate is out of its range.
    """
    if not 0.001 <= alarm_rate <= 0.5:
        raise NomalyError(f"alarm_rate must be in [0.001, 0.5], got {alarm_rate}: 0.01 is usual.")
    ranks = ranks_of(p_values, healthy_studies)
    planned = len(ranks) if planned_studies is None else planned_studies
    if planned < len(ranks):
        raise NomalyError(
            f"planned_studies must be at least the {len(ranks)} studies given, got {planned}: start a new series."
        )
    ks_statistic, ks_p = two_sample_test(ranks, healthy_studies)
    limit = cusum_limit(healthy_studies, planned, alarm_rate / 2)
    higher, lower = cusum(deviates(healthy_studies)[ranks - 1])
    over = np.maximum(higher, lower) > limit + 1e-9  # equal sums may differ by rounding
    alarm = int(np.argmax(over)) if over.any() else None
    side = None if alarm is None else "higher" if higher[alarm] >= lower[alarm] else "lower"
    onset = None if alarm is None else _onset(higher if side == "higher" else lower, alarm)
    return Monitoring(
        healthy_studies, alarm_rate, planned, float(ks_statistic), float(ks_p), limit, higher, lower, alarm, onset, side
    )


def ranks_of(p_values: ArrayLike, healthy_studies: int) -> NDArray[np.int64]:
    """(m,) ranks r = p (n + 1) in 1 ... n + 1; 1 = above all healthy scores of the calibration.

    Raises:
        NomalyError: as :func:`monitor`.
    """
    p, n = np.asarray(p_values, dtype=np.float64).ravel(), healthy_studies
    if not isinstance(n, int) or n < 1:
        raise NomalyError(f"healthy_studies must be the number of calibration studies, at least 1, got {n}.")
    if len(p) < LEAST_STUDIES:
        raise NomalyError(f"p_values must cover at least {LEAST_STUDIES} studies, got {len(p)}: wait for more.")
    wrong = p[~((p > 0) & (p <= 1))]
    if wrong.size:
        raise NomalyError(f"p_values must be in (0, 1], got {wrong[0]:g}: exclude studies without a p-value.")
    ranks = np.rint(p * (n + 1))
    off = np.abs(p * (n + 1) - ranks) > 0.01
    if off.any() or (ranks < 1).any():
        raise NomalyError(
            f"p_values must be multiples of 1 / {n + 1} with healthy_studies = {n}, got {p[off | (ranks < 1)][0]:g}: "
            "they are from a calibration with another number of studies."
        )
    return ranks.astype(np.int64)


def deviates(healthy_studies: int) -> NDArray[np.float64]:
    """(n + 1,) z of each rank: normal scores of the mid p-values, larger = higher study score."""
    ranks = np.arange(1, healthy_studies + 2)
    return -ndtri((ranks - 0.5) / (healthy_studies + 1))


def cusum(z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """S_i = max(0, S_(i-1) + z_i - k) and the same of -z, over the last axis."""
    return _one_sided(z), _one_sided(-z)


def two_sample_test(ranks: NDArray[np.int64], healthy_studies: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Statistic and exact p-value of the Kolmogorov-Smirnov test, over the last axis.

    A score of rank r is between the (r - 1)-th and the r-th of the calibration, counted from the largest.
    """
    healthy = np.broadcast_to(np.arange(1, healthy_studies + 1), (*ranks.shape[:-1], healthy_studies))
    result = ks_2samp(healthy, ranks - 0.5, axis=-1)
    return result.statistic, result.pvalue


@lru_cache(maxsize=32)
def cusum_limit(healthy_studies: int, studies: int, rate: float, runs: int = RUNS, seed: int = SEED) -> float:
    """Limit h with P(any S_i > h) <= rate for `studies` studies exchangeable with the calibration set.

    The ceil((runs + 1) (1 - rate))-th smallest of the simulated maxima: a real series is exchangeable with the
    simulated ones, so the bound also holds on average over the simulations.
    """
    rng = np.random.default_rng(seed)
    z = deviates(healthy_studies)
    block = max(1, _BLOCK // (healthy_studies + studies))
    maxima = []
    for start in range(0, runs, block):
        ranks = simulated_ranks(rng, min(block, runs - start), healthy_studies, studies)
        maxima.append(np.maximum(*cusum(z[ranks - 1])).max(axis=1))
    return float(np.sort(np.concatenate(maxima))[math.ceil((runs + 1) * (1 - rate) - 1e-9) - 1])


def simulated_ranks(rng: np.random.Generator, runs: int, healthy_studies: int, studies: int) -> NDArray[np.int64]:
    """(runs, studies) ranks in 1 ... n + 1 of new scores against one calibration set per run, without drift."""
    # Each run has its own interval, so that one sorted list and one search are enough.
    offset = np.arange(runs)[:, None]
    healthy = np.sort(rng.random((runs, healthy_studies)), axis=1) + offset
    scores = rng.random((runs, studies)) + offset
    below = np.searchsorted(healthy.ravel(), scores.ravel()).reshape(scores.shape) - offset * healthy_studies
    return healthy_studies - below + 1


def _one_sided(z: NDArray[np.float64]) -> NDArray[np.float64]:
    """The recursion in closed form: the walk minus its lowest point so far."""
    walk = np.cumsum(z - REFERENCE, axis=-1)
    return walk - np.minimum(np.minimum.accumulate(walk, axis=-1), 0)


def _onset(statistic: NDArray[np.float64], alarm: int) -> int:
    """The study after the last at which the statistic was 0."""
    zeros = np.flatnonzero(statistic[:alarm] == 0)
    return int(zeros[-1]) + 1 if zeros.size else 0
