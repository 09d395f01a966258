from __future__ import annotations

import logging

import numpy as np
import pytest

from custom.calibration.decision import DecisionRule
from custom.rendering.case_view import case_view
from custom.reporting.worklist import fit_views, summary_sentences, worklist, worklist_key
from custom.runs.tables import RegionResult, StudyResult

RULE = DecisionRule(0.05, None, 0.2)


def studies(*decisions):
    return [StudyResult(f"s{k}", score=k, p_value=0.5, decision=d) for k, d in enumerate(decisions)]


@pytest.fixture(scope="module")
def view():
    image = np.random.default_rng(0).random((1, 48, 48, 16)).astype(np.float32)
    return case_view(image, image, image, vmax=1.0)


def test_sort_key_is_p_then_score_then_failures():
    mixed = [
        StudyResult("failed b", "failed", error="x"),
        StudyResult("p high", score=9.0, p_value=0.5),
        StudyResult("no p", score=99.0),
        StudyResult("p low, score low", score=1.0, p_value=0.1),
        StudyResult("failed a", "failed", error="x"),
        StudyResult("p low, score high", score=2.0, p_value=0.1),
    ]
    names = [result.study for result in sorted(mixed, key=worklist_key)]
    assert names == ["p low, score high", "p low, score low", "p high", "no p", "failed a", "failed b"]


def test_summary_states_finding_guarantee_and_chance():
    run = studies(*["flag"] * 6, *["likely_normal"] * 26)
    assert summary_sentences(run, RULE, 40) == [
        "6 of 32 studies are flagged; a healthy study like the 40 calibration ones is flagged with a probability of at "
        "most 5 %.",
        "Were all 32 healthy, up to 1.6 flags would be expected.",
    ]


def test_summary_of_the_confident_mode_states_the_confidence():
    first = summary_sentences(studies("flag"), DecisionRule(0.02, 0.95, 0.2), 200)[0]
    assert first == (
        "1 of 1 study is flagged; with 95 % confidence over calibration sets, at most 2 % of healthy studies like the "
        "200 calibration ones are flagged."
    )


def test_summary_of_groups_promises_within_the_group():
    run = [StudyResult("a", score=1.0, p_value=0.5, decision="uncertain", group="scanner A")]
    assert "a healthy study like the calibration ones of its group is flagged" in summary_sentences(run, RULE, 40)[0]


def test_summary_without_calibration_promises_nothing():
    sentences = summary_sentences([StudyResult("a", score=1.0), StudyResult("b", "failed", error="x")], None, 0)
    assert sentences == [
        "1 study scored; not calibrated, so none can be flagged.",
        "1 study could not be read or scored; see the end of the list.",
    ]


def test_summary_counts_studies_that_the_calibration_does_not_cover():
    run = [*studies("flag"), StudyResult("odd", score=1.0, note="No p-value: calibrated on 2-D images.")]
    assert summary_sentences(run, RULE, 40)[2] == "1 study has no p-value and says why."
    assert summary_sentences(run[1:], RULE, 40)[0] == "1 study scored; none has a p-value, so none can be flagged."


def test_worklist_tells_decision_truth_and_lesions_of_each_study(view):
    run = [
        StudyResult("b", score=0.5, p_value=0.4, decision="likely_normal"),
        StudyResult("a", score=0.7, p_value=0.01, decision="flag", region_size=3.5, region_unit="mm2"),
        StudyResult("c", "failed", error="x"),
    ]
    found = RegionResult("a", 1, 3.5, "mm2", -12.4, 7.6, 30.0, "mm", 0.51234, 2.0, 0.0244)
    truth = {"scores": [{"case": "a", "label": 1, "group": "enlarged_heart"}, {"case": "b", "label": 0, "group": None}]}
    first, second, third = worklist(run, {"a": view}, {"a": [found]}, truth, 10**9)
    assert [case["number"] for case in (first, second, third)] == [1, 2, 3]
    assert [case["decision"] for case in (first, second, third)] == ["Flagged", "Likely normal", "Failed"]
    assert [case["truth"] for case in (first, second, third)] == ["Enlarged heart", "Healthy", None]
    assert (first["score"], first["extent"], first["unit"]) == ("0.7000", "3.50", "mm²")
    assert first["data"]["regions"] == [
        {"number": 1, "size": "3.50 mm²", "position": "12 L, 8 A, 30 S mm", "peak": "0.512", "p": "0.024"}
    ]
    assert first["thumbnail"].startswith("data:image/webp") and second["data"] is None


def test_position_in_a_picture_has_two_numbers(view):
    found = RegionResult("a", 1, 9, "px", 12.0, 7.0, None, "px", 0.5, 2.0)
    (case,) = worklist([StudyResult("a", score=1.0)], {}, {"a": [found]}, None, 10**9)
    assert case["data"]["regions"][0]["position"] == "12, 7 px" and case["data"]["regions"][0]["p"] == "–"


def test_views_that_fit_are_kept_as_they_are(view):
    assert fit_views({"a": view, "b": view}, ["a", "b"], 2 * view.characters) == {"a": view, "b": view}


def test_views_over_the_budget_lose_slices_first_and_say_so(view, caplog):
    with caplog.at_level(logging.INFO, "custom.reporting.worklist"):
        fitted = fit_views({"a": view, "b": view}, ["a", "b"], 2 * view.characters - 1)
    assert [len(v.slices) for v in fitted.values()] == [12, 12]
    assert fitted["a"].slices[0].image in [s.image for s in view.slices]
    assert "the report has room for" in caplog.text and "'max_slices': 12" in caplog.text


def test_views_far_over_the_budget_go_by_the_order_of_the_worklist(view, caplog):
    smallest = view.reduced(1, 40, 160).characters
    with caplog.at_level(logging.INFO, "custom.reporting.worklist"):
        fitted = fit_views({"b": view, "a": view}, ["a", "b"], 2 * smallest - 1)
    assert list(fitted) == ["a"] and len(fitted["a"].slices) == 1
    assert "Case views left out for want of room: those of the last 1 studies." in caplog.text


def test_equal_runs_are_reduced_equally(view):
    first, second = (fit_views({"a": view}, ["a"], view.characters // 3) for _ in range(2))
    assert first == second and first["a"].characters <= view.characters // 3
