from __future__ import annotations

import numpy as np
import pytest

from custom.errors import NomalyError
from custom.synthetic.head import head_volume
from custom.synthetic.head_anatomy import HeadAnatomy, smooth_noise
from custom.synthetic.head_effects import LesionParameters
from custom.synthetic.head_lesions import GROUPS, HeadLesion

SPACING = (2.2, 2.2, 3.0)
FOCAL = ("hyperintense", "hypointense", "mass", "resection", "oedema")


@pytest.fixture(scope="module")
def slab():
    """Twelve slices through the ventricles of one phantom head, (1, 80, 96, 12)."""
    return np.clip(head_volume(5)[..., 26:38] / 1.25, 0.0, 1.0)


@pytest.fixture(scope="module")
def plane(slab):
    return slab[..., 6]


def disc(size=96):
    x, y = np.ogrid[:size, :size]
    r = np.hypot(x - size / 2, y - size / 2) / (size / 2)
    return np.where(r < 0.6, 0.6, np.where((r > 0.7) & (r < 0.85), 0.9, 0.02)).astype(np.float32)[None]


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_changes_what_its_mask_marks(group, slab):
    for seed in range(3):
        image, mask = HeadLesion(group)(slab, seed, SPACING)
        assert image.shape == slab.shape and mask.shape == (1, *slab.shape[1:]) and image.dtype == np.float32
        assert set(np.unique(mask)) == {0.0, 1.0}
        assert image.min() >= 0.0 and image.max() <= 1.0
        change = np.abs(image - slab)
        assert change[mask > 0].mean() > 0.04
        assert change[mask > 0].mean() > 4.0 * change[mask == 0].mean()


@pytest.mark.parametrize("group", GROUPS)
def test_same_seed_repeats_and_another_seed_differs(group, plane):
    lesion = HeadLesion(group)
    first, again, other = (lesion(plane, seed, SPACING)[0] for seed in (7, 7, 8))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.02


@pytest.mark.parametrize("group", GROUPS)
def test_slice_and_volume_of_one_slice_agree(group, plane):
    flat, flat_mask = HeadLesion(group)(plane, 3, SPACING[:2])
    thin, thin_mask = HeadLesion(group)(plane[..., None], 3, (2.2, 2.2, 1.0))
    np.testing.assert_array_equal(flat, thin[..., 0])
    np.testing.assert_array_equal(flat_mask, thin_mask[..., 0])


@pytest.mark.parametrize("group", GROUPS)
def test_head_without_visible_ventricles_still_gets_a_lesion(group):
    image, mask = HeadLesion(group)(disc(), 0)
    assert mask.any() and np.abs(image - disc())[mask > 0].mean() > 0.04


@pytest.mark.parametrize("group", FOCAL)
def test_local_groups_leave_the_far_side_untouched(group, slab):
    image, mask = HeadLesion(group, radius=(0.06, 0.06))(slab, 4, SPACING)
    places = np.argwhere(mask[0] > 0) * SPACING
    everywhere = np.argwhere(np.ones(slab.shape[1:], bool)) * SPACING
    distance = np.linalg.norm(everywhere - places.mean(0), axis=1).reshape(slab.shape[1:])
    # radius 6 % of about 145 mm = 9 mm, half axes vary by a factor below 1.8, a mass pushes to 2.8 radii
    far = distance > 9.0 * 1.8 * 2.8 + 3.0
    np.testing.assert_array_equal(image[0][far], slab[0][far])


def test_groups_brighten_and_darken_as_their_names_say(slab):
    def signed(group):
        image, mask = HeadLesion(group)(slab, 1, SPACING)
        return float((image - slab)[mask > 0].mean())

    assert signed("hyperintense") > 0.05
    assert all(signed(group) < -0.05 for group in ("hypointense", "resection", "oedema", "missing_skull"))


def test_enlarged_ventricles_add_dark_fluid_beside_the_old_one(slab):
    before = HeadAnatomy.of(slab[0], SPACING).ventricles
    image, mask = HeadLesion("enlarged_ventricles", strength=(1.0, 1.0))(slab, 1, SPACING)
    after = (image[0] < 0.5 * np.median(slab[0][slab[0] > 0.3])) & (before | (mask[0] > 0))
    assert after.sum() > 1.3 * before.sum()


