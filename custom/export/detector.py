"""A detector with its score and calibration as one graph: from a study's slices to all results."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from custom.calibration.conformal import p_values
from custom.calibration.decision import DecisionRule
from custom.calibration.state import CalibrationState
from custom.detector.anomaly_detector import AnomalyDetector
from custom.engines.detection_evaluator import DetectionEvaluator
from custom.errors import NomalyError
from custom.scoring.anomaly_map import LpipsDistance
from custom.scoring.score import MODES, StudyScore, logarithms, total
from custom.studies.kinds import KINDS

OUTPUTS = ("map", "reconstruction", "score", "p_value", "decision")
DECISIONS = {"likely_normal": 0, "uncertain": 1, "flag": 2}
NONE = -1  # p-value and decision of a study without them
# The arithmetic of two runtimes differs in the last bits. A healthy score that is lower by at most this relative
# difference counts as tied with the study's, and ties count against an alarm.
TIE = 1e-5


class HasImageSize(Protocol):
    """A network with images of a fixed size."""

    image_size: tuple[int, ...]


class CalibratedDecision(nn.Module):
    """p-value and decision of the score of a study of one kind, from tables indexed by the number of healthy scores
    that are at least as large.

    Args:
        calibration: calibration of the detector for this kind.
        rule: how p-values become decisions.
        group: calibration group of all studies; None without groups.
        refusal: why no study can have a p-value; None if studies can.
        standardised: whether scores are in standard deviations, so that the tolerance of ties is absolute near 0.
    """

    healthy_scores: Tensor
    p_values: Tensor
    decisions: Tensor

    def __init__(
        self,
        calibration: CalibrationState,
        rule: DecisionRule,
        group: str | None = None,
        refusal: str | None = None,
        standardised: bool = False,
    ) -> None:
        super().__init__()
        self.refusal = refusal
        self.unit = 1.0 if standardised else 0.0
        scores: NDArray[np.float64] = np.zeros(1)
        p: NDArray[np.float64] = np.full(2, float(NONE))
        decisions = [NONE, NONE]
        if refusal is None:
            scores = healthy_scores_of(calibration, group)
            n = len(scores)
            p = p_values(np.arange(n), np.arange(n, -1, -1) - 0.5)  # for 0, 1, ... n healthy scores as large
            decisions = [DECISIONS[rule.decide(value, n)] for value in p.tolist()]
        self.register_buffer("healthy_scores", torch.as_tensor(scores, dtype=torch.float64))
        self.register_buffer("p_values", torch.as_tensor(p, dtype=torch.float64))
        self.register_buffer("decisions", torch.tensor(decisions))

    def forward(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """p-value () float64 and decision () int64 of a score ()."""
        value = score.double()
        as_large = (self.healthy_scores >= value - TIE * (value.abs() + self.unit)).sum()
        valid = torch.isfinite(value)
        return torch.where(valid, self.p_values[as_large], NONE), torch.where(valid, self.decisions[as_large], NONE)


class ExportedDetector(nn.Module):
    """The results of DetectionEvaluator for one study on the network's grid, without branches on values.

    Args:
        detector: an AnomalyDetector for two axes, in evaluation mode.
        score: map to study score.
        foreground_threshold: brightness in [0, 1] up to which a pixel is air.
        decisions: by kind of study, p-value and decision of its score.
    """

    def __init__(
        self,
        detector: AnomalyDetector,
        score: StudyScore,
        foreground_threshold: float,
        decisions: Mapping[str, CalibratedDecision],
    ) -> None:
        super().__init__()
        self.detector = detector
        self.score = score
        self.foreground_threshold = foreground_threshold
        self.decisions = nn.ModuleList([decisions[kind] for kind in KINDS])

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Results for a study's slices (N, C, X, Y), float32 in [0, 1].

        Returns:
            The map (N, 1, X, Y), larger = more abnormal, 0 outside the foreground; the pseudo-healthy study
            (N, C, X, Y); the score (), NaN without a foreground or with a map that is not finite; the p-value (),
            float64, -1 = none; the decision (), int64: 0 likely normal, 1 uncertain, 2 flag, -1 none.
        """
        named = dict(zip(self.detector.outputs, self.detector.predict(image), strict=True))
        anomaly_map, reconstruction = named["map"], named["reconstruction"]
        brightest = torch.maximum(image.amax(1, keepdim=True), reconstruction.amax(1, keepdim=True))
        mask = brightest > self.foreground_threshold
        masked = torch.where(mask, anomaly_map, 0)
        # the number of slices, and from it the index in KINDS, as values of the graph
        kind = (torch.ones_like(image[:, 0, 0, 0]).sum() > 1.5).long()
        distances = named.get("code_distance"), named.get("patch_distance")
        score = study_score(self.score, anomaly_map, mask, image, reconstruction, kind, *distances)
        score = torch.where(mask.any() & torch.isfinite(masked).all(), score, math.nan)
        p_values, decisions = zip(*(decision(score) for decision in self.decisions))
        return masked, reconstruction, score, torch.stack(p_values)[kind], torch.stack(decisions)[kind]


