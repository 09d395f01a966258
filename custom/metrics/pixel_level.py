"""Pixel-level metrics: how well an anomaly map delineates the lesions; larger value = more abnormal.

Average precision and the best Dice are exact, from one sort; other projects approximate the latter by 100 to 1000
thresholds. For large test sets :mod:`custom.metrics.pixel_histogram` computes them in bounded memory.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom.errors import NomalyError
from custom.metrics.image_level import auprc


class PixelCurve(NamedTuple):
    """Average precision and largest Dice over all thresholds."""

    ap: float
    best_dice: float


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
    values, truth = flat_pixels(values, truth)
    if not truth.any():
        return PixelCurve(float("nan"), float("nan"))
    # Between two values of lesion pixels, recall does not change and Dice only falls: no other threshold is needed.
    thresholds, pixels = np.unique(values[truth], return_counts=True)
    flagged = values.size - np.searchsorted(np.sort(values), thresholds)
    return curve_of_counts(np.cumsum(pixels[::-1]), flagged[::-1])


def curve_of_counts(hits: NDArray, flagged: NDArray) -> PixelCurve:
    """Average precision and best Dice of cumulative counts along falling thresholds.

    Args:
        hits: (k,) flagged lesion pixels at each threshold; at the last one all are flagged.
        flagged: (k,) flagged pixels at each threshold.
    """
    lesion = hits[-1]
    if lesion == 0:
        return PixelCurve(float("nan"), float("nan"))
    ap = np.sum(np.diff(hits, prepend=0) / lesion * hits / np.maximum(flagged, 1))
    overlap = 2 * hits / (flagged + lesion)
    return PixelCurve(float(ap), float(overlap.max()))


def dice(prediction: ArrayLike, truth: ArrayLike) -> float:
    """2 |A and B| / (|A| + |B|) of two masks, in [0, 1]; 1 if both are empty."""
    prediction, truth = np.asarray(prediction, dtype=bool), np.asarray(truth, dtype=bool)
    if prediction.shape != truth.shape:
        raise NomalyError(
            f"prediction and truth must have one shape, got {prediction.shape} and {truth.shape}: "
            "bring the mask to the image's grid."
        )
    size = prediction.sum() + truth.sum()
    return float(2 * (prediction & truth).sum() / size) if size else 1.0


class ExactPixels:
    """All pixels of a test set, five bytes each, for metrics by one sort."""

    method = "exact"

    def __init__(self) -> None:
        self.values: list[NDArray[np.float32]] = []
        self.truths: list[NDArray[np.bool_]] = []

    def add(self, values: NDArray[np.float32], truth: NDArray[np.bool_]) -> None:
        """Add a study's flat values and truth."""
        self.values.append(values)
        self.truths.append(truth)

    def curve(self) -> PixelCurve:
        """Average precision and best Dice of all pixels together."""
        return pixel_curve(np.concatenate(self.values), np.concatenate(self.truths))

    def resampled_ap(self, weights: NDArray[np.float64], bins: int = 2000) -> NDArray[np.float64]:
        """(R,) average precision under weights (R, studies), from one histogram per study instead of R sorts.

        Each bin starts at a lesion pixel's value and holds equally many lesion pixels: exact if the lesions have at
        most `bins` different values, otherwise within 0.001.
        """
        lesions = np.concatenate([values[truth] for values, truth in zip(self.values, self.truths)])
        edges = np.unique(np.quantile(lesions, np.linspace(0, 1, bins), method="lower"))
        bins_of = [np.searchsorted(edges, study, side="right") for study in self.values]
        place = np.arange(len(edges) + 1)
        lesion = np.stack([np.bincount(b[t], minlength=len(place)) for b, t in zip(bins_of, self.truths)])
        healthy = np.stack([np.bincount(b[~t], minlength=len(place)) for b, t in zip(bins_of, self.truths)])
        pooled = np.concatenate([weights @ lesion, weights @ healthy], axis=1)
        return auprc(np.repeat([1, 0], len(place)), np.tile(place, 2), pooled)


def flat_pixels(values: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Flat values and flat bool truth, checked.

    Raises:
        NomalyError: unequal numbers of pixels, or values that are not finite.
    """
    values, truth = np.asarray(values).ravel(), np.asarray(truth).ravel().astype(bool)
    if values.shape != truth.shape:
        raise NomalyError(f"values and truth must have the same number of pixels, got {values.size} and {truth.size}.")
    if not np.isfinite(values).all():
        raise NomalyError("values must be finite, got NaN or infinity: leave this study out.")
    return values, truth
