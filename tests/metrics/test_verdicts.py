"""The verdict against the baselines, by hand and by evaluations whose ranking is known."""

from __future__ import annotations

import pytest

from custom.metrics.verdicts import baseline_sentence, baseline_verdicts, false_alarm_sentence


def stat(value: float, low: float | None = None, high: float | None = None) -> dict:
    return {"value": value, "low": low, "high": high}


@pytest.mark.parametrize(
    ("lead", "beats", "text"),
    [
        (
            stat(0.1, 0.05, 0.2),
            True,
            "significantly better than the best baseline (mean image); difference in AUROC +0.100 [+0.050",
        ),
        (
            stat(0.1, -0.02, 0.2),
            False,
            "difference from the best baseline (mean image) not significant; difference",
        ),
        (stat(0.1, 0.0, 0.2), False, "not significant"),
        (stat(0.0, -0.1, 0.1), False, "not better than the best baseline (mean image); difference in AUROC +0.000"),
        (stat(-0.1, -0.2, -0.05), False, "not better than the best baseline (mean image); difference in AUROC -0.100"),
    ],
)
def test_baseline_is_beaten_on_studies_only_by_a_significant_difference(lead: dict, beats: bool, text: str) -> None:
    (verdict,) = baseline_verdicts({"best_baseline": {"name": "mean_image", "auroc_difference": lead}})
    assert verdict["beats"] is beats and text in verdict["text"]
    assert verdict["text"].startswith("Ranking of studies: ")


@pytest.mark.parametrize(
    ("lead", "beats", "text"),
    [
        (
            stat(0.1, 0.05, 0.2),
            True,
            "better than the best baseline (pca); difference in average precision +0.100 [+0.050, +0",
        ),
        (stat(0.1, -0.05, 0.2), False, "not significant; difference in average precision +0.100 [-0.05"),
        (
            stat(-0.1, -0.2, 0.05),
            False,
            "not better than the best baseline (pca); difference in average precision -0.100",
        ),
    ],
)
def test_baseline_is_beaten_on_pixels_only_by_a_significant_paired_difference(
    lead: dict, beats: bool, text: str
) -> None:
    # only the interval of the paired difference counts, not the method's own
    pixel, baselines = {"ap": stat(0.6, 0.55, 0.7)}, {"pca": {"pixel_ap": 0.5}}
    evaluation = {"best_pixel_baseline": {"name": "pca", "ap_difference": lead}, "pixel": pixel, "baselines": baselines}
    (verdict,) = baseline_verdicts(evaluation)
    assert verdict["beats"] is beats and text in verdict["text"]
    assert verdict["text"].startswith("Marking of pixels: ")


@pytest.mark.parametrize("value", [0.1, -0.1])
def test_without_an_interval_there_are_too_few_studies_to_decide(value: float) -> None:
    verdicts = baseline_verdicts(
        {
            "best_baseline": {"name": "mean_image", "auroc_difference": stat(value)},
            "best_pixel_baseline": {"name": "pca", "ap_difference": stat(value)},
        }
    )
    assert [verdict["beats"] for verdict in verdicts] == [False, False]
    assert [verdict["text"] for verdict in verdicts] == [
        "Ranking of studies: too few studies to compare with the best baseline (mean image); difference in AUROC "
        f"{value:+.3f}.",
        "Marking of pixels: too few studies to compare with the best baseline (pca); difference in average precision "
        f"{value:+.3f}.",
    ]


def test_without_a_comparison_there_is_no_verdict_and_the_sentence_states_it() -> None:
    nothing = {"best_baseline": None, "best_pixel_baseline": None, "baselines": {"brightness": {"pixel_ap": None}}}
    assert baseline_verdicts(nothing) == baseline_verdicts({}) == []
    assert baseline_sentence(nothing) == (
        "Ranking of studies: not compared with a baseline, as none was computed or the test set lacks a class."
    )
    both = {
        "best_baseline": {"name": "pca", "auroc_difference": stat(0.1, 0.05, 0.2)},
        "best_pixel_baseline": {"name": "pca", "ap_difference": stat(0.1, 0.05, 0.2)},
    }
    assert baseline_sentence(both).count("significantly better than the best baseline (pca)") == 2


@pytest.mark.parametrize(
    ("rate", "met"),
    [(stat(0.13, 0.085, 0.179), False), (stat(0.07, 0.04, 0.1), True), (stat(0.05, 0.05, 0.1), True), (None, True)],
)
def test_target_false_alarm_rate_is_exceeded_only_if_the_interval_is_above_alpha(rate: dict | None, met: bool) -> None:
    sentence = false_alarm_sentence({"alpha": 0.05, "false_alarm_rate": rate})
    assert (sentence is None) is met
    if not met:
        assert sentence.startswith(
            "Target false-alarm rate exceeded: 13.0 % of the healthy studies are flagged, the target is at most 5 %."
        )
        assert "These studies may differ from the calibration studies: calibrate on comparable" in sentence
        assert "nomaly calibrate --healthy FOLDER --output SITE" in sentence
