"""A detector with its score and calibration as one graph: a study's slices in, all that is said of it out."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from custom.calibration.conformal import p_values
from custom.calibration.decision import DecisionRule
from custom.calibration.state import CalibrationState
from custom.engines.detection_evaluator import DetectionEvaluator
from custom.errors import NomalyError
from custom.scoring.anomaly_map import LpipsDistance
from custom.scoring.score import StudyScore

OUTPUTS = ("map", "reconstruction", "score", "p_value", "decision")
DECISIONS = {"likely_normal": 0, "uncertain": 1, "flag": 2}
NONE = -1  # p-value and decision where there is none
# The arithmetic of two runtimes differs in the last bits. A score that lies this close (relatively) below a healthy one
# counts as tied with it, which counts against the alarm as ties do.
TIE = 1e-5


class CalibratedDecision(nn.Module):
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
        self.refusal = refusal
        self.pictures = int(calibration.slices.max()) == 1
        scores, p, decisions = np.zeros(1), np.full(2, float(NONE)), [NONE, NONE]
        if refusal is None:
            scores = healthy_scores_of(calibration, group)
            n = len(scores)
            p = p_values(np.arange(n), np.arange(n, -1, -1) - 0.5)  # of 0, 1, ... n healthy scores that are as large
            decisions = [DECISIONS[rule.decide(value, n)] for value in p.tolist()]
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


class ExportedDetector(nn.Module):
    """What DetectionEvaluator says of one study on the network's grid, without branches on values.

    Args:
        detector: an AnomalyDetector for two axes, in evaluation mode.
        score: map to study score.
        foreground_threshold: share of the range that counts as air.
        calibrated_decision: p-value and decision of a score.
    """

    def __init__(
        self,
        detector: nn.Module,
        score: StudyScore,
        foreground_threshold: float,
        calibrated_decision: CalibratedDecision,
    ) -> None:
        super().__init__()
        self.detector = detector
        self.score = score
        self.foreground_threshold = foreground_threshold
        self.calibrated_decision = calibrated_decision

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """What is said of a study's slices (N, C, X, Y), float32 in [0, 1].

        Returns:
            The map (N, 1, X, Y), larger = more abnormal, 0 off the foreground; the pseudo-healthy study (N, C, X, Y);
            the score (), NaN where there is no foreground or the map is not finite; the p-value (), float64, -1 where
            there is none; the decision (), int64: 0 likely normal, 1 uncertain, 2 flag, -1 none.
        """
        anomaly_map, reconstruction = self.detector.predict(image)[:2]
        brightest = torch.maximum(image.amax(1, keepdim=True), reconstruction.amax(1, keepdim=True))
        mask = brightest > self.foreground_threshold
        masked = torch.where(mask, anomaly_map, 0)
        score = study_score(self.score, anomaly_map, mask, image, reconstruction)
        score = torch.where(mask.any() & torch.isfinite(masked).all(), score, math.nan)
        return masked, reconstruction, score, *self.calibrated_decision(score, image)


def exported_detector(evaluator: DetectionEvaluator) -> ExportedDetector:
    """The graph's module of an evaluator: its detector, score, calibration and calibration group.

    Raises:
        NomalyError: what no such graph can hold: a network of volumes, LPIPS, or a calibration by groups of which none
            is named.
    """
    network = evaluator.network
    side = network.reconstructor.image_size
    if len(side) != 2:
        raise NomalyError(
            f"export takes networks of slices, got one of volumes, {' x '.join(map(str, side))}: its windows are "
            "stitched outside of any graph. Export a network that was trained without train_3d."
        )
    if any(isinstance(module, LpipsDistance) for module in network.modules()):
        raise NomalyError("export takes perceptual 'embedding', got 'lpips', which is not exported: choose the other.")
    calibration, group = network.calibration, evaluator.study_group
    if calibration.group_names and group not in calibration.group_names:
        raise NomalyError(
            f"--study_group must be one of {', '.join(calibration.group_names)}, got {group}: this calibration is by "
            f"{calibration.group_field}, and a graph holds the one of a single group."
        )
    depth = 1 if int(calibration.slices.max()) == 1 else 2
    refusal = calibration.refusal((*side, depth), evaluator.scoring, group)
    calibrated_decision = CalibratedDecision(calibration, evaluator.decision_rule, group, refusal)
    return ExportedDetector(network, evaluator.score, evaluator.foreground_threshold, calibrated_decision).eval()


def healthy_scores_of(calibration: CalibrationState, group: str | None) -> NDArray[np.float64]:
    """Scores of the healthy studies of a group, or of all without groups."""
    scores, names = calibration.healthy_scores.cpu().numpy(), calibration.group_names
    return scores[calibration.healthy_groups.cpu().numpy() == names.index(group)] if names else scores


def study_score(score: StudyScore, anomaly_map: Tensor, mask: Tensor, image: Tensor, reconstruction: Tensor) -> Tensor:
    """What `score` gives for slices (N, ..., X, Y), float32, without branches; sums are in float64."""
    if score.mode == "ms_ssim":
        return score.similarity.blended_score(image, reconstruction).mean()
    values = torch.where(mask, anomaly_map, -math.inf).flatten()
    if score.mode == "max":
        return values.amax()
    counted, count = mask.flatten(), mask.sum().double()
    if score.mode == "top_q":
        values = values.sort(descending=True).values
        count = torch.ceil(score.q * count - 1e-6).clamp(min=1)
        counted = torch.arange(values.shape[0], device=values.device) < count
    return (torch.where(counted, values, 0).double().sum() / count).float()
