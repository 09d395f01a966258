"""Lesion-level metrics: which lesions are found, and how many false regions a healthy study has (FROC).

A lesion is a component of the truth on the network's grid. It is hit if one region of the map's mask covers at least a
tenth of it; a false positive is a region in a healthy study, where there is no lesion to touch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom.metrics.components import label_components, sizes
from custom.metrics.intervals import bootstrap_weights, mean_stat, rate_stat

HIT_OVERLAP = 0.1  # share of a lesion's pixels that one region must cover
FALSE_POSITIVES = (0.125, 0.25, 0.5, 1, 2, 4, 8)  # the operating points of LUNA16 (Setio et al., MedIA 42, 2017)
# Thresholds of the FROC sweep as multiples of the calibrated one: known before any test study is seen, a seventh apart.
THRESHOLD_MULTIPLES = tuple(2 ** (step / 5) for step in range(-10, 31))
# Least and most pixels on the network's grid. What a network can see depends on how many of its pixels a lesion covers:
# 32 are a disc of 6 pixels across, less than one patch of a masked autoencoder; 128 a disc of 13. The limits are fixed,
# since terciles would move with the test set.
SIZES = {"small": (1, 31), "medium": (32, 127), "large": (128, None)}


def hits(lesions: NDArray[np.int32], regions: NDArray[np.int32], overlap: float = HIT_OVERLAP) -> NDArray[np.bool_]:
    """(n,) whether each of the n lesions is covered by one region to at least the share `overlap`.

    Args:
        lesions: labels of the truth, 0 = none.
        regions: labels of the map's regions, of the same shape.
        overlap: share of the lesion's pixels, in (0, 1].
    """
    total = sizes(lesions)
    both = (lesions > 0) & (regions > 0)
    base = int(regions.max(initial=0)) + 1
    pairs, counts = np.unique(lesions[both].astype(np.int64) * base + regions[both], return_counts=True)
    found = np.zeros(len(total), dtype=bool)
    lesion = pairs // base - 1
    found[lesion[counts >= overlap * total[lesion] - 1e-9]] = True
    return found


class LesionEvaluation:
    """Accumulate found lesions and false regions, at the calibrated threshold and along the FROC sweep.

    Args:
        threshold: map value above which (strictly) a pixel is flagged, from healthy calibration pixels; the sweep
            needs it to be above 0 and finite.
        minimum_size: regions of fewer pixels are no regions, at any threshold of the sweep.
    """

    def __init__(self, threshold: float, minimum_size: int = 1) -> None:
        self.threshold = float(threshold)
        self.minimum_size = minimum_size
        self.subjects: list[str] = []
        self.healthy: list[bool] = []
        self.false_regions: list[int] = []  # of the calibrated mask, of each study (0 for an abnormal one)
        self.swept_regions: list[NDArray[np.int64]] = []  # of each healthy study, along the sweep
        self.study: list[int] = []  # of each lesion, its study
        self.size: list[int] = []
        self.found: list[bool] = []
        self.swept_found: list[NDArray[np.bool_]] = []  # of each lesion, along the sweep

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """The sweep, ascending; empty where the calibrated threshold allows none."""
        sweeps = np.isfinite(self.threshold) and self.threshold > 0
        return self.threshold * np.array(THRESHOLD_MULTIPLES) if sweeps else np.zeros(0)

    def add(self, subject: str, anomaly_map: ArrayLike, regions: ArrayLike, truth: ArrayLike | None) -> None:
        """Add a study.

        Args:
            subject: its patient, the unit of the intervals.
            anomaly_map: map values (1, X, Y, Z), 0 off the foreground.
            regions: labels of the regions of the calibrated mask, 0 = none; of the same shape.
            truth: lesion mask; None for a healthy study. An abnormal study without a mask must not be added.
        """
        values, regions = np.asarray(anomaly_map), np.asarray(regions)
        lesions = label_components(np.zeros(values.shape, bool) if truth is None else np.asarray(truth) > 0.5)
        swept = (label_components(values > threshold, self.minimum_size) for threshold in self.thresholds)
        healthy = truth is None
        self.subjects.append(subject)
        self.healthy.append(healthy)
        self.false_regions.append(len(np.unique(regions[regions > 0])) if healthy else 0)
        if healthy:
            self.swept_regions.append(np.array([labels.max() for labels in swept]))
            return
        self.study += [len(self.subjects) - 1] * int(lesions.max())
        self.size += sizes(lesions).tolist()
        self.found += hits(lesions, regions).tolist()
        swept_found = [hits(lesions, labels) for labels in swept]
        self.swept_found += list(np.stack(swept_found, 1)) if swept_found else []

    def result(self, resamplings: int = 1000, seed: int = 0) -> dict | None:
        """The `lesions` part of an evaluation; None where nothing is calibrated or no study was added.

        `froc` reads, at each number of false positives a healthy study, the largest sensitivity of a threshold of the
        sweep that has no more; None where the sweep does not reach that number. Below the threshold with most false
        regions they grow together until one covers the body and every lesion in it: there the curve ends.
        """
        if not np.isfinite(self.threshold) or not self.subjects:
            return None
        weights = bootstrap_weights(self.subjects, resamplings, seed)
        healthy = np.array(self.healthy)
        everything, curve = self._sensitivity(1, None, weights)
        operating_points = {"false_positives_per_study": list(FALSE_POSITIVES), "sensitivity": everything.pop("froc")}
        return {
            **everything,
            "false_positives_per_study": mean_stat(np.array(self.false_regions)[healthy], weights[:, healthy]),
            "froc": {
                **operating_points,
                "curve": {"false_positives": self._sweep()[0].tolist(), "sensitivity": curve},
            },
            "by_size": [
                {"name": name, "pixels": [low, high], **self._sensitivity(low, high, weights)[0]}
                for name, (low, high) in SIZES.items()
            ],
        }

    def _sweep(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """False positives a healthy study along falling thresholds, and which of the sweep's thresholds these are."""
        if not self.swept_regions or len(self.thresholds) == 0:
            return np.zeros(0), np.zeros(0, dtype=np.int64)
        mean = np.mean(self.swept_regions, 0)
        kept = np.arange(len(mean) - 1, int(len(mean) - 1 - mean[::-1].argmax()) - 1, -1)
        return mean[kept], kept

    def _sensitivity(self, low: int, high: int | None, weights: NDArray[np.float64]) -> tuple[dict, list[float]]:
        """Number, sensitivity and FROC of the lesions of `low` to `high` pixels, and their curve along the sweep."""
        size = np.array(self.size, dtype=np.int64)
        members = np.flatnonzero((size >= low) & (size <= (np.inf if high is None else high)))
        study, studies = np.array(self.study, dtype=np.int64)[members], len(self.subjects)
        found = np.bincount(study, weights=np.array(self.found, dtype=float)[members], minlength=studies)
        false_positives, kept = self._sweep()
        curve = []
        if len(members) and len(kept):
            curve = np.array(self.swept_found)[members][:, kept].mean(0).tolist()
        sensitivity = rate_stat(found, self.subjects, weights, np.bincount(study, minlength=studies))
        return {"n": len(members), "sensitivity": sensitivity, "froc": read_off(false_positives, curve)}, curve


def read_off(false_positives: Sequence[float], sensitivity: Sequence[float]) -> list[float | None]:
    """Largest sensitivity with at most each of the seven numbers of false positives; None where out of reach."""
    if len(sensitivity) == 0:
        return [None] * len(FALSE_POSITIVES)
    false_positives, sensitivity = np.asarray(false_positives), np.asarray(sensitivity)
    within = false_positives.min(), false_positives.max()
    return [
        float(sensitivity[false_positives <= point].max()) if within[0] <= point <= within[1] else None
        for point in FALSE_POSITIVES
    ]
