"""Regions over a threshold, numbered, weighed and counted by hand."""

from __future__ import annotations

import numpy as np
import torch

from custom.scoring.regions import label_components, label_regions, sizes, touched


def example() -> torch.Tensor:
    """A wide faint region of 4 pixels, a small strong one of 2, and one pixel exactly at the threshold of 1."""
    anomaly_map = torch.zeros(1, 8, 8, 1)
    anomaly_map[0, :2, :2, 0] = 1.5
    anomaly_map[0, 5, 5, 0] = anomaly_map[0, 6, 6, 0] = 4.0
    anomaly_map[0, 0, 7, 0] = 1.0
    return anomaly_map


def test_most_massive_region_comes_first_and_corners_connect() -> None:
    labels, masses, sizes = label_regions(example(), 1.0)
    assert masses.tolist() == [6.0, 2.0] and sizes.tolist() == [2, 4]  # 2 x (4 - 1) and 4 x (1.5 - 1)
    assert labels.shape == (1, 8, 8, 1) and labels.dtype == np.int32
    assert labels[0, 5, 5, 0] == labels[0, 6, 6, 0] == 1 and labels[0, 1, 1, 0] == 2
    assert labels[0, 0, 7, 0] == 0  # at the threshold is not over it


def test_regions_below_the_least_size_are_no_regions() -> None:
    labels, masses, sizes = label_regions(example(), 1.0, minimum_size=3)
    assert (masses.tolist(), sizes.tolist()) == ([2.0], [4])
    assert np.unique(labels).tolist() == [0, 1] and labels[0, 5, 5, 0] == 0


def test_map_below_the_threshold_has_no_region() -> None:
    labels, masses, sizes = label_regions(example(), 9.0)
    assert not labels.any() and len(masses) == len(sizes) == 0
    assert not label_regions(example(), float("inf"))[0].any()


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
