"""The two plots of a report, as inline SVG that takes its colours from the page and so follows light and dark mode.

Hand-written rather than drawn by matplotlib: a few kilobytes, crisp at any zoom, text that can be read out.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

# CSS custom properties with a fallback, so that a plot also stands alone.
_INK, _MUTED, _LINE = "var(--ink,#1b1d21)", "var(--muted,#6b7178)", "var(--line,#d9dbde)"
_SURFACE = "var(--surface,#fff)"
ROLE_COLOURS = {
    "calibration": "var(--muted,#8a9099)",
    "healthy": "var(--healthy,#3f7fb5)",
    "abnormal": "var(--flag,#b42318)",
    "studies": "var(--accent,#2457d6)",
}


def roc_svg(labels: Sequence[int], scores: Sequence[float], operating_point: tuple[float, float] | None = None) -> str:
    """Receiver operating characteristic of study scores.

    Args:
        labels: 0 healthy, 1 abnormal.
        scores: study scores, larger = more abnormal.
        operating_point: (false-alarm rate, sensitivity) of the decision in force, drawn as a dot.

    Returns:
        An `<svg>` element, or "" where one of the two classes is missing and there is no curve.
    """
    if len(set(labels)) < 2:
        return ""
    left, top, size = 46, 14, 250
    false_alarms, sensitivities, _ = roc_curve(labels, scores)
    points = " ".join(f"{left + x * size:.1f},{top + (1 - y) * size:.1f}" for x, y in zip(false_alarms, sensitivities))
    area = f"{left},{top + size} {points} {left + size},{top + size}"
    parts = [
        *(_grid_line(left, top, size, share) for share in (0, 0.25, 0.5, 0.75, 1)),
        f'<line x1="{left}" y1="{top + size}" x2="{left + size}" y2="{top}" '
        f'style="stroke:{_MUTED};stroke-dasharray:2 4"/>',
        f'<polygon points="{area}" style="fill:{ROLE_COLOURS["studies"]};opacity:.08"/>',
        f'<polyline points="{points}" style="fill:none;stroke:{ROLE_COLOURS["studies"]};stroke-width:2;'
        'stroke-linejoin:round"/>',
        _text(left + size / 2, top + size + 38, "False-alarm rate", "middle"),
        _text(14, top + size / 2, "Sensitivity", "middle", f'transform="rotate(-90 14 {top + size / 2})"'),
    ]
    if operating_point is not None:
        x, y = left + operating_point[0] * size, top + (1 - operating_point[1]) * size
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" style="fill:{ROLE_COLOURS["abnormal"]};'
            f'stroke:{_SURFACE};stroke-width:2"/>'
        )
    return _svg(left + size + 14, top + size + 46, "ROC curve: sensitivity against false-alarm rate", parts)


def histogram_svg(
    lanes: Sequence[tuple[str, str, Sequence[float]]], threshold: float | None = None, bins: int = 32
) -> str:
    """Score histograms in lanes over one axis, so that no distribution hides another.

    Args:
        lanes: (name, role, scores) from top to bottom; the role, a key of `ROLE_COLOURS`, sets the colour. Each lane
            is scaled to its own highest bar. Empty lanes are left out.
        threshold: score over which a study is flagged, drawn as a dashed line.
        bins: number of bars over the range of all scores.

    Returns:
        An `<svg>` element, or "" if there is no score at all.
    """
    lanes = [lane for lane in lanes if len(lane[2])]
    if not lanes:
        return ""
    left, top, width, height, gap = 8, 46, 420, 56, 28
    edges = _edges(np.concatenate([np.asarray(lane[2], float) for lane in lanes]), threshold, bins)

    def at(score: float) -> float:
        return left + (score - edges[0]) / (edges[-1] - edges[0]) * width

    # Names stand on the side that the threshold's line leaves free.
    crowded = threshold is not None and at(threshold) < left + width / 2
    name_x, name_anchor = (left + width, "end") if crowded else (left, "start")
    parts: list[str] = []
    names: list[str] = []
    for row, (name, role, scores) in enumerate(lanes):
        base = top + row * (height + gap) + height
        parts += _lane(np.histogram(scores, edges)[0], [at(edge) for edge in edges], base, height, ROLE_COLOURS[role])
        names.append(_text(name_x, base - height - 6, f"{name} (n = {len(scores)})", name_anchor))
    bottom = top + len(lanes) * (height + gap) - gap
    if threshold is not None:
        x = at(threshold)
        anchor = "start" if x < left + width * 0.7 else "end"
        parts.append(
            f'<line x1="{x:.1f}" y1="6" x2="{x:.1f}" y2="{bottom}" style="stroke:{_INK};stroke-dasharray:4 3"/>'
        )
        parts.append(_text(x + (5 if anchor == "start" else -5), 14, "flagged beyond this line", anchor))
    parts += names  # after the line, so that their halo keeps them legible
    for tick in _ticks(edges[0], edges[-1]):
        parts.append(_text(at(tick), bottom + 17, f"{tick:.6g}", "middle"))
    parts.append(_text(left + width / 2, bottom + 37, "Study score (larger = more abnormal)", "middle"))
    return _svg(left + width + 8, bottom + 45, "Histogram of study scores", parts)


def _edges(scores: NDArray[np.float64], threshold: float | None, bins: int) -> NDArray[np.float64]:
    """Edges of equal bins over all scores and the threshold, with a little room at both ends."""
    values = scores if threshold is None else np.append(scores, threshold)
    low, high = float(values.min()), float(values.max())
    margin = (high - low) * 0.02 or max(abs(high) * 0.1, 1e-6)
    return np.linspace(low - margin, high + margin, bins + 1)


def _lane(counts: NDArray[np.int64], xs: list[float], base: float, height: float, colour: str) -> list[str]:
    """Bars of one histogram over its base line."""
    bars = [f'<line x1="{xs[0]:.1f}" y1="{base}" x2="{xs[-1]:.1f}" y2="{base}" style="stroke:{_LINE}"/>']
    for count, start, end in zip(counts, xs, xs[1:]):
        if count:
            tall = count / counts.max() * height
            bars.append(
                f'<rect x="{start + 1:.1f}" y="{base - tall:.1f}" width="{end - start - 2:.1f}" height="{tall:.1f}" '
                f'rx="1.5" style="fill:{colour}"><title>{count}</title></rect>'
            )
    return bars


def _ticks(low: float, high: float) -> list[float]:
    """Three to six round numbers inside the range: steps of 1, 2 or 5 times a power of ten."""
    power = 10.0 ** np.floor(np.log10((high - low) / 4))
    step = power * next(s for s in (1, 2, 5, 10) if (high - low) / (power * s) <= 6)
    return [float(k * step) for k in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]


def _grid_line(left: float, top: float, size: float, share: float) -> str:
    x, y = left + share * size, top + (1 - share) * size
    return (
        f'<line x1="{left}" y1="{y}" x2="{left + size}" y2="{y}" style="stroke:{_LINE}"/>'
        + _text(left - 8, y + 4, f"{share:g}", "end")
        + _text(x, top + size + 17, f"{share:g}", "middle")
    )


def _text(x: float, y: float, text: str, anchor: str, extra: str = "") -> str:
    """Small muted text with a halo in the page's colour, legible over lines."""
    style = f"fill:{_MUTED};font-size:11px;text-anchor:{anchor};paint-order:stroke;stroke:{_SURFACE};stroke-width:4px"
    return f'<text x="{x:.1f}" y="{y:.1f}" {extra} style="{style}">{escape(text)}</text>'


def _svg(width: float, height: float, label: str, parts: list[str]) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
