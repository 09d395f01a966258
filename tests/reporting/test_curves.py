"""The curves, in shares of their square, which spans (46, 264) to (296, 14)."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest
from scipy.stats import binom
from sklearn.metrics import average_precision_score

from custom.reporting.curves import calibration_svg, froc_svg, precision_recall_svg, roc_svg


def shares(text):
    pairs = [tuple(float(v) for v in pair.split(",")) for pair in text.split()]
    return [((x - 46) / 250, (264 - y) / 250) for x, y in pairs]


def curve_of(svg):
    return shares(ElementTree.fromstring(svg).find("polyline").get("points"))


def dots_of(svg):
    circles = ElementTree.fromstring(svg).findall("circle")
    return [
        (pytest.approx(x, abs=1e-3), pytest.approx(y, abs=1e-3))
        for c in circles
        for x, y in shares(f"{c.get('cx')},{c.get('cy')}")
    ]


def test_roc_of_perfect_scores_passes_the_upper_left_corner():
    assert (0.0, 1.0) in curve_of(roc_svg([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4]))


def test_roc_of_one_tie_is_the_diagonal():
    assert curve_of(roc_svg([0, 1], [0.5, 0.5])) == [(0.0, 0.0), (1.0, 1.0)]


def test_curves_over_a_single_class_draw_nothing():
    assert roc_svg([1, 1], [0.1, 0.2]) == precision_recall_svg([0, 0], [0.1, 0.2]) == ""


def test_operating_points_are_at_their_two_rates():
    assert dots_of(roc_svg([0, 1], [0.1, 0.2], (0.5, 1.0))) == [(0.5, 1.0)]
    assert dots_of(precision_recall_svg([0, 1], [0.1, 0.2], (0.25, 0.5))) == [(0.25, 0.5)]


def test_area_under_the_precision_curve_is_average_precision():
    labels, scores = [0, 1, 0, 1, 1, 0, 0, 1], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    points = curve_of(precision_recall_svg(labels, scores))
    area = sum((x2 - x1) * (y1 + y2) / 2 for (x1, y1), (x2, y2) in zip(points, points[1:]))
    assert area == pytest.approx(average_precision_score(labels, scores), abs=2e-3)
    assert all(x1 == x2 or y1 == y2 for (x1, y1), (x2, y2) in zip(points, points[1:]))  # steps


def test_prevalence_is_drawn_as_the_precision_of_random_scores():
    lines = ElementTree.fromstring(precision_recall_svg([0, 0, 0, 1], [0.1, 0.2, 0.3, 0.4])).findall("line")
    (dashed,) = [line for line in lines if "dasharray" in line.get("style")]
    assert float(dashed.get("y1")) == float(dashed.get("y2")) == pytest.approx(264 - 0.25 * 250)


def test_froc_axis_is_logarithmic_from_an_eighth_to_eight():
    froc = {
        "false_positives_per_study": [0.125, 1, 8],
        "sensitivity": [0.2, 0.6, None],
        "curve": {"false_positives": [0.01, 0.05, 0.5, 4, 20], "sensitivity": [0.1, 0.2, 0.5, 0.7, 0.9]},
    }
    svg = froc_svg(froc)
    assert dots_of(svg) == [(0, 0.2), (0.5, 0.6)]
    # Of the two points left of the axis the last holds at its start; that right of it is not shown.
    expected = [(0, 0.2), (np.log2(4) / 6, 0.5), (np.log2(32) / 6, 0.7)]
    np.testing.assert_allclose(curve_of(svg), expected, atol=1e-3)


def test_froc_is_constant_beyond_its_end():
    swept = {"false_positives": [0, 0, 0.5], "sensitivity": [0.0, 0.3, 0.6]}
    froc = {"false_positives_per_study": [0.125, 0.5, 1, 8], "sensitivity": [0.3, 0.6, 0.6, 0.6], "curve": swept}
    half, one = np.log2(4) / 6, 0.5
    np.testing.assert_allclose(curve_of(froc_svg(froc)), [(0, 0.3), (half, 0.6), (one, 0.6), (1, 0.6)], atol=1e-3)
    perfect = {"false_positives_per_study": [0.125, 8], "sensitivity": [1, 1]}
    swept = {"false_positives": [0, 0], "sensitivity": [0.5, 1.0]}
    assert curve_of(froc_svg(perfect | {"curve": swept}))[-2:] == [(0, 1), (1, 1)]


def test_froc_that_reaches_no_point_draws_nothing():
    swept = {"false_positives": [], "sensitivity": []}
    assert froc_svg({"false_positives_per_study": [1], "sensitivity": [None], "curve": swept}) == froc_svg(None) == ""


def test_calibration_curve_rises_at_each_p_value():
    svg = calibration_svg([0.5, 0.25], flag_level=0.3)
    assert curve_of(svg) == [(0, 0), (0.25, 0), (0.25, 0.5), (0.5, 0.5), (0.5, 1), (1, 1)]
    assert dots_of(svg) == [(0.3, 0.5)]


def test_calibration_band_contains_95_per_cent_of_a_binomial_distribution():
    band = shares(ElementTree.fromstring(calibration_svg(np.linspace(0.01, 1, 40))).find("polygon").get("points"))
    upper, lower = band[:101], band[101:][::-1]
    for t, high, low in ((0.05, upper[5][1], lower[5][1]), (0.5, upper[50][1], lower[50][1])):
        inside = binom.cdf(round(high * 40), 40, t) - binom.cdf(round(low * 40) - 1, 40, t)
        assert inside >= 0.95
        assert binom.cdf(round(high * 40) - 1, 40, t) < 0.975 and binom.sf(round(low * 40), 40, t) < 0.975


def test_calibration_without_p_values_draws_nothing():
    assert calibration_svg([]) == ""
