"""Lesion-level metrics: which lesions are found, and how many false regions a healthy study has (FROC).

A lesion is a component of the truth on the network's grid. It is hit if one region of the map's mask covers at least a
tenth of it. A false positive is a region in a healthy study.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom.metrics.intervals import bootstrap_weights, distinct, mean_stat, rate_stat, share, stat
from custom.metrics.records import LesionMetrics, LesionSizeMetrics, Stat
from custom.scoring.regions import label_components, sizes

HIT_OVERLAP = 0.1  # share of a lesion's pixels that one region must cover
FALSE_POSITIVES = (0.125, 0.25, 0.5, 1, 2, 4, 8)  # the operating points of LUNA16 (Setio et al., MedIA 42, 2017)
# Thresholds of the FROC sweep as multiples of the calibrated one: fixed before any test study is seen, 15 % apart.
THRESHOLD_MULTIPLES = tuple(2 ** (step / 5) for step in range(-10, 31))
# Least and most pixels on the network's grid, which determine how visible a lesion is to the network: 32 pixels are a
# disc 6 pixels across, less than one patch of a masked autoencoder; 128 a disc 13 across. The limits are fixed, since
# terciles would change with the test set.
SIZES: dict[str, tuple[int, int | None]] = {"small": (1, 31), "medium": (32, 127), "large": (128, None)}


def hits(lesions: NDArray[np.int32], regions: NDArray[np.int32], overlap: float = HIT_OVERLAP) -> NDArray[np.bool_]:
    """(n,) whether each of the n lesions is covered by one region at least by the share `overlap`.

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


class LesionStudy(NamedTuple):
    """One measured study: false regions of a healthy one, the k lesions of an abnormal one.

    Attributes:
        subject: its patient.
        healthy: whether it is healthy.
        false_regions: number in the calibrated mask; 0 for an abnormal study.
        swept_regions: (thresholds,) number of false regions along the sweep; None for an abnormal study.
        sizes: (k,) pixels of each lesion.
        found: (k,) whether the calibrated mask hits each lesion.
        swept_found: (thresholds, k) whether each lesion is hit along the sweep.
    """

    subject: str
    healthy: bool
    false_regions: int
    swept_regions: NDArray[np.int64] | None
    sizes: NDArray[np.int64]
    found: NDArray[np.bool_]
    swept_found: NDArray[np.bool_]


