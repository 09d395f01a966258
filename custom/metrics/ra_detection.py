"""Detection of annotated boxes as in the Reversed Autoencoder's evaluation, as published and free of the map's scale.

Bercea et al., MIDL 2023 and arXiv 2401.10637, by their DownstreamEvaluator: a box is found if more than a tenth of its
pixels lie above the threshold; precision, recall and F1 are those of a box, averaged over all boxes. Where the truth is
a mask, the bounding box of each of its components stands for the annotated box.

Published: the threshold is set on the healthy TEST studies, and the false positives of a box are int(sum of the map
outside / max(sum inside, 1)) of the thresholded map. The 1 is in map units, so small maps have no false positives,
whatever they mark: numbers of maps of different scale cannot be compared. Scale-free: the threshold is the calibrated
one, and the false positives of a box are the regions of its study that touch no lesion.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from custom.metrics.components import label_components, touched
from custom.metrics.intervals import bootstrap_weights, rate_stat

THRESHOLDS = np.linspace(0, 1, 1000)
HEALTHY_SHARE = 0.05  # of the pixels of healthy images, air included, that may lie above the published threshold
FOUND_SHARE = 0.1  # of a box's pixels, exceeded if it is found


class BoxDetection:
    """Accumulate what the boxes and the healthy studies have above each threshold; 12 kB a box.

    Args:
        threshold: map value above which (strictly) a pixel is flagged, from healthy calibration pixels; infinite where
            nothing is calibrated.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = float(threshold)
        self.subjects: list[str] = []
        self.healthy_shares: list[NDArray[np.float64]] = []
        self.study: list[int] = []  # of each box, its study
        self.shares: list[NDArray[np.float32]] = []
        self.inside: list[NDArray[np.float32]] = []
        self.outside: list[NDArray[np.float32]] = []
        self.calibrated_share: list[float] = []
        self.false_regions: list[int] = []

    def add(self, subject: str, anomaly_map: ArrayLike, regions: ArrayLike, truth: ArrayLike | None) -> None:
        """Add a study; arguments as :meth:`custom.metrics.lesion_level.LesionEvaluation.add`."""
        values, regions = np.asarray(anomaly_map, dtype=np.float64), np.asarray(regions)
        self.subjects.append(subject)
        if truth is None:
            self.healthy_shares.append(above(values) / values.size)
            return
        truth = np.asarray(truth) > 0.5
        boxes = ndimage.find_objects(label_components(truth))
        off = np.ones(values.shape, dtype=bool)
        for box in boxes:
            off[box] = False
        outside = above(values[off], values[off]).astype(np.float32)
        false_regions = len(np.unique(regions[regions > 0])) - len(touched(regions, truth))
        for box in boxes:
            part = values[box]
            self.study.append(len(self.subjects) - 1)
            self.shares.append((above(part) / part.size).astype(np.float32))
            self.inside.append(above(part, part).astype(np.float32))
            self.outside.append(outside)
            self.calibrated_share.append(float(np.mean(part > self.threshold)))
            self.false_regions.append(false_regions)

    def result(self, resamplings: int = 1000, seed: int = 0) -> dict | None:
        """The `ra_detection` part of an evaluation; None without a box.

        `published` is None without healthy studies, or where no threshold up to 1 keeps the healthy share;
        `scale_free` is None where nothing is calibrated.
        """
        if not self.study:
            return None
        weights = bootstrap_weights(self.subjects, resamplings, seed)
        return {"published": self._published(weights), "scale_free": self._scale_free(weights)}

    def published_threshold(self) -> float | None:
        """Smallest of the thousand thresholds with a mean healthy share of at most 5 %; None if there is none."""
        allowed = np.flatnonzero(np.mean(self.healthy_shares, 0) <= HEALTHY_SHARE) if self.healthy_shares else []
        return float(THRESHOLDS[allowed[0]]) if len(allowed) else None

    def _published(self, weights: NDArray[np.float64]) -> dict | None:
        threshold = self.published_threshold()
        if threshold is None:
            return None
        at = int(np.searchsorted(THRESHOLDS, threshold))
        shares, inside, outside = (np.array([row[at] for row in rows]) for rows in self._rows())
        false_positives = np.floor(outside / np.maximum(inside, 1))
        return {
            "threshold": threshold,
            "threshold_set_on": "the healthy test studies",
            **self._scores(shares, false_positives, weights),
        }

    def _scale_free(self, weights: NDArray[np.float64]) -> dict | None:
        if not np.isfinite(self.threshold):
            return None
        return {
            "threshold": self.threshold,
            "threshold_set_on": "the healthy calibration studies",
            **self._scores(np.array(self.calibrated_share), np.array(self.false_regions), weights),
        }

    def _rows(self) -> tuple[list, list, list]:
        return self.shares, self.inside, self.outside

    def _scores(self, shares: NDArray, false_positives: NDArray, weights: NDArray[np.float64]) -> dict:
        """Detection rate with its interval, precision and F1, each a mean over the boxes."""
        found = (shares > FOUND_SHARE).astype(float)
        precision = found / np.maximum(found + false_positives, 1)
        f1 = 2 * precision * found / np.maximum(precision + found, 1e-12)  # the recall of one box is 0 or 1
        studies = len(self.subjects)
        hits, counts = np.bincount(self.study, found, studies), np.bincount(self.study, minlength=studies)
        return {
            "n": len(found),
            "detection_rate": rate_stat(hits, self.subjects, weights, counts),
            "precision": float(precision.mean()),
            "f1": float(f1.mean()),
        }


def above(values: NDArray[np.float64], amounts: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
    """(1000,) number of values, or sum of their amounts, strictly above each of the thousand thresholds."""
    index = np.searchsorted(THRESHOLDS, values.ravel())
    weights = None if amounts is None else amounts.ravel()
    return np.bincount(index, weights, minlength=len(THRESHOLDS) + 1)[::-1].cumsum()[::-1][1:].astype(np.float64)
