from __future__ import annotations

import numpy as np
import pytest

from custom.runs.region_measures import measure_regions


@pytest.fixture
def labels():
    """Two regions of 8 and 1 voxels in a volume, numbers 1 and 3."""
    labels = np.zeros((10, 12, 6), np.float32)
    labels[2:4, 3:5, 1:3] = 1
    labels[8, 9, 4] = 3
    return labels


def test_regions_of_a_volume_are_in_millilitres_in_the_order_of_their_numbers(labels):
    found = measure_regions(labels, spacing=(2.0, 2.0, 5.0))
    assert [(region.number, region.size, region.unit) for region in found] == [(1, 0.16, "ml"), (3, 0.02, "ml")]
    assert found[0].centre == (2.5, 3.5, 1.5) and found[1].centre == (8, 9, 4)


def test_regions_of_a_picture_are_pixels_unless_the_spacing_is_known(labels):
    assert [(region.size, region.unit) for region in measure_regions(labels[..., 1])] == [(4, "px")]
    assert [(region.size, region.unit) for region in measure_regions(labels[..., 1], (0.5, 0.5))] == [(1, "mm2")]


def test_centres_are_millimetres_in_the_world_of_the_affine(labels):
    # by hand: index (8, 9, 4) of voxels of 2 x 2 x 5 mm, axes x and y turned round, origin at (100, 50, -20)
    affine = np.array([[-2, 0, 0, 100], [0, -2, 0, 50], [0, 0, 5, -20], [0, 0, 0, 1]])
    assert measure_regions(labels, (2, 2, 5), affine)[1].centre == (84, 32, 0)
    assert measure_regions(labels[..., 1], (2, 2), affine)[0].centre == (95, 43, -20)


def test_image_without_regions_has_none():
    assert measure_regions(np.zeros((4, 4, 4))) == []


def test_spacing_of_other_dimension_is_refused(labels):
    with pytest.raises(ValueError, match="one entry for each of the labels' 3 axes, got 2"):
        measure_regions(labels, (1.0, 1.0))


def test_voxels_of_a_sheared_stack_are_as_large_as_their_affine_says() -> None:
    labels = np.zeros((4, 4, 4), int)
    labels[1:3, 1:3, 1:3] = 1
    affine = np.diag([1.0, 1.0, 5.0 * np.cos(np.pi / 6), 1.0])
    affine[1, 2] = 5.0 * np.sin(np.pi / 6)  # slices 5 mm apart along a line that leans by 30 degrees
    (region,) = measure_regions(labels, (1.0, 1.0, 5.0), affine)
    assert region.size == pytest.approx(8 * 5 * np.cos(np.pi / 6) / 1000)
