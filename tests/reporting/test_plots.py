from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from custom.reporting.plots import ROLE_COLOURS, UNCERTAIN, histogram_svg


def drawing(svg):
    return ElementTree.fromstring(svg)


def test_histogram_bars_count_every_score_once():
    svg = histogram_svg([("Healthy", "healthy", [1, 1, 2]), ("Abnormal", "abnormal", [2, 3, 4, 5])])
    rects = drawing(svg).findall("rect")
    for role, total in (("healthy", 3), ("abnormal", 4)):
        of_role = [r for r in rects if ROLE_COLOURS[role] in r.get("style")]
        assert sum(int(r.find("title").text) for r in of_role) == total


def test_histogram_escapes_the_names_of_its_lanes():
    assert "<b>" not in histogram_svg([("<b>x</b>", "healthy", [1.0, 2.0])])


def test_axis_is_coloured_from_likely_normal_to_flagged():
    lines = drawing(histogram_svg([("Healthy", "healthy", [0.0, 10.0])], 8.0, 5.0, width=100)).findall("line")
    zones = [line for line in lines if "stroke-width:4" in line.get("style")]
    assert [ROLE_COLOURS["healthy"], UNCERTAIN, ROLE_COLOURS["abnormal"]] == [
        re.match("stroke:(.*);stroke-width", zone.get("style"))[1] for zone in zones
    ]
    # The axis spans -0.2 to 10.2 over 8 to 108; zones are a pixel short at either end.
    bounds = [8 + (score + 0.2) / 10.4 * 100 for score in (-0.2, 5.0, 8.0, 10.2)]
    assert [float(z.get("x1")) - 1 for z in zones] == pytest.approx(bounds[:-1], abs=0.1)
    assert [float(z.get("x2")) + 1 for z in zones] == pytest.approx(bounds[1:], abs=0.1)


def test_histogram_has_no_zones_without_a_threshold():
    assert 'stroke-width:4"' not in histogram_svg([("Healthy", "healthy", [1.0, 2.0])], None, 1.5)


@pytest.mark.parametrize("scores", [[0.0], [5.0, 5.0, 5.0], [-3e-7, 2e-7], [1e6, 2e6]])
def test_histogram_bears_degenerate_and_extreme_scores(scores):
    svg = histogram_svg([("Healthy", "healthy", scores)], threshold=scores[0], lower=scores[-1])
    assert not re.search(r"nan|inf\b", svg)
    assert len(drawing(svg).findall("rect")) >= 1


@pytest.mark.parametrize(
    ("width", "threshold", "words", "anchor"),
    [
        (560, 2.0, "flagged above this score", "start"),
        (560, 9.0, "flagged above this score", "end"),  # no room to its right
        (290, 4.0, "flagged above this score", "start"),
        (290, 5.0, "flagged above", "end"),  # no room for all words on either side
    ],
)
def test_note_about_the_threshold_lies_within_the_drawing(width, threshold, words, anchor):
    svg = histogram_svg([("Healthy", "healthy", [0.0, 10.0])], threshold, width=width)
    (note,) = [each for each in drawing(svg).findall("text") if each.text.startswith("flagged")]
    assert note.text == words and f"text-anchor:{anchor}" in note.get("style")
    # seven units a letter are more than it needs
    reach = float(note.get("x")) + (7 if anchor == "start" else -7) * len(words)
    assert 0 <= reach <= width + 16


def test_histogram_without_any_score_draws_nothing():
    assert histogram_svg([("Healthy", "healthy", [])]) == ""
