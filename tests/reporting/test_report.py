from __future__ import annotations

import base64
import hashlib
import json
import re

import numpy as np
import pytest

from custom.rendering.case_view import case_view
from custom.reporting.page import RESEARCH_NOTE
from custom.reporting.report import _score_at, write_report
from custom.runs.tables import RegionResult, StudyResult
from pages import Page

EVIL = '<script>alert("x")</script>\'&'
RUN = {"command": "nomaly detect ra_brain a.nii", "seed": 0, "versions": {"torch": "2.13.0"}, "inputs": ["a", EVIL]}
STUDIES = [
    StudyResult("calm", score=0.1, p_value=0.8, decision="likely_normal", region_count=0, region_size=0.0),
    StudyResult("broken", "failed", error=f"cut off {EVIL}; copy it again"),
    StudyResult(EVIL, score=0.9, p_value=0.02, decision="flag", region_count=2, region_size=3.5, region_unit="mm2"),
    StudyResult("odd", score=0.7, p_value=0.12, decision="uncertain", seconds=1.25, note=f"Two views {EVIL}"),
]


def stat(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


def evaluation(**changes):
    base = {
        "n_healthy": 1,
        "n_abnormal": 2,
        "synthetic": True,
        "seed": 3,
        "alpha": 0.05,
        "image": {"auroc": stat(0.91, 0.85, 0.97), "auprc": stat(0.88, 0.7, 0.95), "prevalence": 0.67},
        "false_alarm_rate": stat(0.0625, 0.002, 0.302),
        "sensitivity": stat(0.5, 0.2, 0.8),
        "groups": {
            "enlarged_ventricles": {"n": 2, "auroc": stat(0.9), "sensitivity": stat(1.0, 0.2, 1.0), "dice": None}
        },
        "pixel": {"ap": stat(0.4, 0.3, 0.5), "dice": stat(0.35, 0.2, 0.5), "best_dice": 0.44},
        "baselines": {"mean_intensity": {"auroc": stat(0.6, 0.5, 0.7), "auprc": stat(0.5), "pixel_ap": stat(0.1)}},
        "best_baseline": {"name": "mean_intensity", "auroc_difference": stat(0.31, 0.2, 0.4)},
        "scores": [
            {"case": "calm", "label": 0, "group": None, "score": 0.1, "p_value": 0.8, "decision": "likely_normal"},
            {"case": "odd", "label": 1, "group": "mass", "score": 0.7, "p_value": 0.12, "decision": "uncertain"},
        ],
    }
    return {**base, **changes}


@pytest.fixture(scope="module")
def view():
    image = np.random.default_rng(0).random((1, 24, 24, 3)).astype(np.float32)
    regions = np.zeros(image.shape, int)
    regions[0, 5:9, 5:9, 1] = 1
    return case_view(image, image, image, regions, regions, 1.0)


def source_of(tmp_path, view=None, **changes):
    arguments = {
        "title": f"Ward {EVIL}",
        "notes": [f"Synthetic phantom data {EVIL}"],
        "run": RUN,
        "studies": STUDIES,
        "views": {} if view is None else {"calm": view, EVIL: view},
        "regions": {EVIL: [RegionResult(EVIL, 1, 3.5, "mm2", 1.0, 2.0, None, "px", 0.9, 1.0, 0.02)]},
        "evaluation": None,
        "alpha": 0.05,
        "healthy_scores": {"image": [0.01 * k for k in range(40)]},
    }
    write_report(tmp_path / "report.html", **{**arguments, **changes})
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def text_of(*arguments, **changes):
    return " ".join(Page(source_of(*arguments, **changes)).text.split())


def rows_of(source):
    return [a for tag, a in Page(source).elements if tag == "tr" and "data-study" in a]


def test_report_asks_for_nothing_outside_itself(tmp_path, view):
    source = source_of(tmp_path, view, evaluation=evaluation())
    assert not re.search(r"url\(|@import|<link|<iframe|<object|<base", source)
    assert "://" not in source
    loads = [a.get(k) for _, a in Page(source).elements for k in ("src", "href", "srcset", "data") if a.get(k)]
    assert loads and all(value.startswith(("data:image/webp;", "#case=", "#worklist")) for value in loads)


def test_security_policy_admits_only_the_script_of_the_report(tmp_path):
    source = source_of(tmp_path)
    scripts = re.findall(r"<script>(.*?)</script>", source, re.S)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in source


def test_every_text_is_escaped_and_reads_as_given(tmp_path, view):
    source = source_of(
        tmp_path, view, evaluation=evaluation(baselines={EVIL: {"auroc": {}, "auprc": {}, "pixel_ap": {}}})
    )
    page = Page(source)
    assert "alert(" not in re.sub(r"&lt;script&gt;alert\(&#34;x&#34;\)", "", source, flags=re.I)
    for text in (f"Ward {EVIL}", f"Synthetic phantom data {EVIL}", f"cut off {EVIL}; copy it again", f"a, {EVIL}"):
        assert text in page.text
    assert f"Two views {EVIL}" in page.text
    assert EVIL in [attributes.get("data-study") for _, attributes in page.elements]


def test_worklist_shows_every_study_in_order_with_failures_last(tmp_path):
    assert [row["data-study"] for row in rows_of(source_of(tmp_path))] == [EVIL, "odd", "calm", "broken"]


def test_decisions_sort_by_urgency(tmp_path):
    rows = {row["data-study"]: int(row["data-decision"]) for row in rows_of(source_of(tmp_path))}
    assert rows[EVIL] < rows["odd"] < rows["calm"] < rows["broken"]


def test_triage_counts_lead_to_the_filters_of_the_worklist(tmp_path):
    text = text_of(tmp_path)
    assert "1 Flagged 1 Uncertain 1 Likely normal 1 Failed" in text and "No decision" not in text
    elements = Page(source_of(tmp_path)).elements
    shown = [a["data-show"] for _, a in elements if "data-show" in a]
    assert shown == [a["data-filter"] for _, a in elements if "data-filter" in a][1:]


def test_group_column_is_there_only_if_a_study_has_one(tmp_path):
    grouped = [StudyResult("a", score=1.0, p_value=0.5, decision="uncertain", group="Scanner A")]
    assert "Group" not in text_of(tmp_path) and 'data-sort="group"' not in source_of(tmp_path)
    assert 'data-sort="group"' in source_of(tmp_path, studies=grouped) and "Scanner A" in text_of(
        tmp_path, studies=grouped
    )


def test_data_of_a_case_are_one_block_of_json(tmp_path, view):
    source = source_of(tmp_path, view)
    blocks = dict(re.findall(r'<script type="application/json" id="case-(\d+)">(.*?)</script>', source, re.S))
    assert sorted(blocks) == ["1", "3"]
    first = json.loads(blocks["1"])
    assert first["view"]["depth"] == 3 and first["view"]["positions"] == {"1": 1}
    assert first["regions"][0]["size"] == "3.50 mm²"


def test_decision_rule_is_taken_from_the_run_if_it_is_not_given(tmp_path):
    run = {**RUN, "decision_rule": {"alpha": 0.1, "confidence": 0.9, "likely_normal_p": 0.3}}
    text = text_of(tmp_path, run=run, alpha=None)
    assert "with 90 % confidence, at most 10 % of healthy studies similar to the 40 calibration studies" in text
    # 40 healthy: P(Binomial(40, 0.9) < 39) = 1 - 0.9^40 - 40 x 0.9^39 x 0.1 = 0.92 >= 0.9, so p <= (40 - 39 + 1) / 41.
    assert "Flagged: p ≤ 0.0488. Likely normal: p > 0.3." in text
    assert "Decision rule alpha 0.1 confidence 0.9 likely normal p 0.3" in text


def test_given_alpha_takes_precedence_over_that_of_the_run(tmp_path):
    run = {**RUN, "decision_rule": {"alpha": 0.1, "confidence": None, "likely_normal_p": 0.2}}
    assert "probability of at most 5 %" in text_of(tmp_path, run=run, alpha=0.05)
    assert "probability of at most 10 %" in text_of(tmp_path, run=run, alpha=None)


@pytest.mark.parametrize(("n_healthy", "warned"), [(18, True), (19, False)])
def test_calibration_too_small_to_flag_gets_a_banner(tmp_path, n_healthy, warned):
    # The smallest p-value is 1 / (n + 1): 1 / 20 = 0.05 can just be flagged at alpha = 0.05, 1 / 19 cannot.
    source = source_of(tmp_path, healthy_scores={"image": [0.1] * n_healthy})
    assert ("At least 19 are needed" in source) is warned


def test_confident_mode_needs_more_healthy_studies(tmp_path):
    run = {**RUN, "decision_rule": {"alpha": 0.05, "confidence": 0.95, "likely_normal_p": 0.2}}
    assert "At least 59 are needed" in text_of(tmp_path, run=run)


def test_run_without_calibration_has_a_banner(tmp_path):
    bare = [StudyResult("a", score=1.0), StudyResult("b", "failed", error="x")]
    text = text_of(tmp_path, studies=bare, healthy_scores=None)
    assert "Not calibrated: no p-values, decisions or masks. Run nomaly calibrate first." in text
    assert "1 No decision 1 Failed" in text and "Flagged" not in text
    assert "Not calibrated" not in text_of(tmp_path)


def test_synthetic_evaluation_has_a_banner_even_without_a_note(tmp_path):
    assert "Synthetic data: these numbers do not apply" in text_of(tmp_path, notes=[], evaluation=evaluation())
    assert "Synthetic data: these" not in text_of(tmp_path, notes=["synthetic films"], evaluation=evaluation())
    assert "Synthetic data: these" not in text_of(tmp_path, notes=[], evaluation=evaluation(synthetic=False))


def test_research_banner_is_always_there_and_only_once(tmp_path):
    assert Page(source_of(tmp_path, notes=[RESEARCH_NOTE])).text.count(RESEARCH_NOTE) == 1
    assert Page(source_of(tmp_path, notes=[])).text.count(RESEARCH_NOTE) == 1


def test_score_threshold_agrees_with_conformal_decisions():
    healthy = [float(k) for k in range(1, 41)]
    threshold = _score_at(healthy, 0.05)
    for score in np.arange(0.5, 42, 0.5):
        p_value = (1 + sum(h >= score for h in healthy)) / 41
        assert (score > threshold) == (p_value <= 0.05)
    assert _score_at(healthy[:18], 0.05) is None


def test_evaluation_shows_figures_intervals_groups_and_truth(tmp_path):
    text = text_of(tmp_path, evaluation=evaluation())
    for piece in (
        "Study AUROC 0.91 95 % CI 0.85 – 0.97",
        "False-alarm rate 6.2 % 95 % CI 0.2 – 30 % Target: at most 5 %",
        "Dice 0.35 95 % CI 0.20 – 0.50 Mean per abnormal study; best of all pixels pooled 0.44",
        "Ranking of studies: significantly better than the best baseline (mean intensity); difference in "
        "AUROC +0.310 [+0.200, ",
        "Enlarged ventricles 2 0.90",
        "odd Two views",
        "Uncertain 0.120 0.7000 Mass",
    ):
        assert piece in text


def test_evaluation_shows_triage_and_lesions_by_size(tmp_path):
    triage = {"healthy": {"flag": 0.0, "uncertain": 0.25, "likely_normal": 0.75}, "abnormal": {"flag": 1.0}}
    rates, shares = [0.125, 0.25, 0.5, 1, 2, 4, 8], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, None]
    sizes = [
        {"name": "small", "pixels": [0, 40], "n": 5, "sensitivity": stat(0.4), "froc": shares},
        {"name": "large", "pixels": [160, None], "n": 7, "sensitivity": None, "froc": [None] * 7},
    ]
    found = {
        "n": 12,
        "sensitivity": stat(0.5),
        "false_positives_per_study": stat(1.5),
        "froc": {
            "false_positives_per_study": rates,
            "sensitivity": shares,
            "curve": {"false_positives": [], "sensitivity": []},
        },
        "by_size": sizes,
    }
    source = source_of(tmp_path, evaluation=evaluation(triage=triage, lesions=found))
    text = " ".join(Page(source).text.split())
    assert "All 12 50 % 10 % 20 % 30 % 40 % 50 % 60 % –" in text
    assert "Small under 40 5 40 % 10 %" in text and "Large 160 and more 7 – – – – – – – –" in text
    assert "25 % 75 %" in text and 'aria-label="FROC curve' in source


