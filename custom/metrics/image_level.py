"""Study-level metrics: how well scores rank abnormal above healthy studies; larger score = more abnormal.

Every metric takes optional weights (R, n), one row per resampling: a bootstrap is one call without a loop.
"""

from __future__ import annotations

from typing import overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom.errors import NomalyError
from custom.metrics.intervals import share

ROUNDING = 1e-9  # far below one study's share of any test set


@overload
def auroc(labels: ArrayLike, scores: ArrayLike, weights: None = None) -> float:
    """Without resampling: one value."""


@overload
def auroc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    """With weights (R, n): values (R,)."""


def auroc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float | NDArray[np.float64]:
    """Area under the ROC curve: P(s+ > s-) + P(s+ = s-) / 2; equals scikit-learn's ``roc_auc_score``.

    Args:
        labels: (n,) 0 healthy, 1 abnormal.
        scores: (n,) scores.
        weights: None, or (R, n) weights >= 0 of the n studies in R resamplings.

    Returns:
        In [0, 1]: a float, or (R,) with weights. NaN if a class has no weight.
    """
    positive, negative = _weight_per_distinct_score(labels, scores, weights)
    below = negative.cumsum(1) - negative
    pairs = (positive * (below + negative / 2)).sum(1)
    return _shaped(share(pairs, positive.sum(1) * negative.sum(1)), weights)


@overload
def auprc(labels: ArrayLike, scores: ArrayLike, weights: None = None) -> float:
    """Without resampling: one value."""


@overload
def auprc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike) -> NDArray[np.float64]:
    """With weights (R, n): values (R,)."""


def auprc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float | NDArray[np.float64]:
    """Average precision, sum over thresholds of (R_k - R_(k-1)) P_k; equals scikit-learn's ``average_precision_score``.

    Its value for random scores is the prevalence: report the two together. Arguments and result as :func:`auroc`.
    """
    positive, negative = _weight_per_distinct_score(labels, scores, weights)
    positive, negative = positive[:, ::-1], negative[:, ::-1]
    hits = positive.cumsum(1)
    flagged = hits + negative.cumsum(1)
    precision = hits / np.where(flagged > 0, flagged, 1)
    average = share((positive * precision).sum(1), positive.sum(1))
    return _shaped(np.where(negative.sum(1) > 0, average, np.nan), weights)


@overload
def fpr_at_tpr(labels: ArrayLike, scores: ArrayLike, tpr: float = ..., weights: None = None) -> float:
    """Without resampling: one value."""


@overload
def fpr_at_tpr(labels: ArrayLike, scores: ArrayLike, tpr: float = ..., *, weights: ArrayLike) -> NDArray[np.float64]:
    """With weights (R, n): values (R,)."""


def fpr_at_tpr(
    labels: ArrayLike, scores: ArrayLike, tpr: float = 0.95, weights: ArrayLike | None = None
) -> float | NDArray[np.float64]:
    """False-positive rate at the first point of the ROC curve, along falling thresholds, whose TPR is at least `tpr`.

    The price of missing few abnormal studies ("FPR@95TPR"); smaller is better. Other arguments and result as
    :func:`auroc`.
    """
    hits, alarms = _roc(labels, scores, weights, tpr, "tpr")
    first = (hits >= tpr - ROUNDING).argmax(1)
    value = np.take_along_axis(alarms, first[:, None], 1)[:, 0]
    return _shaped(np.where(np.isnan(hits[:, -1]), np.nan, value), weights)


@overload
def tpr_at_fpr(labels: ArrayLike, scores: ArrayLike, fpr: float = ..., weights: None = None) -> float:
    """Without resampling: one value."""


@overload
def tpr_at_fpr(labels: ArrayLike, scores: ArrayLike, fpr: float = ..., *, weights: ArrayLike) -> NDArray[np.float64]:
    """With weights (R, n): values (R,)."""


def tpr_at_fpr(
    labels: ArrayLike, scores: ArrayLike, fpr: float = 0.05, weights: ArrayLike | None = None
) -> float | NDArray[np.float64]:
    """Largest true-positive rate on the ROC curve with a false-positive rate of at most `fpr`; larger is better.

    Other arguments and result as :func:`auroc`.
    """
    hits, alarms = _roc(labels, scores, weights, fpr, "fpr")
    value = np.where(alarms <= fpr + ROUNDING, hits, 0).max(1)
    return _shaped(np.where(np.isnan(hits[:, -1] + alarms[:, -1]), np.nan, value), weights)


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
    abnormal, healthy = (np.add.reduceat(weights * (labels == label), first, axis=1) for label in (1, 0))
    return abnormal, healthy


def _roc(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None, rate: float, name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(R, k) true- and false-positive rates along the k distinct scores, falling; NaN for a class without weight."""
    if not 0 <= rate <= 1:
        raise NomalyError(f"{name} must be in [0, 1], got {rate}.")
    positive, negative = _weight_per_distinct_score(labels, scores, weights)
    hits, alarms = positive[:, ::-1].cumsum(1), negative[:, ::-1].cumsum(1)
    return share(hits, hits[:, -1:]), share(alarms, alarms[:, -1:])


def _shaped(values: NDArray[np.float64], weights: ArrayLike | None) -> float | NDArray[np.float64]:
    return float(values[0]) if weights is None else values
