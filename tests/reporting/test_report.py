from __future__ import annotations

import base64
import hashlib
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from custom.reporting.pictures import slice_picture
from custom.reporting.report import (
    RESEARCH_NOTE,
    _score_threshold,
    summary_sentences,
    verdicts,
    worklist_key,
    write_report,
)
from custom.reporting.results import StudyResult

EVIL = '<script>alert("x")</script>\'&'
RUN = {"command": "nomaly detect ra_brain a.nii", "seed": 0, "versions": {"torch": "2.13.0"}, "inputs": ["a", EVIL]}
STUDIES = [
    StudyResult("calm", score=0.1, p_value=0.8, decision="normal", lesion_count=0, lesion_volume=0.0, lesion_unit="ml"),
    StudyResult("broken", "failed", error=f"cut off {EVIL}; copy it again"),
    StudyResult(EVIL, score=0.9, p_value=0.02, decision="flag", lesion_count=2, lesion_volume=3.5, lesion_unit="mm2"),
    StudyResult("odd", score=0.7, p_value=0.02, decision="flag", seconds=1.25),
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
        "floors": {"mean_intensity": {"auroc": stat(0.6, 0.5, 0.7), "auprc": stat(0.5), "pixel_ap": 0.1}},
        "scores": [
            {"case": "calm", "label": 0, "group": None, "score": 0.1, "p_value": 0.8, "decision": "normal"},
            {"case": "odd", "label": 1, "group": "mass", "score": 0.7, "p_value": 0.02, "decision": "flag"},
        ],
    }
    return {**base, **changes}


class Page(HTMLParser):
    """Collects what a browser would see: elements, their attributes and the text outside of scripts."""

    def __init__(self, source):
        super().__init__()
        self.elements, self.text, self._hidden = [], "", False
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        self._hidden = tag in ("script", "style")
        self.text += " "

    def handle_endtag(self, tag):
        self._hidden = False

    def handle_data(self, data):
        self.text += "" if self._hidden else data


@pytest.fixture(scope="module")
def picture():
    image = np.random.default_rng(0).random((48, 48))
    return slice_picture(image, image, image, 0.5, panel=96)


def source_of(tmp_path, picture=None, **changes):
    arguments = {
        "title": f"Ward {EVIL}",
        "notes": [f"Synthetic phantom data {EVIL}"],
        "run": RUN,
        "studies": STUDIES,
        "pictures": {} if picture is None else {"calm": picture, EVIL: picture},
        "evaluation": None,
        "alpha": 0.05,
        "healthy_scores": [0.01 * k for k in range(40)],
    }
    write_report(tmp_path / "report.html", **{**arguments, **changes})
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_report_asks_for_nothing_outside_itself(tmp_path, picture):
    source = source_of(tmp_path, picture, evaluation=evaluation())
    assert "://" not in source
    assert not re.search(r"url\(|@import|<link|<iframe|<object|<base", source)
    loads = [a.get(k) for _, a in Page(source).elements for k in ("src", "href", "srcset", "data") if a.get(k)]
    assert loads and all(value.startswith(("data:image/", "#case=")) for value in loads)


def test_security_policy_admits_only_the_script_of_the_report(tmp_path):
    source = source_of(tmp_path)
    scripts = re.findall(r"<script>(.*?)</script>", source, re.S)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in source


def test_every_text_is_escaped_and_reads_as_given(tmp_path, picture):
    source = source_of(
        tmp_path, picture, evaluation=evaluation(floors={EVIL: {"auroc": {}, "auprc": {}, "pixel_ap": 1}})
    )
    page = Page(source)
    assert "alert(" not in re.sub(r"&lt;script&gt;alert\(&#34;x&#34;\)", "", source, flags=re.I)
    for text in (f"Ward {EVIL}", f"Synthetic phantom data {EVIL}", f"cut off {EVIL}; copy it again", f"a, {EVIL}"):
        assert text in page.text
    assert EVIL in [attributes.get("data-study") for _, attributes in page.elements]


def test_worklist_shows_every_study_in_order_with_failures_last(tmp_path):
    rows = [a["data-study"] for tag, a in Page(source_of(tmp_path)).elements if tag == "tr" and "data-study" in a]
    assert rows == [EVIL, "odd", "calm", "broken"]


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


def test_summary_states_flags_alpha_promise_and_chance():
    studies = [StudyResult(f"s{k}", score=k, p_value=0.5, decision="flag" if k < 6 else "normal") for k in range(32)]
    assert summary_sentences(studies, 0.05, 40) == [
        "6 of 32 studies flagged at alpha = 0.05; "
        "P(false alarm) ≤ 5 % for a healthy study like the 40 calibration ones.",
        "Were all 32 healthy, up to 1.6 flags would be expected by chance.",
    ]


def test_summary_without_calibration_promises_nothing():
    sentences = summary_sentences([StudyResult("a", score=1.0), StudyResult("b", "failed", error="x")], None, 0)
    assert sentences == [
        "1 study scored; not calibrated, so none can be flagged.",
        "1 study could not be read or scored; see the end of the list.",
    ]


