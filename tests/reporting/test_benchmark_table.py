from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from custom.metrics.image_level import auroc
from custom.reporting.benchmark_page import stat_svg, table_csv, table_markdown, write_benchmark
from custom.reporting.benchmark_seeds import mean_of, over_seeds
from custom.reporting.benchmark_table import SYNTHETIC_NOTE, TITLES, auroc_difference, benchmark_row, cell
from custom.reporting.page import RESEARCH_NOTE
from pages import Page

EVIL = '<script>alert("x")</script>|&'


def stat(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


def evaluation(**changes):
    base = {
        "n_healthy": 20,
        "n_abnormal": 10,
        "synthetic": True,
        "seed": 3,
        "alpha": 0.05,
        "image": {"auroc": stat(0.91, 0.85, 0.97), "auprc": stat(0.88, 0.7, 0.95)},
        "false_alarm_rate": stat(0.06, 0.01, 0.3),
        "sensitivity": stat(0.5, 0.2, 0.8),
        "pixel": {"ap": stat(0.4, 0.3, 0.5), "dice": None},
        "baselines": {"blur": {"auroc": stat(0.6)}, "mean": {"auroc": stat(0.8)}},
        "best_baseline": {"name": "mean", "auroc_difference": stat(0.11, 0.02, 0.2)},
    }
    return {**base, **changes}


def row(name="model", **changes):
    run = {"device": "cpu", "weight_hash": "0123456789abcdef"}
    knowledge = {"seconds": 0.25, "peak_mib": 512.4, "threads": 2, "parameters": 1_500_000}
    return benchmark_row(name, "ra_brain", evaluation(**changes), run, **knowledge)


def failed(name="broken"):
    return benchmark_row(name, "ra_brain", None, threads=2, note="weights file x must exist")


def scored(scores, labels=(0, 0, 0, 1, 1), groups=(None, None, None, "a", "b"), cases="vwxyz", subjects=None):
    """Rows of studies; subjects by case, those not named are patients of their own."""
    return {
        "scores": [
            {"case": case, "label": label, "group": group, "score": score}
            | ({"subject": subjects[case]} if subjects and case in subjects else {})
            for case, label, group, score in zip(cases, labels, groups, scores)
        ]
    }


def ten_studies(scores, labels=(0,) * 5 + (1,) * 5, subjects=None):
    return scored(list(scores), labels, [None] * 10, "0123456789", subjects)


# Rows


def test_row_takes_every_number_from_its_place_in_the_evaluation() -> None:
    found = row()
    assert list(found) == list(TITLES)
    assert found["auroc"] == stat(0.91, 0.85, 0.97) and found["pixel_ap"]["value"] == 0.4 and found["dice"] is None
    assert (found["best_baseline"], found["best_baseline_auroc"], found["beats_baseline"]) == ("mean", 0.8, "yes")
    assert (found["studies_per_second"], found["parameters_millions"], found["threads"]) == (4.0, 1.5, 2)
    assert (found["device"], found["weight_hash"], found["seed"]) == ("cpu", "0123456789abcdef", 3)


@pytest.mark.parametrize(
    ("lead", "verdict"),
    [
        (stat(0.1, 0.01, 0.2), "yes"),
        (stat(0.1, -0.1, 0.3), "not significant"),
        (stat(-0.1, -0.3, 0.1), "no"),
        (stat(0.4), "too few studies"),
        (stat(-0.4), "too few studies"),
        (None, None),
    ],
)
def test_baseline_is_beaten_only_by_a_significant_difference(lead, verdict) -> None:
    assert row(best_baseline={"name": "mean", "auroc_difference": lead})["beats_baseline"] == verdict


def test_weights_are_identified_by_the_hash_of_a_run_of_any_release() -> None:
    hashes = [
        benchmark_row("m", "b", None, run)["weight_hash"] for run in ({"model_hash": "1"}, {"weight_hash": "2"}, {})
    ]
    assert hashes == ["1", "2", None]


@pytest.mark.parametrize(
    "content",
    [{}, {"image": None, "pixel": None, "baselines": None, "best_baseline": None}, {"image": {"auroc": {}}, "more": 1}],
)
def test_evaluation_of_another_version_gives_what_it_has(content) -> None:
    found = benchmark_row("model", "ra_brain", {"n_healthy": 3, **content})
    assert found["n_healthy"] == 3 and found["auroc"] is None and found["beats_baseline"] is None
    assert "| model |" in table_markdown([found]) and stat_svg([found], "auroc") == ""


def test_row_of_an_earlier_release_is_read_under_the_names_of_today() -> None:
    earlier = evaluation()
    earlier |= {"floors": earlier.pop("baselines"), "best_floor": earlier.pop("best_baseline")}
    found = benchmark_row("model", "ra_brain", earlier)
    assert (found["best_baseline"], found["best_baseline_auroc"], found["beats_baseline"]) == ("mean", 0.8, "yes")


# Paired difference


def test_difference_of_two_models_by_hand() -> None:
    # Of the 5 x 5 pairs the first model ranks all right, the second 23.
    one, other = ten_studies(range(10)), ten_studies([0, 1, 2, 3, 6, 4, 5, 7, 8, 9])
    found = auroc_difference(one, other)
    assert found["value"] == pytest.approx(1 - 23 / 25) and found["n"] == 10
    assert 0 <= found["low"] <= found["value"] <= found["high"] and found["high"] > found["low"]


def test_difference_is_paired_so_that_equal_models_differ_by_nothing() -> None:
    scores = np.array([3, 1, 2, 4, 2, 5, 1, 7, 3, 4])
    assert auroc_difference(ten_studies(scores), ten_studies(10 * scores)) == stat(0.0, 0.0, 0.0) | {"n": 10}


@pytest.mark.parametrize(
    ("labels", "subjects"),
    [([0] * 4 + [1] * 6, {}), ([0] * 6 + [1] * 4, {}), ([0] * 5 + [1] * 5, {"0": "p", "1": "p"})],
)
def test_difference_of_fewer_than_five_patients_of_a_class_has_no_interval(labels, subjects) -> None:
    one, other = ten_studies(range(10), labels, subjects), ten_studies([9, *range(9)], labels, subjects)
    found = auroc_difference(one, other)
    assert found["value"] > 0 and found["low"] is found["high"] is None and found["n"] == 10


def test_difference_is_over_the_shared_studies_only() -> None:
    one, other = scored([1, 2, 3, 4, 5]), scored([5, 4, 3, 2, 1])
    del other["scores"][4], one["scores"][0]
    found = auroc_difference(one, other)
    assert found["n"] == 3 and found["value"] == auroc([0, 0, 1], [2, 3, 4]) - auroc([0, 0, 1], [4, 3, 2])


def test_studies_of_one_patient_are_drawn_together() -> None:
    rng = np.random.default_rng(0)
    labels, cases = [0, 1] * 20, [f"c{i}" for i in range(40)]
    scores, patients = rng.normal(size=(2, 40)), {case: str(i // 10) for i, case in enumerate(cases)}
    independent = auroc_difference(*(scored(column, labels, [None] * 40, cases) for column in scores))
    # Forty studies of four patients: the interval is another one.
    together = auroc_difference(*(scored(column, labels, [None] * 40, cases, patients) for column in scores))
    assert together["value"] == independent["value"] and (together["low"], together["high"]) != (
        independent["low"],
        independent["high"],
    )


@pytest.mark.parametrize(
    "other",
    [
        scored([1, 2, 3, 4, 5], cases="abcde"),
        scored([1, 2, 3, 4, 5], labels=(0, 0, 1, 1, 1)),
        scored([1, 2, 3, 4, 5], groups=(None, None, None, "a", "c")),
        {},
    ],
)
def test_studies_that_are_not_the_same_are_not_compared(other) -> None:
    assert auroc_difference(scored([1, 2, 3, 4, 5]), other) is None


def test_difference_needs_both_classes() -> None:
    healthy = scored([1, 2, 3], labels=(0, 0, 0), groups=(None,) * 3)
    assert auroc_difference(healthy, healthy) is None


# Tables


def test_csv_has_a_column_for_each_end_of_an_interval() -> None:
    rows = [row(), {**row("second"), "auroc_difference": stat(-0.02, -0.05, 0.01) | {"n": 30}}, failed()]
    first, second, third = csv.DictReader(io.StringIO(table_csv(rows)))
    assert (first["auroc"], first["auroc_low"], first["auroc_high"]) == ("0.91", "0.85", "0.97")
    assert (second["auroc_difference"], second["auroc_difference_low"]) == ("-0.02", "-0.05")
    assert first["auroc_difference"] == first["dice"] == "" and first["synthetic"] == "True"
    assert third["note"] == "weights file x must exist" and third["auroc"] == third["peak_mib"] == ""


def test_markdown_has_one_line_per_model_and_marks_synthetic_data() -> None:
    text = table_markdown([row(), {**row("second"), "auroc_difference": stat(-0.02, -0.05, 0.01)}, failed()])
    lines = text.splitlines()
    assert len({line.count("|") for line in lines[:5]}) == 1 and SYNTHETIC_NOTE in text
    assert "0.910 [0.850, 0.970]" in lines[2] and "-0.020 [-0.050, +0.010]" in lines[3]
    assert "weights file x must exist" in lines[4] and "Dice" not in lines[0]  # no model has one
    assert SYNTHETIC_NOTE not in table_markdown([row(synthetic=False)])


def test_cell_shows_unknown_values_as_a_dash() -> None:
    assert cell(failed(), "auroc") == "–" and cell(row(), "note") == "" and cell(row(), "synthetic") == "yes"
    assert cell({**row(), "dice": stat(0.5)}, "dice") == "0.500" and cell(row(), "peak_mib") == "512"


def test_numbers_without_interval_are_shown_everywhere(tmp_path: Path) -> None:
    few = row(image={"auroc": stat(1.0), "auprc": stat(1.0)}, sensitivity=stat(1.0), pixel={"ap": stat(0.4)})
    rows = [few, {**few, "name": "second", "auroc_difference": stat(-0.02) | {"n": 6}}]
    text = page_of(tmp_path, rows).text
    for table in (text, table_markdown(rows)):
        assert "1.000" in table and "1.000 [" not in table and "-0.020" in table and "-0.020 [" not in table
    second = list(csv.DictReader(io.StringIO(table_csv(rows))))[1]
    ends = [second[f"{name}_{end}"] for name in ("auroc", "auroc_difference") for end in ("low", "high")]
    assert (second["auroc"], second["auroc_difference"], *ends) == ("1.0", "-0.02", "", "", "", "")
    drawing = ElementTree.fromstring(stat_svg(rows, "auroc"))
    assert len(drawing.findall("circle")) == 2
    assert not [item for item in drawing.findall("line") if "opacity" in item.get("style")]  # no bars


def test_bar_in_a_name_does_not_break_the_markdown_table() -> None:
    assert "a\\|b" in table_markdown([row("a|b")])


# Plots and page


def test_dot_and_interval_are_at_their_values() -> None:
    drawing = ElementTree.fromstring(stat_svg([row()], "auroc"))
    # The axis goes from x = 10 to 310.
    assert float(drawing.find("circle").get("cx")) == pytest.approx(10 + 0.91 * 300)
    bars = [(float(item.get("x1")), float(item.get("x2"))) for item in drawing.findall("line")]
    assert (10 + 0.85 * 300, 10 + 0.97 * 300) in [pytest.approx(bar) for bar in bars]
    assert any(bar == pytest.approx((250, 250)) for bar in bars)  # the best baseline, 0.8


def test_target_is_marked_in_the_plot_of_false_alarm_rates() -> None:
    drawing = ElementTree.fromstring(stat_svg([row()], "false_alarm_rate"))
    marks = [float(item.get("x1")) for item in drawing.findall("line") if "--flag" in item.get("style")]
    assert marks == [pytest.approx(10 + 0.05 * 300)]


def test_long_names_keep_both_ends_in_a_plot() -> None:
    name = "memmc_wide_decoder_trained_long_on_the_larger_set_of_healthy_films"
    assert "memmc_wide_decoder_trained_lon…f_healthy_films" in stat_svg([row(name)], "auroc")


def test_model_without_the_number_keeps_its_line_in_the_plot() -> None:
    drawing = ElementTree.fromstring(stat_svg([row(), failed()], "auroc"))
    assert len(drawing.findall("circle")) == 1 and {"broken", "unknown"} <= {item.text for item in drawing.iter()}


def page_of(tmp_path: Path, rows) -> Page:
    write_benchmark(tmp_path, rows, "Data set d", "Linux")
    return Page((tmp_path / "benchmark.html").read_text())


def test_page_holds_every_cell_of_the_table_and_a_plot_a_known_metric(tmp_path: Path) -> None:
    page = page_of(tmp_path, [row(), failed()])
    for text in (
        "0.910 [0.850, 0.970]",
        "weights file x must exist",
        "0123456789abcdef",
        SYNTHETIC_NOTE,
        RESEARCH_NOTE,
    ):
        assert text in page.text
    names = [attributes.get("aria-label") for tag, attributes in page.elements if tag == "svg"]
    assert [name for name in names if name] == [
        f"{TITLES[key]} of each model" for key in ("auroc", "auprc", "pixel_ap", "false_alarm_rate", "sensitivity")
    ]
    assert "Failed broken: weights file x must exist" in page.text
    assert {path.name for path in tmp_path.iterdir()} == {"benchmark.csv", "benchmark.md", "benchmark.html"}


def test_page_of_real_data_does_not_call_them_synthetic(tmp_path: Path) -> None:
    assert SYNTHETIC_NOTE not in page_of(tmp_path, [row(synthetic=False)]).text


def test_page_is_one_file_without_links_or_scripts_and_escapes_names(tmp_path: Path) -> None:
    page = page_of(tmp_path, [row(EVIL), failed(EVIL)])
    source = (tmp_path / "benchmark.html").read_text()
    assert not re.search(r"https?:|url\(|@import|<script|<link", source) and '<script>alert("x")' in page.text
    assert {"src", "href"}.isdisjoint(key for _, attributes in page.elements for key in attributes)
    assert "prefers-color-scheme: dark" in source and "default-src 'none'" in source


def test_page_of_failures_only_is_written(tmp_path: Path) -> None:
    assert "Failed broken: weights" in page_of(tmp_path, [failed()]).text


# Over seeds


def test_mean_over_seeds_has_the_interval_of_the_t_distribution():
    # 0.6, 0.7, 0.8: mean 0.7, standard deviation 0.1, t(0.975, 2) = 4.302653, so 0.7 +- 4.302653 * 0.1 / sqrt(3)
    found = mean_of([{"value": value, "low": 0.0, "high": 1.0} for value in (0.6, 0.7, 0.8)] + [None])
    assert found["value"] == pytest.approx(0.7)
    assert (found["low"], found["high"]) == (pytest.approx(0.451586, abs=1e-6), pytest.approx(0.948414, abs=1e-6))
    assert mean_of([{"value": 0.6}]) == {"value": 0.6, "low": None, "high": None} and mean_of([None]) is None


def test_page_and_tables_have_a_row_per_model_over_its_seeds(tmp_path: Path) -> None:
    rows = [row(f"a-seed{seed}", seed=seed) for seed in (0, 1)]
    rows.append(failed("b-seed0"))
    seeds = over_seeds(rows, ["a", "a", "b"])
    assert [(mean["name"], mean["seeds"]) for mean in seeds] == [("a", 2), ("b", 0)] and seeds[1]["auroc"] is None
    write_benchmark(tmp_path, rows, "Phantom", "", seeds)
    lines = (tmp_path / "benchmark_seeds.csv").read_text().splitlines()
    assert lines[0].startswith("name,seeds,auroc,auroc_low,auroc_high,auroc_difference,")
    assert [line.split(",")[:2] for line in lines[1:]] == [["a", "2"], ["b", "0"]]
    assert (tmp_path / "benchmark.md").read_text().startswith("| Model | Seeds | AUROC, mean |")
    assert "Over seeds" in (tmp_path / "benchmark.html").read_text()


def test_page_without_seeds_has_no_table_over_them(tmp_path: Path) -> None:
    write_benchmark(tmp_path, [row()], "Phantom")
    assert not (tmp_path / "benchmark_seeds.csv").exists()
    assert "Over seeds" not in (tmp_path / "benchmark.html").read_text()
