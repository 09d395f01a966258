"""Contrast limited adaptive histogram equalisation (CLAHE) of whole batches, in torch.

Zuiderveld, Graphics Gems IV (1994), with the choices of ``skimage.exposure.equalize_adapthist``, whose result it
reproduces: bit for bit on every 2-D and 3-D float32 image tried (``tests/scoring/test_clahe.py`` requires 1e-6 on
values in [0, 1]). It works on batches: the Python loops run over axes, tile corners and redistribution rounds,
never over images or tiles.
"""

from __future__ import annotations

from functools import reduce
from itertools import product
from math import prod
from operator import mul

import torch
from monai.utils import convert_to_tensor
from torch import Tensor

from custom.errors import NomalyError
from custom.scoring.redistribution import redistribute

LEVELS = 2**14  # grey levels of the working image, as skimage
UINT16_MAX = 2**16 - 1


@torch.no_grad()
def equalize_adapthist(
    image: Tensor, kernel_size: int | tuple[int, ...] | None = None, clip_limit: float = 0.01, nbins: int = 256
) -> Tensor:
    """Equalise the local contrast of every image and channel separately.

    Each image is stretched from its own minimum and maximum to 2^14 levels, mapped tile by tile with a clipped
    histogram, interpolated between the tiles' mappings and stretched to [0, 1] again.

    Args:
        image: (B, C, H, W) or (B, C, H, W, D), expected in [0, 1]; values outside are clamped. Computed in float32 or
            better.
        kernel_size: side of a tile in pixels, one number or one per axis; None = an eighth of each side.
        clip_limit: share of a tile's pixels that one bin may contain, in (0, 1]; larger = more contrast. 0 = no limit.
        nbins: bins of a tile's histogram.

    Returns:
        Tensor of the same shape with values in [0, 1], float64 for float64 input and float32 otherwise. A constant
        image gives ones, as in skimage.

    Raises:
        NomalyError: not 4 or 5 dimensions, values that are not finite, or a setting out of range.
    """
    image = convert_to_tensor(image, track_meta=False)
    kernel = _checked_kernel(image, kernel_size, clip_limit, nbins)
    images = image.flatten(0, 1)
    images = images if images.dtype == torch.float64 else images.float()

    bins = _quantise(images) // (1 + LEVELS // nbins)
    mappings = _tile_mappings(bins, kernel, clip_limit, nbins)
    equalised = _interpolate(bins, mappings, kernel).to(images.dtype)
    return _stretch(equalised).reshape(image.shape)


