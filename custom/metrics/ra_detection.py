"""Detection of annotated boxes as in the Reversed Autoencoder's evaluation: as published, and scale-free.

Bercea et al., MIDL 2023 and arXiv 2401.10637, by their DownstreamEvaluator: a box is found if more than a tenth of its
pixels are above the threshold; precision, recall and F1 are computed per box and averaged over all boxes. If the truth
is a mask, the bounding box of each of its components serves as the annotated box.

Published: the threshold is set on the healthy TEST studies, and the false positives of a box are int(sum of the map
outside / max(sum inside, 1)) of the thresholded map. The 1 is in map units, so maps of small values have no false
positives: numbers of maps of different scale cannot be compared. Scale-free: the threshold is the calibrated one, and
the false positives of a box are the regions of its study that touch no lesion.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from custom.metrics.intervals import bootstrap_weights, rate_stat
from custom.metrics.records import BoxDetectionMetrics, BoxMetrics
from custom.scoring.regions import label_components, touched

THRESHOLDS = np.linspace(0, 1, 1000)
HEALTHY_SHARE = 0.05  # of the pixels of healthy images, air included, that may be above the published threshold
FOUND_SHARE = 0.1  # of a box's pixels, exceeded if it is found


class Box(NamedTuple):
    """One measured box.

    Attributes:
        shares: (1000,) share of its pixels above each threshold.
        inside: (1000,) sum of the map inside it above each threshold.
        outside: (1000,) sum of the map outside all boxes of its study above each threshold.
        calibrated_share: share of its pixels above the calibrated threshold.
        false_regions: regions of the calibrated mask of its study that touch no lesion.
    """

    shares: NDArray[np.float32]
    inside: NDArray[np.float32]
    outside: NDArray[np.float32]
    calibrated_share: float
    false_regions: int


class BoxStudy(NamedTuple):
    """One measured study: its patient, the share of pixels above each threshold if it is healthy, and its boxes."""

    subject: str
    healthy_share: NDArray[np.float64] | None
    boxes: list[Box]


class BoxDetection:
    """Accumulate pixel shares of boxes and healthy studies above each threshold; 12 kB per box.

    Args:
        threshold: map value above which (strictly) a pixel is flagged, from healthy calibration pixels; infinite
            without a calibration.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = float(threshold)
        self.studies: list[BoxStudy] = []

    def measure(self, subject: str, anomaly_map: ArrayLike, regions: ArrayLike, truth: ArrayLike | None) -> BoxStudy:
        """Measure a study; arguments as :meth:`custom.metrics.lesion_level.LesionEvaluation.measure`."""
        values, regions = np.asarray(anomaly_map, dtype=np.float64), np.asarray(regions)
        if truth is None:
            return BoxStudy(subject, above(values) / values.size, [])
        truth = np.asarray(truth) > 0.5
        places = ndimage.find_objects(label_components(truth))
        free = np.ones(values.shape, dtype=bool)
        for place in places:
            free[place] = False
        outside = above(values[free], values[free]).astype(np.float32)
        false_regions = len(np.unique(regions[regions > 0])) - len(touched(regions, truth))
        boxes = [self._box(values[place], outside, false_regions) for place in places]
        return BoxStudy(subject, None, boxes)

    def take(self, study: BoxStudy) -> None:
        """Add a measured study."""
        self.studies.append(study)

    def add(self, subject: str, anomaly_map: ArrayLike, regions: ArrayLike, truth: ArrayLike | None) -> None:
        """Add a study; arguments as :meth:`measure`."""
        self.take(self.measure(subject, anomaly_map, regions, truth))

    def _box(self, part: NDArray[np.float64], outside: NDArray[np.float32], false_regions: int) -> Box:
        """Measure the map in one box."""
        shares, inside = (above(part) / part.size).astype(np.float32), above(part, part).astype(np.float32)
        return Box(shares, inside, outside, float(np.mean(part > self.threshold)), false_regions)

    def result(self, resamplings: int = 1000, seed: int = 0) -> BoxDetectionMetrics | None:
        """The `ra_detection` part of an evaluation; None without a box.

        `published` is None without healthy studies, or if no threshold up to 1 reaches the healthy share; `scale_free`
        is None without a calibration.
        """
        if not any(study.boxes for study in self.studies):
            return None
        weights = bootstrap_weights([study.subject for study in self.studies], resamplings, seed)
        return {"published": self._published(weights), "scale_free": self._scale_free(weights)}

    def published_threshold(self) -> float | None:
        """Smallest of the thousand thresholds with a mean healthy share of at most 5 %; None if none has."""
        healthy = [study.healthy_share for study in self.studies if study.healthy_share is not None]
        if not healthy:
            return None
        allowed = np.flatnonzero(np.mean(healthy, 0) <= HEALTHY_SHARE)
        return float(THRESHOLDS[allowed[0]]) if len(allowed) else None

    def _published(self, weights: NDArray[np.float64]) -> BoxMetrics | None:
        threshold = self.published_threshold()
        if threshold is None:
            return None
        at = int(np.searchsorted(THRESHOLDS, threshold))
        boxes = self._boxes()
        shares = np.array([box.shares[at] for box in boxes])
        false_positives = np.array([np.floor(box.outside[at] / max(box.inside[at], 1)) for box in boxes])
        return self._metrics(threshold, "the healthy test studies", shares, false_positives, weights)

    def _scale_free(self, weights: NDArray[np.float64]) -> BoxMetrics | None:
        if not np.isfinite(self.threshold):
            return None
        shares = np.array([box.calibrated_share for box in self._boxes()])
        false_regions = np.array([box.false_regions for box in self._boxes()])
        return self._metrics(self.threshold, "the healthy calibration studies", shares, false_regions, weights)

    def _boxes(self) -> list[Box]:
        """The boxes of all studies, in their order."""
        return [box for study in self.studies for box in study.boxes]

    def _metrics(
        self, threshold: float, set_on: str, shares: NDArray, false_positives: NDArray, weights: NDArray[np.float64]
    ) -> BoxMetrics:
        """Detection rate with its interval, precision and F1, each a mean over the boxes."""
        found = (shares > FOUND_SHARE).astype(float)
        precision = found / np.maximum(found + false_positives, 1)
        f1 = 2 * precision * found / np.maximum(precision + found, 1e-12)  # the recall of one box is 0 or 1
        counts = [len(study.boxes) for study in self.studies]
        hits = np.bincount(np.repeat(np.arange(len(counts)), counts), found, len(counts))
        return {
            "threshold": threshold,
            "threshold_set_on": set_on,
            "n": len(found),
            "detection_rate": rate_stat(hits, [study.subject for study in self.studies], weights, counts),
            "precision": float(precision.mean()),
            "f1": float(f1.mean()),
        }


def above(values: NDArray[np.float64], amounts: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """(1000,) number of values, or sum of their amounts, strictly above each of the thousand thresholds."""
    index = np.searchsorted(THRESHOLDS, values.ravel())
    weights = None if amounts is None else amounts.ravel()
    return np.bincount(index, weights, minlength=len(THRESHOLDS) + 1)[::-1].cumsum()[::-1][1:].astype(np.float64)
