"""The Markdown table and the verdicts after it."""

from __future__ import annotations

import pytest

from custom.calibration.decision import DecisionRule
from custom.metrics.evaluation import evaluate_scores
from custom.metrics.study_level import StudyTable
from custom.metrics.table import table_markdown

SCORES = [1.0, 2.0, 3.0, 6.5, 5.0, 6.0, 7.0, 8.0]
REVERSED = [-score for score in SCORES]


def stat(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def evaluation(scores: object = SCORES, **settings: object) -> dict:
    """Four healthy and four abnormal studies without maps."""
    studies = StudyTable(
        cases=list("abcdefgh"),
        labels=[0] * 4 + [1] * 4,
        scores=scores,
        subjects=list("abcdefgh"),
        groups=[None] * 4 + ["mass", "mass", "oedema", "oedema"],
        p_values=[0.9, 0.8, 0.7, 0.04, 0.2, 0.05, 0.03, None],
        decisions=["likely_normal"] * 3 + ["flag", "uncertain", "flag", "flag", None],
    )
    return evaluate_scores(studies, settings.pop("rule", DecisionRule()), **({"synthetic": False} | settings))


def complete() -> dict:
    """The same with every part filled in."""
    rate, froc = stat(0.5), [0.1, 0.2, 0.3, 0.4, None, None, None]
    boxes = {"n": 7, "threshold": 0.5, "detection_rate": rate, "precision": 0.25, "f1": 0.375}
    sizes = (("small", [1, 31], 2), ("large", [128, None], 0))
    return evaluation() | {
        "pixel": {"method": "histogram", "ap": rate, "aupro": rate, "dice": None, "best_dice": 0.75, "threshold": 0.5}
        | {"pixel_false_positive_rate": 0.05, "false_positive_rate": 0.0625, "prevalence": 0.0125}
        | {"n_healthy": 4, "n_abnormal": 3},
        "n_without_mask": 1,
        "best_pixel_baseline": {"name": "pca", "ap_difference": {"value": 0.1, "low": -0.05, "high": 0.2}},
        "lesions": {
            "n": 9,
            "sensitivity": rate,
            "false_positives_per_study": rate,
            "froc": {"false_positives_per_study": [0.125, 0.25, 0.5, 1, 2, 4, 8], "sensitivity": froc, "curve": {}},
            "by_size": [
                {"name": name, "pixels": pixels, "n": n, "sensitivity": rate if n else None, "froc": froc}
                for name, pixels, n in sizes
            ],
        },
        "ra_detection": {
            "published": boxes | {"threshold_set_on": "the healthy test studies"},
            "scale_free": None,
        },
        "reconstruction": {"healthy_mae": rate, "healthy_ssim": rate, "conserve": rate, "correct": rate, "index": 0.5},
        "baselines": {"pca": {"auroc": rate, "auprc": rate, "pixel_ap": rate}},
        "not_computable": {
            "pixel.dice": "why not",
            "ra_detection.scale_free": "no threshold",
            "lesions.by_size.large.sensitivity": "no lesion has this size",
        },
    }


def test_groups_of_rows_come_in_a_fixed_order_after_a_heading() -> None:
    lines = table_markdown(complete()).splitlines()
    assert lines[:2] == ["| Metric | Value [95 % interval] | n |", "|---|---|---|"]
    headings = [line.split("**")[1] for line in lines if line.startswith("| **")]
    assert headings == [
        "Studies",
        "Decisions",
        "By group, each against all healthy studies",
        "Pixels",
        "Lesions",
        "Boxes, as for the Reversed Autoencoder",
        "Pseudo-healthy images",
        "Baselines",
    ]
    assert all(line.count("|") == 4 for line in lines if line.startswith("|"))


@pytest.mark.parametrize(
    "row",
    [
        "| False-alarm rate at alpha = 0.05 | 0.250 [0.006, 0.806] | 4 healthy |",
        "| Triage of healthy studies | 0.250 flagged, 0.000 uncertain, 0.750 likely normal | 4 healthy |",
        "| Studies without a p-value, left out of these rates | 1 |  |",
        "| Abnormal studies without a lesion mask, left out of pixels, lesions and boxes | 1 |  |",
        "| Pixel AP (prevalence 0.0125, from histograms) | 0.500 [0.400, 0.600] | 4 healthy, 3 abnormal |",
        "| Dice at the calibrated threshold | not computable: why not | 3 abnormal |",
        "| FROC: false regions per healthy study | 0.125 / 0.25 / 0.5 / 1 / 2 / 4 / 8 |  |",
        "| FROC: lesions hit | 0.100 / 0.200 / 0.300 / 0.400 / - / - / - | 9 lesions |",
        "| Small lesions (1 to 31 pixels): hit | 0.500 [0.400, 0.600] | 2 lesions |",
        "| Large lesions (128 pixels or more): hit | not computable: no lesion has this size | 0 lesions |",
        "| As published (depends on the map's scale): precision / F1; threshold set on the healthy test studies "
        "| 0.250 / 0.375 | 7 boxes |",
        "| Scale-free | not computable: no threshold |  |",
        "| Harmonic mean of the two | 0.500 | 3 abnormal |",
        "| Baseline pca: pixel AP | 0.500 [0.400, 0.600] | 4 healthy, 3 abnormal |",
    ],
)
def test_row_reads_as_it_should(row: str) -> None:
    assert row in table_markdown(complete()).splitlines()


def test_set_whose_studies_all_have_masks_has_no_row_of_those_without() -> None:
    assert "without a lesion mask" not in table_markdown(complete() | {"n_without_mask": 0})


def test_confident_mode_and_synthetic_data_are_reported() -> None:
    table = table_markdown(evaluation(rule=DecisionRule(0.05, 0.95), synthetic=True))
    assert "| False-alarm rate at alpha = 0.05 with 95 % confidence |" in table
    assert table.endswith("these numbers do not apply to patients.\n")


def test_number_without_an_interval_has_no_brackets() -> None:
    few = evaluation()
    few["image"]["auroc"] = {"value": 0.5, "low": None, "high": None}
    assert "| AUROC | 0.500 | 4 healthy, 4 abnormal |" in table_markdown(few)


def test_verdict_on_the_baseline_ends_the_table() -> None:
    last = table_markdown(complete()).splitlines()[-1]
    assert "Marking of pixels: difference from the best baseline (pca) not significant" in last


def test_part_without_any_lesion_has_two_rows() -> None:
    found = complete()
    found["lesions"]["n"] = 0
    rows = [line for line in table_markdown(found).splitlines() if "esion" in line and "FROC" in line]
    assert rows == [] and "Lesions hit by the calibrated mask" in table_markdown(found)


def test_exceeded_target_comes_before_the_verdict_on_the_baselines() -> None:
    over = complete()
    over["false_alarm_rate"] = {"value": 0.25, "low": 0.1, "high": 0.5}
    lines = table_markdown(over).splitlines()
    exceeded = next(i for i, line in enumerate(lines) if line.startswith("Target false-alarm rate exceeded: 25.0 %"))
    assert lines[exceeded + 1].startswith(("Ranking of studies", "Marking of pixels"))
