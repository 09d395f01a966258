from __future__ import annotations

import numpy as np
import pytest

from custom.synthetic.limb import MAX_HALF, Limb
from custom.synthetic.wrist import wrist_with_bones


def drawn_arm(size=64, air=0.1):
    """A palm on a forearm that leaves the film below, with one upright bone of a tenth of the film's width."""
    film = np.full((size, size), air, np.float32)
    film[size * 3 // 10 : size * 6 // 10, size // 2 :] = air + 0.3
    film[size * 3 // 20 : size * 3 // 4, size // 4 : size // 2] = air + 0.3
    film[size * 4 // 10 : size // 2, size // 3 :] = air + 0.6
    return film


def overlap(a, b):
    """Dice coefficient of two masks."""
    return 2.0 * (a & b).sum() / (a.sum() + b.sum())


def test_the_limb_is_what_is_brighter_than_air():
    film = drawn_arm()
    limb = Limb.of(film)
    assert overlap(limb.mask, film > 0.2) > 0.95
    assert limb.air == pytest.approx(0.1, abs=0.02)
    assert limb.dense == pytest.approx(0.7, abs=0.05)


def test_bones_are_the_bright_part_of_the_limb():
    film = drawn_arm()
    assert overlap(Limb.of(film).bone, film > 0.5) > 0.65


def test_depth_is_positive_inside_and_in_parts_of_the_film():
    limb = Limb.of(drawn_arm(100))
    assert ((limb.depth > 0) == limb.mask).all()
    assert limb.depth[45, 75] == pytest.approx(0.15, abs=0.02)  # the arm is 0.3 wide


def test_an_exposed_field_is_not_the_limb():
    film = np.zeros((96, 96), np.float32)
    film[12:84, 10:86] = drawn_arm(96, air=0.4)[12:84, 10:86]
    assert overlap(Limb.of(film).mask, film > 0.55) > 0.85


def test_a_bright_panel_around_the_film_is_not_the_limb():
    film = np.full((96, 96), 0.5, np.float32)
    film[20:76, 8:88] = drawn_arm(96, air=0.0)[20:76, 8:88]
    mask = Limb.of(film).mask
    assert not mask[:4].any() and not mask[:, :4].any()
    assert mask[44, 60]


def test_bright_strips_along_the_edge_are_not_the_limb():
    film = drawn_arm()
    film[:2] = film[:, :2] = 0.9
    assert not Limb.of(film).mask[:2].any()


def test_a_site_lies_in_the_middle_of_its_bone():
    limb = Limb.of(drawn_arm(100))
    likely = np.zeros((100, 100))
    likely[42, 75] = 1.0  # beside the middle of the bone, which is 0.1 wide around column 44.5
    site = limb.site(np.random.default_rng(0), likely)
    assert abs(site.normal[0]) == pytest.approx(1.0, abs=0.02)
    assert site.half == pytest.approx(0.05, abs=0.015) and site.half <= MAX_HALF
    assert site.place[0] in (44, 45) and site.place[1] == 75
    assert np.ptp(site.along[50]) > 0.9 and np.ptp(site.across[50]) < 0.05


def test_turned_coordinates_keep_lengths():
    limb = Limb.of(drawn_arm())
    site = limb.site(np.random.default_rng(0), limb.bone)
    u, v = site.turned(0.4)
    np.testing.assert_allclose(np.hypot(u, v), np.hypot(site.along, site.across), atol=1e-9)


def test_the_axis_runs_from_the_edge_into_the_limb():
    start, axis = Limb.of(drawn_arm(100)).axis()
    assert start == pytest.approx([44.5, 98.5], abs=2.0)
    assert axis == pytest.approx([0.0, -1.0], abs=0.05)


@pytest.mark.parametrize("seed", range(6))
def test_the_hand_of_a_phantom_is_found(seed):
    picture, bones = wrist_with_bones(seed, 64)
    limb = Limb.of(picture[0])
    assert (limb.mask & bones).sum() > 0.9 * bones.sum()
    assert 0.12 < limb.mask.mean() < 0.5


def test_a_film_without_contrast_has_no_limb():
    limb = Limb.of(np.ones((48, 48), np.float32))
    assert not limb.mask.any() and not limb.bone.any()
