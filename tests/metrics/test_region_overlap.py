"""AUPRO against a slow direct reference and a value derived by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from custom.metrics.intervals import bootstrap_weights, percentile_interval
from custom.metrics.region_overlap import RegionOverlap, area_up_to


def slow_aupro(maps: list[np.ndarray], truths: list[np.ndarray], limit: float = 0.3) -> float:
    """Every distinct value as a threshold, every lesion by itself, trapezoids up to the limit."""
    lesions = []
    for values, truth in zip(maps, truths):
        labels, count = ndimage.label(truth, np.ones((3, 3)))
        lesions += [values[labels == number] for number in range(1, count + 1)]
    healthy = np.concatenate([values[~truth] for values, truth in zip(maps, truths)])
    thresholds = np.unique(np.concatenate([values.ravel() for values in maps]))[::-1]
    rates = np.array([0.0, *[np.mean(healthy >= t) for t in thresholds]])
    overlap = np.array([0.0, *[np.mean([np.mean(lesion >= t) for lesion in lesions]) for t in thresholds]])
    grid = np.append(rates[rates < limit], limit)
    heights = np.append(overlap[rates < limit], np.interp(limit, rates, overlap))
    return float(np.trapezoid(heights, grid) / limit)


def studies(n: int = 6) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Maps (20, 20) with a large lesion that is easy and a small one that is hard; every third study is healthy."""
    generator = np.random.default_rng(0)
    truths = [np.zeros((20, 20), dtype=bool) for _ in range(n)]
    for i, truth in enumerate(truths):
        if i % 3:
            truth[2:10, 2:9] = truth[15:17, 14:17] = True
    means = [np.where(np.arange(20)[:, None] < 12, 2.0, 0.5) * truth for truth in truths]
    return [np.exp(generator.normal(mean - 3, 1)).astype(np.float32) for mean in means], truths


def overlap_of(maps: list[np.ndarray], truths: list[np.ndarray]) -> RegionOverlap:
    overlap = RegionOverlap()
    for i, (values, truth) in enumerate(zip(maps, truths)):
        overlap.add(str(i), values, truth, np.ones_like(truth))
    return overlap


def test_area_equals_the_slow_reference_over_all_thresholds() -> None:
    maps, truths = studies()
    assert overlap_of(maps, truths).result(10)["value"] == pytest.approx(slow_aupro(maps, truths), abs=0.003)


def test_interval_is_that_of_whole_studies_drawn_again() -> None:
    maps, truths = studies(9)
    result = overlap_of(maps, truths).result(5, seed=4)
    drawn = [np.repeat(np.arange(9), row.astype(int)) for row in bootstrap_weights(list("012345678"), 5, seed=4)]
    slow = [slow_aupro([maps[i] for i in draw], [truths[i] for i in draw]) for draw in drawn if (draw % 3).any()]
    assert (result["low"], result["high"]) == pytest.approx(percentile_interval(np.array(slow)), abs=0.005)


def test_fewer_than_five_patients_with_a_lesion_have_no_interval() -> None:
    result = overlap_of(*studies(6)).result(8)  # four of them
    assert result["value"] > 0 and result["low"] is None and result["high"] is None


def test_area_of_a_small_map_is_the_hand_derived_one() -> None:
    # Ten lesion-free pixels and two lesions, one pixel that is found first and two of which one is found last.
    # (FPR, overlap): (0, 0) -> lesion pixel 0.9 -> (0, 1/2) -> healthy 0.8 -> (0.1, 1/2) -> lesion 0.7 -> (0.1, 3/4)
    # -> the other nine healthy pixels together -> (1, 3/4): the area up to 0.3 is 0.1 * 1/2 + 0.2 * 3/4 = 0.2
    values = np.array([0.9, 0.8] + 4 * [0.5] + [0.7, 0.1] + 5 * [0.5])
    truth = np.array([True, False] + 4 * [False] + [True, True] + 5 * [False])
    overlap = RegionOverlap()
    overlap.add("a", values, truth, np.ones(13))
    assert overlap.result(5)["value"] == pytest.approx(0.2 / 0.3)


def test_pixels_that_are_not_assessed_do_not_count() -> None:
    values, truth = np.array([0.9, 0.5, 0.1, 0.1]), np.array([False, False, True, False])
    assessed = np.array([False, True, True, False])
    masked, short = RegionOverlap(), RegionOverlap()
    masked.add("a", values, truth, assessed)
    short.add("a", values[1:3], truth[1:3], np.ones(2))
    assert masked.result(5) == short.result(5)


def test_small_lesion_counts_as_much_as_a_large_one() -> None:
    values = np.r_[np.full(9, 0.9), 0.5, np.full(10, 0.5), 0.1]  # the large lesion is found, the pixel at the end not
    truth = np.r_[np.ones(9), np.zeros(11), 1].astype(bool)
    overlap = RegionOverlap()
    overlap.add("a", values, truth, np.ones(21))
    assert overlap.result(5)["value"] == pytest.approx(0.5)


def test_line_that_crosses_the_limit_counts_up_to_it() -> None:
    healthy, overlap = np.array([[1.0, 0.0]]), np.array([[1.0, 0.0]])  # a straight line from (0, 0) to (1, 1)
    assert area_up_to(healthy, overlap, 0.3) == pytest.approx(0.3 / 2)


def test_without_a_lesion_or_a_free_pixel_there_is_no_area() -> None:
    no_lesion, no_free = RegionOverlap(), RegionOverlap()
    no_lesion.add("a", np.arange(3.0), np.zeros(3), np.ones(3))
    no_free.add("a", np.arange(3.0), np.ones(3), np.ones(3))
    assert no_lesion.result(5) is None and no_free.result(5) is None
