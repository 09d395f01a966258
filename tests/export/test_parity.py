"""How far a graph is from the detector: each difference by hand, and what passes."""

from __future__ import annotations

import math

import pytest
import torch

from custom.export.parity import FormatParity, table, tolerances_of
from custom.scoring.anomaly_map import AdaptiveHistogramPerceptualMap
from maps import ResidualMap

TOLERANCES = {"map": 0.1, "score": 0.02, "reconstruction": 1e-4}


@pytest.fixture
def item() -> dict:
    """What the detector says of a study of two slices."""
    anomaly_map = torch.tensor([0.0, 4.0]).view(1, 1, 1, 2)
    study = {"case": "a", "pred": anomaly_map, "reconstruction": torch.full((1, 1, 1, 2), 0.5)}
    return {**study, "score": 2.0, "p_value": 0.04, "decision": "flag"}


def outputs(**changes) -> list[torch.Tensor]:
    """The same from a graph, but for the changes."""
    same = {"map": [0.0, 4.0], "reconstruction": [0.5, 0.5], "score": 2.0, "p_value": 0.04, "decision": 2}
    values = same | changes
    shapes = {"map": (2, 1, 1, 1), "reconstruction": (2, 1, 1, 1)}
    return [torch.tensor(value, dtype=torch.float64).view(shapes.get(name, ())) for name, value in values.items()]


@pytest.mark.parametrize(
    ("changes", "name", "difference", "passed"),
    [
        ({}, "map", 0.0, True),
        ({"map": [0.2, 4.0]}, "map", 0.05, True),  # of the largest map value
        ({"map": [0.0, 5.0]}, "map", 0.25, False),
        ({"reconstruction": [0.5, 0.6]}, "reconstruction", 0.1, False),
        ({"score": 2.1}, "score", 0.05, False),
        ({"score": math.nan}, "score", None, False),
        ({"decision": 1}, "score", 0.0, False),
        ({"p_value": 0.05}, "score", 0.0, True),  # reported, but the decision is what counts
    ],
)
def test_difference_is_measured_and_judged(item, changes: dict, name: str, difference, passed: bool) -> None:
    found = FormatParity()
    found.add(item, outputs(**changes), 0.5)
    report = found.report(TOLERANCES)
    assert report["passed"] is passed and report["median_seconds"] == 0.5
    assert report[f"{name}_difference"] == pytest.approx(difference, rel=1e-6)
    assert report["decisions_differ"] == (["a"] if "decision" in changes else [])
    assert report["p_values_differ"] == (["a"] if "p_value" in changes else [])


def test_worst_study_counts(item) -> None:
    found = FormatParity()
    for score in (2.0, 2.5, 2.1):
        found.add(item, outputs(score=score), 1.0)
    assert found.score == pytest.approx(0.25)


def test_study_without_p_value_must_have_none_in_the_graph(item) -> None:
    item |= {"p_value": None, "decision": None}
    found = FormatParity()
    found.add(item, outputs(p_value=-1.0, decision=-1), 1.0)
    assert found.p_values_differ == found.decisions_differ == []
    found.add(item, outputs(), 1.0)
    assert found.p_values_differ == found.decisions_differ == ["a"]


def test_table_has_a_row_for_each_format(item) -> None:
    found = FormatParity()
    found.add(item, outputs(score=math.nan), 0.0123)
    lines = table({"formats": {"onnx": found.report(TOLERANCES)}}).splitlines()
    assert (
        lines[0].split()[:2] == ["format", "map"] and lines[1].split() == "onnx 0.0e+00 0.0e+00 none 0 0 12.3".split()
    )


def test_only_equalised_maps_have_a_wide_tolerance() -> None:
    assert tolerances_of(ResidualMap())["map"] == 1e-3
    assert tolerances_of(AdaptiveHistogramPerceptualMap(residual="plain", perceptual_clahe=False))["map"] == 1e-3
    assert tolerances_of(AdaptiveHistogramPerceptualMap(residual="smooth"))["map"] == 0.1
