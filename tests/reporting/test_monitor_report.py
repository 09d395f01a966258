from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from custom.calibration.monitor import Monitoring, monitor
from custom.reporting.monitor_report import (
    MonitoredStudy,
    cusum_svg,
    monitor_sentence,
    p_value_svg,
    run_names,
    write_monitor_report,
)
from pages import Page

EVIL = '<script>alert("x")</script>\'&'
CALM = np.tile([0.2, 0.5, 0.9, 0.4, 0.7], 4)
RISEN = np.array([0.5] * 20 + [0.01] * 20)


def studies_of(p_values, name="case_{}", date="2026-03-04T10:00:00+00:00"):
    return [
        MonitoredStudy(
            name.format(i), f"runs/{i // 10}/results.csv", date, 0.5, float(p), "flag" if p <= 0.05 else "uncertain"
        )
        for i, p in enumerate(p_values)
    ]


def found_of(**changes) -> Monitoring:
    values = {
        "healthy_studies": 99,
        "alarm_rate": 0.01,
        "planned_studies": 3,
        "ks_statistic": 0.2,
        "ks_p": 0.414,
        "limit": 6.24,
        "higher": np.array([0.0, 2.1, 0.0]),
        "lower": np.zeros(3),
        "alarm": None,
        "onset": None,
        "direction": None,
    }
    return Monitoring(**{**values, **changes})


def page_of(tmp_path: Path, p_values, name="case_{}", left_out=None, notes=()) -> Page:
    write_monitor_report(tmp_path, monitor(p_values, 99), studies_of(p_values, name), left_out or {}, notes)
    return Page((tmp_path / "monitor.html").read_text())


def test_sentence_in_control_reports_both_tests() -> None:
    # The limit is rounded up, so that a CUSUM below it never appears to exceed it.
    assert (
        monitor_sentence(found_of(), studies_of([0.5] * 3))
        == "In control: 3 studies, KS p = 0.41, CUSUM 2.1 (limit 6.3)"
    )


def test_sentence_of_a_drift_names_alarm_onset_date_and_direction() -> None:
    found = found_of(alarm=2, onset=1, direction="higher")
    assert monitor_sentence(found, studies_of([0.5] * 3)) == (
        "Drift: alarm at case case_2 (study 3 of 3, 2026-03-04), onset near case case_1; scores are higher than at "
        "calibration (another scanner, protocol or population?)"
    )
    assert "(study 3 of 3), onset" in monitor_sentence(found, studies_of([0.5] * 3, date=None))


def test_sentence_of_uneven_p_values_names_no_study() -> None:
    sentence = monitor_sentence(found_of(ks_p=1.2e-5), studies_of([0.5] * 3))
    assert (
        sentence.startswith("Drift: the p-values of 3 studies are not uniform, KS p = 1.2e-05;")
        and "case" not in sentence
    )


def test_json_holds_the_finding_and_the_whole_series(tmp_path: Path) -> None:
    page_of(tmp_path, RISEN, left_out={"failed": 2})
    content, found = json.loads((tmp_path / "monitor.json").read_text()), monitor(RISEN, 99)
    assert content["in_control"] is False and content["studies"] == 40 and content["left_out"] == {"failed": 2}
    assert content["cusum"]["began_about"] == {"case": "case_20", "study": 21}
    assert content["cusum"]["alarm"] == {"case": f"case_{found.alarm}", "study": found.alarm + 1}
    assert [row["p_value"] for row in content["series"]] == RISEN.tolist()
    assert content["series"][found.alarm]["cusum_higher"] > content["cusum"]["limit"] == found.limit


def test_page_of_a_drift_lists_the_studies_from_onset_to_alarm(tmp_path: Path) -> None:
    page, found = page_of(tmp_path, RISEN), monitor(RISEN, 99)
    names = re.findall(r"case_\d+", page.text.partition("From onset to alarm")[2])
    assert names == [f"case_{i}" for i in range(20, found.alarm + 1)]
    assert "Alarm at case" in page.text and "Drift" in page.text


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["/data/march/results.csv"], ["march"]),
        (["/data/march/out/results.csv", "/data/april/out/results.csv"], ["march", "april"]),
        (["/a/x/results.csv", "/b/x/results.csv", "/b/y/results.csv"], ["a/x", "b/x", "y"]),
        (["/a/may.csv", "/a/june.csv", "/a/results.csv"], ["may.csv", "june.csv", "a"]),
        (["/x/results.csv", "/a/x/results.csv"], ["x", "a/x"]),
        (["/results.csv"], ["results.csv"]),
    ],
)
def test_runs_are_distinguished_by_the_shortest_part_of_their_paths(paths: list[str], names: list[str]) -> None:
    studies = [MonitoredStudy("s", path, None, 0.5, 0.5) for path in paths for _ in range(2)]
    assert run_names(studies) == dict(zip(paths, names))


