from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from custom.errors import NomalyError
from custom.reporting.page import curve, dot, line, svg, text, ticks, write_page

EVIL = '<b>"x"</b>&'


def test_words_in_a_drawing_are_escaped() -> None:
    drawing = ElementTree.fromstring(svg(10, 10, EVIL, [text(1, 2, EVIL), dot(1, 2, "red", EVIL)]))
    assert drawing.get("aria-label") == drawing.find("text").text == drawing.find("circle/title").text == EVIL


def test_marks_are_at_their_coordinates() -> None:
    drawing = ElementTree.fromstring(svg(10, 10, "a", [line(1, 2, 3, 4), curve([(0, 1), (2.25, 3)], "red")]))
    assert [drawing.find("line").get(key) for key in ("x1", "y1", "x2", "y2")] == ["1.0", "2.0", "3.0", "4.0"]
    assert drawing.find("polyline").get("points") == "0.0,1.0 2.2,3.0"
    assert drawing.get("viewBox") == "0 0 10 10"


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 37, [0, 10, 20, 30]),
        (1, 240, [50, 100, 150, 200]),
        (-3, 2, [-3, -2, -1, 0, 1, 2]),
    ],
)
def test_ticks_are_round_numbers_within_the_range(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_page_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NomalyError, match="a file exists where a folder is needed"):
        write_page(tmp_path / "file" / "page.html", "report.css.jinja")
