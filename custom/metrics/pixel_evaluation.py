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
from custom.metrics.region_overlap import OverlapStudy, RegionOverlap

MAX_EXACT_PIXELS = 20_000_000  # 100 MB; about 180 volumes of 96 x 96 x 12, or 4900 films of 64 x 64


class PixelStudy(NamedTuple):
    """What is kept of one study: its name, its patient, its flat assessed pixels, and what AUPRO needs, if wanted."""

    case: str
    subject: str
    values: NDArray[np.float32]
    lesion: NDArray[np.bool_]
    overlap: OverlapStudy | None


class PixelEvaluation:
    """Pool a labelled test set's maps, study by study, and tell the pixel metrics with intervals.

    Assessed are the pixels of the foreground and those of the lesion: air would flatter every method, and a lesion
    outside the foreground (a part that is missing) stays a lesion. Average precision and best Dice are exact up to
    `max_exact_pixels` assessed pixels, from histograms beyond; all else is exact, but AUPRO, which is always from
    histograms. Memory: five bytes an assessed pixel up to that number, a few sparse histograms a study beyond.

    Args:
        threshold: map value above which (strictly) a pixel is flagged; set on healthy calibration pixels, never here;
            infinite where nothing is calibrated.
        false_positive_rate: the rate for which that threshold was set; only repeated in the result.
        with_aupro: whether AUPRO is wanted, which costs a second pass over the pixels.
        max_exact_pixels: number of assessed pixels beyond which their values are no longer held.
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
        # What takes long and is asked for twice; forgotten with the next study.
        self._curve: PixelCurve | None = None
        self._resampled: dict[tuple[int, int], NDArray[np.float64]] = {}

    def measure(
        self, case: str, subject: str, anomaly_map: ArrayLike, foreground: ArrayLike, truth: ArrayLike | None
    ) -> PixelStudy:
        """What is kept of a study's map, foreground mask and lesion mask, all of one shape (numpy or CPU tensor).

        The study is not added.

        Args:
            case: unique name of the study.
            subject: its patient, the unit of the intervals.
            anomaly_map: map values.
            foreground: bool mask of the body.
            truth: lesion mask; None for a healthy study. An abnormal study without a mask must not be added.

        Raises:
            NomalyError: a case that was added already, shapes that differ, or values that are not finite.
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
        if self.overlap is not None:
            self.overlap.take(study.overlap)
        if self.pool.method == "exact" and self.lesion_pixels + self.healthy_pixels > self.max_exact_pixels:
            self.pool = _as_histogram(self.pool)

    def add(
        self, case: str, subject: str, anomaly_map: ArrayLike, foreground: ArrayLike, truth: ArrayLike | None
    ) -> None:
        """Add a study; arguments as :meth:`measure`."""
        self.take(self.measure(case, subject, anomaly_map, foreground, truth))

    def _count(self, case: str, values: NDArray[np.float32], lesion: NDArray[np.bool_]) -> None:
        """Count what is exact whatever the method."""
        flagged = values > self.threshold
        self.lesion_pixels += int(lesion.sum())
        self.healthy_pixels += int((~lesion).sum())
        self.false_positives += int((flagged & ~lesion).sum())
        if lesion.any():
            self.dices[case] = dice(flagged, lesion)

    def result(self, resamplings: int = 1000, seed: int = 0) -> dict | None:
        """The `pixel` part of an evaluation, with 95 % intervals by resampling subjects; None without any lesion mask.

        `ap` and `best_dice` are pooled over all pixels by `method` ("exact" or "histogram"), `dice` is the mean over
        the abnormal studies at the fixed threshold, `false_positive_rate` the share of lesion-free pixels above it
        here; the last two are None without a threshold. `n_healthy` and `n_abnormal` are the studies that count.
        """
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
        """Pooled average precision alone; None without any lesion mask."""
        return self.curve.ap if self.dices else None

    def resampled_ap(self, resamplings: int = 1000, seed: int = 0) -> NDArray[np.float64]:
        """(resamplings,) average precision of the subjects drawn."""
        key = (resamplings, seed)
        if key not in self._resampled:
            weights = bootstrap_weights(list(self.subjects.values()), resamplings, seed)
            self._resampled[key] = self.pool.resampled_ap(weights)
        return self._resampled[key]

    def lead(self, baselines: Mapping[str, PixelEvaluation], resamplings: int = 1000, seed: int = 0) -> dict | None:
        """The best baseline by average precision, and the method's minus its, with the paired difference's interval.

        The subjects of each resampling are the same for both; only the best baseline is resampled, which is what costs
        time.

        Args:
            baselines: name -> the pooled maps of the same studies, added in the same order.
            resamplings: number of draws.
            seed: of the draws.

        Returns:
            name and ap_difference; None without any lesion mask or any baseline.

        Raises:
            NomalyError: a baseline that holds other studies.
        """
        if not self.dices or not baselines:
            return None
        for name, baseline in baselines.items():
            if list(baseline.subjects.items()) != list(self.subjects.items()):
                raise NomalyError(
                    f"baselines[{name!r}]['pixel'] must hold the method's studies in their order, got others."
                )
        values = {name: baseline.ap() for name, baseline in baselines.items()}
        best = max(values, key=values.get)
        value = self.curve.ap - values[best]
        resampled = self.resampled_ap(resamplings, seed) - baselines[best].resampled_ap(resamplings, seed)
        # what only the last bits of equal sums differ by is no lead
        difference = stat(round(value, 12), resampled.round(12), self._patients())
        return {"name": best, "ap_difference": difference}

    def _patients(self) -> int:
        """Number of patients with a lesion: the pixels of the others only add to the healthy ones."""
        return distinct(self.subjects.values(), [case in self.dices for case in self.subjects])

    def _mean_dice(self, weights: NDArray[np.float64]) -> dict[str, float]:
        """Mean Dice of the abnormal studies, with the interval of the resamplings that hold any of them."""
        members = [case in self.dices for case in self.subjects]
        subjects = [self.subjects[case] for case in self.dices]
        return mean_stat(list(self.dices.values()), subjects, weights[:, members])


def _as_histogram(exact: ExactPixels) -> PixelHistogram:
    """The same studies as histograms."""
    pool = PixelHistogram()
    for values, truth in zip(exact.values, exact.truths):
        pool.add(values, truth)
    return pool