def test_path_of_a_run_is_once_on_the_page_and_once_in_the_json(tmp_path: Path) -> None:
    paths = [f"/home/someone/site/{month}/out/results.csv" for month in ("march", "april")]
    studies = [replace(study, run=paths[i // 20]) for i, study in enumerate(studies_of(RISEN))]
    write_monitor_report(tmp_path, monitor(RISEN, 99), studies, {})
    content = json.loads((tmp_path / "monitor.json").read_text())
    for name in ("monitor.html", "monitor.json"):
        assert [(tmp_path / name).read_text().count(path.removesuffix("/results.csv")) for path in paths] == [1, 1]
    assert content["runs"] == [{"run": "march", "results": paths[0]}, {"run": "april", "results": paths[1]}]
    assert [row["run"] for row in content["series"]] == ["march"] * 20 + ["april"] * 20
    assert '<td class="study">april</td>' in (tmp_path / "monitor.html").read_text()


def test_page_in_control_has_no_such_list(tmp_path: Path) -> None:
    page = page_of(tmp_path, CALM, left_out={"failed": 1, "known to be abnormal": 0})
    assert "In control" in page.text and "From onset to alarm" not in page.text
    assert "1 failed" in page.text and "abnormal;" not in page.text and "0 known" not in page.text


def test_page_states_what_the_probability_of_an_alarm_refers_to(tmp_path: Path) -> None:
    assert (
        "the probability of an alarm is at most 1 % for one check of a series of this length"
        in page_of(tmp_path, CALM).text
    )
    write_monitor_report(tmp_path, monitor(CALM, 99, 0.01, 300), studies_of(CALM), {})
    text = Page((tmp_path / "monitor.html").read_text()).text
    assert "over all checks of a series that grows to 300 studies" in text and "once all planned" in text


def test_page_shows_the_research_note_and_every_note(tmp_path: Path) -> None:
    text = page_of(tmp_path, CALM, notes=["Synthetic images.", "Synthetic images."]).text
    assert text.count("Synthetic images.") == 1 and "not a medical device" in text
    assert "healthy studies, or studies later found healthy" in " ".join(text.split())


def test_page_is_one_file_without_links_or_scripts(tmp_path: Path) -> None:
    page_of(tmp_path, RISEN)
    source = (tmp_path / "monitor.html").read_text()
    assert not re.search(r"https?:|url\(|@import|<script|<link", source)
    assert {"src", "href"}.isdisjoint(key for _, attributes in Page(source).elements for key in attributes)
    assert "prefers-color-scheme: dark" in source and "default-src 'none'" in source


def test_name_of_a_study_is_text_and_never_markup(tmp_path: Path) -> None:
    page = page_of(tmp_path, RISEN, name=EVIL + "{}")
    assert "script" not in {tag for tag, _ in page.elements} and '<script>alert("x")' in page.text


def test_p_value_plot_has_one_dot_per_study_and_colours_flagged_ones() -> None:
    dots = ElementTree.fromstring(p_value_svg(studies_of(RISEN), monitor(RISEN, 99))).findall("circle")
    assert len(dots) == 40
    assert ["--flag" in dot.get("style") for dot in dots] == [p <= 0.05 for p in RISEN]
    assert [float(dot.get("cy")) for dot in dots[:1] + dots[-1:]] == [116.0, pytest.approx(26 + 0.99 * 180, abs=0.06)]


def test_cusum_plot_crosses_its_limit_at_the_alarm() -> None:
    found = monitor(RISEN, 99)
    drawing = ElementTree.fromstring(cusum_svg(found, studies_of(RISEN)))
    limit = next(float(item.get("y1")) for item in drawing.findall("line") if "6 4" in item.get("style"))
    lower, higher = (
        [float(pair.split(",")[1]) for pair in c.get("points").split()] for c in drawing.findall("polyline")
    )
    assert [y < limit for y in higher].index(True) == found.alarm and min(lower) > limit


def test_plots_bear_a_series_in_control_and_the_shortest_one() -> None:
    for p_values in (CALM, CALM[:10]):
        found, studies = monitor(p_values, 99), studies_of(p_values)
        for drawing in (p_value_svg(studies, found), cusum_svg(found, studies)):
            assert not re.search(r"nan|inf\b", drawing) and ElementTree.fromstring(drawing) is not None
