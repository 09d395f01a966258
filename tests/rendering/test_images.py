from __future__ import annotations

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from custom.errors import NomalyError
from custom.rendering.colours import colour_scale, map_colours
from custom.rendering.images import (
    as_plane,
    image_grid,
    lay_over,
    reencoded,
    strongest_slice,
    thumbnail,
    to_rgb,
    webp,
)

SHAPE = (40, 60)  # X, Y


def opened(content):
    return Image.open(io.BytesIO(content))


def test_array_index_x_y_is_shown_at_column_x_row_y():
    image = np.zeros(SHAPE, np.float32)
    image[30, 5] = 1.0
    pixels = to_rgb(as_plane("image", image))
    assert pixels.shape == (60, 40, 3) and np.argwhere(pixels[..., 0]).tolist() == [[5, 30]]


def test_colour_images_keep_their_colour():
    image = torch.zeros(3, *SHAPE)
    image[0] = 1.0
    assert (to_rgb(as_plane("image", image)) == [255, 0, 0]).all()


def test_a_volume_in_place_of_a_slice_is_refused():
    with pytest.raises(NomalyError, match=r"image must be \(X, Y\) or .* got \(5, 6, 7\).*Select one slice"):
        as_plane("image", np.zeros((5, 6, 7)))


def test_colour_grows_more_opaque_as_the_map_value_grows():
    opacity = map_colours(np.array([[0.0, 0.05, 0.25, 0.5, 0.75]], np.float32), 1.0)[0, :, 3].astype(int)
    assert opacity[0] == opacity[1] == 0
    assert (np.diff(opacity[1:]) > 20).all()


def test_value_that_is_not_finite_is_drawn_as_the_largest():
    largest = map_colours(np.ones((1, 1), np.float32), 1.0)
    for value in (np.nan, np.inf, 7.0):
        np.testing.assert_array_equal(map_colours(np.full((1, 1), value, np.float32), 1.0), largest)


def test_layer_leaves_the_anatomy_untouched_where_it_is_clear():
    base = np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)
    layer = np.zeros((4, 5, 4), np.uint8)
    layer[0, 0] = (200, 100, 0, 255)
    over = lay_over(base, layer)
    assert over[0, 0].tolist() == [200, 100, 0]
    np.testing.assert_array_equal(over[1:], base[1:])


def test_lossless_webp_keeps_colours_and_opacity():
    layer = map_colours(np.linspace(0, 1, 30, dtype=np.float32).reshape(5, 6), 1.0)
    read = np.asarray(opened(webp(layer, lossless=True)))
    np.testing.assert_array_equal(read[..., 3], layer[..., 3])
    np.testing.assert_array_equal(read[layer[..., 3] > 0], layer[layer[..., 3] > 0])


def test_reencoding_makes_an_image_smaller_and_keeps_its_clear_parts_clear():
    layer = map_colours(np.random.default_rng(0).random((64, 48)).astype(np.float32), 1.0)
    layer[:32, :, 3] = 0
    content = webp(layer, lossless=True)
    small = reencoded(content, 40, side=32)
    assert opened(small).size == (24, 32) and len(small) < len(content) / 2
    assert np.asarray(opened(small))[:14, :, 3].max() < 30


@pytest.mark.parametrize(("ratio", "size"), [(1.0, (112, 112)), (2.0, (112, 56)), (0.5, (56, 112))])
def test_thumbnail_has_the_proportions_of_the_patient(ratio, size):
    assert opened(thumbnail(np.zeros((40, 40, 3), np.uint8), ratio)).size == size


def test_colour_scale_goes_from_clear_to_opaque():
    opacities = [float(a) for a in re.findall(r"/ ([\d.]+)\)", colour_scale())]
    assert opacities[0] == 0 and opacities[-1] > 0.9 and opacities == sorted(opacities)


def test_strongest_slice_has_the_largest_sum_of_finite_values():
    values = np.zeros((4, 4, 3))
    values[..., 1] = 0.3
    values[1, 1, 2] = 0.9
    values[0, 0, 0] = np.inf
    assert strongest_slice(values) == 1


def test_grid_has_a_column_a_case_and_three_rows():
    image = torch.rand(5, 1, *SHAPE)
    grid = image_grid(image, image, torch.zeros(5, 1, *SHAPE), max_cases=4)
    assert grid.shape == (3 * 62, 4 * 42, 3) and grid.dtype == np.uint8  # a frame of one pixel around each tile
    expected = (image[1, 0].numpy().T * 255).round()
    np.testing.assert_array_equal(grid[1:61, 43:83, 0], expected)
    np.testing.assert_array_equal(grid[125:185, 43:83, 2], expected)  # the map is zero, so the anatomy shows


def test_grid_of_volumes_shows_the_slice_that_the_map_marks():
    image = torch.zeros(2, 1, 4, 4, 6)
    image[0, ..., 5] = 1.0
    values = torch.zeros_like(image)
    values[0, ..., 5] = 1.0
    grid = image_grid(image, image, values)
    assert grid.shape == (18, 12, 3)
    assert (grid[1:5, 1:5] == 255).all() and (grid[1:5, 7:11] == 0).all()
