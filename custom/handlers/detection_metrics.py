"""Metrics of a DetectionEvaluator that choose checkpoints without labels."""

from __future__ import annotations

from collections.abc import Sequence

from ignite.metrics import Metric

from custom.metrics.image_level import auroc
from custom.studies.items import Study


class StudyAUROC(Metric):
    """AUROC of the studies' scores; 0.5 if only one class is present.

    On healthy validation studies and their synthetic twins, it is the label-free criterion for choosing a checkpoint.
    """

    def reset(self) -> None:
        """Start without studies."""
        self._scores: list[float] = []
        self._labels: list[int] = []

    def update(self, output: Sequence[Study]) -> None:
        """Add the studies of an iteration."""
        for study in output:
            if "error" not in study:
                self._scores.append(study["score"])
                self._labels.append(int(study["label"]))

    def compute(self) -> float:
        """AUROC in [0, 1]."""
        return float(auroc(self._labels, self._scores)) if len(set(self._labels)) == 2 else 0.5


class HealthyError(Metric):
    """Squared reconstruction error of healthy slices, summed over a slice, mean over studies; lower = better."""

    def reset(self) -> None:
        """Start without studies."""
        self._errors: list[float] = []

    def update(self, output: Sequence[Study]) -> None:
        """Add the studies of an iteration."""
        self._errors += [s["squared_error"] for s in output if "error" not in s and int(s["label"]) == 0]

    def compute(self) -> float:
        """Mean error; infinite without healthy studies."""
        return sum(self._errors) / len(self._errors) if self._errors else float("inf")
