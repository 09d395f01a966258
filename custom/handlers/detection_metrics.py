"""Metrics of a DetectionEvaluator that choose checkpoints without labels."""

from __future__ import annotations

from typing import Any

from ignite.metrics import Metric

from custom.metrics.image_level import auroc


class StudyAUROC(Metric):
    """AUROC of the studies' scores; 0.5 where only one class is there.

    On healthy validation studies and their synthetic twins it is the label-free criterion for choosing a checkpoint.
    """

    def reset(self) -> None:
        """Forget all studies."""
        self._scores: list[float] = []
        self._labels: list[int] = []

    def update(self, output: list[dict[str, Any]]) -> None:
        """Take in the evaluator's output of one study."""
        for study in output:
            if "error" not in study:
                self._scores.append(study["score"])
                self._labels.append(int(study["label"]))

    def compute(self) -> float:
        """AUROC in [0, 1]."""
        return auroc(self._labels, self._scores) if len(set(self._labels)) == 2 else 0.5


class HealthyError(Metric):
    """Squared reconstruction error of healthy slices, summed over a slice, mean over studies; lower = better."""

    def reset(self) -> None:
        """Forget all studies."""
        self._errors: list[float] = []

    def update(self, output: list[dict[str, Any]]) -> None:
        """Take in the evaluator's output of one study."""
        self._errors += [s["squared_error"] for s in output if "error" not in s and int(s["label"]) == 0]

    def compute(self) -> float:
        """Mean error; infinite without a healthy study."""
        return sum(self._errors) / len(self._errors) if self._errors else float("inf")
