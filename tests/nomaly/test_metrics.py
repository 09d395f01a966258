"""Figures of a student's own scores and maps: the numbers of the evaluation, and mistakes in one sentence."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from nomaly import NomalyError, metrics

RANDOM = np.random.default_rng(0)
LABELS = np.repeat([0, 1], 20)
SCORES = RANDOM.normal(size=40) + LABELS
MASKS = [np.zeros((16, 16)) for _ in LABELS]
for mask in MASKS[20:]:
    mask[4:9, 5:12] = 1
MAPS = [RANDOM.random((16, 16)) + 0.6 * mask for mask in MASKS]


def test_scores_alone_are_ranked_with_intervals():
    figures = metrics.evaluate(LABELS, SCORES)

    assert figures["image.auroc.value"] == pytest.approx(roc_auc_score(LABELS, SCORES), abs=1e-12)
    assert figures["image.auroc.low"] < figures["image.auroc.value"] < figures["image.auroc.high"]
    assert figures["pixel.ap"] is None and "| AUROC |" in str(figures)
    assert figures["false_alarm_rate"] is None


def test_maps_give_pixel_and_lesion_figures():
    healthy = [RANDOM.random((16, 16)) for _ in range(10)]
    figures = metrics.evaluate(LABELS, SCORES, maps=MAPS, masks=MASKS, healthy_maps=healthy)

    truth, values = np.concatenate([m.ravel() for m in MASKS]), np.concatenate([m.ravel() for m in MAPS])
    expected = average_precision_score(truth, values.astype(np.float32))
    assert figures["pixel.ap.value"] == pytest.approx(expected, abs=1e-9)
    assert figures["pixel.false_positive_rate"] == pytest.approx(0.01, abs=0.01)
    assert figures["lesions.n"] == 20 and figures["lesions.sensitivity.value"] > 0.9
    assert figures["pixel.dice.value"] > 0.3


def test_healthy_scores_give_decisions_at_alpha():
    figures = metrics.evaluate(LABELS, SCORES, healthy_scores=RANDOM.normal(size=199), alpha=0.1)

    assert figures["alpha"] == 0.1 and 0 <= figures["false_alarm_rate.value"] <= 0.4
    assert figures["sensitivity.value"] > figures["false_alarm_rate.value"]
    assert metrics.evaluate(LABELS, SCORES, healthy_scores=SCORES[:20], alpha=0.05)["false_alarm_rate.value"] <= 0.05


def test_best_baseline_is_compared_with_a_paired_interval():
    others = {"noise": RANDOM.normal(size=40), "half": SCORES + RANDOM.normal(size=40)}
    figures = metrics.evaluate(LABELS, SCORES, baselines=others)

    assert figures["best_baseline.name"] == "half" and "half" in str(figures)
    assert figures["best_baseline.auroc_difference.low"] is not None


def test_abnormal_studies_without_a_mask_count_for_scores_only():
    masks = [*MASKS[:30], *[None] * 10]
    figures = metrics.evaluate(LABELS, SCORES, maps=MAPS, masks=masks)
    assert figures["n_without_mask"] == 10 and figures["pixel.n_abnormal"] == 10


def test_figures_are_saved_and_shown_in_notebooks(tmp_path):
    figures = metrics.evaluate(LABELS, SCORES, synthetic=True)
    figures.save(tmp_path / "own")
    assert json.loads((tmp_path / "own" / "metrics.json").read_text()) == figures.values
    assert (tmp_path / "own" / "metrics.md").read_text().startswith("| Metric |")
    assert figures._repr_markdown_() == str(figures) and "synthetic" in str(figures)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"scores": [*SCORES[:-1], np.nan]},
            r"scores must be a list of finite numbers, got shape \(40,\) with 1 value",
        ),
        ({"scores": SCORES[:5]}, "labels must have one entry per case, 5, got 40"),
        ({"labels": LABELS * 2}, "labels must be a list of 0"),
        ({"maps": MAPS[:3]}, "maps must have one entry per case, 40, got 3"),
        ({"maps": MAPS, "masks": [m[:4] for m in MASKS]}, "the mask of 1 must have the shape of its map"),
        (
            {"maps": MAPS, "masks": MASKS[::-1]},
            "the mask of a healthy study must be empty or None, but that of 1 is not",
        ),
        ({"maps": [m[0] for m in MAPS]}, "maps and masks must have two or three axes"),
        ({"maps": [m * np.inf for m in MAPS], "masks": MASKS}, "values must be finite"),
        ({"baselines": {"a": [1.0]}}, "one entry per case"),
        ({"names": ["a"] * 40}, "names must differ from each other"),
        ({"alpha": 2}, r"alpha must be in \(0, 1\)"),
    ],
)
def test_wrong_input_is_refused_in_one_sentence(change, message):
    with pytest.raises(NomalyError, match=message):
        metrics.evaluate(**{"labels": LABELS, "scores": SCORES, **change})