def test_stronger_lesions_change_more(slab):
    def change(strength):
        lesion = HeadLesion("hypointense", strength=(strength, strength))
        image, mask = lesion(slab, 11, SPACING)
        return float(np.abs(image - slab)[mask > 0].mean())

    assert change(0.4) < change(0.7) < change(1.0)


def test_millimetre_spacing_makes_the_lesion_flat_in_thick_slices(slab):
    def extent(pixdim):
        _, mask = HeadLesion("hypointense", radius=(0.1, 0.1))(slab, 2, pixdim)
        return mask[0].any(axis=(0, 1)).sum()

    assert extent((2.2, 2.2, 10.0)) < extent((2.2, 2.2, 3.0))


def test_lesion_centre_stays_within_the_asked_slices(slab):
    for seed in range(4):
        _, mask = HeadLesion("hypointense", radius=(0.05, 0.05))(slab, seed, SPACING, slices=(2, 4))
        assert mask[0, :, :, 2:4].any()


def test_drawn_parameters_replay_the_same_lesion(slab):
    lesion = HeadLesion("mass")
    anatomy = HeadAnatomy.of(slab[0], SPACING)
    drawn = lesion.draw(anatomy, np.random.default_rng(0), (0, slab.shape[3]))
    assert isinstance(drawn, LesionParameters)
    for first, again in zip(lesion.apply(slab, anatomy, drawn), lesion.apply(slab, anatomy, drawn)):
        np.testing.assert_array_equal(first, again)


def test_input_array_is_never_changed_in_place(slab):
    for group in GROUPS:
        copy = slab.copy()
        HeadLesion(group)(copy, 0, SPACING)
        np.testing.assert_array_equal(copy, slab)


def test_all_channels_of_a_picture_change_alike(plane):
    grey = np.repeat(plane, 3, axis=0)
    image, mask = HeadLesion("mass")(grey, 0, SPACING)
    assert mask.shape == (1, *plane.shape[1:])
    np.testing.assert_array_equal(image[0], image[2])


@pytest.mark.parametrize("empty", [np.zeros((1, 32, 32)), np.full((1, 32, 32), 0.5), np.eye(32)[None]])
def test_image_without_a_head_is_rejected(empty):
    with pytest.raises(NomalyError, match="image has no foreground"):
        HeadLesion("mass")(empty, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"group": "tumour"}, "group must be one of hyperintense, .*got 'tumour'"),
        ({"group": "mass", "strength": (0.0, 1.0)}, r"strength must be a range .* got \(0.0, 1.0\)"),
        ({"group": "mass", "radius": (0.2, 0.1)}, "radius must be a range"),
    ],
)
def test_wrong_settings_are_rejected_by_name(arguments, message):
    with pytest.raises(NomalyError, match=message):
        HeadLesion(**arguments)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((32, 32)), "shape"),
        (np.full((1, 8, 8), 200.0), r"values in \[0, 1\]"),
        (np.full((1, 8, 8), np.nan), "values in"),
    ],
)
def test_wrong_images_are_rejected_with_reason(image, message):
    with pytest.raises(NomalyError, match=message):
        HeadLesion("mass")(image, 0)


def test_anatomy_finds_the_brain_inside_the_skull():
    anatomy = HeadAnatomy.of(disc()[0, :, :, None], (1.0, 1.0, 1.0))
    # disc of 0.6 * 48 = 28.8 px inside a ring that ends at 0.85 * 48 = 40.8 px
    assert abs(anatomy.brain.sum() / (np.pi * 28.8**2) - 1.0) < 0.1
    assert abs(anatomy.head.sum() / (np.pi * 40.8**2) - 1.0) < 0.05
    assert abs(anatomy.width / (0.9 * 2 * 40.8) - 1.0) < 0.03
    np.testing.assert_allclose(anatomy.centre, (48, 48, 0), atol=1.0)


def test_smooth_noise_has_unit_variance_and_its_wavelength():
    rng = np.random.default_rng(0)
    field = np.stack([smooth_noise(rng, (64, 64, 8), (1.0, 1.0, 3.0), 16.0) for _ in range(8)])
    assert abs(field.std() - 1.0) < 0.1 and abs(field.mean()) < 0.1
    lag = [float((field[:, :-d] * field[:, d:]).mean()) for d in (1, 4, 16)]
    assert lag[0] > 0.9 and 0.2 < lag[1] < 0.95 and abs(lag[2]) < 0.25
