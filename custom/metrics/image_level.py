"""Study-level metrics: how well scores rank abnormal above healthy studies; larger score = more abnormal.

AUROC and average precision take optional weights, a row a resampling, so that a bootstrap is one call and no loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import beta

from custom.errors import NomalyError

Metric = Callable[..., "float | NDArray[np.float64]"]


def auroc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float | NDArray[np.float64]:
    """Area under the ROC curve: P(s+ > s-) + P(s+ = s-) / 2; equals scikit-learn's ``roc_auc_score``.

    Args:
        labels: (n,) 0 healthy, 1 abnormal.
        scores: (n,) scores.
        weights: None, or (R, n) weights >= 0 of the n studies in R resamplings.

    Returns:
        In [0, 1]: a float, or (R,) with weights. NaN where one class has no weight.
    """
    positive, negative = _weight_per_distinct_score(labels, scores, weights)
    below = negative.cumsum(1) - negative
    pairs = (positive * (below + negative / 2)).sum(1)
    return _shaped(_ratio(pairs, positive.sum(1) * negative.sum(1)), weights)


def auprc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float | NDArray[np.float64]:
    """Average precision, sum over thresholds of (R_k - R_(k-1)) P_k; equals scikit-learn's ``average_precision_score``.

    Its value for random scores is the prevalence: report the two together. Arguments and result as :func:`auroc`.
    """
    positive, negative = _weight_per_distinct_score(labels, scores, weights)
    positive, negative = positive[:, ::-1], negative[:, ::-1]
    hits = positive.cumsum(1)
    flagged = hits + negative.cumsum(1)
    precision = hits / np.where(flagged > 0, flagged, 1)
    average = _ratio((positive * precision).sum(1), positive.sum(1))
    return _shaped(np.where(negative.sum(1) > 0, average, np.nan), weights)


def bootstrap_interval(
    metric: Metric,
    labels: ArrayLike,
    scores: ArrayLike,
    subjects: Sequence[str],
    n: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """Percentile interval of a metric; whole subjects are drawn, with replacement, so that repeats do not narrow it.

    Args:
        metric: :func:`auroc`, :func:`auprc` or another function of (labels, scores, weights (R, n)) -> (R,).
        labels: (n,) 0 healthy, 1 abnormal.
        scores: (n,) scores.
        subjects: (n,) the patient of each study.
        n: number of resamplings; those without both classes are left out.
        seed: seed of the draw.
        confidence: coverage of the interval.

    Returns:
        (low, high), NaN if no resampling has both classes.
    """
    values = np.asarray(metric(labels, scores, bootstrap_weights(subjects, n, seed)))
    return percentile_interval(values, confidence)


def bootstrap_weights(subjects: Sequence[str], n: int = 1000, seed: int = 0) -> NDArray[np.float64]:
    """(n, studies): how often each study is in each of n draws of as many subjects as there are."""
    names, member = np.unique(np.asarray(subjects, dtype=str), return_inverse=True)
    if len(names) == 0:
        raise NomalyError("subjects must name at least one patient, got none.")
    draws = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), size=n)
    return draws[:, member].astype(np.float64)


def percentile_interval(values: NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float]:
    """(low, high) percentiles of the values that are not NaN; NaN if none is left."""
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


def _weight_per_distinct_score(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(R, k) weights of the abnormal and of the healthy studies at each of the k distinct scores, ascending."""
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if labels.shape != scores.shape or labels.ndim != 1 or labels.size == 0:
        raise NomalyError(
            f"labels and scores must be two lists of equal length, got the shapes {labels.shape} and {scores.shape}."
        )
    if not np.isin(labels, (0, 1)).all():
        raise NomalyError(f"labels must be 0 (healthy) or 1 (abnormal), got {sorted(set(labels.tolist()))}.")
    if not np.isfinite(scores).all():
        raise NomalyError("scores must be finite, got NaN or infinity: leave failed studies out.")
    order = np.argsort(scores, kind="stable")
    first = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))
    weights = np.ones((1, labels.size)) if weights is None else np.atleast_2d(np.asarray(weights, dtype=np.float64))
    weights, labels = weights[:, order], labels[order]
    return tuple(np.add.reduceat(weights * (labels == label), first, axis=1) for label in (1, 0))


def _ratio(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(denominator > 0, numerator / np.where(denominator > 0, denominator, 1), np.nan)


def _shaped(values: NDArray[np.float64], weights: ArrayLike | None) -> float | NDArray[np.float64]:
    return float(values[0]) if weights is None else values
