from __future__ import annotations

import numpy as np
import pytest

from custom.synthetic.chest import chest_with_lungs
from custom.synthetic.lung_fields import LungFields


def dice(a, b):
    return 2.0 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("size", [40, 64, 128])
@pytest.mark.parametrize("seed", range(3))
def test_the_lungs_of_a_phantom_are_found(seed, size):
    picture, lungs = chest_with_lungs(seed, size)
    fields = LungFields.of(picture[0])
    assert fields.found
    assert dice(fields.right, lungs[0]) > 0.8 and dice(fields.left, lungs[1]) > 0.8


def test_on_average_nine_tenths_of_a_phantoms_lungs_are_found():
    scores = []
    for seed in range(20, 32):
        picture, lungs = chest_with_lungs(seed, 64)
        scores.append(dice(LungFields.of(picture[0]).both, lungs.any(0)))
    assert np.mean(scores) > 0.88


def test_a_mirrored_film_gives_mirrored_lungs():
    film = chest_with_lungs(1, 64)[0][0]
    fields, mirrored = LungFields.of(film), LungFields.of(film[::-1])
    # the heart of the template lies on one side, so the mirror image is found less well
    assert dice(mirrored.both[::-1], fields.both) > 0.7


def test_a_film_that_is_not_square_keeps_its_shape():
    film, lungs = chest_with_lungs(2, 96)
    wide, true = film[0][:, ::2], lungs.any(0)[:, ::2]
    fields = LungFields.of(wide)
    assert fields.right.shape == (96, 48)
    assert dice(fields.both, true) > 0.8


def test_exposure_does_not_move_the_lungs():
    film = chest_with_lungs(3, 64)[0][0]
    np.testing.assert_array_equal(LungFields.of(film).both, LungFields.of(0.5 * film).both)


def test_black_air_beside_the_body_is_no_lung():
    film = chest_with_lungs(1, 64)[0][0].copy()
    film[:9] = film[-9:] = 0.0
    fields = LungFields.of(film)
    assert not fields.both[:5].any() and not fields.both[-5:].any()


def test_grey_levels_are_those_of_air_and_heart():
    picture, lungs = chest_with_lungs(0, 96)
    fields = LungFields.of(picture[0])
    assert fields.air == pytest.approx(float(np.median(picture[0][lungs.any(0)])), abs=0.06)
    assert fields.soft - fields.air > 0.15 and fields.contrast == fields.soft - fields.air
    assert abs(fields.middle - 48.0) < 10.0


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_an_empty_film_falls_back_to_two_ellipses(level):
    fields = LungFields.of(np.full((64, 64), level, np.float32))
    assert not fields.found
    # each ellipse has half axes of 0.13 and 0.28 of the film
    assert fields.right.mean() == pytest.approx(np.pi * 0.13 * 0.28, rel=0.05)
    np.testing.assert_array_equal(fields.left, fields.right[::-1])
    assert fields.contrast == pytest.approx(0.1)
