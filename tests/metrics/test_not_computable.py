"""Reasons of missing numbers."""

from __future__ import annotations

import pytest

from custom.metrics.not_computable import NEEDS, NEVER, WORDS, reasons


def bare(**changes: object) -> dict:
    """An evaluation of one healthy and one abnormal study with p-values, in which nothing is missing."""
    rows = [{"label": label, "p_value": 0.5, "decision": "flag"} for label in (0, 1)]
    parts = {"pixel": {"threshold": 0.5}, "lesions": {}, "baselines": {}, "groups": {}}
    return {
        "n_healthy": 1,
        "n_abnormal": 1,
        "n_failed": {"healthy": 0, "abnormal": 0},
        "scores": rows,
        **parts,
    } | changes


def test_complete_evaluation_lacks_only_what_is_never_there() -> None:
    assert reasons(bare(), maps=True) == NEVER


@pytest.mark.parametrize(
    ("changes", "path", "reason"),
    [
        ({"baselines": {"a.b": {"pixel_ap": None}}}, "baselines.a.b.pixel_ap", "this baseline has no map"),
        (
            {"baselines": {"a": {"auroc": None}}, "n_healthy": 0},
            "baselines.a.auroc",
            "the test set has no healthy study",
        ),
        ({"sensitivity": None, "scores": []}, "sensitivity", "no study has a p-value"),
        ({"groups": {"x": {"dice": None}}}, "groups.x.dice", "no study of this group has a lesion mask"),
        ({"pixel": {"threshold": None, "dice": None}, "lesions": None}, "pixel.dice", WORDS["threshold"]),
        (
            {"ra_detection": {"published": None}},
            "ra_detection.published",
            "at every threshold up to 1, more than 5 % of the healthy pixels are flagged",
        ),
        (
            {"lesions": {"by_size": [{"name": "small", "pixels": [1, None], "sensitivity": None}]}},
            "lesions.by_size.small.sensitivity",
            "no lesion has this size",
        ),
        (
            {"lesions": {"froc": {"sensitivity": [None] * 7}}},
            "lesions.froc",
            "at every threshold tested there are more false regions than the operating points allow",
        ),
    ],
)
def test_first_unmet_requirement_is_the_reason(changes: dict, path: str, reason: str) -> None:
    assert reasons(bare(**changes), maps=True)[path] == reason


def test_study_rows_and_settings_are_not_missing_numbers() -> None:
    rows = [{"label": 0, "p_value": None, "decision": None}]
    assert reasons(bare(scores=rows), maps=True) == NEVER


def test_needs_name_only_known_things() -> None:
    assert {need for _, needs, _ in NEEDS for need in needs} <= set(WORDS)
