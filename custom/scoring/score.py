"""From an anomaly map to one number for a study."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from custom.errors import NomalyError


def foreground(image: Tensor, threshold: float = 0.05, reconstruction: Tensor | None = None) -> Tensor:
    """Where there is a body: the pixels whose brightest channel is above `threshold`.

    Args:
        image: (C, *S) in [0, 1]; a leading batch axis is not expected.
        threshold: share of the range [0, 1] that counts as air.
        reconstruction: pseudo-healthy image (C, *S). If given, a pixel that is bright there counts too: a part that
            ought to be there and is missing must not fall out of the score with the air.

    Returns:
        Bool mask (1, *S).
    """
    mask = image.amax(0, keepdim=True) > threshold
    if reconstruction is not None:
        mask = mask | (reconstruction.amax(0, keepdim=True) > threshold)
    return mask


MODES = ("top_q", "mean", "max")


class StudyScore:
    """Reduce a study's anomaly map to its score; larger = more abnormal, never clamped.

    Args:
        mode: "top_q" (mean of the highest share `q` of the foreground, for local lesions), "mean" or "max" of the
            foreground.
        q: share of the foreground's pixels that "top_q" averages, in (0, 1]; at least one pixel is taken.

    Raises:
        NomalyError: unknown mode or q out of range; at the call, an empty foreground or a map that is not finite.
    """

    def __init__(self, mode: str = "top_q", q: float = 0.02) -> None:
        if mode not in MODES:
            raise NomalyError(f"mode must be 'top_q', 'mean' or 'max', got {mode!r}.")
        if not 0 < q <= 1:
            raise NomalyError(f"q must be in (0, 1], got {q}.")
        self.mode = mode
        self.q = q

    def __call__(self, anomaly_map: Tensor, mask: Tensor) -> Tensor:
        """Score, a float32 tensor without axes, of a map (1, *S) over a bool mask (1, *S)."""
        values = anomaly_map[mask.bool()].float()
        if values.numel() == 0:
            raise NomalyError("foreground must hold at least one pixel, got an empty mask: the study shows no body.")
        if not torch.isfinite(values).all():
            raise NomalyError(
                "anomaly_map must hold finite values, got NaN or infinity: check the model and the study."
            )
        if self.mode == "max":
            return values.max()
        if self.mode == "top_q":
            # the tolerance keeps 0.02 * 50 pixels at 1, whatever the product's last bit says
            values = values.topk(max(math.ceil(self.q * values.numel() - 1e-6), 1), sorted=False).values
        return values.mean()

    def rule(self) -> tuple[float, float]:
        """What the score is, as two numbers that calibration keeps: scores of another rule cannot be compared."""
        return float(MODES.index(self.mode)), self.q if self.mode == "top_q" else 0.0
