"""Structural similarity (SSIM) of an image and its reconstruction at several scales: as a map and as one number.

SSIM is that of Wang et al., IEEE TIP 13 (2004), in Gaussian windows; MS-SSIM that of Wang, Simoncelli and Bovik,
Asilomar (2003). Both are blended with the mean absolute difference as in the anomaly score of IGD (Chen et al., AAAI
2022; github.com/tianyu0207/IGD, inference_det.py and inference_loc.py).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.utils import convert_to_tensor
from numpy.typing import NDArray
from torch import Tensor, nn

from custom.errors import NomalyError

logger = logging.getLogger(__name__)

K1, K2 = 0.01, 0.03  # Wang et al. 2004, section III-C
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang et al. 2003, section 3.2; finest scale first
MIN_SIZE = 32


class StructuralSimilarityMap(nn.Module):
    """Dissimilarity of the local structure at several scales, blended with the absolute difference.

    A = (1 - l1_weight) * sum_s w_s * up(1 - SSIM_s) + l1_weight * |x - x_hat|, both terms averaged over the channels,
    with SSIM_s after s average pools by 2 and w_s adding up to 1. IGD upsamples the maps of the coarse scales by
    repetition; here it is bi- or trilinear, which avoids block edges in the map. A scale is left out if the window does
    not fit into the image, see `multi_scale_ssim`.

    Values: the map is in [0, 2 - l1_weight], the score in [0, 1]; both are 0 for a perfect reconstruction.

    Args:
        window: side of the Gaussian window in pixels of each scale; odd.
        weights: weight of each scale, finest first; their number is the number of scales.
        sigma: standard deviation of the Gaussian window in pixels of each scale.
        l1_weight: share of the absolute difference in [0, 1] (IGD: 0.15).

    Raises:
        NomalyError: a setting out of range; at the call, images of different shapes or too small.
    """

    def __init__(
        self, window: int = 11, weights: Sequence[float] = WEIGHTS, sigma: float = 1.5, l1_weight: float = 0.15
    ) -> None:
        super().__init__()
        _check_window(window, sigma)
        _check_weights(weights)
        if not 0 <= l1_weight <= 1:
            raise NomalyError(
                f"l1_weight must be in [0, 1], got {l1_weight}: 0 = only the structure, 1 = only the difference."
            )
        self.window = window
        self.weights = tuple(weights)
        self.sigma = sigma
        self.l1_weight = l1_weight

    def forward(self, image: Tensor, reconstruction: Tensor, embed: object = None) -> Tensor:
        """Map of (B, C, *S) images against their reconstructions, both clamped to [0, 1] first; `embed` is not used."""
        x, y = _clamped_pair(image, reconstruction)
        size = x.shape[2:]
        difference = (x - y).abs().mean(1, keepdim=True)
        structure = torch.zeros_like(difference)
        for scale, weight in enumerate(_scale_weights(tuple(size), self.weights, self.window)):
            if scale > 0:
                x, y = _halve(x), _halve(y)
            ssim, _ = ssim_components(x, y, self.window, self.sigma)
            structure += weight * _upsample((1 - ssim).clamp(min=0).mean(1, keepdim=True), scale, size)
        return (1 - self.l1_weight) * structure + self.l1_weight * difference

    def blended_score(self, image: Tensor, reconstruction: Tensor) -> Tensor:
        """Score (B,) = (1 - l1_weight) * (1 - MS-SSIM) + l1_weight * mean |x - x_hat|, larger = more abnormal.

        Both terms are means over the whole image, including air.
        """
        x, y = _clamped_pair(image, reconstruction)
        structure = 1 - multi_scale_ssim(x, y, self.weights, self.window, self.sigma)
        return (1 - self.l1_weight) * structure.clamp(min=0) + self.l1_weight * (x - y).abs().flatten(1).mean(1)

    def settings(self) -> dict[str, Any]:
        """The settings that scores of this map depend on, see custom.scoring.settings."""
        return {
            "kind": "ms_ssim",
            "window": self.window,
            "weights": self.weights,
            "sigma": self.sigma,
            "l1_weight": self.l1_weight,
        }


def multi_scale_ssim(
    x: Tensor,
    y: Tensor,
    weights: Sequence[float] = WEIGHTS,
    window: int = 11,
    sigma: float = 1.5,
    data_range: float = 1.0,
) -> Tensor:
    """MS-SSIM, the product over the scales of mean contrast-structure ** w_s, with the mean SSIM at the coarsest.

    The weights are divided by their sum, which is 1.0001 in the published ones: this moves MS-SSIM by less than 4e-5.
    Scales at which the window does not fit into the image are left out, together with their weights, and this is
    logged once per size. Means are only over whole windows, as published. A negative mean counts as 0.

    Args:
        x, y: images (B, C, H, W) or (B, C, H, W, D), at least 32 pixels along each axis.
        weights: weight of each scale, finest first.
        window: side of the Gaussian window in pixels of each scale; odd.
        sigma: standard deviation of the Gaussian window in pixels of each scale.
        data_range: largest possible minus smallest possible value of an image.

    Returns:
        (B,), mean over the channels, in [0, 1] up to rounding, 1 = equal; differentiable; float64 for float64
        images, else float32.

    Raises:
        NomalyError: a setting out of range, or images of different shapes or too small.
    """
    _check_window(window, sigma)
    _check_weights(weights)
    _check_pair(x, y)
    x, y = _at_least_single(x), _at_least_single(y)
    exponents = _scale_weights(tuple(x.shape[2:]), tuple(weights), window)
    factors = []
    for scale, exponent in enumerate(exponents):
        if scale > 0:
            x, y = _halve(x), _halve(y)
        ssim, contrast_structure = ssim_components(x, y, window, sigma, data_range, valid=True)
        similarity = ssim if scale == len(exponents) - 1 else contrast_structure
        # relu, unlike clamp, gives the gradient 0 at 0, where the power's own is infinite
        factors.append(similarity.flatten(2).mean(2).relu() ** exponent)
    return torch.stack(factors).prod(0).mean(1)


def ssim_components(
    x: Tensor, y: Tensor, window: int = 11, sigma: float = 1.5, data_range: float = 1.0, valid: bool = False
) -> tuple[Tensor, Tensor]:
    """SSIM and its contrast-structure factor at each pixel, with means and variances under a Gaussian window.

    They are written with the sum t = x + y and the difference d = x - y, which is the published formula rearranged:
    contrast-structure = (var t - var d + 2 c2) / (var t + var d + 2 c2), and luminance likewise with squared means
    and c1. So equal images give exactly 1 and the order of x and y does not matter, to the last bit.

    Args:
        x, y: images (B, C, H, W) or (B, C, H, W, D).
        window: side of the Gaussian window in pixels; odd.
        sigma: standard deviation of the Gaussian window in pixels.
        data_range: largest possible minus smallest possible value of an image.
        valid: keep only pixels whose window lies within the image, as published. Otherwise the maps have the size of
            the image, which is mirrored at its border.

    Returns:
        SSIM and contrast-structure, each (B, C, *S) in [-1, 1], with window - 1 pixels less along each axis if `valid`;
        float64 for float64 images, else float32, also under autocast.

    Raises:
        NomalyError: a setting out of range, images of different shapes, or no whole window in the image.
    """
    _check_window(window, sigma)
    _check_pair(x, y)
    if not data_range > 0:
        raise NomalyError(f"data_range must be > 0, got {data_range}: it is 1 for images in [0, 1].")
    if valid and min(x.shape[2:]) < window:
        raise NomalyError(_no_window(window, x.shape[2:]))
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    x, y = _at_least_single(x), _at_least_single(y)
    total, difference = x + y, x - y

    moments = _local_mean(torch.cat([total, difference, total**2, difference**2]), window, sigma, valid)
    total, difference, total_power, difference_power = moments.unflatten(0, (4, -1))
    total, difference = total**2, difference**2
    luminance = (total - difference + 2 * c1) / (total + difference + 2 * c1)
    total_variance, difference_variance = total_power - total, difference_power - difference
    contrast_structure = (total_variance - difference_variance + 2 * c2) / (
        total_variance + difference_variance + 2 * c2
    )
    return luminance * contrast_structure, contrast_structure


def _local_mean(images: Tensor, window: int, sigma: float, valid: bool) -> Tensor:
    """Windowed mean at each pixel: one product with a banded matrix per axis, faster than a convolution."""
    with torch.autocast(images.device.type, enabled=False):  # autocast is meant for the network
        for axis in range(2, images.ndim):
            matrix = torch.from_numpy(_window_matrix(int(images.shape[axis]), window, sigma, valid)).to(images)
            images = (images.movedim(axis, -1) @ matrix.T).movedim(-1, axis)
    return images


@lru_cache(maxsize=64)  # in NumPy: a cached tensor would not survive the tracing of an export
def _window_matrix(size: int, window: int, sigma: float, valid: bool) -> NDArray[np.float64]:
    """(size, size): row i weighs the pixels around i; `valid` keeps only whole windows."""
    reach = window // 2
    offset = np.arange(-reach, reach + 1)
    kernel = np.exp(-0.5 * (offset / sigma) ** 2)
    index = (np.arange(size)[:, None] + offset) % (2 * size)  # mirrored with the edge repeated, as scikit-image
    index = np.where(index < size, index, 2 * size - 1 - index)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], index), kernel / kernel.sum())
    return matrix[reach : size - reach].copy() if valid else matrix


def _halve(images: Tensor) -> Tensor:
    """Average pool by 2; a last odd pixel is its own average, as in Wang's code."""
    pool = F.avg_pool2d if images.ndim == 4 else F.avg_pool3d
    return pool(images, 2, ceil_mode=True)


