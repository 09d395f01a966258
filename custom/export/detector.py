"""A detector with its score and calibration as one graph: a study's slices in, all that is said of it out."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from custom.calibration.conformal import p_values
from custom.calibration.decision import DecisionRule
from custom.calibration.state import CalibrationState
from custom.scoring.score import StudyScore

OUTPUTS = ("map", "reconstruction", "score", "p_value", "decision")
DECISIONS = {"likely_normal": 0, "uncertain": 1, "flag": 2}
NONE = -1  # p-value and decision where there is none
# The arithmetic of two runtimes differs in the last bits. A score that lies this close (relatively) to a healthy one
# counts as equal to it, which counts against the alarm as ties do: a calibration study keeps its p-value.
TIE = 1e-5


class ExportedDetector(nn.Module):
    """What DetectionEvaluator does with one study on the network's grid, without branches on values.

    Args:
        detector: an AnomalyDetector for two axes, in evaluation mode.
        score: map to study score.
        foreground_threshold: share of the range that counts as air.
        judgement: see :class:`Judgement`.
    """

    def __init__(
        self, detector: nn.Module, score: StudyScore, foreground_threshold: float, judgement: Judgement
    ) -> None:
        super().__init__()
        self.detector = detector
        self.score = score
        self.foreground_threshold = foreground_threshold
        self.judgement = judgement

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """What is said of a study's slices (N, C, X, Y), float32 in [0, 1].

        Returns:
            The map (N, 1, X, Y), larger = more abnormal, 0 off the foreground; the pseudo-healthy study (N, C, X, Y);
            the score (), NaN where there is no foreground or the map is not finite; the p-value (), float64, -1 where
            there is none; the decision (), int64: 0 likely normal, 1 uncertain, 2 flag, -1 none.
        """
        anomaly_map, reconstruction = self.detector.explain(image)[:2]
        brightest = torch.maximum(image.amax(1, keepdim=True), reconstruction.amax(1, keepdim=True))
        mask = brightest > self.foreground_threshold
        masked = torch.where(mask, anomaly_map, 0)
        score = study_score(self.score, anomaly_map, mask, image, reconstruction)
        valid = mask.any() & torch.isfinite(masked).all() & torch.isfinite(score)
        score = torch.where(valid, score, math.nan)
        return masked, reconstruction, score, *self.judgement(score, image)


class Judgement(nn.Module):
    """p-value and decision of a score, by tables over the number of healthy scores that are as large.

    Args:
        calibration: what was learned from healthy studies.
        rule: how p-values become decisions.
        group: calibration group of all studies; None without groups.
        refusal: why no study can have a p-value; None if some can.
    """

    def __init__(
        self,
        calibration: CalibrationState,
        rule: DecisionRule,
        group: str | None = None,
        refusal: str | None = None,
    ) -> None:
        super().__init__()
        self.pictures = int(calibration.slices.max()) == 1
        if refusal is None:
            scores = calibration.scores_of(group)
            # each number of healthy scores as large, 0 to n, by the rule itself
            p = p_values(np.arange(len(scores)), np.arange(len(scores), -1, -1) - 0.5)
            decisions = [DECISIONS[rule.decide(value, len(scores))] for value in p.tolist()]
        else:
            scores, p, decisions = np.zeros(1), np.full(2, float(NONE)), [NONE, NONE]
        self.register_buffer("healthy_scores", torch.as_tensor(scores, dtype=torch.float64))
        self.register_buffer("p_values", torch.as_tensor(p, dtype=torch.float64))
        self.register_buffer("decisions", torch.tensor(decisions))

    def forward(self, score: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """p-value () float64 and decision () int64 of a study (N, C, X, Y); a picture is no volume."""
        value = score.double()
        as_large = (self.healthy_scores >= value - TIE * value.abs()).sum()
        picture = torch.ones_like(image[:, 0, 0, 0]).sum() < 1.5  # the number of slices, as a value of the graph
        valid = torch.isfinite(value) & (picture if self.pictures else ~picture)
        return torch.where(valid, self.p_values[as_large], NONE), torch.where(valid, self.decisions[as_large], NONE)


def study_score(score: StudyScore, anomaly_map: Tensor, mask: Tensor, image: Tensor, reconstruction: Tensor) -> Tensor:
    """What ``score`` gives for slices (N, ..., X, Y), float32, without branches; sums are in float64."""
    if score.mode == "ms_ssim":
        return score.similarity.blended_score(image, reconstruction).mean()
    values = torch.where(mask, anomaly_map, -math.inf).flatten()
    if score.mode == "max":
        return values.amax()
    count = mask.sum()
    if score.mode == "top_q":
        values = values.sort(descending=True).values
        count = torch.ceil(score.q * count.double() - 1e-6).clamp(min=1)
        mask = torch.arange(values.shape[0], device=values.device) < count
    return (torch.where(mask.flatten(), values, 0).double().sum() / count).float()
