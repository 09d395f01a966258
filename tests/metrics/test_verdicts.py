"""The verdict against the floors, by hand and by evaluations whose ranking is known."""

from __future__ import annotations

import pytest

from custom.metrics.verdicts import floor_sentence, floor_verdicts


def stat(value: float, low: float | None = None, high: float | None = None) -> dict:
    return {"value": value, "low": low, "high": high}


@pytest.mark.parametrize(
    ("lead", "beats", "text"),
    [
        (
            stat(0.1, 0.05, 0.2),
            True,
            "the method beats the best floor (mean image): its AUROC differs by +0.100 [+0.050",
        ),
        (stat(0.1, -0.02, 0.2), False, "is ahead of the best floor (mean image), but the lead is within chance: its"),
        (stat(0.1, 0.0, 0.2), False, "but the lead is within chance"),
        (stat(0.0, -0.1, 0.1), False, "does not beat the best floor (mean image): its AUROC differs by +0.000"),
        (stat(-0.1, -0.2, -0.05), False, "does not beat the best floor (mean image): its AUROC differs by -0.100"),
        (stat(0.1), False, "but the lead is within chance: its AUROC differs by +0.100."),
    ],
)
def test_floor_is_beaten_on_studies_only_beyond_chance(lead: dict, beats: bool, text: str) -> None:
    (verdict,) = floor_verdicts({"best_floor": {"name": "mean_image", "auroc_difference": lead}})
    assert verdict["beats"] is beats and text in verdict["text"]
    assert verdict["text"].startswith("Ranking studies, the method ")


@pytest.mark.parametrize(
    ("method", "beats", "text"),
    [
        (stat(0.6, 0.55, 0.7), True, "the method beats the best floor (pca): average precision 0.600 against 0.500."),
        (stat(0.6, 0.45, 0.7), False, "but the lead is within chance: average precision 0.600 against 0.500."),
        (stat(0.4, 0.3, 0.5), False, "does not beat the best floor (pca): average precision 0.400 against 0.500."),
    ],
)
def test_floor_is_beaten_on_pixels_only_beyond_chance(method: dict, beats: bool, text: str) -> None:
    floors = {"pca": {"pixel_ap": 0.5}, "brightness": {"pixel_ap": None}, "mean_image": {"pixel_ap": 0.2}}
    (verdict,) = floor_verdicts({"best_floor": None, "pixel": {"ap": method}, "floors": floors})
    assert verdict["beats"] is beats and text in verdict["text"]


def test_what_was_not_measured_has_no_verdict_and_the_sentence_says_so() -> None:
    nothing = {"best_floor": None, "pixel": None, "floors": {"brightness": {"pixel_ap": None}}}
    assert floor_verdicts(nothing) == floor_verdicts({}) == []
    assert floor_sentence(nothing) == (
        "Whether the method ranks studies better than a floor is not known: no floor was computed, or a class is "
        "missing."
    )
    both = {
        "best_floor": {"name": "pca", "auroc_difference": stat(0.1, 0.05, 0.2)},
        "pixel": {"ap": stat(0.6, 0.55, 0.7)},
        "floors": {"pca": {"pixel_ap": 0.5}},
    }
    assert floor_sentence(both).count("the method beats the best floor (pca)") == 2