def exported_detector(evaluator: DetectionEvaluator) -> ExportedDetector:
    """The module to export: an evaluator's detector, score, calibration and calibration group.

    Raises:
        NomalyError: what cannot be exported: a network of volumes, LPIPS, or a calibration by groups without a chosen
            group.
    """
    network = evaluator.detector
    side = image_size_of(network)
    if len(side) != 2:
        raise NomalyError(
            f"only 2-D networks can be exported, got a 3-D network ({' x '.join(map(str, side))}): its windows "
            "are merged outside the graph. Export a network that was trained without train_3d."
        )
    if any(isinstance(module, LpipsDistance) for module in network.modules()):
        raise NomalyError("only perceptual 'embedding' can be exported, got 'lpips': use a bundle with 'embedding'.")
    group, decisions = evaluator.study_group, {}
    for kind, slices in zip(KINDS, (1, 2)):
        calibration = network.calibration.of_kind(kind)
        if calibration.group_names and group not in calibration.group_names:
            raise NomalyError(
                f"--study_group must be one of {', '.join(calibration.group_names)}, got {group}: the detector is "
                f"calibrated by {calibration.group_field}, and a graph contains a single group."
            )
        refusal, standardised = evaluator.refusal((*side, slices), group), evaluator.score.mode == "fused"
        decisions[kind] = CalibratedDecision(calibration, evaluator.decision_rule, group, refusal, standardised)
    return ExportedDetector(network, evaluator.score, evaluator.foreground_threshold, decisions).eval()


def image_size_of(network: AnomalyDetector) -> tuple[int, ...]:
    """Sides of the network's images in pixels."""
    return cast(HasImageSize, network.reconstructor).image_size


def healthy_scores_of(calibration: CalibrationState, group: str | None) -> NDArray[np.float64]:
    """Scores of the healthy studies of a group; of all studies without groups."""
    scores, names = calibration.healthy_scores.cpu().numpy(), calibration.group_names
    return scores[calibration.healthy_groups.cpu().numpy() == names.index(str(group))] if names else scores


def study_score(
    score: StudyScore,
    anomaly_map: Tensor,
    mask: Tensor,
    image: Tensor,
    reconstruction: Tensor,
    kind: int | Tensor,
    code_distance: Tensor | None = None,
    patch_distance: Tensor | None = None,
) -> Tensor:
    """`score` of slices (N, ..., X, Y) of a kind of study, float32, without branches on values.

    Raises:
        NomalyError: a mode that has no such form here.
    """
    if score.mode == "ms_ssim":
        return dissimilarity(score, image, reconstruction)
    if score.mode == "fused":
        parts = {"map": pooled(score, anomaly_map, mask), "structure": dissimilarity(score, image, reconstruction)}
        if code_distance is not None:
            parts["code"] = code_distance.mean()
        if patch_distance is not None:
            parts["patches"] = pooled(score, patch_distance, mask)
        return total(score.standardised(logarithms(parts), kind)).float()
    return pooled(score, anomaly_map, mask)


def dissimilarity(score: StudyScore, image: Tensor, reconstruction: Tensor) -> Tensor:
    """Blended structural dissimilarity () of slices (N, C, X, Y)."""
    assert score.similarity is not None  # checked by StudyScore for the modes that use it
    return score.similarity.blended_score(image, reconstruction).mean()


def pooled(score: StudyScore, anomaly_map: Tensor, mask: Tensor) -> Tensor:
    """One number () of a map (N, 1, X, Y) over its foreground; sums are in float64.

    Raises:
        NomalyError: a mode that has no such form here.
    """
    values = torch.where(mask, anomaly_map, -math.inf).flatten()
    if score.mode == "max":
        return values.amax()
    counted, count = mask.flatten(), mask.sum().double()
    if score.mode in ("top_q", "fused"):
        values = values.sort(descending=True).values
        count = torch.ceil(score.q * count - 1e-6).clamp(min=1)
        counted = torch.arange(values.shape[0], device=values.device) < count
    elif score.mode != "mean":
        raise NomalyError(
            f"score_mode must be one of {', '.join(MODES)} for an export, got {score.mode!r}: choose another."
        )
    return (torch.where(counted, values, 0).double().sum() / count).float()
