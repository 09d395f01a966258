"""Patches and masks against loops and values by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
import torch

from custom.errors import NomalyError
from custom.networks.patches import (
    complementary_visible,
    hidden_patches,
    is_masked,
    patchify,
    random_visible,
    unpatchify,
    visible_count,
)

SHAPES = [((2, 3, 6, 8), (3, 2)), ((1, 1, 4, 4), (1, 4)), ((2, 2, 4, 6, 8), (2, 3, 4)), ((1, 3, 2, 2, 3), (2, 1, 3))]
ENSEMBLES = [
    ((4, 4), 0.75, 4),
    ((8, 8), 0.75, 12),
    ((6, 10), 0.75, 8),
    ((14, 14), 0.75, 4),
    ((7, 7), 0.75, 49),  # 12 of 49 are visible: only all 49 turns of a round are fair
    ((5, 3), 0.6, 10),
    ((4, 4), 0.25, 8),
    ((3, 3), 0.5, 9),
    ((4, 4, 4), 0.875, 16),
    ((2, 6, 4), 0.75, 4),
    ((1, 2), 0.9, 2),
]


# (1) Patches ----------------------------------------------------------------------------------------------------------


def cut(image: torch.Tensor, patch_size: Sequence[int]) -> torch.Tensor:
    """Patches one after the other, the last axis running fastest."""
    starts = itertools.product(*(range(0, side, patch) for side, patch in zip(image.shape[2:], patch_size)))
    windows = [(..., *(slice(a, a + patch) for a, patch in zip(start, patch_size))) for start in starts]
    return torch.stack([image[window].flatten(1) for window in windows], dim=1)


def test_order_of_patches_and_of_their_values_agrees_with_the_hand() -> None:
    # Two channels of two rows: 0 1 2 3 / 4 5 6 7 and 8 9 10 11 / 12 13 14 15.
    image = torch.arange(16).reshape(1, 2, 2, 4)
    expected = [[[0, 1, 8, 9], [2, 3, 10, 11], [4, 5, 12, 13], [6, 7, 14, 15]]]
    assert patchify(image, (1, 2)).tolist() == expected


@pytest.mark.parametrize(("shape", "patch_size"), SHAPES)
def test_patchify_cuts_window_by_window(shape: tuple[int, ...], patch_size: tuple[int, ...]) -> None:
    image = torch.arange(math.prod(shape)).reshape(shape)
    assert torch.equal(patchify(image, patch_size), cut(image, patch_size))


@pytest.mark.parametrize(("shape", "patch_size"), SHAPES)
def test_unpatchify_undoes_patchify(shape: tuple[int, ...], patch_size: tuple[int, ...]) -> None:
    image = torch.arange(math.prod(shape)).reshape(shape)
    grid = [side // patch for side, patch in zip(shape[2:], patch_size)]
    assert torch.equal(unpatchify(patchify(image, patch_size), patch_size, grid), image)


# (2) Random masks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_patches", "mask_ratio", "visible"),
    [(16, 0.75, 4), (64, 0.75, 16), (49, 0.75, 12), (10, 0.66, 3), (16, 0.999, 1), (16, 0.001, 15), (2, 0.75, 1)],
)
def test_mask_ratio_leaves_so_many_patches_visible(num_patches: int, mask_ratio: float, visible: int) -> None:
    assert visible_count(num_patches, mask_ratio) == visible


@pytest.mark.parametrize("mask_ratio", [0, 1, 1.5, -0.25, float("nan")])
def test_mask_ratio_outside_the_unit_interval_is_rejected(mask_ratio: float) -> None:
    message = rf"mask_ratio must be in \(0, 1\), got {mask_ratio}: 0.75 masks three patches of four"
    with pytest.raises(NomalyError, match=message):
        visible_count(16, mask_ratio)


def test_random_masks_leave_exactly_so_many_different_patches_visible() -> None:
    visible = random_visible(50, 12, 5)
    assert visible.shape == (50, 5) and visible.dtype == torch.long
    assert all(len(set(row)) == 5 and set(row) <= set(range(12)) for row in visible.tolist())


def test_random_masks_are_uniform_over_all_choices_of_patches() -> None:
    torch.manual_seed(0)
    draws = random_visible(15_000, 6, 2).sort(dim=1).values
    counts = {pair: 0 for pair in itertools.combinations(range(6), 2)}
    for pair in map(tuple, draws.tolist()):
        counts[pair] += 1
    # 15 pairs, 1000 times each, standard deviation sqrt(15000 * 1/15 * 14/15) = 30.6.
    assert all(abs(count - 1000) < 4.5 * 30.6 for count in counts.values())


def test_random_masks_depend_only_on_the_generator() -> None:
    torch.manual_seed(3)
    first, second = random_visible(4, 16, 4), random_visible(4, 16, 4)
    torch.manual_seed(3)
    assert torch.equal(random_visible(4, 16, 4), first)
    assert not torch.equal(first, second)


def test_is_masked_where_a_patch_is_not_visible() -> None:
    masked = is_masked(torch.tensor([[3, 0], [1, 2]]), 4)
    assert masked.dtype == torch.bool
    assert masked.tolist() == [[False, True, True, False], [True, False, False, True]]


def test_hidden_patches_are_those_that_are_not_visible_in_ascending_order() -> None:
    assert hidden_patches(torch.tensor([[3, 0], [1, 2]]), 5).tolist() == [[1, 2, 4], [0, 3, 4]]


# (3) Complementary masks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("grid", "mask_ratio", "masks"), ENSEMBLES)
def test_every_patch_is_visible_in_equally_many_masks(grid: tuple, mask_ratio: float, masks: int) -> None:
    num_patches = math.prod(grid)
    visible = visible_count(num_patches, mask_ratio)
    ensemble = complementary_visible(grid, visible, masks)
    assert ensemble.shape == (masks, visible) and ensemble.dtype == torch.long
    assert all(len(set(mask)) == visible for mask in ensemble.tolist())
    assert ensemble.flatten().bincount().tolist() == [masks * visible // num_patches] * num_patches


@pytest.mark.parametrize("seed", [0, 7])
@pytest.mark.parametrize("grid", [(2, 2), (4, 4), (8, 8), (2, 6), (6, 10), (14, 14)])
def test_three_quarters_masked_shows_one_patch_of_each_block_and_four_masks_show_all(grid, seed) -> None:
    ensemble = complementary_visible(grid, math.prod(grid) // 4, 8, seed)
    seen = ~is_masked(ensemble, math.prod(grid))
    blocks = seen.reshape(8, grid[0] // 2, 2, grid[1] // 2, 2)
    assert (blocks.sum(dim=(2, 4)) == 1).all()
    assert (seen.reshape(2, 4, -1).sum(1) == 1).all()


def test_seven_eighths_masked_shows_one_patch_of_each_cube() -> None:
    seen = ~is_masked(complementary_visible((4, 2, 6), 6, 8), 48)
    assert (seen.reshape(8, 2, 2, 1, 2, 3, 2).sum(dim=(2, 4, 6)) == 1).all()


def test_rounds_differ_from_each_other() -> None:
    first, second = complementary_visible((8, 8), 16, 8).sort(dim=1).values.split(4)
    assert not set(map(tuple, first.tolist())) & set(map(tuple, second.tolist()))


def test_complementary_masks_depend_only_on_their_seed() -> None:
    state = torch.random.get_rng_state()
    ensembles = [complementary_visible((8, 8), 16, 8, seed) for seed in (1, 1, 2)]
    assert torch.equal(ensembles[0], ensembles[1])
    assert not torch.equal(ensembles[0], ensembles[2])
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("grid", "visible", "masks", "step", "proposal"),
    [((4, 4), 4, 6, 4, 8), ((4, 4), 4, 1, 4, 4), ((4, 4), 4, 0, 4, 4), ((7, 7), 12, 8, 49, 49), ((4, 4), 6, 9, 8, 8)],
)
def test_number_of_masks_that_cannot_be_fair_is_rejected(grid, visible, masks, step, proposal) -> None:
    message = (
        f"masks must be a multiple of {step}, so that each of {math.prod(grid)} patches is masked equally often when a "
        f"mask leaves {visible} visible, got {masks}: use {proposal}, or another mask_ratio"
    )
    with pytest.raises(NomalyError, match=message):
        complementary_visible(grid, visible, masks)
    assert len(complementary_visible(grid, visible, proposal)) == proposal
