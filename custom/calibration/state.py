"""What calibration learned, as buffers of the detector."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from custom.scoring.score import StudyScore


class CalibrationState(nn.Module):
    """Healthy scores and the pixel threshold; empty until calibrated.

    Buffers:
        healthy_scores: (n,) float64, one score for each healthy study, ascending; n = 0 means not calibrated.
        pixel_threshold: () float64, the map value that the stated share of healthy foreground pixels exceeds.
        pixel_false_positive_rate: () float64, that share.
        slices: (2,) int64, least and most slices of the calibration studies: p-values hold for studies of this kind.
        plane: (2,) int64, least and most pixels of a slice of theirs; the score of a large frame is no match for those
            of small windows.
        score_rule: (2,) float64, what the scores are, see :func:`scoring_rule`.
    """

    healthy_scores: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("healthy_scores", torch.zeros(0, dtype=torch.float64))
        self.register_buffer("pixel_threshold", torch.tensor(float("inf"), dtype=torch.float64))
        self.register_buffer("pixel_false_positive_rate", torch.zeros((), dtype=torch.float64))
        self.register_buffer("slices", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("plane", torch.zeros(2, dtype=torch.int64))
        self.register_buffer("score_rule", torch.zeros(2, dtype=torch.float64))

    @property
    def is_calibrated(self) -> bool:
        """Whether healthy scores are there."""
        return len(self.healthy_scores) > 0

    def holds_for(self, shape: Sequence[int], rule: Sequence[float]) -> bool:
        """Whether a study of this shape (X, Y, Z), scored by this rule, is of the kind that was calibrated on.

        A picture is no volume, and a slice has at most a tenth fewer or more pixels than those of the calibration.
        """
        width, height, depth = shape
        same_depth = (depth == 1) == (int(self.slices.max()) == 1)
        same_plane = 0.9 * int(self.plane[0]) <= width * height <= 1.1 * int(self.plane[1])
        same_rule = torch.equal(self.score_rule.cpu(), torch.tensor(rule, dtype=torch.float64))
        return same_depth and same_plane and same_rule

    def fill(self, **values: Any) -> None:
        """Set buffers by name."""
        for name, value in values.items():
            buffer = getattr(self, name)
            setattr(self, name, torch.as_tensor(value, dtype=buffer.dtype, device=buffer.device))

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        # The number of healthy scores is part of what is loaded, so the buffer takes the stored size first.
        stored = state_dict.get(prefix + "healthy_scores")
        if stored is not None:
            self.healthy_scores = self.healthy_scores.new_zeros(stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)


def scoring_rule(score: StudyScore, network: nn.Module) -> tuple[float, float]:
    """What a detector's scores are, as two numbers: scores of another mode, map or ensemble cannot be compared.

    The second is a checksum of all settings that are not in the weights.
    """
    mode, detail = score.rule()
    heads = [getattr(network, name, None) for name in ("map_head", "normalisation")]
    settings = [_settings(module) for head in heads if head is not None for module in head.modules()]
    ensemble = getattr(getattr(network, "reconstructor", None), "ensemble", None)
    masks = None if ensemble is None else ensemble.tolist()
    return mode, float(zlib.crc32(repr((detail, settings, masks)).encode()))


def _settings(module: nn.Module) -> list[tuple[str, Any]]:
    """Name and plain values of what a module was made with."""
    plain = (bool, int, float, str, tuple)
    values = vars(module).items()
    return sorted((k, v) for k, v in values if k != "training" and not k.startswith("_") and isinstance(v, plain))
