from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from custom.errors import NomalyError
from custom.synthetic.chest import chest_image, chest_with_lungs
from custom.synthetic.chest_lesions import EFFECTS, draw_lesion

GROUPS = tuple(EFFECTS)
IN_LUNGS = tuple(group for group in GROUPS if group != "device")


@pytest.fixture(scope="module")
def film():
    return chest_image(7, 64)


def changed(film, group, seed, strength=(0.6, 1.0)):
    image, mask = draw_lesion(film, group, seed, strength)
    return (image - film)[0], mask


def test_the_groups_are_those_of_chest_reports():
    assert GROUPS == (
        "consolidation",
        "ground_glass",
        "effusion",
        "nodule",
        "pneumothorax",
        "enlarged_heart",
        "device",
    )


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("group", GROUPS)
def test_every_group_changes_what_its_mask_marks(group, size):
    film = chest_image(11, size)
    for seed in range(2):
        image, mask = draw_lesion(film, group, seed)
        assert image.shape == film.shape and image.dtype == np.float32
        assert mask.shape == film.shape[1:] and mask.dtype == bool and mask.any()
        assert image.min() >= 0.0 and image.max() <= 1.0
        change = np.abs(image - film)[0]
        assert change[mask].min() > 0.01 and change[mask].mean() > 0.03
        assert change[mask].mean() > 4.0 * change[~mask].mean()


@pytest.mark.parametrize("group", GROUPS)
def test_the_film_away_from_the_lesion_stays_as_it_is(group, film):
    image, mask = draw_lesion(film, group, 3)
    far = ndimage.distance_transform_edt(~mask) > 16
    if group == "ground_glass":  # faint parts of the haze lie anywhere in the lungs
        far &= ~ndimage.binary_dilation(chest_with_lungs(7, 64)[1].any(0), iterations=6)
    assert far.any()
    np.testing.assert_array_equal(image[:, far], film[:, far])


@pytest.mark.parametrize("group", IN_LUNGS)
def test_lesions_of_the_lung_lie_in_the_lungs(group):
    for seed in (21, 22):
        film, lungs = chest_with_lungs(seed, 64)
        mask = draw_lesion(film, group, seed)[1]
        near = ndimage.binary_dilation(lungs.any(0), iterations=2)
        assert (mask & near).sum() > 0.8 * mask.sum()


@pytest.mark.parametrize("group", GROUPS)
def test_only_air_beside_the_lung_is_darker(group, film):
    change, mask = changed(film, group, 4)
    assert (np.median(change[mask]) < 0.0) == (group == "pneumothorax")


def test_fluid_lies_below_and_air_above(film):
    lungs = chest_with_lungs(7, 64)[1].any(0)
    middle = np.argwhere(lungs)[:, 1].mean()
    for seed in range(4):
        assert np.argwhere(changed(film, "effusion", seed)[1])[:, 1].mean() > middle
        assert np.argwhere(changed(film, "pneumothorax", seed)[1])[:, 1].mean() < middle


def test_ground_glass_and_heart_take_both_sides_and_fluid_one(film):
    right, left = chest_with_lungs(7, 64)[1]

    def sides(group, seed):
        mask = changed(film, group, seed)[1]
        return (mask & right).sum() > 5, (mask & left).sum() > 5

    for seed in range(3):
        assert all(sides("ground_glass", seed)) and all(sides("enlarged_heart", seed))
        assert sum(sides("effusion", seed)) == 1


def test_a_nodule_is_small_and_round():
    film = chest_image(3, 128)
    for seed in range(4):
        spread = np.cov(np.argwhere(draw_lesion(film, "nodule", seed)[1]).T)
        low, high = np.linalg.eigvalsh(spread)
        assert high < 1.8 * low  # axes of an ellipse within a factor of 1.34
        assert 2.0 * np.sqrt(high) < 0.07 * 128  # a disc of radius r has a variance of r^2 / 4


def test_a_white_film_has_no_place_for_a_lesion():
    with pytest.raises(NomalyError, match="no consolidation is visible at any of 8 places tried in this film"):
        draw_lesion(np.ones((1, 48, 48), np.float32), "consolidation", 0)
