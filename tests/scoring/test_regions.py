"""Regions over a threshold, numbered, weighed and counted by hand."""

from __future__ import annotations

import numpy as np
import torch

from custom.scoring.regions import label_regions


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
