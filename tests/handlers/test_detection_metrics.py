"""Label-free criteria of validation, by hand."""

from __future__ import annotations

import math

import pytest

from custom.handlers.detection_metrics import HealthyError, StudyAUROC


def study(score: float, label: int, error: float = 0.0) -> list[dict]:
    return [{"score": score, "label": label, "squared_error": error}]


def computed(metric, *outputs: list[dict]) -> float:
    metric.reset()
    for output in outputs:
        metric.update(output)
    return metric.compute()


def test_auroc_counts_pairs_in_the_right_order() -> None:
    # Of the four pairs of an abnormal and a healthy study, three are in order, one of them a tie worth a half.
    outputs = [study(0.1, 0), study(0.4, 0), study(0.4, 1), study(0.5, 1)]
    assert computed(StudyAUROC(), *outputs) == pytest.approx(3.5 / 4)


@pytest.mark.parametrize("labels", [(), (0, 0), (1,)])
def test_auroc_of_one_class_is_chance(labels: tuple[int, ...]) -> None:
    assert computed(StudyAUROC(), *(study(0.3, label) for label in labels)) == 0.5


def test_healthy_error_is_the_mean_over_healthy_studies() -> None:
    assert computed(HealthyError(), study(0, 0, 2.0), study(0, 1, 99.0), study(0, 0, 4.0)) == 3.0
    assert computed(HealthyError(), study(0, 1, 99.0)) == math.inf


def test_failed_studies_do_not_count() -> None:
    failed = [{"error": "unreadable", "label": 0}]
    assert computed(HealthyError(), failed, study(0, 0, 2.0)) == 2.0
    assert computed(StudyAUROC(), failed, study(0.1, 0), study(0.2, 1)) == 1.0


def test_reset_forgets_earlier_studies() -> None:
    metric = HealthyError()
    computed(metric, study(0, 0, 8.0))
    assert computed(metric, study(0, 0, 2.0)) == 2.0
