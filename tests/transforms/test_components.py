from __future__ import annotations

import numpy as np
import pytest

from custom.transforms.components import lesions


@pytest.fixture
def mask():
    """Two lesions of 8 and 1 voxels in a volume."""
    mask = np.zeros((10, 12, 6), np.uint8)
    mask[2:4, 3:5, 1:3] = 1
    mask[8, 9, 4] = 255
    return mask


def test_volume_lesions_are_listed_in_millilitres_largest_first(mask):
    found = lesions(mask, spacing=(2.0, 2.0, 5.0))
    assert [(lesion.voxels, lesion.size, lesion.unit) for lesion in found] == [(8, 0.16, "ml"), (1, 0.02, "ml")]
    assert found[0].centroid == (2.5, 3.5, 1.5) and found[1].centroid == (8, 9, 4)


def test_picture_lesions_are_pixels_unless_the_spacing_is_known(mask):
    assert [(lesion.size, lesion.unit) for lesion in lesions(mask[..., 1])] == [(4, "px")]
    assert [(lesion.size, lesion.unit) for lesion in lesions(mask[..., 1], (0.5, 0.5))] == [(1, "mm2")]


def test_lesions_below_the_least_size_are_left_out(mask):
    assert [lesion.voxels for lesion in lesions(mask, (2, 2, 5), min_size=0.03)] == [8]


def test_voxels_that_touch_by_a_corner_are_one_lesion():
    assert len(lesions(np.eye(3))) == 1


def test_peak_is_the_largest_map_value_inside(mask):
    values = np.zeros(mask.shape)
    values[2, 3, 1], values[0, 0, 0] = 0.7, 5.0
    assert [lesion.peak for lesion in lesions(mask, anomaly_map=values)] == [0.7, 0.0]


def test_empty_mask_has_no_lesion():
    assert lesions(np.zeros((4, 4, 4))) == []


def test_spacing_of_other_dimension_is_refused(mask):
    with pytest.raises(ValueError, match="one entry for each of the mask's 3 axes, got 2"):
        lesions(mask, (1.0, 1.0))


def test_map_of_other_shape_is_refused(mask):
    with pytest.raises(ValueError, match=r"anomaly_map must have the mask's shape \(10, 12, 6\), got \(3, 3\)"):
        lesions(mask, anomaly_map=np.zeros((3, 3)))
