"""Anomaly maps in standard deviations of healthy images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from monai.utils import ensure_tuple_rep
from torch import Tensor, nn

from custom.errors import NomalyError
from custom.scoring.anomaly_map import GaussianBlur


class HealthyNormalisation(nn.Module):
    """Express a map in standard deviations above the mean that healthy images have at the same pixel.

    z = (G * A - mean) / (std + floor), with G a Gaussian blur; negative where the difference is smaller than usual.
    The borders of ribs or of the skull are hard to reconstruct in every image; normalised, they weigh no more than
    other pixels. It is meant for images with aligned anatomy. (Not part of either published method.)

    Before it is fitted, the map is returned unchanged. Mean and deviation are buffers, stored with the weights.

    Args:
        image_size: sides of the network's images in pixels; one number for equal sides.
        spatial_dims: 2 or 3.
        sigma: standard deviation of the blur in pixels; 0 = no blur.
        floor: added to each pixel's deviation, as a share of the mean deviation, so that a small difference does not
            become infinite where all healthy images agree, as in air.

    Raises:
        NomalyError: a setting out of range; at the call, a map of another size.
    """

    mean: Tensor
    std: Tensor
    images: Tensor

    def __init__(
        self, image_size: int | Sequence[int], spatial_dims: int = 2, sigma: float = 1.5, floor: float = 0.1
    ) -> None:
        super().__init__()
        if floor <= 0:
            raise NomalyError(f"floor must be > 0, a share of the mean deviation, got {floor}.")
        if not isinstance(image_size, int) and len(image_size) != spatial_dims:
            raise NomalyError(f"image_size must be one number or {spatial_dims} of them, got {list(image_size)}.")
        size = ensure_tuple_rep(image_size, spatial_dims)
        self.blur = GaussianBlur(sigma)
        self.floor = floor
        self.register_buffer("mean", torch.zeros(1, *size))
        self.register_buffer("std", torch.zeros(1, *size))
        self.register_buffer("images", torch.zeros((), dtype=torch.int64))

    def fit(self, maps: Iterable[Tensor]) -> None:
        """Estimate mean and standard deviation from raw maps of healthy images, batches (B, 1, *S).

        Raises:
            NomalyError: fewer than two images.
        """
        count = 0
        total, square = self.mean.new_zeros((2, *self.mean.shape), dtype=torch.float64)
        for batch in maps:
            blurred = self._blurred(batch).double()
            count += len(blurred)
            total = total + blurred.sum(0)
            square = square + blurred.square().sum(0)
        if count < 2:
            raise NomalyError(f"normalisation needs at least 2 healthy images, got {count}.")
        mean = total / count
        self.mean.copy_(mean)
        self.std.copy_((square / count - mean.square()).clamp(min=0).sqrt())
        self.images.fill_(count)

    def forward(self, anomaly_map: Tensor) -> Tensor:
        """Map (B, 1, *S) -> (B, 1, *S), larger = more abnormal, 0 = the mean of healthy images."""
        z = (self._blurred(anomaly_map) - self.mean) / (self.std + self.floor * self.std.mean()).clamp(min=1e-12)
        # no branch on the buffer: a graph exported before the fit stays correct afterwards
        return torch.where(self.images > 0, z, anomaly_map)

    def settings(self) -> dict[str, Any]:
        """The settings that scores of a normalised map depend on, see custom.scoring.settings."""
        return {"kind": "healthy_z", "sigma": self.blur.sigma, "floor": self.floor}

    def _blurred(self, anomaly_map: Tensor) -> Tensor:
        """The blurred map, after a check of its size: another size would be broadcast without an error."""
        if anomaly_map.shape[2:] != self.mean.shape[1:]:
            raise NomalyError(
                f"anomaly_map must have the size {list(self.mean.shape[1:])} of this normalisation, got "
                f"{list(anomaly_map.shape[2:])}: set image_size and spatial_dims to those of the network."
            )
        return self.blur(anomaly_map)
