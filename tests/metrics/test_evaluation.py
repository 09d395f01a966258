"""The evaluation dictionary on tiny sets whose numbers are known, and on sets where something is missing."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest

from custom.calibration.decision import DecisionRule
from custom.errors import NomalyError
from custom.metrics.evaluation import BaselineResult, evaluate_scores
from custom.metrics.lesion_level import LesionEvaluation
from custom.metrics.pixel_evaluation import PixelEvaluation
from custom.metrics.ra_detection import BoxDetection
from custom.metrics.reconstruction_quality import ReconstructionQuality
from custom.metrics.study_level import StudyTable
from custom.metrics.table import table_markdown
from custom.scoring.regions import label_components

RULE = DecisionRule(alpha=0.05, likely_normal_p=0.2)
COLUMNS = {
    "cases": list("abcdefgh"),
    "labels": [0, 0, 0, 0, 1, 1, 1, 1],
    "scores": [1.0, 2.0, 3.0, 6.5, 5.0, 6.0, 7.0, 8.0],
    "subjects": list("abcdefgh"),
    "groups": [None] * 4 + ["mass", "mass", "oedema", "oedema"],
    "p_values": [0.9, 0.8, 0.7, 0.04, 0.2, 0.05, 0.03, 0.01],
    "decisions": ["likely_normal"] * 3 + ["flag", "uncertain", "flag", "flag", "flag"],
}


def table_of(kept: slice = slice(None), **changes: object) -> StudyTable:
    """The eight studies, or some of them."""
    return StudyTable(**({name: column[kept] for name, column in COLUMNS.items()} | changes))


def map_parts(kept: slice = slice(None), threshold: float = 0.5) -> dict:
    """What is accumulated of maps (1, 8, 8, 1); the first four studies are healthy, the last finds its lesion whole."""
    pixel = PixelEvaluation(threshold, 0.05)
    lesions, boxes, quality = LesionEvaluation(threshold), BoxDetection(threshold), ReconstructionQuality()
    generator = np.random.default_rng(0)
    for case, label in zip(COLUMNS["cases"][kept], COLUMNS["labels"][kept]):
        body, truth = np.ones((1, 8, 8, 1), dtype=bool), np.zeros((1, 8, 8, 1), dtype=bool)
        truth[:, 2:4, 2:5] = True
        values = 0.1 * generator.random((1, 8, 8, 1))
        values[0, 2, 2:5] += label
        values[0, 7, 7] += 0.8
        values[truth] += label * (case == "h")
        truth = truth if label else None
        regions = label_components(values > threshold)
        pixel.add(case, case, values, body, truth)
        lesions.add(case, values, regions, truth)
        boxes.add(case, values, regions, truth)
        quality.add(case, generator.random((1, 8, 8, 1)), generator.random((1, 8, 8, 1)), body, truth)
    return {"pixel": pixel, "lesions": lesions, "ra_detection": boxes, "reconstruction": quality}


def missing(value: object, path: str = "") -> set[str]:
    """Dotted paths of all that is None where a stat or a part belongs."""
    if value is None:
        return {path}
    if not isinstance(value, dict) or "value" in value:  # a number may lack its interval
        return set()
    return set().union(*(missing(item, f"{path}.{key}" if path else key) for key, item in value.items()))


def test_every_number_of_a_small_set_is_the_hand_derived_one() -> None:
    result = evaluate_scores(table_of(), RULE, synthetic=False)
    assert (result["n_healthy"], result["n_abnormal"], result["synthetic"], result["seed"]) == (4, 4, False, 0)
    assert (result["alpha"], result["flag_level"], result["confidence"], result["likely_normal_p"]) == (
        0.05,
        0.05,
        None,
        0.2,
    )
    assert result["image"]["auroc"]["value"] == (3 + 3 + 4 + 4) / 16
    assert result["image"]["fpr_at_95_tpr"]["value"] == 1 / 4 and result["image"]["tpr_at_5_fpr"]["value"] == 1 / 2
    assert result["image"]["prevalence"] == 0.5
    assert result["false_alarm_rate"]["value"] == 1 / 4 and result["sensitivity"]["value"] == 3 / 4
    assert result["triage"]["abnormal"] == {"flag": 3 / 4, "uncertain": 1 / 4, "likely_normal": 0}
    assert result["pixel"] is None and result["baselines"] == {} and result["best_baseline"] is None
    assert result["n_without_mask"] is None and result["best_pixel_baseline"] is None
    row = {"case": "f", "subject": "f", "label": 1, "group": "mass", "score": 6.0, "p_value": 0.05, "decision": "flag"}
    assert result["scores"][5] == row


def test_parts_of_the_maps_are_the_hand_derived_ones() -> None:
    result = evaluate_scores(table_of(), RULE, False, **map_parts())
    # three lesions are half marked (with the false pixel: Dice 6 / 10), one whole (Dice 12 / 13)
    assert result["pixel"]["dice"]["value"] == pytest.approx((3 * 6 / 10 + 12 / 13) / 4)
    assert result["groups"]["mass"]["dice"] == pytest.approx(6 / 10)
    assert (result["pixel"]["n_healthy"], result["pixel"]["n_abnormal"], result["n_without_mask"]) == (4, 4, 0)
    assert result["pixel"]["method"] == "exact" and 0.5 < result["pixel"]["aupro"]["value"] < 0.8
    assert (result["lesions"]["n"], result["lesions"]["sensitivity"]["value"]) == (4, 1)
    assert result["lesions"]["false_positives_per_study"]["value"] == 1
    scale_free = result["ra_detection"]["scale_free"]
    assert (scale_free["n"], scale_free["detection_rate"]["value"], scale_free["precision"]) == (4, 1, 0.5)
    assert 0 < result["reconstruction"]["healthy_mae"]["value"] < 1
    assert 0 <= result["reconstruction"]["index"] <= 1


def test_confident_mode_and_studies_without_a_p_value_are_reported() -> None:
    rule = DecisionRule(0.05, confidence=0.95)
    studies = table_of(p_values=[None] * 2 + COLUMNS["p_values"][2:], decisions=[None] * 2 + COLUMNS["decisions"][2:])
    result = evaluate_scores(studies, rule, False, flag_level=0.03)
    assert (result["alpha"], result["flag_level"], result["confidence"]) == (0.05, 0.03, 0.95)
    assert result["n_without_p_value"] == 2 and result["false_alarm_rate"]["value"] == 1 / 2


@pytest.mark.parametrize(
    ("kept", "threshold", "without", "expected"),
    [
        (slice(None), 0.5, (), {}),
        (
            slice(0, 4),
            0.5,
            (),
            {
                "image.auroc": "the test set has no abnormal study",
                "sensitivity": "the test set has no abnormal study",
                "pixel": "the test set has no abnormal study",
                "lesions.sensitivity": "the test set has no abnormal study",
                "ra_detection": "the test set has no abnormal study",
                "reconstruction.conserve": "the test set has no abnormal study",
            },
        ),
        (
            slice(4, 8),
            0.5,
            (),
            {
                "image.tpr_at_5_fpr": "the test set has no healthy study",
                "false_alarm_rate": "the test set has no healthy study",
                "groups.mass.auroc": "the test set has no healthy study",
                "lesions.false_positives_per_study": "the test set has no healthy study",
                "lesions.froc": "the test set has no healthy study",
                "ra_detection.published": "the test set has no healthy study",
                "reconstruction.healthy_ssim": "the test set has no healthy study",
            },
        ),
        (
            slice(None),
            float("inf"),
            ("p_values", "decisions"),
            {
                "false_alarm_rate": "no study has a p-value",
                "triage": "no study has a p-value",
                "groups.mass.sensitivity": "no study has a p-value",
                "pixel.dice": "the detector is not calibrated, so it has no pixel threshold",
                "pixel.threshold": "the detector is not calibrated, so it has no pixel threshold",
                "lesions": "the detector is not calibrated, so it has no pixel threshold",
                "ra_detection.scale_free": "the detector is not calibrated, so it has no pixel threshold",
            },
        ),
    ],
)
def test_everything_that_is_missing_has_its_reason_and_json_has_no_nan(
    kept: slice, threshold: float, without: tuple, expected: dict
) -> None:
    baselines = {"pca": BaselineResult(np.arange(8.0)[kept])}
    studies = table_of(kept, **{name: None for name in without})
    result = evaluate_scores(studies, RULE, False, baselines=baselines, **map_parts(kept, threshold))
    result = json.loads(json.dumps(result, allow_nan=False))
    reasons = result["not_computable"]
    assert expected.items() <= reasons.items()
    assert missing({**result, "not_computable": {}}) - {"confidence", "input_check"} <= set(reasons)
    assert all(reasons.values()) and "Inception" in reasons["reconstruction.ahi"]
    table = table_markdown(result)
    assert "not computable |" not in table and all(
        f"not computable: {reason} |" in table for reason in expected.values()
    )


def test_abnormal_studies_without_masks_leave_what_needs_none() -> None:
    # nothing of the abnormal studies is accumulated, as their lesions are somewhere
    result = evaluate_scores(table_of(), RULE, False, **map_parts(slice(0, 4)))
    masks = "no abnormal study has a lesion mask"
    assert result["pixel"] is None and result["not_computable"]["pixel"] == masks
    assert result["lesions"]["sensitivity"] is None and result["not_computable"]["lesions.sensitivity"] == masks
    assert result["lesions"]["false_positives_per_study"]["value"] == 1
    assert result["reconstruction"]["healthy_ssim"] is not None
    assert result["image"]["auroc"]["value"] == 14 / 16 and result["n_without_mask"] == 4
    assert result["not_computable"]["best_pixel_baseline"] == masks


def test_best_baseline_by_pixels_is_reported_with_the_lead_over_it() -> None:
    parts, blind = map_parts(), map_parts()["pixel"]
    blind.pool.values = [np.zeros_like(values) for values in blind.pool.values]
    baselines = {
        "blind": BaselineResult(np.arange(8.0), blind),
        "same": BaselineResult(np.zeros(8), map_parts()["pixel"]),
        "without_map": BaselineResult(np.zeros(8)),
    }
    result = evaluate_scores(table_of(), RULE, False, baselines=baselines, **parts)
    assert result["best_baseline"]["name"] == "blind" and result["baselines"]["without_map"]["pixel_ap"] is None
    assert result["baselines"]["same"]["pixel_ap"] == result["pixel"]["ap"]
    assert result["pixel"]["ap"]["value"] > 0.5
    assert result["baselines"]["blind"]["pixel_ap"]["value"] == pytest.approx(result["pixel"]["prevalence"])
    assert result["best_pixel_baseline"] == {"name": "same", "ap_difference": {"value": 0, "low": None, "high": None}}


def test_peer_is_compared_but_never_the_best_baseline() -> None:
    baselines = {"pca": BaselineResult(np.zeros(8)), "peer": BaselineResult(table_of().scores, peer=True)}
    result = evaluate_scores(table_of(), RULE, False, baselines=baselines)
    assert result["best_baseline"]["name"] == "pca" and result["baselines"]["peer"]["peer"] is True
    assert result["baselines"]["peer"]["auroc_difference"]["value"] == 0


def test_scores_without_maps_say_so() -> None:
    result = evaluate_scores(table_of(), RULE, False)
    parts = ("pixel", "lesions", "ra_detection", "reconstruction", "groups.mass.dice")
    assert {part: result["not_computable"][part] for part in parts} == dict.fromkeys(parts, "no maps were evaluated")


def test_baseline_of_another_length_is_refused_by_name() -> None:
    with pytest.raises(NomalyError, match=r"baselines\['pca'\].scores must have one entry per case, 8, got 0"):
        evaluate_scores(table_of(), RULE, False, baselines={"pca": BaselineResult([])})


def test_two_hundred_studies_with_six_baselines_take_under_a_second() -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 200)
    studies = StudyTable(
        cases=[f"c{i}" for i in range(200)],
        labels=labels,
        scores=generator.normal(labels),
        subjects=[f"s{i // 2}" for i in range(200)],
        groups=[f"g{i % 8}" if label else None for i, label in enumerate(labels)],
        p_values=generator.random(200),
        decisions=["flag", "uncertain"] * 100,
    )
    baselines = {f"f{i}": BaselineResult(generator.normal(labels)) for i in range(6)}
    start = time.process_time()
    evaluate_scores(studies, RULE, False, baselines=baselines)
    assert time.process_time() - start < 1
