"""Findings drawn into a view of mucosa: place, size, mask and colour follow the group; nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from custom.errors import NomalyError
from custom.synthetic.colon import colon_image
from custom.synthetic.colon_lesions import EFFECTS, draw_lesion

GROUPS = ("sessile_polyp", "pedunculated_polyp", "flat_lesion", "bleeding", "ulcer")


def plain(size: int = 64) -> np.ndarray:
    """An evenly lit wall without texture (3, size, size)."""
    return np.broadcast_to(np.float32([0.6, 0.3, 0.2])[:, None, None], (3, size, size)).copy()


def colour_in_and_around(group: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean colour (3,) of a plain lesion's body, and of the wall that no lesion reaches."""
    changed, mask = draw_lesion(plain(), group, seed, (1.0, 1.0))
    return changed[:, mask].mean(1), plain()[:, 0, 0]


def test_the_five_groups_are_known():
    assert tuple(EFFECTS) == GROUPS


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("seed", range(3))
def test_lesion_gives_float_picture_in_range_and_a_mask_on_the_change(group, seed):
    image = colon_image(seed, 64)
    changed, mask = draw_lesion(image, group, seed)
    assert changed.shape == image.shape and changed.dtype == np.float32
    assert changed.min() >= 0.0 and changed.max() <= 1.0
    assert mask.shape == (64, 64) and mask.dtype == bool and mask.any()
    difference = np.abs(changed - image).mean(0)
    assert difference[mask].mean() > 5.0 * difference[~mask].mean()


@pytest.mark.parametrize("group", GROUPS)
def test_equal_seeds_give_equal_lesions_and_the_input_is_left_alone(group):
    image = colon_image(1, 64)
    before = image.copy()
    first, second = (draw_lesion(image, group, 5) for _ in range(2))
    assert np.array_equal(image, before)
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])
    assert not np.array_equal(first[1], draw_lesion(image, group, 6)[1])


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("seed", range(4))
def test_picture_is_unchanged_far_from_the_lesion(group, seed):
    image = colon_image(2, 96)
    changed, mask = draw_lesion(image, group, seed)
    touched = (changed != image).any(0)
    # half the longest extent is 0.225 of the side; shadows and rims reach no farther than that beyond the body
    assert ndimage.distance_transform_edt(~mask)[touched].max() < 0.225 * 96
    assert touched.mean() < 0.5


@pytest.mark.parametrize("group", GROUPS)
def test_extent_of_the_body_stays_between_a_tenth_and_three_fifths_of_the_side(group):
    for seed in range(15):
        where = np.argwhere(draw_lesion(plain(), group, seed)[1])
        assert 0.1 * 64 <= np.ptp(where, axis=0).max() + 1 <= 0.6 * 64


@pytest.mark.parametrize("group", GROUPS)
def test_greater_strength_changes_the_picture_more(group):
    weak, strong = (
        np.mean([np.abs(draw_lesion(plain(), group, seed, (s, s))[0] - plain()).mean() for seed in range(6)])
        for s in (0.2, 1.0)
    )
    assert strong > 1.3 * weak


@pytest.mark.parametrize("seed", range(4))
def test_blood_is_darker_and_redder_than_the_wall(seed):
    inside, around = colour_in_and_around("bleeding", seed)
    assert inside[0] < around[0]
    assert inside[1] / inside[0] < 0.7 * around[1] / around[0]


@pytest.mark.parametrize("seed", range(4))
def test_coat_of_an_ulcer_is_paler_than_the_wall_and_its_rim_redder(seed):
    changed, mask = draw_lesion(plain(), "ulcer", seed, (1.0, 1.0))
    green_share = changed[1] / changed[0]
    assert green_share[mask].max() > 1.4 * 0.5
    assert green_share.min() < 0.8 * 0.5


def test_far_side_of_a_polyp_is_darker_than_the_side_towards_the_light():
    falling = plain(96) * np.linspace(1.2, 0.8, 96, dtype=np.float32)[:, None]  # brighter at small columns
    contrasts = []
    for seed in range(8):
        changed, mask = draw_lesion(falling, "sessile_polyp", seed, (1.0, 1.0))
        ratio = (changed / falling).mean(0)
        middle = np.argwhere(mask).mean(0)[0]
        side = np.arange(96)[:, None] < middle
        contrasts.append(ratio[mask & side].mean() - ratio[mask & ~side].mean())
    assert np.mean(contrasts) > 0.1


def test_lesions_keep_off_the_black_surround():
    image = plain()
    image[:, :24] = 0.0
    for seed in range(10):
        mask = draw_lesion(image, "sessile_polyp", seed)[1]
        assert mask[:24].sum() < 0.25 * mask.sum()


def test_unknown_group_is_rejected_with_the_known_ones():
    with pytest.raises(NomalyError, match="group must be one of sessile_polyp, .*, ulcer, got 'wart'"):
        draw_lesion(plain(), "wart", 0)


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 64, 31), (64, 64)])
def test_picture_of_another_kind_is_rejected(shape):
    with pytest.raises(NomalyError, match=r"image must be \(3, X, Y\) with at least 32 pixels a side, got \("):
        draw_lesion(np.full(shape, 0.5, np.float32), "ulcer", 0)


@pytest.mark.parametrize("strength", [(0.0, 1.0), (0.8, 0.5), (0.5, 1.5)])
def test_strength_outside_its_range_is_rejected(strength):
    with pytest.raises(NomalyError, match=r"strength must be an increasing range within \(0, 1\], got"):
        draw_lesion(plain(), "ulcer", 0, strength)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_black_or_white_picture_has_no_place_for_a_lesion(level):
    with pytest.raises(NomalyError, match="image must have a lit, not overexposed part for a lesion"):
        draw_lesion(np.full((3, 64, 64), level, np.float32), "ulcer", 0)
