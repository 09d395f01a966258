"""The evaluation dictionary and its table on tiny sets whose numbers are known."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from custom.errors import NomalyError
from custom.metrics.evaluation import evaluate_scores, floor_sentence, table_markdown
from custom.metrics.pixel_level import PixelEvaluation


def small_set(**changes: object) -> dict:
    """Four healthy and four abnormal studies of two groups; the last healthy study ranks among the abnormal ones."""
    arguments = {
        "cases": list("abcdefgh"),
        "labels": [0, 0, 0, 0, 1, 1, 1, 1],
        "scores": [1.0, 2.0, 3.0, 6.5, 5.0, 6.0, 7.0, 8.0],
        "subjects": list("abcdefgh"),
        "groups": [None] * 4 + ["mass", "mass", "oedema", "oedema"],
        "p_values": [0.9, 0.8, 0.7, 0.04, 0.2, 0.05, 0.03, 0.01],
        "alpha": 0.05,
        "synthetic": False,
        "seed": 0,
    }
    return arguments | changes


def test_every_number_of_a_small_set_is_the_hand_derived_one() -> None:
    result = evaluate_scores(**small_set())
    assert (result["n_healthy"], result["n_abnormal"], result["alpha"], result["synthetic"]) == (4, 4, 0.05, False)
    assert result["image"]["auroc"]["value"] == (3 + 3 + 4 + 4) / 16
    assert result["image"]["prevalence"] == 0.5
    assert result["false_alarm_rate"]["value"] == 1 / 4
    assert result["sensitivity"]["value"] == 3 / 4
    assert result["groups"]["mass"]["n"] == 2
    assert result["groups"]["mass"]["auroc"]["value"] == 6 / 8  # against all healthy studies
    assert result["groups"]["oedema"]["auroc"]["value"] == 1.0
    assert result["groups"]["mass"]["sensitivity"]["value"] == 1 / 2
    assert result["groups"]["mass"]["dice"] is None
    assert result["pixel"] is None and result["floors"] == {} and result["best_floor"] is None
    row = {"case": "f", "label": 1, "group": "mass", "score": 6.0, "p_value": 0.05, "decision": "flag"}
    assert result["scores"][5] == row


def test_evaluation_is_json_without_nan_when_a_class_is_missing() -> None:
    only_healthy = {k: v[:4] if isinstance(v, list) else v for k, v in small_set().items()}
    result = json.loads(json.dumps(evaluate_scores(**only_healthy), allow_nan=False))
    assert result["image"]["auroc"] is None and result["image"]["auprc"] is None
    assert result["sensitivity"] is None and result["groups"] == {}
    assert result["false_alarm_rate"]["value"] == 1 / 4
    assert "| AUROC | not computable |" in table_markdown(result)


def test_without_calibration_ranking_is_told_and_decisions_are_not() -> None:
    result = evaluate_scores(**small_set(p_values=None))
    assert result["image"]["auroc"]["value"] == 14 / 16
    assert result["false_alarm_rate"] is None
    assert result["scores"][0]["p_value"] is None and result["scores"][0]["decision"] is None


def test_confident_mode_flags_at_its_own_level() -> None:
    result = evaluate_scores(**small_set(flag_level=0.03))
    assert result["alpha"] == 0.05
    assert result["false_alarm_rate"]["value"] == 0 and result["sensitivity"]["value"] == 2 / 4


def pixels() -> PixelEvaluation:
    evaluation = PixelEvaluation(threshold=0.5, false_positive_rate=0.05)
    for i, case in enumerate("abcdefgh"):
        truth = np.array([1, 1, 0, 0]) if i >= 4 else None
        values = np.array([0.9, 0.9 if i >= 6 else 0.2, 0.1, 0.1]) if i >= 4 else np.zeros(4)
        evaluation.add(case, case, values, np.ones(4), truth)
    return evaluation


def test_pixel_metrics_and_group_dice_come_from_the_pooled_maps() -> None:
    result = evaluate_scores(**small_set(pixel=pixels()))
    assert result["groups"]["mass"]["dice"] == pytest.approx(2 / 3)  # one of two lesion pixels, nothing else
    assert result["groups"]["oedema"]["dice"] == 1.0
    assert result["pixel"]["dice"]["value"] == pytest.approx((2 / 3 + 1) / 2)
    assert result["pixel"]["ap"]["value"] == 1.0


REVERSED = [-s for s in small_set()["scores"]]


@pytest.mark.parametrize(
    ("scores", "floor", "verdict"),
    [
        (np.arange(8.0), [0.0] * 8, "The method beats the best floor (flat): its AUROC differs by +0.500"),
        (REVERSED, np.arange(8.0), "The method does not beat the best floor (flat)"),
        (np.arange(8.0), np.arange(8.0), "The method does not beat the best floor (flat): its AUROC differs by +0.000"),
        (
            small_set()["scores"],
            [1, 2, 3, 7.5, 5, 6, 7, 8],
            "ahead of the best floor, but the lead is within chance (flat)",
        ),
    ],
)
def test_table_says_plainly_whether_the_best_floor_is_beaten(scores: list, floor: list, verdict: str) -> None:
    floors = {"flat": {"scores": floor, "pixel_ap": None}, "worst": {"scores": REVERSED, "pixel_ap": None}}
    result = evaluate_scores(**small_set(scores=scores, floors=floors))
    assert result["best_floor"]["name"] == "flat"
    assert verdict in table_markdown(result)


def test_table_compares_pixels_with_the_best_floor_and_names_synthetic_data() -> None:
    floors = {name: {"scores": np.arange(8.0), "pixel_ap": ap} for name, ap in (("pca", 0.4), ("brightness", None))}
    table = table_markdown(evaluate_scores(**small_set(pixel=pixels(), floors=floors, synthetic=True)))
    assert "On pixels it beats the best floor (pca): AP 1.000 against 0.400." in table
    assert "| Floor pca: pixel AP | 0.400 | 4 healthy, 4 abnormal |" in table
    assert "| False-alarm rate at alpha = 0.05 | 0.250 [0.006, 0.806] | 4 healthy |" in table
    assert "these numbers say nothing about patients" in table


def test_threshold_of_an_uncalibrated_detector_is_null_in_json() -> None:
    pixel = PixelEvaluation(float("inf"), 0.0)
    for case, label in zip(small_set()["cases"], small_set()["labels"]):
        pixel.add(case, case, np.arange(4.0), np.ones(4), np.array([0, 0, 0, 1]) if label else None)
    result = evaluate_scores(**small_set(pixel=pixel))
    assert result["pixel"]["threshold"] is None and result["pixel"]["ap"]["value"] == 0.5
    json.dumps(result, allow_nan=False)


def test_columns_of_other_lengths_are_refused_by_name() -> None:
    with pytest.raises(NomalyError, match="p_values must have an entry a case, 8, got 1"):
        evaluate_scores(**small_set(p_values=[0.5]))
    with pytest.raises(NomalyError, match=r"floors\['pca'\]\['scores'\] must have an entry a case, 8, got 0"):
        evaluate_scores(**small_set(floors={"pca": {"scores": []}}))
    with pytest.raises(NomalyError, match="cases must name at least one study, got none"):
        evaluate_scores(**{k: [] if isinstance(v, list) else v for k, v in small_set().items()})


def test_two_hundred_studies_with_six_floors_take_under_a_second() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 200)
    columns = {
        "cases": [f"c{i}" for i in range(200)],
        "labels": labels,
        "scores": generator.normal(labels),
        "subjects": [f"s{i // 2}" for i in range(200)],
        "groups": [f"g{i % 8}" if label else None for i, label in enumerate(labels)],
        "p_values": generator.random(200),
        "floors": {f"f{i}": {"scores": generator.normal(labels), "pixel_ap": None} for i in range(6)},
    }
    start = time.perf_counter()
    evaluate_scores(**small_set(**columns))
    assert time.perf_counter() - start < 1


def test_without_healthy_studies_the_pixels_are_still_compared() -> None:
    evaluation = {
        "best_floor": None,
        "pixel": {"ap": {"value": 0.4, "low": 0.3, "high": 0.5}},
        "floors": {"pca": {"pixel_ap": 0.5}, "brightness": {"pixel_ap": None}, "mean_image": {"pixel_ap": 0.2}},
    }
    assert floor_sentence(evaluation) == (
        "Whether the method ranks studies better than a floor is not known: no floor was computed, or a class is "
        "missing. On pixels it does not beat the best floor (pca): AP 0.400 against 0.500."
    )
