"""Shared by the HTML pages: template environment, writing, and parts of inline SVG.

A page is one self-contained file that opens offline. Plots take their colours from the page, so they follow light and
dark mode.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from custom.files import atomic_write

RESEARCH_NOTE = "Research software, not a medical device."
INK, MUTED, LINE, SURFACE = "var(--ink,#1b1d21)", "var(--muted,#6b7178)", "var(--line,#d9dbde)", "var(--surface,#fff)"
ACCENT, HEALTHY, FLAG = "var(--accent,#2457d6)", "var(--healthy,#3f7fb5)", "var(--flag,#b42318)"


def write_page(path: str | os.PathLike[str], template: str, **content: Any) -> None:
    """Render a template of this folder into a file, atomically; all text is escaped except `Markup`.

    Raises:
        NomalyError: the file cannot be written.
    """
    html = _environment().get_template(template).render(**content)
    with atomic_write(path, "w") as stream:
        stream.write(html)


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def svg(width: float, height: float, label: str, parts: Sequence[str]) -> Markup:
    """A drawing with a label for screen readers."""
    name = escape(label)
    return Markup(f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{name}">{"".join(parts)}</svg>')


def text(x: float, y: float, words: str, anchor: str = "start", colour: str = MUTED) -> str:
    """Small text with a halo in the page's colour, so that it is legible over lines."""
    style = f"fill:{colour};font-size:11px;text-anchor:{anchor};paint-order:stroke;stroke:{SURFACE};stroke-width:4px"
    return f'<text x="{x:.1f}" y="{y:.1f}" style="{style}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, style: str = f"stroke:{LINE}") -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" style="{style}"/>'


def dot(x: float, y: float, colour: str, title: str = "", radius: float = 2.5) -> str:
    """A filled circle, with a tooltip."""
    words = f"<title>{escape(title)}</title>" if title else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}" style="fill:{colour}">{words}</circle>'


def curve(points: Sequence[tuple[float, float]], colour: str) -> str:
    """A line through points."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" style="fill:none;stroke:{colour};stroke-width:2;stroke-linejoin:round"/>'


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Round numbers inside the range, at most `most` + 1: steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10((high - low) / 4))
    step = power * next(s for s in (1, 2, 5, 10, 20) if (high - low) / (power * s) <= most)
    return [k * step for k in range(math.ceil(low / step), math.floor(high / step + 1e-9) + 1)]
