"""Pixel thresholds from healthy values: exact on arrays, within a bin on histograms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from custom.calibration.pixel_threshold import HealthyHistogram, pixel_threshold
from custom.errors import NomalyError


def test_threshold_on_values_is_the_smallest_that_keeps_the_rate() -> None:
    values = np.random.default_rng(0).permutation(100) + 1.0
    assert pixel_threshold(values, 0.05) == 95  # 96 .. 100 lie above: 5 of 100
    assert pixel_threshold(values, 0.049) == 96
    assert pixel_threshold(np.ones(50), 0.1) == 1


@pytest.mark.parametrize("q", [0.0, 0.5, 0.95, 0.999, 1.0])
def test_histogram_quantile_is_the_exact_one_rounded_up_within_a_bin(q: float) -> None:
    values = np.random.default_rng(1).lognormal(-6, 2, 20_000)
    histogram = HealthyHistogram()
    for part in np.split(values, 4):
        histogram.add(part.reshape(50, -1))
    exact = np.quantile(values, q, method="inverted_cdf")
    assert histogram.total == 20_000
    assert exact <= histogram.quantile(q) <= exact * 1.0005


def test_share_of_healthy_pixels_above_the_threshold_never_exceeds_the_rate() -> None:
    generator = np.random.default_rng(2)
    for values in (generator.exponential(0.01, 5000), np.zeros(5000), generator.integers(0, 4, 5000) / 7.0):
        histogram = HealthyHistogram(bins=100)
        histogram.add(values)
        for rate in (0.05, 0.01, 0.001):
            assert np.mean(values > pixel_threshold(histogram, rate)) <= rate


def test_values_beyond_the_bins_keep_the_largest_value_as_quantile() -> None:
    histogram = HealthyHistogram(low=0.1, high=1.0)
    histogram.add(torch.tensor([-5.0, 0.0, 0.05, 50.0]))
    assert histogram.quantile(1.0) == 50.0
    assert histogram.quantile(0.75) == pytest.approx(0.1)


def test_every_bin_edge_falls_into_the_bin_that_it_closes() -> None:
    histogram = HealthyHistogram(bins=1000)
    histogram.add(histogram.edges)
    assert histogram.counts.tolist() == [1] * 1001 + [0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pixel_threshold(np.ones(99), 0.01), "at least 100 pixels for false_positive_rate = 0.01, got 99"),
        (lambda: pixel_threshold(np.ones(99), 0.0), r"false_positive_rate must be in \(0, 1\), got 0.0"),
        (lambda: pixel_threshold(np.full(99, np.nan), 0.1), "healthy must hold finite values"),
        (lambda: HealthyHistogram().quantile(0.5), "quantile needs healthy values, got none"),
        (lambda: HealthyHistogram().add([np.inf]), "values must be finite"),
        (lambda: HealthyHistogram(bins=1), "bins must be >= 2 and 0 < low < high, got bins = 1"),
        (lambda: HealthyHistogram().quantile(2), r"q must be in \[0, 1\], got 2"),
    ],
)
def test_meaningless_requests_are_refused_by_name(call: object, message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        call()
