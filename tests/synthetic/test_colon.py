"""The synthetic colonoscopy view: deterministic, one view at all sizes, coloured and varied like mucosa."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from custom.errors import NomalyError
from custom.synthetic.colon import colon_image, smooth_noise


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """Sixteen views (16, 3, 64, 64)."""
    return np.stack([colon_image(seed, 64) for seed in range(16)])


def test_picture_is_rgb_float32_between_zero_and_one(pictures):
    assert pictures.shape[1:] == (3, 64, 64)
    assert pictures.dtype == np.float32
    assert pictures.min() >= 0.0 and pictures.max() <= 1.0


def test_equal_seeds_give_equal_pictures_and_others_differ():
    assert np.array_equal(colon_image(3, 48), colon_image(3, 48))
    assert np.abs(colon_image(3, 48) - colon_image(4, 48)).mean() > 0.02


@pytest.mark.parametrize("seed", range(4))
def test_one_seed_shows_the_same_view_at_two_sizes(seed):
    small = ndimage.gaussian_filter(colon_image(seed, 64), (0, 2, 2))
    large = colon_image(seed, 128).reshape(3, 64, 2, 64, 2).mean((2, 4))
    assert np.corrcoef(small.ravel(), ndimage.gaussian_filter(large, (0, 2, 2)).ravel())[0, 1] > 0.98


@pytest.mark.parametrize("size", [32, 101])
def test_odd_and_smallest_sizes_are_drawn(size):
    assert colon_image(0, size).shape == (3, size, size)


@pytest.mark.parametrize("size", [31, 513, 64.0])
def test_size_outside_its_range_is_rejected(size):
    with pytest.raises(NomalyError, match=f"size must be a whole number from 32 to 512 pixels, got {size}"):
        colon_image(0, size)


def test_mucosa_is_red_before_green_before_blue(pictures):
    red, green, blue = pictures.mean((2, 3)).T
    assert np.all(red > green) and np.all(green > blue)


def test_people_differ_in_brightness_and_in_hue(pictures):
    red, green, _ = pictures.mean((2, 3)).T
    assert red.std() > 0.06
    assert (green / red).std() > 0.02


def test_reflections_are_white_and_rare(pictures):
    white = (pictures.min(1) > 0.85).mean((1, 2))
    assert 0.0 < white.mean() < 0.05
    assert white.max() < 0.15


def test_smooth_noise_has_unit_variance_and_the_asked_wavelength():
    field = smooth_noise(np.random.default_rng(0), (400, 300), 16.0)
    assert field.shape == (400, 300)
    assert field.std() == pytest.approx(1.0, abs=0.1)
    # two points a tenth of a wavelength apart agree, two points two wavelengths apart know nothing of each other
    assert np.mean(field[2:] * field[:-2]) > 0.8
    assert abs(np.mean(field[32:] * field[:-32])) < 0.1
