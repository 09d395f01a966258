"""Pixel metrics against scikit-learn, brute force and hand-derived values."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from custom.errors import NomalyError
from custom.metrics.image_level import bootstrap_weights
from custom.metrics.pixel_level import PixelEvaluation, dice, pixel_curve


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
    assert curve.best_threshold == pytest.approx(0.8)


@pytest.mark.parametrize("decimals", [1, 6])
def test_curve_equals_scikit_learn_and_every_threshold_tried(decimals: int) -> None:
    values, truth = noisy_map(0, True, decimals)
    curve = pixel_curve(values, truth)
    assert curve.ap == pytest.approx(average_precision_score(truth.ravel(), values.ravel()), abs=1e-12)
    assert curve.best_dice == pytest.approx(max(dice(values >= t, truth) for t in np.unique(values)), abs=1e-12)
    assert dice(values >= curve.best_threshold, truth) == curve.best_dice


def test_curve_without_a_lesion_is_not_a_number() -> None:
    assert np.isnan(pixel_curve([1.0, 2.0], [0, 0])).all()


def test_dice_equals_hand_derived_values_and_one_for_two_empty_masks() -> None:
    assert dice([1, 1, 0, 0], [0, 1, 1, 1]) == pytest.approx(2 * 1 / (2 + 3))
    assert dice([0, 0], [0, 0]) == 1.0
    assert dice([1, 0], [0, 0]) == 0.0


def filled_evaluation(studies: int = 12) -> PixelEvaluation:
    evaluation = PixelEvaluation(threshold=1.0, false_positive_rate=0.16)
    for i in range(studies):
        values, truth = noisy_map(i, lesion=i % 2 == 1)
        evaluation.add(f"case{i}", f"subject{i}", values, np.ones_like(truth), truth if i % 2 else None)
    return evaluation


def test_pooled_result_equals_the_metrics_of_all_pixels_together() -> None:
    maps = [noisy_map(i, lesion=i % 2 == 1) for i in range(12)]
    values, truth = (np.concatenate([m[k].ravel() for m in maps]) for k in (0, 1))
    result = filled_evaluation().result()
    assert result["ap"]["value"] == pytest.approx(average_precision_score(truth, values), abs=1e-12)
    assert result["ap"]["low"] < result["ap"]["value"] < result["ap"]["high"]
    assert result["best_dice"] == pixel_curve(values, truth).best_dice
    assert result["dice"]["value"] == pytest.approx(np.mean([dice(v > 1.0, t) for v, t in maps[1::2]]))
    assert result["false_positive_rate"] == pytest.approx(np.mean(values[~truth] > 1.0))
    assert result["threshold"] == 1.0 and result["pixel_false_positive_rate"] == 0.16
    assert result["prevalence"] == pytest.approx(truth.mean())


@pytest.mark.parametrize(("bins", "tolerance"), [(2000, 1e-12), (200, 1e-2)])
def test_resampled_precision_from_histograms_equals_sorting(bins: int, tolerance: float) -> None:
    # 4 lesions of 84 pixels have 336 values: exact with more bins than that, close with fewer
    evaluation = PixelEvaluation(1.0, 0.16)
    for i in range(8):
        values, truth = noisy_map(i, lesion=i % 2 == 1, decimals=6)
        evaluation.add(str(i), str(i), values, np.ones_like(truth), truth)
    values, truth = np.concatenate(evaluation.values), np.concatenate(evaluation.truths)
    weights = bootstrap_weights(evaluation.subjects, 20, seed=2)
    expected = [average_precision_score(truth, values, sample_weight=np.repeat(row, 24 * 24 * 2)) for row in weights]
    assert evaluation._resampled_ap(values, truth, weights, bins) == pytest.approx(expected, abs=tolerance)


def test_air_is_left_out_and_a_lesion_in_the_air_is_not() -> None:
    evaluation = PixelEvaluation(threshold=0.5, false_positive_rate=0.05)
    values, foreground = torch.tensor([0.9, 0.9, 0.1, 0.1]), torch.tensor([True, False, True, False])
    evaluation.add("a", "a", values, foreground, torch.tensor([1.0, 0.0, 0.0, 1.0]))
    # assessed: pixels 0, 2 (body) and 3 (lesion): one of two lesion pixels is found, nothing else is flagged
    assert evaluation.dices == {"a": pytest.approx(2 * 1 / (1 + 2))}
    assert evaluation.values[0].tolist() == pytest.approx([0.9, 0.1, 0.1])


def test_set_without_any_lesion_mask_has_no_pixel_metrics() -> None:
    evaluation = PixelEvaluation(0.5, 0.05)
    evaluation.add("a", "a", np.zeros((1, 2, 2, 1)), np.ones((1, 2, 2, 1)), None)
    assert evaluation.result() is None


def test_mismatched_or_broken_studies_are_refused_by_name() -> None:
    evaluation = PixelEvaluation(0.5, 0.05)
    evaluation.add("a", "a", np.zeros(4), np.ones(4), None)
    with pytest.raises(NomalyError, match="case must be the unique name of a study, got a twice"):
        evaluation.add("a", "a", np.zeros(4), np.ones(4), None)
    with pytest.raises(NomalyError, match=r"must have one shape, got \(4,\), \(4,\) and \(3,\) for study b"):
        evaluation.add("b", "b", np.zeros(4), np.ones(4), np.zeros(3))
    with pytest.raises(NomalyError, match="values must be finite"):
        evaluation.add("c", "c", np.full(4, np.nan), np.ones(4), None)
    with pytest.raises(NomalyError, match=r"prediction and truth must have one shape, got \(2,\) and \(3,\)"):
        dice([0, 1], [0, 1, 1])
    with pytest.raises(NomalyError, match="values and truth must hold equally many pixels, got 2 and 3"):
        pixel_curve([0.0, 1.0], [0, 1, 1])