class LesionEvaluation:
    """Accumulate found lesions and false regions, at the calibrated threshold and along the FROC sweep.

    Args:
        threshold: map value above which (strictly) a pixel is flagged, from healthy calibration pixels; the sweep
            needs it to be above 0 and finite.
        minimum_size: regions of fewer pixels are ignored, at all thresholds of the sweep.
    """

    def __init__(self, threshold: float, minimum_size: int = 1) -> None:
        self.threshold = float(threshold)
        self.minimum_size = minimum_size
        self.studies: list[LesionStudy] = []

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """The sweep, ascending; empty if the calibrated threshold is not above 0 and finite."""
        sweeps = np.isfinite(self.threshold) and self.threshold > 0
        return self.threshold * np.array(THRESHOLD_MULTIPLES) if sweeps else np.zeros(0)

    def measure(
        self,
        subject: str,
        anomaly_map: ArrayLike,
        regions: ArrayLike,
        truth: ArrayLike | None,
        minimum_size: int | None = None,
    ) -> LesionStudy:
        """Measure a study without adding it.

        Args:
            subject: its patient, the unit of the intervals.
            anomaly_map: map values (1, X, Y, Z), 0 outside the foreground.
            regions: labels of the regions of the calibrated mask, 0 = none; of the same shape.
            truth: lesion mask; None for a healthy study. An abnormal study without a mask must not be added.
            minimum_size: as of the class, for this study; None = that one.
        """
        least = self.minimum_size if minimum_size is None else minimum_size
        values, regions = np.asarray(anomaly_map), np.asarray(regions)
        lesions = label_components(np.zeros(values.shape, bool) if truth is None else np.asarray(truth) > 0.5)
        swept = (label_components(values > threshold, least) for threshold in self.thresholds)
        lesion_sizes, found = sizes(lesions), hits(lesions, regions)
        if truth is None:
            false_regions, swept_regions = len(np.unique(regions[regions > 0])), [labels.max() for labels in swept]
            none = np.zeros((len(swept_regions), 0), dtype=bool)
            return LesionStudy(subject, True, false_regions, np.array(swept_regions), lesion_sizes, found, none)
        swept_found = np.zeros((len(self.thresholds), len(found)), dtype=bool)
        for row, labels in zip(swept_found, swept):
            row[:] = hits(lesions, labels)
        return LesionStudy(subject, False, 0, None, lesion_sizes, found, swept_found)

    def take(self, study: LesionStudy) -> None:
        """Add a measured study."""
        self.studies.append(study)

    def add(self, subject: str, anomaly_map: ArrayLike, regions: ArrayLike, truth: ArrayLike | None) -> None:
        """Add a study; arguments as :meth:`measure`."""
        self.take(self.measure(subject, anomaly_map, regions, truth))

    def result(self, resamplings: int = 1000, seed: int = 0) -> LesionMetrics | None:
        """The `lesions` part of an evaluation; None without a calibration or without any study.

        `froc` holds, for each number of false positives per healthy study, the largest sensitivity among the thresholds
        of the sweep with at most that many; None if even the strictest threshold has more. The curve ends at the lowest
        threshold with the largest number of false regions: below it they merge until one covers the body and every
        lesion in it. If no threshold has a false region, the curve is the whole sweep.
        """
        if not np.isfinite(self.threshold) or not self.studies:
            return None
        weights = bootstrap_weights([study.subject for study in self.studies], resamplings, seed)
        false_positives = self._sweep()[0].tolist()
        by_size = [self._of_size(name, low, high, weights) for name, (low, high) in SIZES.items()]
        return {
            "n": sum(len(study.sizes) for study in self.studies),
            "sensitivity": self._sensitivity(1, None, weights),
            "sensitivity_at_1_false_positive": self._sensitivity_at(1, weights),
            "false_positives_per_study": self._false_regions(weights),
            "froc": {
                "false_positives_per_study": list(FALSE_POSITIVES),
                "sensitivity": read_off(false_positives, self._curve(1, None)),
                "curve": {"false_positives": false_positives, "sensitivity": self._curve(1, None)},
            },
            "by_size": by_size,
        }

    def _false_regions(self, weights: NDArray[np.float64]) -> Stat | None:
        """Mean number of regions of the calibrated mask in a healthy study."""
        healthy = [study for study in self.studies if study.healthy]
        counts, subjects = [study.false_regions for study in healthy], [study.subject for study in healthy]
        return mean_stat(counts, subjects, weights[:, [study.healthy for study in self.studies]])

    def _sweep(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Mean false positives per healthy study along falling thresholds, and the indices of these thresholds.

        The last one is the lowest threshold with the largest number: among thresholds with equally many false positives
        the lowest hits most lesions.
        """
        swept = [study.swept_regions for study in self.studies if study.swept_regions is not None]
        if not swept or len(self.thresholds) == 0:
            return np.zeros(0), np.zeros(0, dtype=np.int64)
        mean = np.mean(swept, 0)
        kept = np.arange(len(mean) - 1, int(mean.argmax()) - 1, -1)
        return mean[kept], kept

    def _of_size(self, name: str, low: int, high: int | None, weights: NDArray[np.float64]) -> LesionSizeMetrics:
        """Number, sensitivity and FROC of the lesions of `low` to `high` pixels."""
        return {
            "name": name,
            "pixels": [low, high],
            "n": sum(int(members.sum()) for members in self._members(low, high)),
            "sensitivity": self._sensitivity(low, high, weights),
            "froc": read_off(self._sweep()[0].tolist(), self._curve(low, high)),
        }

    def _members(self, low: int, high: int | None) -> list[NDArray[np.bool_]]:
        """For each study, which of its lesions have `low` to `high` pixels."""
        limit = np.inf if high is None else high
        return [(study.sizes >= low) & (study.sizes <= limit) for study in self.studies]

    def _sensitivity(self, low: int, high: int | None, weights: NDArray[np.float64]) -> Stat | None:
        """Share of the lesions of `low` to `high` pixels that the calibrated mask hits."""
        members = self._members(low, high)
        counts = [int(of.sum()) for of in members]
        found = [int(study.found[of].sum()) for study, of in zip(self.studies, members)]
        return rate_stat(found, [study.subject for study in self.studies], weights, counts)

    def _sensitivity_at(self, point: float, weights: NDArray[np.float64]) -> Stat | None:
        """Point of the FROC with at most `point` false regions per healthy study, with its interval.

        A resampling in which even the strictest threshold has more false regions counts as 0.
        """
        value = read_off(self._sweep()[0].tolist(), self._curve(1, None))[FALSE_POSITIVES.index(point)]
        if value is None:
            return None
        healthy = np.array([study.healthy for study in self.studies])
        ill = [study for study in self.studies if not study.healthy]
        regions = np.array([study.swept_regions for study in self.studies if study.healthy], dtype=np.float64)
        found = np.array([study.swept_found.sum(1) for study in ill], dtype=np.float64)
        lesions = np.array([len(study.sizes) for study in ill], dtype=np.float64)
        alarms = share(weights[:, healthy] @ regions, weights[:, healthy].sum(1, keepdims=True))
        hit = share(weights[:, ~healthy] @ found, (weights[:, ~healthy] @ lesions)[:, None])
        # the curve of each resampling, too, ends at the lowest threshold with the largest number of false regions
        on_curve = np.arange(alarms.shape[1]) >= np.nan_to_num(alarms).argmax(1)[:, None]
        resampled = np.where(on_curve & (alarms <= point), hit, 0).max(1)
        complete = ~np.isnan(alarms[:, 0]) & ~np.isnan(hit[:, 0])
        patients = distinct([study.subject for study in ill], lesions > 0)
        return stat(value, np.where(complete, resampled, np.nan), patients)

    def _curve(self, low: int, high: int | None) -> list[float]:
        """Share of the lesions of `low` to `high` pixels that are hit along the sweep; empty without any."""
        members, (_, kept) = self._members(low, high), self._sweep()
        if not len(kept) or not any(of.any() for of in members):
            return []
        swept = np.concatenate([study.swept_found[:, of] for study, of in zip(self.studies, members)], axis=1)
        return swept[kept].mean(1).tolist()


def read_off(false_positives: Sequence[float], sensitivity: Sequence[float]) -> list[float | None]:
    """Largest sensitivity with at most each of the seven numbers of false positives; None if all points have more.

    Beyond the end of the curve it stays constant: more false regions are allowed than the detector makes.
    """
    if len(sensitivity) == 0:
        return [None] * len(FALSE_POSITIVES)
    numbers, shares = np.asarray(false_positives), np.asarray(sensitivity)
    allowed = [shares[numbers <= point] for point in FALSE_POSITIVES]
    return [float(within.max()) if len(within) else None for within in allowed]
