from __future__ import annotations

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from custom.errors import NomalyError
from custom.rendering.case_view import _choose, case_view, input_view


def pixels(webp):
    return np.asarray(Image.open(io.BytesIO(webp)).convert("RGBA")).astype(int)


def corners(path):
    return [tuple(float(v) for v in pair.split()) for pair in re.findall(r"[ML]([^MLZ]+)", path)]


def volume(depth=5, shape=(12, 16)):
    image = np.random.default_rng(0).random((1, *shape, depth)).astype(np.float32)
    return image, np.zeros_like(image), np.zeros(image.shape, np.int32)


def view_of(depth=5, truth=None, marks=(), **settings):
    """View of a volume with a region of three pixels in each slice of `marks`: (number, slice)."""
    image, values, regions = volume(depth)
    for number, z in marks:
        regions[0, 4 * number, 2:5, z] = number
        values[0, 4 * number, 2:5, z] = 1.0
    return case_view(image, image, values, regions, truth, 1.0, **settings)


def test_layers_lie_on_the_grid_of_the_study_with_x_as_column():
    image, values, regions = volume()
    image[..., 2], image[0, 9, 3, 2], values[0, 9, 3, 2] = 0, 1, 1
    image[0, 8:, 2:5, 2] = 1
    view = case_view(image, 1 - image, values, None, None, 1.0)
    assert view.size == (12, 16) and view.depth == 5 and view.shown == 2
    shown = view.slices[2]
    bright = pixels(shown.image)[..., 0]
    assert bright.shape == (16, 12) and bright[3, 10] > 240 and bright[12, 10] < 15
    assert pixels(shown.pseudo_healthy)[3, 10, 0] < 15
    assert np.argwhere(pixels(shown.overlay)[..., 3] > 0).tolist() == [[3, 9]]


def test_a_2d_image_is_a_case_of_one_slice():
    image, values, _ = volume(depth=1)
    view = case_view(torch.tensor(image), torch.tensor(image), torch.tensor(values))
    assert (view.depth, len(view.slices), view.shown, view.has_truth) == (1, 1, 0, False)


