"""Rows of docs/results.csv from evaluations whose figures are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from custom.metrics.records import Evaluation
from custom.reporting.evidence import (
    OURS,
    PAPER,
    SETS,
    after_site_calibration,
    figure,
    merged,
    read_rows,
    rows_of,
    write_rows,
)
from custom.reporting.evidence_tables import results_page
from nomaly import metrics

ABOUT = {
    "set": "lgg_flair",
    "bundle": "ra_brain_flair",
    "weights": "shipped",
    "seed": "0",
    "sha256": "abc",
    "commit": "1234567",
    "command": "measure",
}


def evaluation(scores: list[float], baselines: dict | None = None, **settings: object) -> Evaluation:
    """Ten healthy and ten abnormal studies with these scores."""
    labels = [0] * 10 + [1] * 10
    return metrics.evaluate(labels, scores, baselines=baselines, **settings).values


GOOD = list(range(20))
BLIND = [0.0] * 20
BASELINES = {"pca": BLIND, "mean_image": [*range(10), *range(10)][::-1]}


def test_method_published_score_and_baselines_are_rows_with_intervals_and_origin(tmp_path: Path) -> None:
    ours, paper = evaluation(GOOD, BASELINES), evaluation(BLIND)
    rows = rows_of(ours, paper, ABOUT, "settings", ours)
    write_rows(tmp_path / "results.csv", rows)
    rows = read_rows(tmp_path / "results.csv")
    assert [row["method"] for row in rows] == [OURS, PAPER, "pca", "mean_image"]
    assert figure(rows[0], "auroc") == {"value": 1, "low": 1, "high": 1}
    assert figure(rows[0], "auroc_difference")["value"] == 0.5 and rows[0]["best_baseline"] == "pca"
    assert figure(rows[1], "auroc_difference") == {"value": 0, "low": 0, "high": 0}
    assert figure(rows[1], "pixel_ap") is None and figure(rows[2], "auroc_difference") is None
    assert (rows[2]["weights"], rows[2]["sha256"], rows[0]["sha256"]) == ("", "settings", "abc")
    assert {row["commit"] for row in rows} == {"1234567"} and {row["n_healthy"] for row in rows} == {"10"}


def test_other_seed_is_compared_with_baselines_that_were_fitted_once() -> None:
    first, second = evaluation(GOOD, BASELINES), evaluation(GOOD[::-1])
    rows = rows_of(second, None, ABOUT | {"seed": "1"}, "settings", first)
    assert [row["method"] for row in rows] == [OURS]
    assert figure(rows[0], "auroc_difference")["value"] == -0.5


def test_new_weights_replace_the_row_and_other_seeds_stay() -> None:
    rows = rows_of(evaluation(GOOD), None, ABOUT, "", None)
    other = rows_of(evaluation(GOOD), None, ABOUT | {"seed": "1"}, "", None)
    again = rows_of(evaluation(BLIND), None, ABOUT | {"sha256": "def"}, "", None)
    assert [(row["seed"], row["sha256"]) for row in merged([*rows, *other], again)] == [("1", "abc"), ("0", "def")]


def test_site_calibration_uses_half_of_the_healthy_subjects_and_none_of_them_twice() -> None:
    scores = np.arange(80.0)
    scores[40:] += np.where(np.arange(40) % 2, 1000, 0)  # half of the abnormal studies are above all healthy ones
    content = metrics.evaluate([0] * 40 + [1] * 40, [*np.arange(40.0), *np.where(np.arange(40) % 2, 1000.0, -1)]).values
    figures, counts = after_site_calibration(content)
    assert counts == {"site_n_healthy": "20", "site_n_calibration": "20"}
    assert figures["site_sensitivity"]["value"] == 0.5 and figures["site_false_alarm_rate"]["value"] <= 0.15
    assert after_site_calibration(evaluation(GOOD)) == ({}, {})  # too few for alpha 5 %


def test_page_calls_synthetic_lesions_so_in_every_row_and_says_development_half() -> None:
    ours = evaluation(GOOD, BASELINES, synthetic=True)
    page = results_page(rows_of(ours, evaluation(BLIND), ABOUT, "", ours))
    assert page.startswith("# Results\n\n**Development half.**")
    rows = [line for line in page.splitlines() if line.startswith("| ") and "image AUROC" not in line]
    assert len(rows) == 1 + 4 and all("synthetic lesions" in row for row in rows)
    assert "| 1.000 [1.000, 1.000] | 0.500 | 0.500 | - | +0.500 [" in rows[0]


@pytest.mark.parametrize("name", SETS)
def test_every_set_has_bundles_that_exist(name: str) -> None:
    for bundle in SETS[name].bundles.values():
        assert (Path(__file__).parents[2] / "bundles" / bundle / "variant.json").is_file()
