from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from custom.errors import NomalyError
from custom.reporting.pictures import (
    THRESHOLD_COLOUR,
    THUMBNAIL_KEY,
    TRUTH_COLOUR,
    grid_picture,
    slice_picture,
    strongest_slice,
    volume_picture,
)

SHAPE = (40, 60)  # X, Y


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def map_panel(png):
    picture = Image.open(io.BytesIO(png))
    box = tuple(int(side) for side in picture.text[THUMBNAIL_KEY].split(","))
    return np.asarray(picture.convert("RGB").crop(box)).astype(int)


def blob_map(value=1.0):
    values = np.zeros(SHAPE, np.float32)
    values[15:25, 25:40] = value
    return values


def count(picture, colour):
    return int((np.abs(picture - np.array(colour)).max(-1) < 30).sum())


def test_array_index_x_y_is_shown_at_column_x_row_y():
    image = np.zeros(SHAPE, np.float32)
    image[30:, :10] = 1.0  # large x, small y: top right
    first = pixels(slice_picture(image, image, np.zeros(SHAPE), None, panel=60))[8:68, 8:48]
    assert first[:8, 32:].mean() > 250
    assert first[15:, :].mean() < 5 and first[:, :25].mean() < 5


def test_picture_has_a_panel_for_truth_only_if_given():
    image, truth = np.full(SHAPE, 0.4), blob_map()
    three = pixels(slice_picture(image, image, blob_map(), None))
    four = pixels(slice_picture(image, image, blob_map(), None, truth))
    assert (three.shape[1], four.shape[1]) == (3 * 208 + 8, 4 * 208 + 8)  # 300 high, so 200 wide, 8 between
    assert count(three, TRUTH_COLOUR) == 0 and count(four, TRUTH_COLOUR) > 100


def test_outline_encloses_what_is_over_the_threshold_only():
    image = np.full(SHAPE, 0.2)
    over = map_panel(slice_picture(image, image, blob_map(0.5), 0.4, vmax=10.0))
    under = map_panel(slice_picture(image, image, blob_map(0.5), 0.6, vmax=10.0))
    none = map_panel(slice_picture(image, image, blob_map(0.5), None, vmax=10.0))
    # Five screen pixels a map pixel: the outline of 10 x 15 is about 2 (50 + 75) = 250 long and one wide.
    assert 200 < count(over, THRESHOLD_COLOUR) < 300
    assert count(under, THRESHOLD_COLOUR) == count(none, THRESHOLD_COLOUR) == 0


def test_overlay_leaves_the_anatomy_untouched_where_map_is_zero():
    image = np.random.default_rng(0).random(SHAPE)
    png = slice_picture(image, image, blob_map(), None)
    input_panel, overlay = pixels(png)[8:308, 8:208], map_panel(png)
    np.testing.assert_array_equal(overlay[:100], input_panel[:100])
    assert np.abs(overlay[150:175, 90:110] - input_panel[150:175, 90:110]).mean() > 40


def test_colour_grows_stronger_as_the_map_value_grows():
    image = np.full(SHAPE, 0.2)
    centre = (slice(150, 170), slice(90, 110))
    change = [
        np.abs(map_panel(slice_picture(image, image, blob_map(v), None, vmax=1.0))[centre] - 51).sum(-1).mean()
        for v in (0.05, 0.25, 0.5, 0.75, 1.0)
    ]
    assert change[0] == 0
    assert all(low < high for low, high in zip(change, change[1:]))


def test_value_that_is_not_finite_is_drawn_as_the_largest():
    image = np.full(SHAPE, 0.2)
    expected = slice_picture(image, image, blob_map(1.0), None, vmax=1.0)
    assert slice_picture(image, image, blob_map(np.nan), None, vmax=1.0) == expected


def test_colour_images_keep_their_colour_in_the_input_panel():
    image = torch.zeros(3, *SHAPE)
    image[0] = 1.0
    panel = pixels(slice_picture(image, image, torch.zeros(1, *SHAPE), None))[8:308, 8:208]
    assert (panel == [255, 0, 0]).all()


def test_spacing_sets_the_proportions_in_millimetres():
    image = np.zeros((40, 40))
    png = slice_picture(image, image, image, None, spacing=(0.5, 1.0), panel=100)
    assert map_panel(png).shape == (100, 50, 3)


def test_arrays_on_different_grids_are_refused_by_name():
    with pytest.raises(NomalyError, match=r"anomaly_map must have the grid of image \(40, 60\), got \(60, 40\)"):
        slice_picture(np.zeros((40, 60)), np.zeros((40, 60)), np.zeros((60, 40)), None)


def test_a_volume_in_place_of_a_slice_is_refused():
    with pytest.raises(NomalyError, match=r"image must be \(X, Y\) or .* got \(5, 6, 7\).*Pick one slice"):
        slice_picture(np.zeros((5, 6, 7)), np.zeros((6, 7)), np.zeros((6, 7)), None)


def test_volume_picture_takes_and_names_the_strongest_slice():
    values = torch.zeros(1, *SHAPE, 5)
    values[..., 3] = torch.from_numpy(blob_map())
    image = torch.rand(1, *SHAPE, 5, generator=torch.Generator().manual_seed(0))
    png, index = volume_picture(image, image, values, 0.5, vmax=1.0)
    assert index == 3
    args = (image[..., 3], image[..., 3], values[..., 3], 0.5)
    assert png == slice_picture(*args, vmax=1.0, note="slice 4 of 5")


def test_strongest_slice_prefers_what_is_over_the_threshold():
    values = np.zeros((4, 4, 3))
    values[..., 0] = 0.3  # the largest sum, all under the threshold
    values[1, 1, 2] = 0.9
    assert strongest_slice(values) == 0
    assert strongest_slice(values, threshold=0.5) == 2
    assert strongest_slice(values, threshold=2.0) == 0


def test_grid_has_a_column_a_case_and_three_rows():
    image = torch.rand(5, 1, *SHAPE)
    grid = grid_picture(image, image, torch.zeros(5, 1, *SHAPE), max_cases=4)
    assert grid.shape == (3 * 62, 4 * 42, 3) and grid.dtype == np.uint8  # a frame of one pixel around each tile
    expected = (image[1, 0].numpy().T * 255).round()
    np.testing.assert_array_equal(grid[1:61, 43:83, 0], expected)
    np.testing.assert_array_equal(grid[125:185, 43:83, 2], expected)  # the map is zero, so the anatomy shows


def test_grid_of_volumes_shows_the_slice_that_the_map_marks():
    image = torch.zeros(2, 1, 4, 4, 6)
    image[0, ..., 5] = 1.0
    values = torch.zeros_like(image)
    values[0, ..., 5] = 1.0
    grid = grid_picture(image, image, values)
    assert grid.shape == (18, 12, 3)
    assert (grid[1:5, 1:5] == 255).all() and (grid[1:5, 7:11] == 0).all()
