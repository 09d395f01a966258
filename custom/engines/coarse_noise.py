"""Coarse noise for the inputs of a denoising warm-up."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from custom.errors import NomalyError
from custom.processes import world_and_rank


class CoarseNoise(nn.Module):
    """Add smooth noise to parts of an image, so that a network learns to remove what is not anatomy.

    Normal noise is drawn on a coarse grid, interpolated to the size of the image, and added where a second such field
    is positive: in blobs that cover about half of the image. The result is clamped to [0, 1].

    Source: the idea of coarse noise is that of the denoising autoencoder of Kascenas et al. (MIDL 2022); the blobs and
    the use in RA's warm-up are ours.

    Args:
        amplitude: standard deviation of the noise on its grid, as a fraction of the intensity range; 0 = no noise.
        share: fraction of the images that get noise, in [0, 1].
        cell: side of a cell of the grid in pixels.

    Raises:
        NomalyError: a setting out of range.
    """

    def __init__(self, amplitude: float = 0.2, share: float = 0.75, cell: int = 8) -> None:
        super().__init__()
        if amplitude < 0:
            raise NomalyError(f"noise_amplitude must be >= 0, got {amplitude}: 0 trains without noise.")
        if not 0 <= share <= 1:
            raise NomalyError(f"noise_share must be a fraction in [0, 1], got {share}.")
        if cell < 1:
            raise NomalyError(f"cell must be at least 1 pixel, got {cell}.")
        self.amplitude = amplitude
        self.share = share
        self.cell = cell

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Noisy copies of images (B, C, *S) with values in [0, 1]; the images themselves if the amplitude is 0.

        Under ``torch.distributed`` every process draws the noise of the whole batch and takes its own part.
        """
        if self.amplitude == 0 or self.share == 0:
            return images
        world, rank = world_and_rank()
        batch, channels, *size = images.shape
        coarse = [-(-side // self.cell) + 1 for side in size]
        fields = torch.randn(batch * world, channels + 1, *coarse, device=images.device)[rank::world]
        chosen = torch.rand(batch * world, device=images.device)[rank::world] < self.share
        mode = "bilinear" if len(size) == 2 else "trilinear"
        fields = F.interpolate(fields, size=size, mode=mode, align_corners=True)
        where = (fields[:, :1] > 0) & chosen.view(-1, 1, *[1] * len(size))
        return torch.where(where, (images + self.amplitude * fields[:, 1:]).clamp(0, 1), images)
