"""Images as sequences of patches, and masks of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from custom.errors import NomalyError


def patchify(image: Tensor, patch_size: Sequence[int]) -> Tensor:
    """Divide (B, C, *S) into patches (B, N, C * prod(patch_size)), the last spatial axis varying fastest in both."""
    batch, channels, *size = image.shape
    grid = [side // patch for side, patch in zip(size, patch_size)]
    dims = len(grid)
    split = image.reshape(batch, channels, *(n for pair in zip(grid, patch_size) for n in pair))
    places = [2 + 2 * axis for axis in range(dims)]
    order = [0, *places, 1, *(place + 1 for place in places)]
    return split.permute(order).reshape(batch, math.prod(grid), -1)


def unpatchify(patches: Tensor, patch_size: Sequence[int], grid: Sequence[int]) -> Tensor:
    """Inverse of :func:`patchify`: (B, N, C * prod(patch_size)) with a grid of N patches to (B, C, *S)."""
    batch, dims = patches.shape[0], len(grid)
    split = patches.reshape(batch, *grid, -1, *patch_size)
    order = [0, dims + 1, *(axis for pair in zip(range(1, dims + 1), range(dims + 2, 2 * dims + 2)) for axis in pair)]
    return split.permute(order).reshape(batch, -1, *(n * patch for n, patch in zip(grid, patch_size)))


def visible_count(num_patches: int, mask_ratio: float) -> int:
    """Number of patches that a mask leaves visible; at least one is visible and at least one masked.

    Raises:
        NomalyError: if ``mask_ratio`` is not in (0, 1).
    """
    if not 0 < mask_ratio < 1:
        raise NomalyError(f"mask_ratio must be in (0, 1), got {mask_ratio}: 0.75 masks three patches of four.")
    return min(max(round(num_patches * (1 - mask_ratio)), 1), num_patches - 1)


def random_visible(batch_size: int, num_patches: int, visible: int, device: torch.device | str = "cpu") -> Tensor:
    """Random indices (batch_size, visible) of visible patches, drawn uniformly for each image on the device."""
    return torch.rand(batch_size, num_patches, device=device).argsort(1)[:, :visible]


def is_masked(visible: Tensor, num_patches: int) -> Tensor:
    """Bool (B, N), True where a patch is masked, from the indices (B, V) of the visible ones."""
    return torch.ones(visible.shape[0], num_patches, dtype=torch.bool, device=visible.device).scatter(1, visible, 0)


def hidden_patches(visible: Tensor, num_patches: int) -> Tensor:
    """Indices (B, N - V), ascending, of the patches that are not among the visible ones (B, V)."""
    order = is_masked(visible, num_patches).byte().argsort(dim=1, descending=True, stable=True)
    return order[:, : num_patches - visible.shape[1]]


def take(tokens: Tensor, indices: Tensor) -> Tensor:
    """Tokens (B, V, D) at the indices (B, V) of (B, N, D)."""
    return tokens.gather(1, indices.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))


def complementary_visible(grid: Sequence[int], visible: int, masks: int, seed: int = 0) -> Tensor:
    """Indices (masks, visible) of visible patches for an ensemble of masks that treats all patches equally.

    Every patch is visible in equally many masks, and the visible patches of each mask are spread over the grid: the
    grid is divided into neighbourhoods with one patch per mask of a round, and each mask of a round leaves a different
    patch of each neighbourhood visible. With a mask ratio of 0.75 a round has four masks.

    Args:
        grid: number of patches along each axis.
        visible: number of visible patches of each mask.
        masks: number of masks.
        seed: equal seeds give equal masks.

    Raises:
        NomalyError: a number of masks that cannot treat all patches equally.
    """
    num_patches = math.prod(grid)
    step = num_patches // math.gcd(visible, num_patches)
    if masks < 1 or masks % step:
        raise NomalyError(
            f"masks must be a multiple of {step}, so that each of {num_patches} patches is masked equally often when a "
            f"mask leaves {visible} visible, got {masks}: use {max(round(masks / step), 1) * step}, or another "
            "mask_ratio."
        )
    generator = torch.Generator().manual_seed(seed)
    neighbours = neighbourhood_order(grid)
    members = -(-num_patches // visible)  # patches per neighbourhood
    rounds = []
    for _ in range(masks // step):
        keys = torch.cat([torch.randperm(len(part), generator=generator) for part in neighbours.split(members)])
        # the first patch of every neighbourhood, then the second of every one, ...; cut into masks
        order = neighbours[keys.argsort(stable=True)]
        rounds.append(order.repeat(visible * step // num_patches).reshape(step, visible))
    return torch.cat(rounds)


def neighbourhood_order(grid: Sequence[int]) -> Tensor:
    """Indices of all patches along a Z-order (Morton) curve, on which successive patches are close together."""
    places = torch.cartesian_prod(*(torch.arange(n) for n in grid)).reshape(-1, len(grid))
    code = torch.zeros(len(places), dtype=torch.long)
    for bit in range(max(grid).bit_length()):
        for axis in range(len(grid)):
            code |= ((places[:, axis] >> bit) & 1) << (bit * len(grid) + len(grid) - 1 - axis)
    return code.argsort()
