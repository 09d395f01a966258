"""Components of masks by hand."""

from __future__ import annotations

import numpy as np

from custom.metrics.components import label_components, sizes, touched


def test_pixels_that_touch_by_a_corner_belong_together_in_all_axes() -> None:
    mask = np.zeros((1, 4, 4, 3), dtype=bool)
    mask[0, 0, 0, 0] = mask[0, 1, 1, 1] = True  # corners of two slices
    mask[0, 3, 3, 0] = True
    labels = label_components(mask)
    assert labels.shape == mask.shape and labels.dtype == np.int32
    assert labels[0, 0, 0, 0] == labels[0, 1, 1, 1] != labels[0, 3, 3, 0]
    assert sizes(labels).tolist() == [2, 1]


def test_components_below_the_least_size_are_left_out_and_the_rest_renumbered() -> None:
    mask = np.array([1, 0, 1, 1, 0, 1, 0, 1, 1, 1], dtype=bool)
    labels = label_components(mask, minimum_size=2)
    assert labels.tolist() == [0, 0, 1, 1, 0, 0, 0, 2, 2, 2]
    assert touched(labels, np.arange(10) == 8).tolist() == [2] and touched(labels, np.zeros(10)).tolist() == []


def test_empty_and_single_pixel_masks_are_labelled_too() -> None:
    assert sizes(label_components(np.zeros((1, 5, 5, 1)))).tolist() == []
    assert label_components(np.ones((1, 1, 1, 1))).tolist() == [[[[1]]]]
