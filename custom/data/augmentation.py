"""Augmentation of training images, a whole batch at a time on its device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from custom.errors import NomalyError
from custom.processes import world_and_rank

PADDINGS = ("zeros", "border", "reflection")


class BatchAugmentation(nn.Module):
    """Rotate, shift, scale, flip and change the contrast of each image of a batch, each by random amounts.

    Volumes are moved in the plane of their first two axes only, like slices. Amounts are uniform in their ranges, and
    drawn on the device, so that nothing waits for it. The geometry is that of MONAI's RandAffine (rotation after shift
    after scale, bilinear), the contrast that of its RandAdjustContrast; those take one image at a time.

    Args:
        rotate_degrees: largest rotation.
        shift_share: largest shift along each axis, as a fraction of the side.
        scale_share: largest change of scale along each axis, as a fraction.
        flip_probability: probability of a flip along the first and along the second axis.
        gamma: range of the exponent of the gamma correction, which half of the images get.
        padding: values outside of the image: zeros, border or reflection.

    Raises:
        NomalyError: a setting out of range.
    """

    def __init__(
        self,
        rotate_degrees: float = 5.0,
        shift_share: float = 0.04,
        scale_share: float = 0.05,
        flip_probability: Sequence[float] = (0.5, 0.0),
        gamma: Sequence[float] = (0.8, 1.25),
        padding: str = "zeros",
    ) -> None:
        super().__init__()
        if min(rotate_degrees, shift_share, scale_share) < 0 or scale_share >= 1:
            raise NomalyError(
                "rotate_degrees, shift_share and scale_share must be >= 0, and scale_share < 1, got "
                f"{rotate_degrees}, {shift_share} and {scale_share}: 0 omits one."
            )
        if len(flip_probability) != 2 or not all(0 <= value <= 1 for value in flip_probability):
            raise NomalyError(f"flip_probability must be two numbers in [0, 1], got {list(flip_probability)}.")
        if len(gamma) != 2 or not 0 < gamma[0] <= gamma[1]:
            raise NomalyError(f"gamma must be two numbers with 0 < first <= second, got {list(gamma)}.")
        if padding not in PADDINGS:
            raise NomalyError(f"padding must be one of {', '.join(PADDINGS)}, got {padding!r}.")
        self.rotate_degrees = rotate_degrees
        self.shift_share = shift_share
        self.scale_share = scale_share
        self.flip_probability = tuple(flip_probability)
        self.gamma = tuple(gamma)
        self.padding = padding

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Changed copies of images (B, C, *S) with values in [0, 1].

        Under ``torch.distributed`` every process draws for the whole batch and takes its own part.
        """
        world, rank = world_and_rank()
        drawn = torch.rand(len(images) * world, 9, device=images.device)[rank::world]
        moved = self.move(images, drawn[:, :7])
        return self.change_contrast(moved, drawn[:, 7], drawn[:, 8])

    def move(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Images rotated, shifted, scaled and flipped by amounts from ``drawn`` (B, 7), uniform in [0, 1)."""
        symmetric = 2 * drawn - 1
        angle = math.radians(self.rotate_degrees) * symmetric[:, 0]
        shift = self.shift_share * symmetric[:, 1:3]
        scale = 1 + self.scale_share * symmetric[:, 3:5]
        flips = torch.stack([drawn[:, 5 + axis] < self.flip_probability[axis] for axis in (0, 1)], 1)
        theta = plane_matrices(angle, shift, scale * (1 - 2 * flips.to(scale.dtype)), images.shape[2:])
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode=self.padding, align_corners=False)

    def change_contrast(self, images: Tensor, drawn: Tensor, exponent: Tensor) -> Tensor:
        """Images with a gamma correction between their smallest and largest value where ``drawn`` (B,) < 0.5."""
        low, high = self.gamma
        gamma = torch.where(drawn < 0.5, low + (high - low) * exponent, torch.ones_like(exponent))
        each = (-1, *[1] * (images.ndim - 1))
        values = images.flatten(1)
        least, most = values.amin(1).view(each), values.amax(1).view(each)
        extent = most - least
        return ((images - least) / (extent + 1e-7)).pow(gamma.view(each)) * extent + least


def plane_matrices(angle: Tensor, shift: Tensor, scale: Tensor, size: Sequence[int]) -> Tensor:
    """Matrices (B, D, D + 1) for affine_grid, which map a pixel of the result to where it comes from.

    Args:
        angle: rotation (B,) in radians.
        shift: shift (B, 2) along the first two axes, as a fraction of the side.
        scale: factor (B, 2) along them; negative flips.
        size: sides of the images; D of them.
    """
    dims = len(size)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    # affine_grid counts in half sides, and the axes from the last to the first
    across = size[1] / size[0]
    rotation = torch.stack([cosine, -sine * across, sine / across, cosine], 1).view(-1, 2, 2)
    theta = torch.eye(dims, dims + 1, device=angle.device).repeat(len(angle), 1, 1)
    theta[:, :2, :2] = rotation * scale.unsqueeze(1)
    theta[:, :2, dims] = (rotation * 2 * shift.unsqueeze(1)).sum(2)
    return torch.cat([theta[:, :, :dims].flip(1, 2), theta[:, :, dims:].flip(1)], 2)