def _checked_kernel(
    image: Tensor, kernel_size: int | tuple[int, ...] | None, clip_limit: float, nbins: int
) -> tuple[int, ...]:
    """The tile's side per axis, after checks of all arguments."""
    shape = image.shape[2:]
    if len(shape) not in (2, 3):
        raise NomalyError(f"image must be (B, C, H, W) or (B, C, H, W, D), got the shape {tuple(image.shape)}.")
    if not 2 <= nbins <= LEVELS:
        raise NomalyError(f"nbins must be in [2, {LEVELS}], got {nbins}.")
    if not 0 <= clip_limit <= 1:
        raise NomalyError(f"clip_limit must be in [0, 1], got {clip_limit}.")
    # a recorded graph cannot branch on values
    if not (torch.compiler.is_exporting() or torch.jit.is_tracing() or torch.isfinite(image).all()):
        raise NomalyError(
            "image must have finite values, got NaN or infinity: check the network's output or the study."
        )
    if kernel_size is None:
        return tuple(max(size // 8, 1) for size in shape)
    kernel = (kernel_size,) * len(shape) if isinstance(kernel_size, int) else tuple(int(k) for k in kernel_size)
    if len(kernel) != len(shape) or min(kernel) < 1:
        raise NomalyError(f"kernel_size must be one positive number or {len(shape)} of them, got {kernel_size}.")
    return kernel


def _precise(tensor: Tensor) -> Tensor:
    """As float64, in which skimage computes; Apple's GPUs only have float32."""
    return tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)


def _per_image(values: Tensor, ndim: int) -> Tensor:
    """(N,) -> (N, 1, ..., 1)."""
    return values.reshape(-1, *[1] * (ndim - 1))


def _quantise(images: Tensor) -> Tensor:
    """Levels 0 .. LEVELS - 1 as int64: 16 bits over [0, 1], then stretched from each image's minimum to maximum."""
    words = _precise((images * UINT16_MAX).round_().clamp_(0, UINT16_MAX))
    low, high = words.flatten(1).aminmax(dim=1)
    low, high = _per_image(low, words.ndim), _per_image(high, words.ndim)
    stretched = (words - low) / (high - low).clamp(min=1) * (LEVELS - 1)
    return torch.where(high > low, stretched, words.clamp(max=LEVELS - 1)).round_().long()


def _stretch(images: Tensor) -> Tensor:
    """Each image's minimum to 0 and maximum to 1; a constant is clamped to [0, 1]."""
    low, high = images.flatten(1).aminmax(dim=1)
    low, high = _per_image(low, images.ndim), _per_image(high, images.ndim)
    return torch.where(high > low, (images - low) / (high - low).clamp(min=1), images.clamp(0, 1))


def _reflect_to_multiple(bins: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """Extend every axis at its end by reflection to a whole number of tiles; any pad width, unlike F.pad."""
    for axis, k in enumerate(kernel, start=1):
        size = bins.shape[axis]
        index = torch.arange(-(-size // k) * k, device=bins.device)
        period = max(2 * (size - 1), 1)
        index = index % period
        bins = bins.index_select(axis, torch.where(index < size, index, period - index))
    return bins


def _tile_mappings(bins: Tensor, kernel: tuple[int, ...], clip_limit: float, nbins: int) -> Tensor:
    """(N, *S) -> (N, *tiles, nbins): the grey level 0 .. LEVELS - 1 that each tile assigns to each bin."""
    tiles = _reflect_to_multiple(bins, kernel)
    grid = [size // k for size, k in zip(tiles.shape[1:], kernel)]
    tile_index = torch.arange(bins.shape[0], device=bins.device)
    for count, k in zip(grid, kernel):
        rows = torch.arange(count, device=bins.device).repeat_interleave(k)
        tile_index = tile_index.unsqueeze(-1) * count + rows

    flat = tile_index.mul_(nbins).add_(tiles).flatten()
    num_tiles = bins.shape[0] * prod(grid)
    # as bincount, which has no ONNX operator
    histogram = flat.new_zeros(num_tiles * nbins).scatter_add_(0, flat, torch.ones_like(flat))
    histogram = histogram.reshape(num_tiles, nbins)

    elements = prod(kernel)
    limit = max(int(clip_limit * elements), 1) if clip_limit > 0 else elements
    cumulated = _precise(_clip_histogram(histogram, limit).cumsum(1))
    mapping = (cumulated * ((LEVELS - 1) / elements)).clamp_(max=LEVELS - 1).floor_()
    return mapping.reshape(bins.shape[0], *grid, nbins)


def _clip_histogram(histogram: Tensor, limit: int) -> Tensor:
    """Clip every histogram (T, nbins) at `limit` and distribute the excess over the lower bins, as skimage does.

    The last of the excess is distributed in rounds, see custom.scoring.redistribution.
    """
    nbins = histogram.shape[1]
    excess = (histogram - limit).clamp(min=0).sum(1, keepdim=True)
    histogram = histogram.clamp(max=limit)

    share = excess // nbins
    low = histogram < limit - share
    histogram = torch.where(low, histogram + share, histogram)
    excess = excess - low.sum(1, keepdim=True) * share
    middle = (histogram >= limit - share) & (histogram < limit)
    excess = excess - torch.where(middle, limit - histogram, 0).sum(1, keepdim=True)
    histogram = torch.where(middle, limit, histogram)

    return redistribute(histogram, excess, limit)


def _interpolate(bins: Tensor, mappings: Tensor, kernel: tuple[int, ...]) -> Tensor:
    """Interpolate the mappings of the 2^d tiles around each pixel multilinearly; whole levels, float32."""
    grid, nbins = mappings.shape[1:-1], mappings.shape[-1]
    mappings = mappings.flatten()
    neighbours = []  # per axis: for the lower and the upper tile, its index and weight along the axis
    for size, k, count in zip(bins.shape[1:], kernel, grid):
        place = torch.arange(size, device=bins.device) + k // 2  # measured from the centre of the tile before the first
        tile, weight = place // k, _precise(place % k) / k
        neighbours.append(
            [((tile - 1).clamp(min=0), 1 - weight), (tile.clamp(max=count - 1), weight)]  # edge tiles are repeated
        )

    result = torch.zeros(bins.shape, dtype=torch.float32, device=bins.device)
    for corner in product((0, 1), repeat=len(kernel)):
        address = torch.arange(bins.shape[0], device=bins.device)
        for axis, edge in enumerate(corner):
            address = address.unsqueeze(-1) * grid[axis] + neighbours[axis][edge][0]
        # last axis first: skimage's order of the product, to the last bit
        factors = [_per_image(neighbours[i][corner[i]][1], len(kernel) - i) for i in reversed(range(len(kernel)))]
        weight = reduce(mul, factors)
        address = address.mul_(nbins).add(bins)
        result += mappings[address].mul_(weight).to(result.dtype)
    return result.floor_()
