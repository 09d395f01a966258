"""The pooled pixel metrics of a test set, exact and from histograms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from custom.errors import NomalyError
from custom.metrics.pixel_evaluation import PixelEvaluation
from custom.metrics.pixel_level import dice, pixel_curve


def skewed_map(seed: int, lesion: bool, decimals: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """A positive map (1, 24, 24, 2) with a long tail, as anomaly maps are, and its lesion mask."""
    truth = np.zeros((1, 24, 24, 2), dtype=bool)
    truth[:, 5:12, 8:14] = lesion
    values = np.exp(np.random.default_rng(seed).normal(truth - 3.0, 1))
    return np.round(values, decimals).astype(np.float32), truth


def filled_evaluation(studies: int = 12, **settings: object) -> PixelEvaluation:
    evaluation = PixelEvaluation(threshold=0.15, false_positive_rate=0.16, **settings)
    for i in range(studies):
        values, truth = skewed_map(i, lesion=i % 2 == 1)
        evaluation.add(f"case{i}", f"subject{i}", values, np.ones_like(truth), truth if i % 2 else None)
    return evaluation


def test_pooled_result_equals_the_metrics_of_all_pixels_together() -> None:
    maps = [skewed_map(i, lesion=i % 2 == 1) for i in range(12)]
    values, truth = (np.concatenate([m[k].ravel() for m in maps]) for k in (0, 1))
    result = filled_evaluation().result()
    assert result["method"] == "exact"
    assert result["ap"]["value"] == pytest.approx(average_precision_score(truth, values), abs=1e-12)
    assert result["ap"]["low"] < result["ap"]["value"] < result["ap"]["high"]
    assert result["best_dice"] == pixel_curve(values, truth).best_dice
    assert result["dice"]["value"] == pytest.approx(np.mean([dice(v > 0.15, t) for v, t in maps[1::2]]))
    assert result["false_positive_rate"] == pytest.approx(np.mean(values[~truth] > 0.15))
    assert result["threshold"] == 0.15 and result["pixel_false_positive_rate"] == 0.16
    assert result["prevalence"] == pytest.approx(truth.mean())


def test_many_pixels_are_counted_in_histograms_with_nearly_the_same_result() -> None:
    exact = filled_evaluation().result(200)
    streamed = filled_evaluation(max_exact_pixels=5000)  # passed with the fifth study
    result = streamed.result(200)
    assert result["method"] == streamed.pool.method == "histogram"
    for bound in ("value", "low", "high"):
        assert result["ap"][bound] == pytest.approx(exact["ap"][bound], abs=0.002)
    assert result["best_dice"] == pytest.approx(exact["best_dice"], abs=0.002)
    same = ("dice", "false_positive_rate", "prevalence", "aupro")
    assert {key: result[key] for key in same} == {key: exact[key] for key in same}


def test_lead_over_the_best_baseline_is_that_of_the_same_subjects_drawn_for_both() -> None:
    method, same, worse = filled_evaluation(), filled_evaluation(), PixelEvaluation(0.15, 0.16)
    for i in range(12):
        values, truth = skewed_map(i, lesion=i % 2 == 1)
        worse.add(f"case{i}", f"subject{i}", values[:, ::-1], np.ones_like(truth), truth if i % 2 else None)
    lead = method.lead({"worse": worse, "same": same}, 50)
    assert lead == {"name": "same", "ap_difference": {"value": 0, "low": 0, "high": 0}}
    lead = method.lead({"worse": worse}, 50)["ap_difference"]
    paired = method.resampled_ap(50) - worse.resampled_ap(50)
    assert lead["value"] == pytest.approx(method.result(5)["ap"]["value"] - worse.result(5)["ap"]["value"])
    assert (lead["low"], lead["high"]) == pytest.approx(tuple(np.quantile(paired, [0.025, 0.975])))
    assert method.lead({}) is None


def test_interval_needs_five_patients_with_a_lesion() -> None:
    for studies, known in ((9, False), (10, True)):  # every second study has a lesion
        result = filled_evaluation(studies).result(50)
        assert all((result[name]["low"] is not None) == known for name in ("ap", "aupro", "dice"))
        assert (result["n_healthy"], result["n_abnormal"]) == (5, studies - 5)


def test_numbers_are_those_of_all_studies_so_far() -> None:
    evaluation = filled_evaluation(4)
    early = evaluation.result(20)["ap"]["value"], evaluation.resampled_ap(20)
    values, truth = skewed_map(4, lesion=True)
    evaluation.add("case4", "subject4", values, np.ones_like(truth), truth)
    assert evaluation.result(20)["ap"]["value"] != early[0] and (evaluation.resampled_ap(20) != early[1]).any()


def test_detector_without_a_threshold_has_no_dice_and_no_false_positive_rate() -> None:
    evaluation = PixelEvaluation(float("inf"), 0.0)
    evaluation.add("a", "a", np.arange(4.0), np.ones(4), np.array([0, 0, 0, 1]))
    result = evaluation.result(10)
    assert result["dice"] is None and result["false_positive_rate"] is None
    assert result["ap"]["value"] == result["best_dice"] == 1.0


def test_lesions_without_any_other_pixel_have_no_overlap_curve() -> None:
    evaluation = PixelEvaluation(0.5, 0.05)
    evaluation.add("a", "a", np.arange(4.0), np.ones(4), np.ones(4))
    result = evaluation.result(10)
    assert result["aupro"] is None and result["false_positive_rate"] is None and result["prevalence"] == 1


def test_air_is_left_out_and_a_lesion_in_the_air_is_not() -> None:
    evaluation = PixelEvaluation(threshold=0.5, false_positive_rate=0.05)
    values, foreground = torch.tensor([0.9, 0.9, 0.1, 0.1]), torch.tensor([True, False, True, False])
    evaluation.add("a", "a", values, foreground, torch.tensor([1.0, 0.0, 0.0, 1.0]))
    # assessed: pixels 0, 2 (body) and 3 (lesion): one of two lesion pixels is found, nothing else is flagged
    assert evaluation.dices == {"a": pytest.approx(2 * 1 / (1 + 2))}
    assert evaluation.pool.values[0].tolist() == pytest.approx([0.9, 0.1, 0.1])


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
    assert list(evaluation.subjects) == ["a"] and len(evaluation.overlap.subjects) == len(evaluation.pool.values) == 1


def test_baseline_of_other_studies_is_refused_by_name() -> None:
    with pytest.raises(NomalyError, match=r"baselines\['pca'\].pixel must hold the method's studies in the same order"):
        filled_evaluation(4).lead({"pca": filled_evaluation(3)})
