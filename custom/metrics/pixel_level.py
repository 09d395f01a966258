"""Pixel-level metrics: how well an anomaly map delineates the lesions; larger value = more abnormal.

Values and truths are pooled over the whole test set. Average precision and the best Dice are exact, from one sort;
other projects approximate the latter by 100 to 1000 thresholds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom.errors import NomalyError
from custom.metrics.image_level import auprc, bootstrap_weights, percentile_interval


class PixelCurve(NamedTuple):
    """What one sort of all pixels gives: average precision, the largest Dice, and the value (>=) that reaches it."""

    ap: float
    best_dice: float
    best_threshold: float


def pixel_curve(values: ArrayLike, truth: ArrayLike) -> PixelCurve:
    """Exact average precision and exact best Dice, max over t of 2 TP / (2 TP + FP + FN) with prediction = value >= t.

    The best Dice is an upper bound: its threshold is chosen on the test set itself.

    Args:
        values: map values of all pixels, of any shape.
        truth: 1 or True for lesion pixels, of the same shape.

    Returns:
        Average precision and best Dice in [0, 1]; NaN if no pixel belongs to a lesion.

    Raises:
        NomalyError: shapes that differ, or values that are not finite.
    """
    values, truth = _pixels(values, truth)
    lesion = int(truth.sum())
    if lesion == 0:
        return PixelCurve(float("nan"), float("nan"), float("nan"))
    order = np.argsort(values)[::-1]
    values = values[order]
    last = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)  # equal values are flagged together
    hits = np.cumsum(truth[order])[last]
    flagged = last + 1
    ap = np.sum(np.diff(hits, prepend=0) / lesion * hits / flagged)
    overlap = 2 * hits / (flagged + lesion)
    best = int(overlap.argmax())
    return PixelCurve(float(ap), float(overlap[best]), float(values[last[best]]))


def dice(prediction: ArrayLike, truth: ArrayLike) -> float:
    """2 |A and B| / (|A| + |B|) of two masks; 1 if both are empty."""
    prediction, truth = np.asarray(prediction, dtype=bool), np.asarray(truth, dtype=bool)
    if prediction.shape != truth.shape:
        raise NomalyError(
            f"prediction and truth must have one shape, got {prediction.shape} and {truth.shape}: "
            "bring the mask to the image's grid."
        )
    size = prediction.sum() + truth.sum()
    return float(2 * (prediction & truth).sum() / size) if size else 1.0


class PixelEvaluation:
    """Pool a labelled test set's maps, study by study, and tell the pixel metrics with intervals.

    Assessed are the pixels of the foreground and those of the lesion: air would flatter every method, and a lesion
    outside the foreground (a part that is missing) stays a lesion. Memory: five bytes an assessed pixel.

    Args:
        threshold: map value above which (strictly) a pixel is flagged; set on healthy calibration pixels, never here.
        false_positive_rate: the rate for which that threshold was set; only repeated in the result.
    """

    def __init__(self, threshold: float, false_positive_rate: float) -> None:
        self.threshold = float(threshold)
        self.false_positive_rate = float(false_positive_rate)
        self.values: list[NDArray[np.float32]] = []
        self.truths: list[NDArray[np.bool_]] = []
        self.subjects: list[str] = []
        self.cases: list[str] = []
        self.dices: dict[str, float] = {}

    def add(
        self, case: str, subject: str, anomaly_map: ArrayLike, foreground: ArrayLike, truth: ArrayLike | None
    ) -> None:
        """Add a study's map, foreground mask and lesion mask, all of one shape (numpy or CPU tensor).

        Args:
            case: unique name of the study.
            subject: its patient, the unit of the intervals.
            anomaly_map: map values.
            foreground: bool mask of the body.
            truth: lesion mask; None for a healthy study. An abnormal study without a mask must not be added.
        """
        if case in self.cases:
            raise NomalyError(f"case must be the unique name of a study, got {case} twice.")
        foreground = np.asarray(foreground, dtype=bool)
        lesion = np.zeros_like(foreground) if truth is None else np.asarray(truth) > 0.5
        values = np.asarray(anomaly_map, dtype=np.float32)
        if not values.shape == foreground.shape == lesion.shape:
            raise NomalyError(
                "anomaly_map, foreground and truth must have one shape, got "
                f"{values.shape}, {foreground.shape} and {lesion.shape} for study {case}."
            )
        assessed = foreground | lesion
        values, lesion = _pixels(values[assessed], lesion[assessed])
        self.cases.append(case)
        self.values.append(values)
        self.truths.append(lesion)
        self.subjects.append(subject)
        if lesion.any():
            self.dices[case] = dice(values > self.threshold, lesion)

    def result(self, resamplings: int = 1000, seed: int = 0) -> dict | None:
        """The `pixel` part of an evaluation, with 95 % intervals by resampling subjects; None without any lesion mask.

        `ap` and `best_dice` are pooled over all pixels, `dice` is the mean over the abnormal studies at the fixed
        threshold, `false_positive_rate` the share of lesion-free pixels above it here.
        """
        if not self.dices:
            return None
        values, truth = np.concatenate(self.values), np.concatenate(self.truths)
        curve = pixel_curve(values, truth)
        weights = bootstrap_weights(self.subjects, resamplings, seed)
        ap_low, ap_high = percentile_interval(self._resampled_ap(values, truth, weights))
        return {
            "ap": {"value": curve.ap, "low": ap_low, "high": ap_high},
            "dice": self._mean_dice(weights),
            "best_dice": curve.best_dice,
            "threshold": self.threshold,
            "pixel_false_positive_rate": self.false_positive_rate,
            "false_positive_rate": float(np.mean(values[~truth] > self.threshold)) if not truth.all() else None,
            "prevalence": float(truth.mean()),
        }

    def _mean_dice(self, weights: NDArray[np.float64]) -> dict[str, float]:
        """Mean Dice of the abnormal studies, with the interval of the resamplings that hold any of them."""
        dices = np.array(list(self.dices.values()))
        weights = weights[:, [lesion.any() for lesion in self.truths]]
        total = weights.sum(1)
        means = (weights @ dices)[total > 0] / total[total > 0]
        low, high = percentile_interval(means)
        return {"value": float(dices.mean()), "low": low, "high": high}

    def _resampled_ap(
        self, values: NDArray[np.float32], truth: NDArray[np.bool_], weights: NDArray[np.float64], bins: int = 2000
    ) -> NDArray[np.float64]:
        """(R,) average precision of each resampling, from a histogram a study instead of a sort a resampling.

        Each bin starts at a lesion pixel's value, with equal numbers of lesion pixels a bin: exact while the lesions
        have at most `bins` different values, within 0.001 beyond.
        """
        edges = np.unique(np.quantile(values[truth], np.linspace(0, 1, bins), method="lower"))
        bins_of = [np.searchsorted(edges, study, side="right") for study in self.values]
        place = np.arange(len(edges) + 1)
        lesion = np.stack([np.bincount(b[t], minlength=len(place)) for b, t in zip(bins_of, self.truths)])
        healthy = np.stack([np.bincount(b[~t], minlength=len(place)) for b, t in zip(bins_of, self.truths)])
        pooled = np.concatenate([weights @ lesion, weights @ healthy], axis=1)
        return auprc(np.repeat([1, 0], len(place)), np.tile(place, 2), pooled)


def _pixels(values: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Flat values and flat bool truth, checked."""
    values, truth = np.asarray(values).ravel(), np.asarray(truth).ravel().astype(bool)
    if values.shape != truth.shape:
        raise NomalyError(f"values and truth must hold equally many pixels, got {values.size} and {truth.size}.")
    if not np.isfinite(values).all():
        raise NomalyError("values must be finite, got NaN or infinity: leave this study out.")
    return values, truth
