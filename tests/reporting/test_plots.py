from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from custom.reporting.plots import ROLE_COLOURS, histogram_svg, roc_svg


def points_of(svg):
    text = ElementTree.fromstring(svg).find("polyline").get("points")
    return [tuple(float(v) for v in pair.split(",")) for pair in text.split()]


def test_roc_of_perfect_scores_passes_the_upper_left_corner():
    # The axes go from (46, 264) to (296, 14).
    assert (46.0, 14.0) in points_of(roc_svg([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4]))


def test_roc_of_one_tie_is_the_diagonal():
    assert points_of(roc_svg([0, 1], [0.5, 0.5])) == [(46.0, 264.0), (296.0, 14.0)]


def test_roc_of_a_single_class_draws_nothing():
    assert roc_svg([1, 1], [0.1, 0.2]) == ""


def test_operating_point_stands_at_its_two_rates():
    circle = ElementTree.fromstring(roc_svg([0, 1], [0.1, 0.2], (0.5, 1.0))).find("circle")
    assert (circle.get("cx"), circle.get("cy")) == ("171.0", "14.0")


def test_histogram_bars_count_every_score_once():
    svg = histogram_svg([("Healthy", "healthy", [1, 1, 2]), ("Abnormal", "abnormal", [2, 3, 4, 5])])
    rects = ElementTree.fromstring(svg).findall("rect")
    for role, total in (("healthy", 3), ("abnormal", 4)):
        of_role = [r for r in rects if ROLE_COLOURS[role] in r.get("style")]
        assert sum(int(r.find("title").text) for r in of_role) == total


def test_histogram_escapes_the_names_of_its_lanes():
    assert "<b>" not in histogram_svg([("<b>x</b>", "healthy", [1.0, 2.0])])


@pytest.mark.parametrize("scores", [[0.0], [5.0, 5.0, 5.0], [-3e-7, 2e-7], [1e6, 2e6]])
def test_histogram_bears_degenerate_and_extreme_scores(scores):
    svg = histogram_svg([("Healthy", "healthy", scores)], threshold=scores[0])
    assert not re.search(r"nan|inf\b", svg)
    assert len(ElementTree.fromstring(svg).findall("rect")) >= 1


def test_histogram_without_any_score_draws_nothing():
    assert histogram_svg([("Healthy", "healthy", [])]) == ""
