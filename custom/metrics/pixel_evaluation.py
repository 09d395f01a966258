"""The pixel-level part of an evaluation, accumulated study by study."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom.errors import NomalyError
from custom.metrics.intervals import bootstrap_weights, distinct, mean_stat, stat
from custom.metrics.pixel_histogram import PixelHistogram
from custom.metrics.pixel_level import ExactPixels, PixelCurve, dice, flat_pixels
from custom.metrics.records import PixelLead, PixelMetrics, Stat
from custom.metrics.region_overlap import OverlapStudy, RegionOverlap

MAX_EXACT_PIXELS = 20_000_000  # 100 MB; about 180 volumes of 96 x 96 x 12, or 4900 2-D images of 64 x 64


class PixelStudy(NamedTuple):
    """One measured study: name, patient, flat assessed pixels, and the histograms for AUPRO if requested."""

    case: str
    subject: str
    values: NDArray[np.float32]
    lesion: NDArray[np.bool_]
    overlap: OverlapStudy | None


class PixelEvaluation:
    """Pool a labelled test set's maps, study by study, and compute pixel metrics with intervals.

    Only pixels of the foreground and of lesions count: air would favour every method, and a lesion outside the
    foreground (a missing part) remains a lesion. Average precision and best Dice are exact up to `max_exact_pixels`
    assessed pixels and from histograms beyond; AUPRO is always from histograms; all other metrics are exact. Memory:
    five bytes per assessed pixel up to that number, a few sparse histograms per study beyond.

    Args:
        threshold: map value above which (strictly) a pixel is flagged; from healthy calibration pixels, never from the
            test set; infinite without a calibration.
        false_positive_rate: the rate for which that threshold was set; only repeated in the result.
        with_aupro: whether to compute AUPRO, which costs a second pass over the pixels.
        max_exact_pixels: number of assessed pixels beyond which their values are no longer kept.
    """

    def __init__(
        self,
        threshold: float,
        false_positive_rate: float,
        with_aupro: bool = True,
        max_exact_pixels: int = MAX_EXACT_PIXELS,
    ) -> None:
        self.threshold = float(threshold)
        self.false_positive_rate = float(false_positive_rate)
        self.max_exact_pixels = max_exact_pixels
        self.overlap = RegionOverlap() if with_aupro else None
        self.pool: ExactPixels | PixelHistogram = ExactPixels()
        self.subjects: dict[str, str] = {}
        self.dices: dict[str, float] = {}
        self.lesion_pixels = self.healthy_pixels = self.false_positives = 0
        # Cached, as they take long and are used twice; cleared by the next study.
        self._curve: PixelCurve | None = None
        self._resampled: dict[tuple[int, int], NDArray[np.float64]] = {}

    def measure(
        self, case: str, subject: str, anomaly_map: ArrayLike, foreground: ArrayLike, truth: ArrayLike | None
    ) -> PixelStudy:
        """Measure a study's map without adding it; map, foreground and truth are of one shape (array or CPU tensor).

        Args:
            case: unique name of the study.
            subject: its patient, the unit of the intervals.
            anomaly_map: map values.
            foreground: bool mask of the body.
            truth: lesion mask; None for a healthy study. An abnormal study without a mask must not be added.

        Raises:
            NomalyError: the case was added already, the shapes differ, or values are not finite.
        """
        if case in self.subjects:
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
        pixels = flat_pixels(values[assessed], lesion[assessed])
        overlap = None
        if self.overlap is not None:
            overlap = self.overlap.measure(subject, np.where(assessed, values, 0), lesion, assessed)
        return PixelStudy(case, subject, *pixels, overlap)

    def take(self, study: PixelStudy) -> None:
        """Add a measured study."""
        self._curve, self._resampled = None, {}
        self.subjects[study.case] = study.subject
        self._count(study.case, study.values, study.lesion)
        self.pool.add(study.values, study.lesion)
        if self.overlap is not None and study.overlap is not None:
            self.overlap.take(study.overlap)
        if isinstance(self.pool, ExactPixels) and self.lesion_pixels + self.healthy_pixels > self.max_exact_pixels:
            self.pool = _as_histogram(self.pool)

    def add(
        self, case: str, subject: str, anomaly_map: ArrayLike, foreground: ArrayLike, truth: ArrayLike | None
    ) -> None:
        """Add a study; arguments as :meth:`measure`."""
        self.take(self.measure(case, subject, anomaly_map, foreground, truth))

    def _count(self, case: str, values: NDArray[np.float32], lesion: NDArray[np.bool_]) -> None:
        """Update the counts, which are exact with either method."""
        flagged = values > self.threshold
        self.lesion_pixels += int(lesion.sum())
        self.healthy_pixels += int((~lesion).sum())
        self.false_positives += int((flagged & ~lesion).sum())
        if lesion.any():
            self.dices[case] = dice(flagged, lesion)

    def result(self, resamplings: int = 1000, seed: int = 0) -> PixelMetrics | None:
        """The `pixel` part of an evaluation, with 95 % intervals by resampling subjects; None without a lesion mask."""
        if not self.dices:
            return None
        weights = bootstrap_weights(list(self.subjects.values()), resamplings, seed)
        calibrated, healthy = math.isfinite(self.threshold), self.healthy_pixels
        return {
            "n_healthy": len(self.subjects) - len(self.dices),
            "n_abnormal": len(self.dices),
            "method": self.pool.method,
            "ap": stat(self.curve.ap, self.resampled_ap(resamplings, seed), self._patients()),
            "aupro": None if self.overlap is None else self.overlap.result(resamplings, seed),
            "dice": self._mean_dice(weights) if calibrated else None,
            "best_dice": self.curve.best_dice,
            "threshold": self.threshold,
            "pixel_false_positive_rate": self.false_positive_rate,
            "false_positive_rate": self.false_positives / healthy if calibrated and healthy else None,
            "prevalence": self.lesion_pixels / (self.lesion_pixels + healthy),
        }

    @property
    def curve(self) -> PixelCurve:
        """Average precision and best Dice of the studies so far."""
        if self._curve is None:
            self._curve = self.pool.curve()
        return self._curve

    def ap(self) -> float | None:
        """Pooled average precision; None without a lesion mask."""
        return self.curve.ap if self.dices else None

    def resampled_ap(self, resamplings: int = 1000, seed: int = 0) -> NDArray[np.float64]:
        """(resamplings,) average precision of the resampled subjects."""
        key = (resamplings, seed)
        if key not in self._resampled:
            weights = bootstrap_weights(list(self.subjects.values()), resamplings, seed)
            self._resampled[key] = self.pool.resampled_ap(weights)
        return self._resampled[key]

    def lead(
        self, baselines: Mapping[str, PixelEvaluation], resamplings: int = 1000, seed: int = 0
    ) -> PixelLead | None:
        """The best baseline by average precision, and the method's minus its, with the interval of this difference.

        The difference is paired: each resampling draws the same subjects for both. Only the best baseline is resampled,
        since that takes time.

        Args:
            baselines: name -> the pooled maps of the same studies, added in the same order.
            resamplings: number of draws.
            seed: of the draws.

        Returns:
            Name and difference; None without a lesion mask or without a baseline.

        Raises:
            NomalyError: a baseline has other studies.
        """
        if not self.dices or not baselines:
            return None
        for name, baseline in baselines.items():
            if list(baseline.subjects.items()) != list(self.subjects.items()):
                raise NomalyError(
                    f"baselines[{name!r}].pixel must hold the method's studies in the same order, got other studies."
                )
        values = {name: baseline.curve.ap for name, baseline in baselines.items()}
        best = max(values, key=values.__getitem__)
        value = self.curve.ap - values[best]
        resampled = self.resampled_ap(resamplings, seed) - baselines[best].resampled_ap(resamplings, seed)
        # equal sums may differ in the last bits: that is no lead
        difference = stat(round(value, 12), resampled.round(12), self._patients())
        return {"name": best, "ap_difference": difference}

    def _patients(self) -> int:
        """Number of patients with a lesion; the others contribute only healthy pixels."""
        return distinct(self.subjects.values(), [case in self.dices for case in self.subjects])

    def _mean_dice(self, weights: NDArray[np.float64]) -> Stat | None:
        """Mean Dice of the abnormal studies, with the interval over the resamplings that contain any of them."""
        members = [case in self.dices for case in self.subjects]
        subjects = [self.subjects[case] for case in self.dices]
        return mean_stat(list(self.dices.values()), subjects, weights[:, members])


def _as_histogram(exact: ExactPixels) -> PixelHistogram:
    """The same studies as histograms."""
    pool = PixelHistogram()
    for values, truth in zip(exact.values, exact.truths):
        pool.add(values, truth)
    return pool
