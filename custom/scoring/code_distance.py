"""How far the latent code of an image is from those of healthy images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from custom.errors import NomalyError
from custom.scoring.expected_residual import check_images


class CodeDistance(nn.Module):
    """Mahalanobis distance of a latent code from the codes of healthy images, divided by the root of its dimensions.

    A large or diffuse anomaly, such as a polyp that fills the image, is partly reconstructed and thus missing from the
    map, but it moves the code. About 1 for healthy images, larger = more abnormal. The covariance is shrunk towards a
    multiple of the identity, because codes may have nearly as many dimensions as there are images.
    (The distance is that of Lee et al., NeurIPS 2018, for one class; not part of either published method.)

    Before it is fitted, the distance is 1. Mean and inverse covariance are buffers, stored with the detector's weights.

    Args:
        size: dimensions of the code.
        shrinkage: weight of the mean variance times the identity that is added to the covariance, > 0.

    Raises:
        NomalyError: shrinkage out of range.
    """

    mean: Tensor
    precision: Tensor
    images: Tensor

    def __init__(self, size: int, shrinkage: float = 1e-3) -> None:
        super().__init__()
        if shrinkage <= 0:
            raise NomalyError(f"shrinkage must be > 0, got {shrinkage}.")
        self.shrinkage = shrinkage
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("precision", torch.zeros(size, size))
        self.register_buffer("images", torch.zeros((), dtype=torch.int64))

    def forward(self, codes: Tensor) -> Tensor:
        """Distances (B,) >= 0 of codes (B, L)."""
        difference = codes.float() - self.mean
        square = (difference @ self.precision * difference).sum(1) / len(self.mean)
        return torch.where(self.images > 0, square.clamp(min=0).sqrt(), torch.ones_like(square))

    def fit(self, codes: Tensor) -> None:
        """Estimate mean and covariance from codes (N, L) of healthy images.

        Raises:
            NomalyError: too few images, or codes that are all equal or not finite.
        """
        check_images(len(codes), "distance of latent codes")
        codes = codes.double()
        centred = codes - codes.mean(0)
        covariance = centred.T @ centred / (len(codes) - 1)
        variance = covariance.diagonal().mean()
        if not (torch.isfinite(variance) and variance > 0):
            raise NomalyError(
                "latent codes of healthy images must be finite and differ, got a mean variance of "
                f"{variance.item():g}: check the weights and the training images."
            )
        covariance += self.shrinkage * variance * torch.eye(len(covariance), dtype=codes.dtype, device=codes.device)
        self.mean.copy_(codes.mean(0))
        self.precision.copy_(torch.linalg.inv(covariance))
        self.images.fill_(len(codes))

    def settings(self) -> dict[str, Any]:
        """The settings that distances depend on, see custom.scoring.settings."""
        return {"kind": "mahalanobis", "shrinkage": self.shrinkage}
