"""95 % intervals: by resampling whole subjects, or exact for a rate among independent studies."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

from custom.errors import NomalyError
from custom.metrics.records import Stat

# With fewer subjects than this a number has no resampled interval: with one healthy and one abnormal study every
# resampling gives the same value, and the interval would have no width.
MIN_SUBJECTS = 5


def bootstrap_weights(subjects: Sequence[str], n: int = 1000, seed: int = 0) -> NDArray[np.float64]:
    """(n, studies): how often each study is drawn in each of n resamplings of the subjects."""
    names, member = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    if len(names) == 0:
        raise NomalyError("subjects must name at least one patient, got none.")
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=n)
    return draws[:, member].astype(np.float64)


def percentile_interval(values: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float]:
    """(low, high) percentiles of the values that are not NaN; NaN if all are NaN."""
    values = values[~np.isnan(values)]
    if values.size == 0:
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact (conservative) binomial interval of a rate; (0, 1) for n = 0. The n studies must be independent."""
    tail = (1 - confidence) / 2
    low = beta.ppf(tail, successes, n - successes + 1) if successes > 0 else 0.0
    high = beta.ppf(1 - tail, successes + 1, n - successes) if successes < n else 1.0
    return float(low), float(high)


def stat(value: float, resampled: NDArray[np.float64], subjects: int) -> Stat:
    """A value with the percentile interval of its resamplings.

    Args:
        value: over all studies.
        resampled: (R,) in each resampling.
        subjects: number of patients that the value rests on (of a ranking, those of the smaller class); with fewer
            than MIN_SUBJECTS low and high are None.
    """
    if subjects < MIN_SUBJECTS:
        return {"value": float(value), "low": None, "high": None}
    low, high = percentile_interval(resampled)
    return {"value": float(value), "low": low, "high": high}


def mean_stat(
    values: ArrayLike, subjects: Sequence[str], weights: NDArray[np.float64], counts: ArrayLike | None = None
) -> Stat | None:
    """Mean with its interval, over studies or over all parts of all studies.

    Args:
        values: (n,) the number of each study, or the sum over its parts, such as its lesions.
        subjects: (n,) the patient of each study.
        weights: (R, n) from :func:`bootstrap_weights`.
        counts: (n,) number of parts of each study; None = 1.

    Returns:
        The mean, without an interval if fewer than MIN_SUBJECTS patients have parts; None without any part.
    """
    values = np.asarray(values, dtype=np.float64)
    counts = np.ones_like(values) if counts is None else np.asarray(counts, dtype=np.float64)
    if counts.sum() == 0:
        return None
    patients = distinct(subjects, counts > 0)
    return stat(values.sum() / counts.sum(), share(weights @ values, weights @ counts), patients)


def rate_stat(
    hits: ArrayLike, subjects: Sequence[str], weights: NDArray[np.float64], counts: ArrayLike | None = None
) -> Stat | None:
    """Share of hits among studies or among all their parts, with its 95 % interval.

    The interval is Clopper and Pearson's if every part belongs to a different patient. Otherwise subjects are
    resampled. If all parts are hits or none is, resampling has no width, and the interval is Clopper and Pearson's with
    one part per patient.

    Args:
        hits: (n,) whether each study is a hit, or the number of its parts that are hits.
        subjects: (n,) the patient of each study.
        weights: (R, n) from :func:`bootstrap_weights`.
        counts: (n,) number of parts of each study; None = 1.

    Returns:
        The share, without an interval if fewer than MIN_SUBJECTS patients would be resampled; None without any part.
    """
    hits = np.asarray(hits, dtype=np.float64)
    counts = np.ones_like(hits) if counts is None else np.asarray(counts, dtype=np.float64)
    successes, total = int(hits.sum()), int(counts.sum())
    if total == 0:
        return None
    patients = distinct(subjects, counts > 0)
    if patients == total or successes in (0, total):
        low, high = clopper_pearson(successes * patients // total, patients)
        return {"value": successes / total, "low": low, "high": high}
    return mean_stat(hits, subjects, weights, counts)


def distinct(subjects: Iterable[str], members: Iterable[object]) -> int:
    """Number of different patients among those of the n studies whose entry in `members` is true."""
    return len({subject for subject, member in zip(subjects, members) if member})


def share(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quotient of arrays >= 0; NaN where the denominator is 0."""
    return np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1), np.nan)