def _upsample(images: Tensor, scale: int, size: torch.Size) -> Tensor:
    """From 1 / 2^scale of the image's size to full size, each coarse pixel centred on those that it averages."""
    if scale == 0:
        return images
    mode = "bilinear" if images.ndim == 4 else "trilinear"
    images = F.interpolate(images, scale_factor=float(2**scale), mode=mode, align_corners=False)
    return images[(slice(None), slice(None)) + tuple(slice(length) for length in size)]


@lru_cache  # so that each size is logged once
def _scale_weights(size: tuple[int, ...], weights: tuple[float, ...], window: int) -> tuple[float, ...]:
    """Weights, of sum 1, of the scales at which the window fits into the image, after a check of the image's size."""
    shape = " x ".join(map(str, size))
    if min(size) < MIN_SIZE:
        raise NomalyError(
            f"image must have at least {MIN_SIZE} pixels along each axis for MS-SSIM, got {shape}: choose a larger "
            "image_size or another anomaly map."
        )
    fitting = [weight for scale, weight in enumerate(weights) if -(-min(size) // 2**scale) >= window]
    if not fitting:
        raise NomalyError(_no_window(window, size))
    if sum(fitting) == 0:
        raise NomalyError(
            f"weights must be > 0 for at least one of the {len(fitting)} scales that fit an image of {shape} pixels "
            f"with a window of {window}, got {list(weights)}: raise the first weights or choose a smaller window."
        )
    if len(fitting) < len(weights):
        message = "MS-SSIM of %s pixels uses %d of %d scales: at the others the image is smaller than the window of %d."
        logger.info(message, shape, len(fitting), len(weights), window)
    return tuple(weight / sum(fitting) for weight in fitting)


def _no_window(window: int, size: Sequence[int]) -> str:
    """Error text for an image smaller than the window."""
    shape = " x ".join(map(str, size))
    return f"window must fit into the image, got {window} for {shape} pixels: choose a smaller window or larger images."


def _check_window(window: int, sigma: float) -> None:
    """Reject a window without a centre pixel and a Gaussian without a width."""
    if window < 3 or window % 2 != 1:
        raise NomalyError(f"window must be an odd number of pixels >= 3, got {window}: the published one is 11.")
    if not sigma > 0:
        raise NomalyError(f"sigma must be > 0 pixels, got {sigma}: the published one is 1.5.")


def _check_weights(weights: Sequence[float]) -> None:
    """Reject weights that cannot be scaled to the sum 1."""
    if not all(weight >= 0 for weight in weights) or not 0 < sum(weights) < math.inf:
        raise NomalyError(
            f"weights must be one number >= 0 per scale with a sum > 0, got {list(weights)}: the published ones are "
            f"{list(WEIGHTS)}."
        )


def _check_pair(x: Tensor, y: Tensor) -> None:
    """Reject images that cannot be compared pixel by pixel."""
    if x.shape != y.shape or x.ndim not in (4, 5):
        raise NomalyError(
            f"x and y must have the same shape (B, C, H, W) or (B, C, H, W, D), got {tuple(x.shape)} and "
            f"{tuple(y.shape)}: compare each image with its own reconstruction."
        )


def _clamped_pair(image: Tensor, reconstruction: Tensor) -> tuple[Tensor, Tensor]:
    """Both as plain float32 tensors in [0, 1], after a check of their shapes."""
    _check_pair(image, reconstruction)
    image, reconstruction = (convert_to_tensor(t, track_meta=False) for t in (image, reconstruction))
    return image.float().clamp(0, 1), reconstruction.float().clamp(0, 1)


def _at_least_single(images: Tensor) -> Tensor:
    """Half precision is too coarse for variances near c2 = 9e-4; float64 stays."""
    return images if images.dtype == torch.float64 else images.float()
