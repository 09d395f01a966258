from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from custom.errors import NomalyError
from custom.synthetic.limb import Limb
from custom.synthetic.phantoms import PHANTOMS
from custom.synthetic.wrist import wrist_image, wrist_with_bones
from custom.synthetic.wrist_lesions import EFFECTS, draw_lesion

GROUPS = tuple(EFFECTS)


@pytest.fixture(scope="module")
def film():
    return wrist_image(7, 64)


def changed(film, group, seed, strength=(0.6, 1.0)):
    image, mask = draw_lesion(film, group, seed, strength)
    return (image - film)[0], mask


def test_the_groups_are_those_of_a_wrist_data_set():
    assert GROUPS == ("cast", "metal", "fracture", "bone_lesion", "soft_tissue", "foreign_body")


@pytest.mark.parametrize("size", [32, 64, 128])
@pytest.mark.parametrize("group", GROUPS)
def test_every_group_changes_what_its_mask_marks(group, size):
    film = wrist_image(11, size)
    for seed in range(3):
        image, mask = draw_lesion(film, group, seed)
        assert image.shape == film.shape and image.dtype == np.float32
        assert mask.shape == film.shape[1:] and mask.dtype == bool and mask.any()
        assert image.min() >= 0.0 and image.max() <= 1.0
        change = np.abs(image - film)[0]
        assert (change[mask] > 0.01).mean() > 0.85 and change[mask].mean() > 0.03
        assert change[mask].mean() > 20.0 * change[~mask].mean()


@pytest.mark.parametrize("group", GROUPS)
def test_the_film_away_from_the_lesion_stays_as_it_is(group, film):
    for seed in range(4):
        image, mask = draw_lesion(film, group, seed)
        far = ndimage.distance_transform_edt(~mask) > 16
        assert far.any()
        np.testing.assert_array_equal(image[:, far], film[:, far])


@pytest.mark.parametrize("group", ["fracture", "metal", "bone_lesion"])
def test_lesions_of_bone_lie_on_bone(group):
    for seed in range(5):
        film, bones = wrist_with_bones(20 + seed, 64)
        mask = draw_lesion(film, group, seed)[1]
        near = ndimage.binary_dilation(bones, iterations=2)
        assert (mask & near).sum() > 0.7 * mask.sum()


def test_a_fracture_darkens_a_narrow_line():
    for seed in range(6):
        film = wrist_image(seed, 128)
        change, mask = changed(film, "fracture", seed, (0.9, 1.0))
        assert change.min() < -0.08
        dark = change < 0.5 * change.min()
        assert ndimage.distance_transform_edt(dark).max() < 0.03 * 128


@pytest.mark.parametrize("group", ["metal", "foreign_body"])
def test_metal_and_foreign_bodies_are_brighter_than_what_they_lie_on(group):
    for seed in range(5):
        film = wrist_image(30 + seed, 64)
        image, mask = draw_lesion(film, group, seed, (0.9, 1.0))
        change = (image - film)[0]
        assert change.max() > 0.05 and change.max() > -change.min()
        assert image[0][change > 0.5 * change.max()].min() > 0.6


def test_a_swelling_puts_tissue_where_air_was():
    for seed in range(5):
        film = wrist_image(40 + seed, 64)
        limb = Limb.of(film[0])
        change, mask = changed(film, "soft_tissue", seed)
        new = mask & (limb.depth < 0)
        assert new.sum() > 3 and change[new].mean() > 0.05


def test_a_swollen_finger_leaves_its_neighbour_as_it_is():
    film = np.full((1, 96, 96), 0.05, np.float32)
    film[:, 20:76, 56:] = 0.5  # a palm with three fingers, 12 pixels apart
    for left in (20, 42, 64):
        film[:, left : left + 12, 10:56] = 0.5
        film[:, left + 4 : left + 8, 12:90] = 0.9
    for seed in (4, 11):  # those whose place is on the middle finger
        change = np.abs(changed(film, "soft_tissue", seed)[0])
        left, middle, right = (change[first : first + 12, 6:56].sum() for first in (20, 42, 64))
        assert middle > 1.0 and left == right == 0.0


def test_a_cast_is_a_sleeve_around_the_forearm():
    for seed in range(5):
        film, bones = wrist_with_bones(50 + seed, 64)
        mask = changed(film, "cast", seed)[1]
        assert 0.04 < mask.mean() < 0.5
        assert np.argwhere(mask)[:, 1].mean() > np.argwhere(bones)[:, 1].mean()  # below the hand's middle
        row = 56
        forearm, sleeve = (np.flatnonzero(part[:, row]) for part in (bones, mask))
        assert sleeve[0] < forearm[0] and forearm[-1] < sleeve[-1]


def test_a_foreign_body_is_small(film):
    assert all(changed(film, "foreign_body", seed)[1].mean() < 0.01 for seed in range(6))


@pytest.mark.parametrize("level", [0.0, 1.0])
@pytest.mark.parametrize("group", GROUPS)
def test_an_empty_film_has_no_place_for_a_lesion(group, level):
    with pytest.raises(NomalyError, match=f"no {group} is visible at any of 8 places tried in this film"):
        draw_lesion(np.full((1, 48, 48), level, np.float32), group, 0)


def test_the_phantom_draws_its_hands_and_lesions(film):
    phantom = PHANTOMS["wrist"]
    assert phantom.groups == GROUPS
    healthy, nothing = phantom.study(7, {"size": 64, "strength": [0.7, 1.0]}, None)
    np.testing.assert_array_equal(healthy[..., 0], film)
    ill, mask = phantom.study(7, {"size": 64, "strength": [0.7, 1.0]}, ("metal", 3))
    assert nothing is None and mask.shape == (64, 64, 1) and (ill != healthy)[0][mask].mean() > 0.8
