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
            "the method beats the best baseline (mean image): its AUROC differs by +0.100 [+0.050",
        ),
        (
            stat(0.1, -0.02, 0.2),
            False,
            "is ahead of the best baseline (mean image), but the lead is within chance: its",
        ),
        (stat(0.1, 0.0, 0.2), False, "but the lead is within chance"),
        (stat(0.0, -0.1, 0.1), False, "does not beat the best baseline (mean image): its AUROC differs by +0.000"),
        (stat(-0.1, -0.2, -0.05), False, "does not beat the best baseline (mean image): its AUROC differs by -0.100"),
    ],
)
def test_baseline_is_beaten_on_studies_only_beyond_chance(lead: dict, beats: bool, text: str) -> None:
    (verdict,) = baseline_verdicts({"best_baseline": {"name": "mean_image", "auroc_difference": lead}})
    assert verdict["beats"] is beats and text in verdict["text"]
    assert verdict["text"].startswith("Ranking studies, the method ")


@pytest.mark.parametrize(
    ("lead", "beats", "text"),
    [
        (
            stat(0.1, 0.05, 0.2),
            True,
            "beats the best baseline (pca): its average precision differs by +0.100 [+0.050, +0",
        ),
        (stat(0.1, -0.05, 0.2), False, "but the lead is within chance: its average precision differs by +0.100 [-0.05"),
        (
            stat(-0.1, -0.2, 0.05),
            False,
            "does not beat the best baseline (pca): its average precision differs by -0.100",
        ),
    ],
)
def test_baseline_is_beaten_on_pixels_only_beyond_chance_of_the_paired_difference(
    lead: dict, beats: bool, text: str
) -> None:
    # the method's own interval says nothing here: only the paired difference does
    pixel, baselines = {"ap": stat(0.6, 0.55, 0.7)}, {"pca": {"pixel_ap": 0.5}}
    evaluation = {"best_pixel_baseline": {"name": "pca", "ap_difference": lead}, "pixel": pixel, "baselines": baselines}
    (verdict,) = baseline_verdicts(evaluation)
    assert verdict["beats"] is beats and text in verdict["text"]
    assert verdict["text"].startswith("Marking pixels, the method ")


@pytest.mark.parametrize("value", [0.1, -0.1])
def test_without_an_interval_there_are_too_few_studies_to_tell(value: float) -> None:
    verdicts = baseline_verdicts(
        {
            "best_baseline": {"name": "mean_image", "auroc_difference": stat(value)},
            "best_pixel_baseline": {"name": "pca", "ap_difference": stat(value)},
        }
    )
    assert [verdict["beats"] for verdict in verdicts] == [False, False]
    assert [verdict["text"] for verdict in verdicts] == [
        f"Ranking studies, the method's AUROC differs by {value:+.3f} from that of the best baseline (mean image): "
        "too few studies to tell.",
        f"Marking pixels, the method's average precision differs by {value:+.3f} from that of the best baseline (pca): "
        "too few studies to tell.",
    ]


def test_what_was_not_measured_has_no_verdict_and_the_sentence_says_so() -> None:
    nothing = {"best_baseline": None, "best_pixel_baseline": None, "baselines": {"brightness": {"pixel_ap": None}}}
    assert baseline_verdicts(nothing) == baseline_verdicts({}) == []
    assert baseline_sentence(nothing) == (
        "Whether the method ranks studies better than a baseline is not known: no baseline was computed, or a class is "
        "missing."
    )
    both = {
        "best_baseline": {"name": "pca", "auroc_difference": stat(0.1, 0.05, 0.2)},
        "best_pixel_baseline": {"name": "pca", "ap_difference": stat(0.1, 0.05, 0.2)},
    }
    assert baseline_sentence(both).count("the method beats the best baseline (pca)") == 2


@pytest.mark.parametrize(
    ("rate", "kept"),
    [(stat(0.13, 0.085, 0.179), False), (stat(0.07, 0.04, 0.1), True), (stat(0.05, 0.05, 0.1), True), (None, True)],
)
def test_promise_is_called_broken_only_where_its_interval_lies_above_alpha(rate: dict | None, kept: bool) -> None:
    sentence = false_alarm_sentence({"alpha": 0.05, "false_alarm_rate": rate})
    assert (sentence is None) is kept
    if not kept:
        assert sentence.startswith(
            "The promise is not kept on these studies: 13.0 % of the healthy are flagged instead of 5 %"
        )
        assert "nomaly calibrate --healthy DIR --output site.json" in sentence
