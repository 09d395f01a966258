"""Pixel metrics against scikit-learn, brute force and hand-derived values."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from custom.errors import NomalyError
from custom.metrics.intervals import bootstrap_weights
from custom.metrics.pixel_level import ExactPixels, dice, pixel_curve


def noisy_map(seed: int, lesion: bool, decimals: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """A map (1, 24, 24, 2) with many ties, and its lesion mask."""
    truth = np.zeros((1, 24, 24, 2), dtype=bool)
    truth[:, 5:12, 8:14] = lesion
    return np.round(np.random.default_rng(seed).normal(truth, 1), decimals).astype(np.float32), truth


def test_curve_of_four_pixels_equals_hand_derived_values() -> None:
    curve = pixel_curve([0.9, 0.8, 0.8, 0.1], [1, 0, 1, 0])
    # thresholds 0.9, 0.8, 0.1: TP 1, 2, 2 of 1, 3, 4 flagged; lesion of 2 pixels
    assert curve.ap == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert curve.best_dice == pytest.approx(2 * 2 / (3 + 2))


@pytest.mark.parametrize("decimals", [1, 6])
def test_curve_equals_scikit_learn_and_every_threshold_tried(decimals: int) -> None:
    values, truth = noisy_map(0, True, decimals)
    curve = pixel_curve(values, truth)
    assert curve.ap == pytest.approx(average_precision_score(truth.ravel(), values.ravel()), abs=1e-12)
    assert curve.best_dice == pytest.approx(max(dice(values >= t, truth) for t in np.unique(values)), abs=1e-12)


def test_curve_without_a_lesion_is_not_a_number() -> None:
    assert np.isnan(pixel_curve([1.0, 2.0], [0, 0])).all()


def test_dice_equals_hand_derived_values_and_one_for_two_empty_masks() -> None:
    assert dice([1, 1, 0, 0], [0, 1, 1, 1]) == pytest.approx(2 * 1 / (2 + 3))
    assert dice([0, 0], [0, 0]) == 1.0
    assert dice([1, 0], [0, 0]) == 0.0


@pytest.mark.parametrize(("bins", "tolerance"), [(2000, 1e-12), (200, 1e-2)])
def test_resampled_precision_from_histograms_equals_sorting(bins: int, tolerance: float) -> None:
    # 4 lesions of 84 pixels have 336 values: exact with more bins than that, close with fewer
    pool = ExactPixels()
    for i in range(8):
        values, truth = noisy_map(i, lesion=i % 2 == 1, decimals=6)
        pool.add(values.ravel(), truth.ravel())
    values, truth = np.concatenate(pool.values), np.concatenate(pool.truths)
    weights = bootstrap_weights(list("abcdefgh"), 20, seed=2)
    expected = [average_precision_score(truth, values, sample_weight=np.repeat(row, 24 * 24 * 2)) for row in weights]
    assert pool.resampled_ap(weights, bins) == pytest.approx(expected, abs=tolerance)


def test_mismatched_pixels_are_refused_by_name() -> None:
    with pytest.raises(NomalyError, match=r"prediction and truth must have one shape, got \(2,\) and \(3,\)"):
        dice([0, 1], [0, 1, 1])
    with pytest.raises(NomalyError, match="values and truth must have the same number of pixels, got 2 and 3"):
        pixel_curve([0.0, 1.0], [0, 1, 1])
