"""Whether a detector still sees the healthy studies that it was calibrated on: their p-values must stay uniform.

Conformal p-values against one calibration set of n studies are ranks among its scores. They share that set, so they
are no independent uniforms: a calibration set that lies a little high by chance shifts all of them. Both tests below
know that, and neither assumes a distribution of the scores; only that, without drift, healthy studies of calibration
and of today are exchangeable, and that scores are continuous (a tie makes p larger, so many ties look like a drift to
lower scores). Each gets half of the alarm rate:

- the two-sample test of Kolmogorov and Smirnov of today's scores against those of calibration, exact, by ranks alone;
- a two-sided CUSUM (Page, Biometrika 1954) of z = -Phi^-1((r - 1/2) / (n + 1)), r = p (n + 1) the rank, so that
  p - 1 / (2 (n + 1)) is the mid p-value and large z = higher scores; its limit is simulated for this n and this length.

The promise is for one look at a series. Who looks again and again as it grows is alarmed more often (12 looks at up to
240 studies: 3.7 % instead of 1 %), unless its length is planned: the limit is then that of the whole series, and the
test of Kolmogorov and Smirnov, which has no limit of that kind, counts at its end alone.

Truly abnormal studies make p-values small without any drift. Give healthy studies, or those later found healthy; else
the mix of healthy and abnormal studies is what is watched.
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

REFERENCE = 0.5  # k of the CUSUM: half of a shift by one standard deviation, which it is then quickest to find
RUNS = 4000
SEED = 0
LEAST_STUDIES = 10
_BLOCK = 2_000_000  # simulated numbers at a time, some tens of megabytes


@dataclass(frozen=True)
class Monitoring:
    """What was found in a series of m studies; positions count from 0.

    Args:
        healthy_studies: n of the calibration.
        alarm_rate: P(alarm) without drift is at most this, for one look at a series of this length, or for all looks
            at a series that grows to the planned length.
        planned_studies: that length; m where none was planned.
        ks_statistic: largest distance of the two distribution functions, in [0, 1].
        ks_p: its exact p-value.
        limit: the CUSUM alarms over it.
        higher: (m,) CUSUM for scores that rise.
        lower: (m,) CUSUM for scores that fall.
        alarm: first study over the limit; None if there is none.
        onset: first study of the rise that led there, the one after the CUSUM was last 0; None without an alarm.
        direction: "higher" or "lower": what scores became; None without an alarm of the CUSUM.
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
        """Largest CUSUM of the series, of both sides."""
        return float(max(self.higher.max(), self.lower.max()))

    @property
    def uneven(self) -> bool:
        """Whether the test of Kolmogorov and Smirnov alarms: only at the end of a planned series."""
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
        p_values: (m,) of `custom.calibration.conformal.p_values`, in order of time.
        healthy_studies: n of the calibration set, one for all.
        alarm_rate: P(alarm) without drift, in [0.001, 0.5].
        planned_studies: length that the series shall grow to, for looks on its way; None for one look at all there is.

    Raises:
        NomalyError: too few studies, a p-value that is none of this calibration, an alarm rate out of its range, more
            studies than planned.
    """
    if not 0.001 <= alarm_rate <= 0.5:
        raise NomalyError(f"alarm_rate must be in [0.001, 0.5], got {alarm_rate}: 0.01 is usual.")
    ranks = ranks_of(p_values, healthy_studies)
    planned = len(ranks) if planned_studies is None else planned_studies
    if planned < len(ranks):
        raise NomalyError(
            f"planned_studies must be at least the {len(ranks)} studies given, got {planned}: begin a new series."
        )
    test = map(float, two_sample_test(ranks, healthy_studies))
    limit = cusum_limit(healthy_studies, planned, alarm_rate / 2)
    higher, lower = cusum(deviates(healthy_studies)[ranks - 1])
    over = np.maximum(higher, lower) > limit + 1e-9  # sums of a few distinct values: equal ones may differ in rounding
    alarm = int(np.argmax(over)) if over.any() else None
    side = None if alarm is None else "higher" if higher[alarm] >= lower[alarm] else "lower"
    onset = None if alarm is None else _onset(higher if side == "higher" else lower, alarm)
    return Monitoring(healthy_studies, alarm_rate, planned, *test, limit, higher, lower, alarm, onset, side)


def ranks_of(p_values: ArrayLike, healthy_studies: int) -> NDArray[np.int64]:
    """(m,) ranks r = p (n + 1) in 1 ... n + 1; 1 = over all healthy scores of the calibration.

    Raises:
        NomalyError: as :func:`monitor`.
    """
    p, n = np.asarray(p_values, dtype=np.float64).ravel(), healthy_studies
    if not isinstance(n, int) or n < 1:
        raise NomalyError(f"healthy_studies must be a number of calibration studies, at least 1, got {n}.")
    if len(p) < LEAST_STUDIES:
        raise NomalyError(f"p_values must be of at least {LEAST_STUDIES} studies, got {len(p)}: wait for more.")
    wrong = p[~((p > 0) & (p <= 1))]
    if wrong.size:
        raise NomalyError(f"p_values must be in (0, 1], got {wrong[0]:g}: leave studies without one out.")
    ranks = np.rint(p * (n + 1))
    off = np.abs(p * (n + 1) - ranks) > 0.01
    if off.any() or (ranks < 1).any():
        raise NomalyError(
            f"p_values must be multiples of 1 / {n + 1} with healthy_studies = {n}, got {p[off | (ranks < 1)][0]:g}: "
            "they are of a calibration with another number of studies."
        )
    return ranks.astype(np.int64)


def deviates(healthy_studies: int) -> NDArray[np.float64]:
    """(n + 1,) z of each rank: normal scores of mid p-values, larger = higher study score."""
    ranks = np.arange(1, healthy_studies + 2)
    return -ndtri((ranks - 0.5) / (healthy_studies + 1))


def cusum(z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """S_i = max(0, S_(i-1) + z_i - k) and the same of -z, over the last axis."""
    return _one_sided(z), _one_sided(-z)


def two_sample_test(ranks: NDArray[np.int64], healthy_studies: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Statistic and exact p-value of Kolmogorov and Smirnov, over the last axis.

    A score of rank r lies between the (r - 1)-th and the r-th of calibration, counted from the largest.
    """
    healthy = np.broadcast_to(np.arange(1, healthy_studies + 1), (*ranks.shape[:-1], healthy_studies))
    result = ks_2samp(healthy, ranks - 0.5, axis=-1)
    return result.statistic, result.pvalue


@lru_cache(maxsize=32)
def cusum_limit(healthy_studies: int, studies: int, rate: float, runs: int = RUNS, seed: int = SEED) -> float:
    """Limit h with P(any S_i > h) <= rate for `studies` exchangeable with the calibration set.

    The ceil((runs + 1) (1 - rate))-th smallest of simulated maxima: a real series is exchangeable with the simulated
    ones, so the bound holds on average over the simulations, too.
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
    """(runs, studies) ranks in 1 ... n + 1 of new scores against one calibration set a run, all of one distribution."""
    # Each run on an interval of its own: one sorted list and one search serve all.
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
