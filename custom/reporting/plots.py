"""The histogram of study scores, as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from custom.reporting.page import ACCENT, FLAG, HEALTHY, INK, MUTED, line, svg, text, ticks

UNCERTAIN = "var(--uncertain,#b07300)"
_NOTE = 160  # room that the note about the threshold needs
ROLE_COLOURS = {"calibration": MUTED, "healthy": HEALTHY, "abnormal": FLAG, "studies": ACCENT}


def histogram_svg(
    lanes: Sequence[tuple[str, str, Sequence[float]]],
    threshold: float | None = None,
    lower: float | None = None,
    *,
    bins: int = 32,
    width: int = 420,
) -> Markup:
    """Score histograms in lanes over a common axis, so that no distribution hides another.

    Args:
        lanes: (name, role, scores) from top to bottom; the role, a key of `ROLE_COLOURS`, sets the colour. Each lane
            is scaled to its own highest bar. Empty lanes are left out.
        threshold: score above which a study is flagged, drawn as a dashed line.
        lower: score up to which a study is likely normal; with the threshold it divides the axis into three zones.
        bins: number of bars over the range of all scores.
        width: of the axis, in units of which a line of text is 11 high.

    Returns:
        An `<svg>` element, or "" without any score.
    """
    lanes = [lane for lane in lanes if len(lane[2])]
    if not lanes:
        return Markup()
    left, top, height, gap = 8, 46, 56, 28
    edges = _edges(np.concatenate([np.asarray(lane[2], float) for lane in lanes]), threshold, bins)

    def _at(score: float) -> float:
        return left + (score - edges[0]) / (edges[-1] - edges[0]) * width

    # Lane names are on the side that the threshold's line leaves free.
    crowded = threshold is not None and _at(threshold) < left + width / 2
    name_x, name_anchor = (left + width, "end") if crowded else (left, "start")
    parts: list[str] = []
    names: list[str] = []
    for row, (name, role, scores) in enumerate(lanes):
        base = top + row * (height + gap) + height
        parts += _lane(np.histogram(scores, edges)[0], [_at(edge) for edge in edges], base, height, ROLE_COLOURS[role])
        names.append(text(name_x, base - height - 6, f"{name} (n = {len(scores)})", name_anchor))
    bottom = top + len(lanes) * (height + gap) - gap
    if threshold is not None:
        x = _at(threshold)
        after, before = left + width - x, x - left
        anchor = "start" if after > before or after > _NOTE else "end"
        words = "flagged above this score" if max(after, before) > _NOTE else "flagged above"
        parts.append(line(x, 6, x, bottom, f"stroke:{INK};stroke-dasharray:4 3"))
        parts.append(text(x + (5 if anchor == "start" else -5), 14, words, anchor))
        if lower is not None:
            parts += _zones([left, _at(float(np.clip(lower, edges[0], threshold))), x, left + width], bottom)
    parts += names  # after the line, so that their halo keeps them legible
    for tick in ticks(edges[0], edges[-1]):
        parts.append(text(_at(tick), bottom + 22, f"{tick:.6g}", "middle"))
    parts.append(text(left + width / 2, bottom + 42, "Study score (larger = more abnormal)", "middle"))
    return svg(left + width + 8, bottom + 50, "Histogram of study scores", parts)


def _edges(scores: NDArray[np.floating], threshold: float | None, bins: int) -> NDArray[np.floating]:
    """Edges of equal bins over all scores and the threshold, with a margin at both ends."""
    values = scores if threshold is None else np.append(scores, threshold)
    low, high = float(values.min()), float(values.max())
    margin = (high - low) * 0.02 or max(abs(high) * 0.1, 1e-6)
    return np.linspace(low - margin, high + margin, bins + 1)


def _lane(counts: NDArray[np.int64], xs: list[float], base: float, height: float, colour: str) -> list[str]:
    """Bars of one histogram over its base line."""
    bars = [line(xs[0], base, xs[-1], base)]
    for count, start, end in zip(counts, xs, xs[1:]):
        if count:
            tall = count / counts.max() * height
            bars.append(
                f'<rect x="{start + 1:.1f}" y="{base - tall:.1f}" width="{end - start - 2:.1f}" height="{tall:.1f}" '
                f'rx="1.5" style="fill:{colour}"><title>{count}</title></rect>'
            )
    return bars


def _zones(xs: Sequence[float], top: float) -> list[str]:
    """A thin strip below the axis: likely normal, uncertain, flagged."""
    return [
        line(start + 1, top + 5, end - 1, top + 5, f"stroke:{colour};stroke-width:4")
        for start, end, colour in zip(xs, xs[1:], (HEALTHY, UNCERTAIN, FLAG))
        if end - start > 2
    ]
