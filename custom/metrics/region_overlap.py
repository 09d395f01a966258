"""AUPRO: coverage of each lesion, small ones counting as much as large ones, against flagged healthy pixels.

PRO of Bergmann et al., IJCV 129 (2021), with the components of the truth as regions.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom.metrics.intervals import bootstrap_weights, distinct, share, stat
from custom.metrics.pixel_histogram import BINS, SparseRows, bin_index
from custom.metrics.records import Stat
from custom.scoring.regions import label_components, sizes

MAX_FALSE_POSITIVE_RATE = 0.3  # Bergmann et al. 2021


class OverlapStudy(NamedTuple):
    """One measured study: patient, number of lesions, and histograms (BINS,) of lesion overlap and healthy pixels."""

    subject: str
    lesions: int
    overlaps: NDArray[np.float64]
    healthy: NDArray[np.int64]


class RegionOverlap:
    """Area under the mean overlap of the lesions against the false-positive rate, up to a rate of 0.3, over 0.3.

    At each threshold, the mean over all lesions of the share of their pixels above it, against the share of the
    lesion-free assessed pixels above it; straight lines between thresholds, one at each edge of the 4096 bins of
    :mod:`custom.metrics.pixel_histogram`. Memory: two sparse histograms per study. In [0, 1], larger = better; a noise
    map has 0.15.
    """

    def __init__(self) -> None:
        self.subjects: list[str] = []
        self.lesions: list[int] = []
        self.overlaps = SparseRows()  # sum over the study's lesions of their share in each bin
        self.healthy = SparseRows()

    @staticmethod
    def measure(subject: str, anomaly_map: ArrayLike, truth: ArrayLike, assessed: ArrayLike) -> OverlapStudy:
        """Measure a study without adding it.

        Args:
            subject: its patient, the unit of the interval.
            anomaly_map: map values, finite.
            truth: lesion mask, all False for a healthy study.
            assessed: bool mask of the pixels that count, including all lesion pixels; all three of one shape.
        """
        index = bin_index(anomaly_map)
        truth, assessed = np.asarray(truth, dtype=bool), np.asarray(assessed, dtype=bool).ravel()
        labels = label_components(truth)
        lesion_sizes, inside = sizes(labels), truth.ravel()
        part = 1 / lesion_sizes[labels.ravel()[inside] - 1]
        overlaps = np.bincount(index[inside], weights=part, minlength=BINS).astype(np.float64)
        healthy = np.bincount(index[assessed & ~inside], minlength=BINS).astype(np.int64)
        return OverlapStudy(subject, len(lesion_sizes), overlaps, healthy)

    def take(self, study: OverlapStudy) -> None:
        """Add a measured study."""
        self.subjects.append(study.subject)
        self.lesions.append(study.lesions)
        self.overlaps.add(study.overlaps)
        self.healthy.add(study.healthy)

    def add(self, subject: str, anomaly_map: ArrayLike, truth: ArrayLike, assessed: ArrayLike) -> None:
        """Add a study; arguments as :meth:`measure`."""
        self.take(self.measure(subject, anomaly_map, truth, assessed))

    def result(self, resamplings: int = 1000, seed: int = 0) -> Stat | None:
        """AUPRO with its interval by resampling subjects; None without a lesion or without a lesion-free pixel."""
        if not any(self.lesions) or not self.healthy.pooled().any():
            return None
        lesions = np.array(self.lesions, dtype=np.float64)
        value = area_up_to(self.healthy.pooled()[None], self.overlaps.pooled()[None] / lesions.sum())
        weights = bootstrap_weights(self.subjects, resamplings, seed)
        overlap = share(self.overlaps.pooled(weights), (weights @ lesions)[:, None])
        patients = distinct(self.subjects, lesions > 0)
        return stat(value[0], area_up_to(self.healthy.pooled(weights), overlap), patients)


def area_up_to(
    healthy: NDArray[np.float64], overlap: NDArray[np.float64], limit: float = MAX_FALSE_POSITIVE_RATE
) -> NDArray[np.float64]:
    """(R,) area under overlap against false-positive rate from 0 to `limit`, over `limit`.

    Args:
        healthy: (R, bins) number of healthy pixels in each bin, ascending; the area is NaN without any.
        overlap: (R, bins) mean share of the lesions in each bin.
        limit: largest false-positive rate.
    """
    rates = share(healthy[:, ::-1].cumsum(1), healthy.sum(1)[:, None])
    heights = overlap[:, ::-1].cumsum(1)
    rates, heights = (np.pad(part, ((0, 0), (1, 0))) for part in (rates, heights))  # nothing flagged: (0, 0)
    steps = np.diff(rates)
    # of the line that crosses the limit only the part before it counts
    inside = np.clip(limit - rates[:, :-1], 0, steps)
    slope = np.diff(heights) / np.where(steps > 0, steps, 1)
    return (inside * (heights[:, :-1] + slope * inside / 2)).sum(1) / limit
