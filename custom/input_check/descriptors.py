"""Image descriptors of the input check: grey values, colours, edges, fine detail and the network's latent code.

All are computed from the preprocessed image (C, X, Y, Z) with values in [0, 1]. None depends on single pixels, so a
lesion changes them only slightly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from custom.data.slices import study_slices
from custom.data.volumes import study_windows
from custom.input_check.poses import CELLS, DIRECTIONS, in_all_poses

QUANTILES = 64
SIDE = 64  # pixels of the grid on which edges and detail are measured, for studies of any size
BANDS = 5


class LatentReconstructor(Protocol):
    """A reconstructor with a latent code (B, D) of images (B, C, *image_size)."""

    image_size: Sequence[int]

    def latent(self, image: Tensor) -> Tensor:
        """Latent code of images."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Its weights."""


def describe(image: Tensor, network: object, code: Tensor | None = None) -> dict[str, np.ndarray]:
    """All descriptors of a study (C, X, Y, Z), by name, float64; ``edges`` in each of the :data:`POSES`.

    ``colours`` exists only for images with several channels, ``latent`` only for networks with a latent code, which is
    computed unless `code` (D,) gives the mean over the slices.
    """
    found = describe_all(torch.as_tensor(image).unsqueeze(0), network, None if code is None else code.unsqueeze(0))
    return {name: values[0] for name, values in found.items()}


def describe_all(images: Tensor, network: object, codes: Tensor | None = None) -> dict[str, np.ndarray]:
    """All descriptors of studies (B, C, X, Y, Z) as :func:`describe`, each (B, ...), with their codes (B, D)."""
    images = torch.as_tensor(images).as_subclass(Tensor).detach().float().cpu()
    slices = on_grid(images)
    found = {
        "histogram": np.stack([quantiles(image) for image in images]),
        "edges": in_all_poses(edges(slices)),
        "detail": detail(slices),
    }
    if images.shape[1] > 1:
        found["colours"] = np.stack([quantiles(image[1:] - image[:-1]) for image in images])
    if codes is not None:
        return found | {"latent": codes.double().cpu().numpy()}
    vectors = [latent(image, network) for image in images]
    return found | {"latent": np.stack(known)} if (known := [each for each in vectors if each is not None]) else found


def quantiles(image: Tensor) -> np.ndarray:
    """(C * 64,) evenly spaced quantiles of each channel."""
    shares = (np.arange(QUANTILES) + 0.5) / QUANTILES
    values = np.sort(image.flatten(1).numpy(), axis=1)  # one sort of float32 is faster than np.quantile
    place = np.arange(values.shape[1])
    return np.concatenate([np.interp(shares * place[-1], place, channel) for channel in values])


def on_grid(images: Tensor) -> Tensor:
    """Slices (B, Z, C, 64, 64) of studies (B, C, X, Y, Z): mean over the pixels of each grid cell."""
    slices = images.permute(0, 4, 1, 2, 3)
    return F.adaptive_avg_pool2d(slices.flatten(0, 1), SIDE).unflatten(0, slices.shape[:2])


def edges(slices: Tensor) -> np.ndarray:
    """(B, 128) relative strength of the edges of each direction in each of 4 x 4 cells, mean over slices.

    Histogram of oriented gradients (Dalal and Triggs, CVPR 2005) with signed directions; the square root makes
    Euclidean distances those of Hellinger.

    Args:
        slices: (B, Z, C, X, Y).
    """
    studies, grey = slices.shape[:2], slices.flatten(0, 1).mean(1)
    along_x = grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]
    along_y = grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]
    direction = torch.atan2(along_y, along_x) * (DIRECTIONS / (2 * math.pi)) % DIRECTIONS
    lower = direction.floor()
    strength, upper_part = torch.hypot(along_x, along_y), direction - lower
    histogram = torch.zeros(len(strength), DIRECTIONS, *strength.shape[1:])
    for index, part in ((lower, 1 - upper_part), (lower + 1, upper_part)):
        histogram.scatter_add_(1, (index.long() % DIRECTIONS).unsqueeze(1), (strength * part).unsqueeze(1))
    cells = F.adaptive_avg_pool2d(histogram, CELLS).unflatten(0, studies).double().mean(1).flatten(1)
    return (cells / cells.sum(1, keepdim=True).clamp(min=1e-9)).sqrt().numpy()


def detail(slices: Tensor) -> np.ndarray:
    """(B, C * 10) log energy of the five finest octaves of a Laplacian pyramid, and how evenly each is distributed.

    Noise, blur and synthetic drawings differ here from images of a scanner or camera.

    Args:
        slices: (B, Z, C, X, Y).
    """
    values, studies, slices = [], slices.shape[:2], slices.flatten(0, 1)
    for _ in range(BANDS):
        coarse = F.avg_pool2d(slices, 2)
        band = (slices - F.interpolate(coarse, scale_factor=2, mode="bilinear")).unflatten(0, studies)
        energy = band.square().mean((1, 3, 4)).double()
        evenness = band.abs().mean((1, 3, 4)).double().square()
        values += [torch.log(energy + 1e-8), torch.log(evenness + 1e-8) - torch.log(energy + 1e-8)]
        slices = coarse
    return torch.cat(values, 1).numpy()


def latent(image: Tensor, network: object, batch: int = 16) -> np.ndarray | None:
    """(D,) latent code, mean over the slices or windows of a study; None if the network has no latent code."""
    reconstructor: LatentReconstructor | None = getattr(network, "reconstructor", None)
    if reconstructor is None or not hasattr(reconstructor, "latent"):
        return None
    sides = tuple(reconstructor.image_size)
    if len(sides) == 2 and sides[0] == sides[1]:
        parts = study_slices(image, sides[0])
    else:
        parts = study_windows(image, (*sides, 1)[:3], overlap=0.0)
        parts = [part.reshape(len(image), *sides) for part in parts]
    device = next(reconstructor.parameters()).device
    with torch.no_grad():
        codes = [
            reconstructor.latent(torch.stack(parts[start : start + batch]).to(device)).double().cpu()
            for start in range(0, len(parts), batch)
        ]
    return torch.cat(codes).mean(0).numpy()