@pytest.mark.parametrize(("n_healthy", "warned"), [(18, True), (19, False)])
def test_calibration_too_small_to_flag_gets_a_banner(tmp_path, n_healthy, warned):
    # The smallest p-value is 1 / (n + 1): 1 / 20 = 0.05 can just be flagged at alpha = 0.05, 1 / 19 cannot.
    source = source_of(tmp_path, healthy_scores=[0.1] * n_healthy)
    assert ("At least 19 are needed" in source) is warned


def test_research_banner_is_always_there_and_only_once(tmp_path):
    assert Page(source_of(tmp_path, notes=[RESEARCH_NOTE])).text.count(RESEARCH_NOTE) == 1
    assert Page(source_of(tmp_path, notes=[])).text.count(RESEARCH_NOTE) == 1


def test_score_threshold_agrees_with_conformal_decisions():
    healthy = [float(k) for k in range(1, 41)]
    threshold = _score_threshold(healthy, 0.05)
    for score in np.arange(0.5, 42, 0.5):
        p_value = (1 + sum(h >= score for h in healthy)) / 41
        assert (score > threshold) == (p_value <= 0.05)
    assert _score_threshold(healthy[:18], 0.05) is None


def test_verdict_beats_only_when_intervals_lie_apart():
    def beats(method, floor):
        return [v["beats"] for v in verdicts({"image": {"auroc": method}, "floors": {"a": {"auroc": floor}}})]

    assert beats(stat(0.9, 0.8, 1.0), stat(0.6, 0.5, 0.7)) == [True]
    assert beats(stat(0.9, 0.65, 1.0), stat(0.6, 0.5, 0.7)) == [False]
    assert beats(stat(0.6, 0.5, 0.7), stat(0.9, 0.8, 1.0)) == [False]
    assert beats(stat(None), stat(0.9)) == []


def test_verdict_names_the_best_floor_and_both_values():
    floors = {"mean_intensity": {"auroc": stat(0.6, 0.5, 0.7)}, "blur_residual": {"auroc": stat(0.95, 0.9, 1.0)}}
    (verdict,) = verdicts({"image": {"auroc": stat(0.91, 0.8, 0.97)}, "pixel": None, "floors": floors})
    assert verdict["text"] == (
        "Per study (AUROC): the method does not beat the floors: 0.91 against 0.95 for the best floor, blur residual."
    )


def test_evaluation_shows_figures_intervals_groups_and_truth(tmp_path):
    text = " ".join(Page(source_of(tmp_path, evaluation=evaluation())).text.split())
    for piece in (
        "Image AUROC 0.91 95 % CI 0.85 – 0.97",
        "Realised false alarms 6 % 95 % CI 0 – 30 % Promised: at most 5 %",
        "Dice 0.35 95 % CI 0.20 – 0.50 Mean per abnormal study; best of all pixels pooled 0.44",
        "the method beats every floor: 0.91 against 0.60 for the best floor, mean intensity.",
        "Enlarged ventricles 2 0.90",
        "odd 0.7000 0.020 Flagged Mass",
    ):
        assert piece in text


def test_evaluation_without_masks_or_classes_still_reports(tmp_path):
    empty = evaluation(pixel=None, floors={}, groups={}, scores=[], sensitivity=None, image={"auroc": None})
    text = Page(source_of(tmp_path, evaluation=empty)).text
    assert "Not computable from these data" in text and "Against the floors" not in text


def test_report_of_no_study_at_all_can_be_written(tmp_path):
    assert "0 studies scored" in source_of(tmp_path, studies=[], healthy_scores=None, alpha=None)


def test_small_reports_embed_the_pictures_as_they_are(tmp_path, picture):
    source = source_of(tmp_path, picture)
    assert source.count(base64.b64encode(picture).decode()) == 2


def test_three_hundred_cases_stay_under_thirty_megabytes(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (92, 92, 3), np.uint8)  # noise does not compress: 25 kB
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    assert 25_000 < len(stream.getvalue()) < 27_000
    studies = [StudyResult(f"s{k}", score=k, p_value=0.5, decision="normal") for k in range(300)]
    source_of(tmp_path, studies=studies, pictures={s.study: stream.getvalue() for s in studies})
    assert (tmp_path / "report.html").stat().st_size < 30e6


def test_pictures_over_the_budget_are_made_smaller(tmp_path, picture, monkeypatch):
    monkeypatch.setattr("custom.reporting.report._LOSSLESS_BUDGET", 2 * len(picture) - 1)
    source = source_of(tmp_path, picture)
    stored = re.findall(r'<script type="text/plain"[^>]*>data:image/(\w+);base64,([^<]*)<', source)
    assert [kind for kind, _ in stored] == ["webp", "webp"]
    assert all(len(base64.b64decode(content)) < len(picture) / 2 for _, content in stored)