def test_evaluation_that_cannot_be_computed_gives_the_reason(tmp_path):
    reasons = {"image.auroc": "the test set has no abnormal study"}
    empty = evaluation(pixel=None, baselines={}, groups={}, scores=[], sensitivity=None, image={"auroc": None})
    assert "Not computable: the test set has no abnormal study" in text_of(
        tmp_path, evaluation={**empty, "not_computable": reasons}
    )
    text = text_of(tmp_path, evaluation=empty)
    assert "Not computable from these data" in text and "Comparison with baselines" not in text


@pytest.mark.parametrize("left_out", ["image", "pixel", "baselines", "groups", "scores", "alpha", "false_alarm_rate"])
def test_evaluation_of_an_older_version_still_reports(tmp_path, left_out):
    older = evaluation()
    del older[left_out]
    assert "Evaluation" in source_of(tmp_path, evaluation=older, alpha=None)


@pytest.mark.parametrize(("kinds", "compared"), [(["image"] * 2, True), (["image", "volume"], False)])
def test_studies_of_both_kinds_are_not_drawn_beside_the_healthy_ones_of_one(tmp_path, kinds, compared):
    studies = [StudyResult(f"s{k}", score=0.1, p_value=0.5, decision="uncertain", kind=k) for k in kinds[:1]]
    studies += [StudyResult("other", score=0.2, p_value=0.5, decision="uncertain", kind=kinds[1])]
    healthy = {"image": [0.01 * k for k in range(40)], "volume": [0.0] * 20}
    source = source_of(tmp_path, studies=studies, evaluation=None, healthy_scores=healthy)
    assert ("Healthy calibration studies" in source) is compared


def test_report_of_no_study_at_all_can_be_written(tmp_path):
    assert "No study could be scored." in source_of(tmp_path, studies=[], healthy_scores=None, alpha=None)


def test_provenance_is_listed_in_groups(tmp_path):
    text = text_of(tmp_path)
    assert "command nomaly detect ra_brain a.nii seed 0 inputs a," in text and "Versions torch 2.13.0" in text


def test_three_hundred_cases_stay_under_thirty_megabytes(tmp_path):
    noise = np.random.default_rng(0).random((1, 96, 96, 1)).astype(np.float32)  # noise does not compress
    view = case_view(noise, noise, noise, vmax=1.0)
    assert view.characters > 20_000
    studies = [StudyResult(f"s{k}", score=k, p_value=0.5, decision="uncertain") for k in range(300)]
    source_of(tmp_path, studies=studies, views={s.study: view for s in studies})
    assert (tmp_path / "report.html").stat().st_size < 30e6
