"""Histogram metrics against the exact ones."""

from __future__ import annotations

import numpy as np
import pytest

from custom.calibration.pixel_threshold import HealthyHistogram
from custom.metrics.intervals import bootstrap_weights
from custom.metrics.pixel_histogram import BINS, EDGES, PixelHistogram, SparseRows, bin_index
from custom.metrics.pixel_level import ExactPixels


def test_bins_are_those_of_the_healthy_histogram() -> None:
    edges = EDGES.astype(np.float32)
    beside = [np.nextafter(edges, np.float32(towards)) for towards in (-1, 1e9)]
    extremes = np.array([-np.inf, -1.0, -0.0, 0.0, 1e-45, np.inf], np.float32)
    values = np.concatenate([extremes, edges, *beside, np.geomspace(1e-10, 1e4, 5000, dtype=np.float32)])
    assert np.array_equal(bin_index(values), np.searchsorted(EDGES, values.astype(np.float64)))
    histogram = HealthyHistogram(bins=4096)
    histogram.add(values[np.isfinite(values)])
    assert np.array_equal(np.bincount(bin_index(values[np.isfinite(values)]), minlength=BINS), histogram.counts)


def filled(pool: ExactPixels | PixelHistogram, shift: float = 1.5) -> ExactPixels | PixelHistogram:
    """Ten studies of 2000 pixels, a twentieth of them in a lesion; values over many orders of magnitude."""
    generator = np.random.default_rng(0)
    for _ in range(10):
        truth = generator.random(2000) < 0.05
        pool.add(np.exp(generator.normal(-4 + shift * truth, 1.5)).astype(np.float32), truth)
    return pool


@pytest.mark.parametrize("shift", [0.0, 1.5, 6.0])
def test_precision_and_best_dice_are_within_five_thousandths_of_the_exact_ones(shift: float) -> None:
    exact, streamed = filled(ExactPixels(), shift), filled(PixelHistogram(), shift)
    assert streamed.curve().ap == pytest.approx(exact.curve().ap, abs=0.005)
    assert streamed.curve().best_dice == pytest.approx(exact.curve().best_dice, abs=0.005)
    weights = bootstrap_weights(list("abcdefghij"), 30, seed=1)
    assert streamed.resampled_ap(weights, block=7) == pytest.approx(exact.resampled_ap(weights), abs=0.005)


def test_values_on_different_bins_give_the_hand_derived_curve() -> None:
    pool = PixelHistogram()
    pool.add(np.array([0.9, 0.8, 0.8, 0.1], np.float32), np.array([True, False, True, False]))
    # thresholds 0.9, 0.8, 0.1: TP 1, 2, 2 of 1, 3, 4 flagged; lesion of 2 pixels
    assert pool.curve().ap == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert pool.curve().best_dice == pytest.approx(2 * 2 / (3 + 2))


def test_rows_pool_to_the_weighted_sum_of_histograms() -> None:
    rows = SparseRows()
    for place in (3, 3, 5):
        rows.add(np.eye(BINS)[place])
    assert rows.pooled()[[3, 5]].tolist() == [2, 1]
    pooled = rows.pooled(np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]]))
    assert pooled.shape == (2, BINS) and pooled[:, [3, 5]].tolist() == [[3, 0], [0, 3]] and pooled.sum() == 6
