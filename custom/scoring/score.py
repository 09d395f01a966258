"""The score of a study: one number from its anomaly map."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from custom.errors import NomalyError
from custom.scoring.structural_similarity import StructuralSimilarityMap


def foreground(image: Tensor, threshold: float = 0.05, reconstruction: Tensor | None = None) -> Tensor:
    """The body: pixels whose brightest channel is above `threshold`.

    Args:
        image: (C, *S) in [0, 1], without a batch axis.
        threshold: share of the range [0, 1] that counts as air.
        reconstruction: pseudo-healthy image (C, *S). If given, pixels that are bright in it count too, so that a
            missing part of the body is scored and not treated as air.

    Returns:
        Bool mask (1, *S).
    """
    mask = image.amax(0, keepdim=True) > threshold
    if reconstruction is not None:
        mask = mask | (reconstruction.amax(0, keepdim=True) > threshold)
    return mask


MODES = ("top_q", "mean", "max", "ms_ssim")


class StudyScore:
    """Reduce a study to its score; larger = more abnormal, never clamped.

    Args:
        mode: "top_q" (mean of the highest share `q` of the foreground of the map, for local lesions), "mean" or "max"
            of the foreground, or "ms_ssim" (1 - MS-SSIM of the study and its reconstruction blended with their absolute
            difference, over whole slices; a study has the mean of its slices).
        q: share of the foreground's pixels that "top_q" averages, in (0, 1]; at least one pixel is taken.
        similarity: map with ``blended_score``; only for "ms_ssim".

    Raises:
        NomalyError: unknown mode, q out of range or similarity missing for "ms_ssim"; at the call, an empty foreground,
            a map that is not finite, or image or reconstruction missing for "ms_ssim".
    """

    def __init__(self, mode: str = "top_q", q: float = 0.02, similarity: StructuralSimilarityMap | None = None) -> None:
        if mode not in MODES:
            raise NomalyError(f"score_mode must be one of {', '.join(MODES)}, got {mode!r}.")
        if not 0 < q <= 1:
            raise NomalyError(f"q must be in (0, 1], got {q}.")
        if mode == "ms_ssim" and similarity is None:
            raise NomalyError(
                "score_mode 'ms_ssim' needs a map of structural similarity, got none: choose another score_mode."
            )
        self.mode = mode
        self.q = q
        self.similarity = similarity

    def __call__(
        self, anomaly_map: Tensor, mask: Tensor, image: Tensor | None = None, reconstruction: Tensor | None = None
    ) -> Tensor:
        """Score () float32.

        Args:
            anomaly_map: (1, *S).
            mask: bool foreground (1, *S).
            image: study (C, X, Y, Z); only for "ms_ssim".
            reconstruction: pseudo-healthy study (C, X, Y, Z); only for "ms_ssim".
        """
        values = anomaly_map[mask.bool()].float()
        if values.numel() == 0:
            raise NomalyError("foreground must contain at least one pixel, got an empty mask: the study shows no body.")
        if not torch.isfinite(values).all():
            raise NomalyError(
                "anomaly_map must have finite values, got NaN or infinity: check the model and the study."
            )
        if self.similarity is not None and self.mode == "ms_ssim":
            if image is None or reconstruction is None:
                raise NomalyError("score_mode 'ms_ssim' needs the image and its reconstruction, got only the map.")
            return self.similarity.blended_score(image.movedim(-1, 0), reconstruction.movedim(-1, 0)).mean()
        if self.mode == "max":
            return values.max()
        if self.mode == "top_q":
            # the tolerance keeps 0.02 * 50 pixels at 1 despite rounding of the product
            values = values.topk(max(math.ceil(self.q * values.numel() - 1e-6), 1), sorted=False).values
        return values.mean()

    def settings(self) -> dict[str, Any]:
        """The settings that the score depends on, see custom.scoring.settings."""
        if self.similarity is not None and self.mode == "ms_ssim":
            return {"mode": self.mode, "similarity": self.similarity.settings()}
        return {"mode": self.mode, "q": self.q} if self.mode == "top_q" else {"mode": self.mode}
