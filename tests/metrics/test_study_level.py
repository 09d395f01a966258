"""Ranking, decisions and groups of one small test set, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from custom.errors import NomalyError
from custom.metrics.image_level import auroc
from custom.metrics.intervals import bootstrap_weights, clopper_pearson
from custom.metrics.study_level import StudyTable


def small_set(**changes: object) -> StudyTable:
    """Four healthy and four abnormal studies of two groups; the last healthy study ranks among the abnormal ones."""
    columns = {
        "cases": list("abcdefgh"),
        "labels": [0, 0, 0, 0, 1, 1, 1, 1],
        "scores": [1.0, 2.0, 3.0, 6.5, 5.0, 6.0, 7.0, 8.0],
        "subjects": list("abcdefgh"),
        "groups": [None] * 4 + ["mass", "mass", "oedema", "oedema"],
        "p_values": [0.9, 0.8, 0.1, 0.04, 0.15, 0.05, 0.03, 0.01],
        "decisions": ["likely_normal", "likely_normal", "uncertain", "flag", "uncertain", "flag", "flag", "flag"],
    }
    return StudyTable(**(columns | changes))


def test_ranking_has_every_metric_with_an_interval_around_it() -> None:
    studies = small_set()
    result = studies.image_metrics()
    assert result.pop("prevalence") == 0.5
    values = {name: entry["value"] for name, entry in result.items()}
    # falling scores: two abnormal, then the healthy 6.5, then the other two abnormal
    assert values == {"auroc": 14 / 16, "auprc": values["auprc"], "fpr_at_95_tpr": 1 / 4, "tpr_at_5_fpr": 2 / 4}
    assert values["auprc"] == pytest.approx((1 + 1 + 3 / 4 + 4 / 5) / 4)
    assert all(entry["low"] is entry["high"] is None for entry in result.values())  # four patients of each class


def large_set(**changes: object) -> StudyTable:
    """Sixty studies of thirty patients, of both classes."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 60)
    columns = {
        "cases": [str(i) for i in range(60)],
        "labels": labels,
        "scores": np.round(generator.normal(labels, 1), 1),
        "subjects": [str(i // 2) for i in range(60)],
        "groups": [None] * 60,
    }
    return StudyTable(**(columns | changes))


def test_interval_of_a_ranking_equals_resampling_patients_in_a_loop() -> None:
    studies = large_set(seed=3)
    result = studies.ranking(auroc, studies.scores)
    looped = [
        roc_auc_score(np.repeat(studies.labels, row), np.repeat(studies.scores, row))
        for row in bootstrap_weights(studies.subjects, 1000, 3).astype(int)
    ]
    assert (result["low"], result["high"]) == pytest.approx(tuple(np.quantile(looped, [0.025, 0.975])), abs=1e-12)
    assert result["low"] < result["value"] < result["high"]


def test_patients_of_the_smaller_class_decide_whether_there_is_an_interval() -> None:
    subjects, labels = [f"h{i}" for i in range(9)], np.repeat([0, 1], [9, 6])
    for ill, patients in ((list("abcdde"), 5), (list("abcddd"), 4)):
        columns = {"cases": [str(i) for i in range(15)], "labels": labels, "subjects": subjects + ill}
        studies = StudyTable(**columns, scores=np.arange(15.0), groups=[None] * 15)
        known = studies.ranking(auroc, studies.scores)["low"] is not None
        assert known == (patients == 5)
        assert (studies.lead({"flat": [0.0] * 15})["auroc_difference"]["low"] is not None) == known


def test_rates_and_triage_are_shares_of_the_studies_with_a_decision() -> None:
    decisions = ["likely_normal", "likely_normal", None, "flag", "uncertain", "flag", "flag", None]
    studies = small_set(decisions=decisions)
    assert studies.rate(studies.labels == 0)["value"] == 1 / 3
    assert studies.rate(studies.labels == 1)["value"] == 2 / 3
    assert studies.triage() == {
        "healthy": {"flag": 1 / 3, "uncertain": 0, "likely_normal": 2 / 3},
        "abnormal": {"flag": 2 / 3, "uncertain": 1 / 3, "likely_normal": 0},
    }


def test_rate_of_patients_with_one_study_each_has_the_exact_interval() -> None:
    rate = small_set().rate(np.arange(8) >= 4)
    assert (rate["low"], rate["high"]) == clopper_pearson(3, 4)
    twins = small_set(subjects=list("abcdabcd"))  # each patient has one study of each class
    assert twins.rate(np.arange(8) >= 4) == rate
    repeated = small_set(subjects=list("abcdeeff")).rate(np.arange(8) >= 4)
    assert repeated == {"value": 3 / 4, "low": None, "high": None}  # two patients cannot be resampled
    studies = large_set(p_values=[0.5] * 60, decisions=["flag", "uncertain", "flag"] * 20)
    rate = studies.rate(np.ones(60, dtype=bool))
    assert rate["low"] < rate["value"] == 2 / 3 < rate["high"]


def test_without_p_values_there_is_no_rate_and_no_triage() -> None:
    studies = small_set(p_values=None, decisions=None)
    assert studies.rate(studies.labels == 0) is None and studies.triage() is None
    assert studies.rows()[0]["p_value"] is None and studies.rows()[0]["decision"] is None


def test_triage_of_one_class_leaves_the_other_out() -> None:
    studies = small_set(decisions=["flag"] * 4 + [None] * 4)
    assert studies.triage() == {"healthy": {"flag": 1, "uncertain": 0, "likely_normal": 0}, "abnormal": None}


def test_groups_rank_against_all_healthy_studies() -> None:
    groups = small_set().by_group({"e": 0.25, "f": 0.75, "a": 0.0})
    assert groups["mass"]["n"] == 2 and groups["mass"]["auroc"]["value"] == 6 / 8
    assert groups["oedema"]["auroc"]["value"] == 1.0
    assert groups["mass"]["sensitivity"]["value"] == 1 / 2
    assert groups["mass"]["dice"] == 0.5 and groups["oedema"]["dice"] is None
    unnamed = small_set(groups=[None] * 8).by_group({})
    assert list(unnamed) == ["ungrouped"] and unnamed["ungrouped"]["n"] == 4


def test_lead_over_the_best_baseline_is_the_difference_of_paired_resamplings() -> None:
    studies = large_set()
    baselines = {"flat": [0.0] * 60, "same": studies.scores - 9}
    lead = studies.lead(baselines)
    assert (lead["name"], lead["auroc_difference"]) == ("same", {"value": 0.0, "low": 0.0, "high": 0.0})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"p_values": [0.5]}, "p_values must have one entry per case, 8, got 1"),
        ({"decisions": ["flag"]}, "decisions must have one entry per case, 8, got 1"),
        ({"decisions": ["normal"] * 8}, "decisions must be flag, uncertain, likely_normal or None, got 'normal'"),
        ({"cases": []}, "cases must name at least one study, got none"),
    ],
)
def test_broken_columns_are_refused_by_name(changes: dict, message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        small_set(**changes)