@pytest.mark.parametrize("depth, kept", [(1, [0]), (5, [0, 1, 2, 3, 4]), (9, [0, 2, 4, 6, 8])])
def test_a_case_that_was_not_scored_shows_only_its_image(depth, kept):
    image = volume(depth)[0]
    view = input_view(image, (1.0, 2.0), max_slices=5)
    assert [s.index for s in view.slices] == kept and kept[view.shown] == depth // 2
    assert (view.size, view.ratio, view.depth, view.is_assessed) == ((12, 16), 12 / 32, depth, False)
    seen = pixels(view.slices[view.shown].image)[..., 0]
    assert seen.shape == (16, 12) and np.abs(seen.T - 255 * image[0, ..., depth // 2]).mean() < 8  # WebP is lossy
    smaller = view.reduced(3, quality=30, side=8)
    assert not smaller.is_assessed and smaller.characters < view.characters and not smaller.as_json()["assessed"]


def test_outline_runs_along_the_border_of_a_region():
    # Pixels x = 4, y = 2 to 4 span 4 to 5 and 2 to 5; the contour runs half-way to the outside of the pixels' centres.
    outline = view_of(marks=[(1, 3)]).slices[3].regions[1]
    xs, ys = zip(*corners(outline.path))
    assert outline.pixels == 3
    assert (min(xs), max(xs), min(ys), max(ys)) == (4.0, 5.0, 2.0, 5.0)


def test_each_region_keeps_its_number_and_its_largest_slice():
    image, values, regions = volume()
    regions[0, 2:6, 2:6, 1], regions[0, 2:4, 2:4, 2], regions[0, 8, 8, 4] = 1, 1, 2
    values[regions > 0] = 1
    view = case_view(image, image, values, regions)
    assert view.positions == {1: 1, 2: 4}
    assert [sorted(s.regions) for s in view.slices] == [[], [1], [1], [], [2]]


def test_region_with_a_hole_has_two_rings():
    image, values, regions = volume(depth=1)
    regions[0, 2:7, 2:7], regions[0, 4, 4] = 1, 0
    assert case_view(image, image, values, regions).slices[0].regions[1].path.count("M") == 2


def test_strongest_slice_is_where_the_regions_are_not_where_the_noise_is():
    image, values, regions = volume()
    values[..., 0] = 0.3  # the largest sum, all of it under the threshold
    values[0, 3, 3, 4], regions[0, 3, 3, 4] = 0.9, 1
    assert case_view(image, image, values, regions).shown == 4
    assert case_view(image, image, values).shown == 0


def test_deep_volume_keeps_regions_and_misses_and_fills_evenly():
    truth = np.zeros((1, 12, 16, 100), bool)
    truth[0, 5:8, 5:8, 71] = True  # a lesion that nothing was found of
    view = view_of(100, truth, [(1, 30), (1, 31), (2, 50)], max_slices=10)
    kept = [s.index for s in view.slices]
    assert len(kept) == 10 and kept == sorted(kept)
    assert {30, 31, 50, 71} <= set(kept)
    assert kept[0] == 0 and kept[-1] == 99 and max(np.diff(kept)) <= 20
    assert view.depth == 100 and kept[view.shown] in (30, 31)
    assert view.slices[kept.index(71)].truth.pixels == 9


def test_more_regions_than_slices_keep_the_most_massive():
    counts = [{1: 9}, {}, {2: 5}, {3: 3}, {4: 1}]
    assert _choose(0, counts, [0] * 5, 3) == [0, 2, 3]


def test_all_slices_are_kept_where_there_is_room():
    assert [s.index for s in view_of(7, max_slices=7).slices] == list(range(7))


def test_spacing_sets_the_proportions_in_millimetres():
    assert view_of(spacing=(2.0, 0.5)).ratio == pytest.approx(12 * 2.0 / (16 * 0.5))


def test_value_that_is_not_finite_does_not_set_the_scale():
    image, values, _ = volume(depth=1)
    values[0, 0, 0, 0], values[0, 1, 1, 0] = np.nan, 0.5
    view = case_view(image, image, values)
    assert view.vmax == 0.5
    assert pixels(view.slices[0].overlay)[0, 0, 3] > 220


def test_reduced_view_keeps_what_was_shown_and_where_the_regions_are():
    view = view_of(20, marks=[(1, 15), (2, 4)])
    small = view.reduced(4, quality=50, side=8)
    assert [s.index for s in small.slices][small.shown] == [s.index for s in view.slices][view.shown]
    assert {small.slices[p].index for p in small.positions.values()} == {4, 15}
    assert len(small.slices) == 4 and small.depth == 20
    assert Image.open(io.BytesIO(small.slices[0].image)).size == (6, 8)
    assert small.characters < view.characters / 4


def test_json_counts_slices_from_one_and_holds_images_as_data_uris():
    data = view_of(3, marks=[(1, 2)]).as_json()
    assert [s["number"] for s in data["slices"]] == [1, 2, 3]
    assert data["positions"] == {1: 2} and data["shown"] == 2 and data["truth"] is False
    assert all(
        s[key].startswith("data:image/webp;base64,") for s in data["slices"] for key in ("input", "healthy", "map")
    )
    assert data["slices"][2]["regions"][1].startswith("M") and data["slices"][0]["truth"] == ""


def test_characters_are_those_of_the_report():
    view = view_of(3, marks=[(1, 2)])
    data = view.as_json()["slices"]
    written = sum(
        len(s["input"]) + len(s["healthy"]) + len(s["map"]) + len("".join(s["regions"].values())) for s in data
    )
    assert view.characters == pytest.approx(written, rel=0.15)


@pytest.mark.parametrize("name", ["image", "reconstruction", "regions", "truth"])
def test_arrays_on_different_grids_are_refused_by_name(name):
    image, values, regions = volume()
    arrays = {"image": image, "reconstruction": image, "regions": regions, "truth": regions}
    arrays[name] = np.zeros((1, 16, 12, 5))
    with pytest.raises(
        NomalyError, match=rf"{name} must have the grid of anomaly_map \(12, 16, 5\), got \(16, 12, 5\)"
    ):
        case_view(anomaly_map=values, **arrays)


def test_a_map_without_depth_is_refused():
    with pytest.raises(NomalyError, match=r"anomaly_map must be \(1, X, Y, Z\), got \(1, 4, 4\)"):
        case_view(np.zeros((1, 4, 4)), np.zeros((1, 4, 4)), np.zeros((1, 4, 4)))
