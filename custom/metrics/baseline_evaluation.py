"""A baseline on the studies of an evaluation, at its own thresholds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from custom.baselines.intensity import Baseline
from custom.calibration.conformal import p_values
from custom.calibration.decision import DecisionRule
from custom.calibration.pixel_threshold import HealthyHistogram, pixel_threshold
from custom.metrics.evaluation import BaselineResult
from custom.metrics.lesion_level import LesionEvaluation
from custom.metrics.pixel_evaluation import PixelEvaluation
from custom.scoring.regions import label_regions
from custom.scoring.score import foreground


class BaselineEvaluation:
    """Scores and maps of a fitted baseline; decisions and pixel threshold are from healthy studies, as a method's.

    Args:
        baseline: fitted.
        healthy: studies (C, X, Y, Z) in [0, 1] to calibrate it on, neither of training nor test; empty = no decisions
            and no threshold.
        false_positive_rate: share of healthy pixels above its threshold.
        minimum_size: regions of fewer pixels are ignored; the method's.
    """

    def __init__(
        self, baseline: Baseline, healthy: Sequence[Tensor], false_positive_rate: float, minimum_size: int
    ) -> None:
        self.baseline = baseline
        self.healthy_scores = [baseline.score(image) for image in healthy]
        threshold = _threshold(baseline, healthy, false_positive_rate)
        self.scores: list[float] = []
        self.pixels = PixelEvaluation(threshold, false_positive_rate, with_aupro=False)
        self.lesions = LesionEvaluation(threshold, minimum_size)

    def measured(
        self, case: str, subject: str, image: Tensor, body: ArrayLike, truth: NDArray[np.bool_] | None
    ) -> list[Callable[[], None]]:
        """Measure the map of a study whose truth is known; each call then adds the study to one part.

        Args:
            case: unique name of the study.
            subject: its patient.
            image: (C, X, Y, Z).
            body: foreground (1, X, Y, Z) over which the method is measured.
            truth: lesion mask (1, X, Y, Z); None for a healthy study.
        """
        anomaly_map = self.baseline.map(image)
        if anomaly_map is None:
            return []
        assessed = np.asarray(body, dtype=bool) if truth is None else np.asarray(body, dtype=bool) | truth
        values = np.where(assessed, anomaly_map.cpu().numpy(), 0)
        pixels = self.pixels.measure(case, subject, values, body, truth)
        regions, _, _ = label_regions(values, self.lesions.threshold, self.lesions.minimum_size)
        lesions = self.lesions.measure(subject, values, regions, truth)
        return [partial(self.pixels.take, pixels), partial(self.lesions.take, lesions)]

    def result(self, rule: DecisionRule) -> BaselineResult:
        """What was measured; a study is flagged at the rule's alpha, which baselines meet on average."""
        count = len(self.healthy_scores)
        flagged = (p_values(self.healthy_scores, self.scores) <= rule.alpha).tolist() if count else None
        mapped = bool(self.pixels.subjects)
        return BaselineResult(
            self.scores,
            self.pixels if mapped else None,
            self.lesions if mapped else None,
            flagged,
            self.baseline.peer,
        )


def _threshold(baseline: Baseline, healthy: Sequence[Tensor], rate: float) -> float:
    """Threshold of the map over the bodies of healthy studies; infinite without a map or studies, or for a rate of 0,
    that of a method that is not calibrated.
    """
    histogram = HealthyHistogram()
    for image in healthy if rate > 0 else ():
        anomaly_map = baseline.map(image)
        if anomaly_map is not None:
            histogram.add(anomaly_map[foreground(image)].cpu())
    return pixel_threshold(histogram, rate) if histogram.total else math.inf
