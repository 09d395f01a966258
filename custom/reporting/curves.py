"""The curves of an evaluation as inline SVG: ROC, precision-recall, FROC, and calibration of the p-values."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from markupsafe import Markup
from scipy.stats import binom
from sklearn.metrics import precision_recall_curve, roc_curve

from custom.metrics.records import Froc
from custom.reporting.page import ACCENT, FLAG, MUTED, SURFACE, curve, line, svg, text

_LEFT, _TOP, _SIZE = 46, 14, 250
_SHARES = {0.0: "0", 0.25: "0.25", 0.5: "0.5", 0.75: "0.75", 1.0: "1"}
# The false-positive axis of the FROC curve is logarithmic, from 1/8 to 8.
_FROC_LOW, _FROC_HIGH = 0.125, 8.0
_FROC_TICKS = {k / 6: name for k, name in enumerate(("⅛", "¼", "½", "1", "2", "4", "8"))}


def roc_svg(
    labels: Sequence[int], scores: Sequence[float], operating_point: tuple[float, float] | None = None
) -> Markup:
    """Receiver operating characteristic of study scores.

    Args:
        labels: 0 healthy, 1 abnormal.
        scores: study scores, larger = more abnormal.
        operating_point: (false-alarm rate, sensitivity) of the decisions of this run, drawn as a dot.

    Returns:
        An `<svg>` element, or "" if one of the two classes is missing.
    """
    if len(set(labels)) < 2:
        return Markup()
    false_alarms, sensitivities, _ = roc_curve(labels, scores)
    points = _points(false_alarms, sensitivities)
    parts = [_dashed(0, 0, 1, 1), _area([_at(0, 0), *points, _at(1, 0)], ACCENT, 0.08), curve(points, ACCENT)]
    parts += [] if operating_point is None else [_dot(*operating_point)]
    name = "ROC curve: sensitivity against false-alarm rate"
    return _square(name, "False-alarm rate", "Sensitivity", parts)


def precision_recall_svg(
    labels: Sequence[int], scores: Sequence[float], operating_point: tuple[float, float] | None = None
) -> Markup:
    """Precision-recall curve; the prevalence, the precision of random scores, as a dashed line.

    Args:
        labels, scores: as in `roc_svg`.
        operating_point: (sensitivity, precision) of the decisions of this run, drawn as a dot.

    Returns:
        An `<svg>` element, or "" if one of the two classes is missing.
    """
    if len(set(labels)) < 2:
        return Markup()
    precision, recall, _ = precision_recall_curve(labels, scores)
    # Steps, as in average precision: between two thresholds the precision of the lower one applies.
    xs, ys = np.repeat(recall[::-1], 2)[1:-1], np.repeat(precision[::-1][1:], 2)
    prevalence = sum(labels) / len(labels)
    parts = [_dashed(0, prevalence, 1, prevalence), curve(_points(xs, ys), ACCENT)]
    x, y = _at(0, prevalence)
    parts.append(text(x + 4, y - 6, "prevalence", "start"))
    parts += [] if operating_point is None else [_dot(*operating_point)]
    return _square("Precision against sensitivity", "Sensitivity", "Precision", parts)


def froc_svg(froc: Froc | None) -> Markup:
    """Share of lesions hit against false regions per healthy study, with a dot at each operating point.

    Args:
        froc: of the lesions of an evaluation; None without lesion metrics.

    Returns:
        An `<svg>` element, or "" without any point.
    """
    if froc is None:
        return Markup()
    swept = froc["curve"]
    pairs = sorted(zip(swept["false_positives"], swept["sensitivity"]))
    pairs = [pair for pair in pairs if pair[0] <= _FROC_HIGH]
    before = sum(x <= _FROC_LOW for x, _ in pairs)
    pairs = pairs[max(before - 1, 0) :]  # of the points left of the axis the last one is drawn at its start
    marks = [(x, y) for x, y in zip(froc["false_positives_per_study"], froc["sensitivity"]) if y is not None]
    if not pairs and not marks:
        return Markup()
    # Beyond the detector's largest number of false regions the curve is constant.
    pairs += [mark for mark in marks if pairs and mark[0] > pairs[-1][0]]
    parts = [curve(_points([_froc_share(x) for x, _ in pairs], [y for _, y in pairs]), ACCENT)] if pairs else []
    parts += [_dot(_froc_share(x), y, 3.5, ACCENT) for x, y in marks]
    name = "FROC curve: share of lesions hit against false regions per healthy study"
    return _square(name, "False regions per healthy study", "Lesions hit", parts, _FROC_TICKS)


def calibration_svg(healthy_p_values: Sequence[float], flag_level: float | None = None) -> Markup:
    """Share of healthy test studies with p <= t, against t: on the diagonal if the target false-alarm rates are met.

    The band contains, at each t, 95 % of the binomial distribution around the diagonal for this number of studies.

    Args:
        healthy_p_values: p-values of the healthy test studies.
        flag_level: p-value at or below which a study is flagged, drawn as a dot.

    Returns:
        An `<svg>` element, or "" without any p-value.
    """
    values = np.sort(np.asarray(healthy_p_values, float))
    n = len(values)
    if n == 0:
        return Markup()
    levels = np.linspace(0, 1, 101)
    low, high = (binom.ppf(tail, n, levels) / n for tail in (0.025, 0.975))
    # From (0, 0) up by 1 / n at each p-value.
    xs, ys = np.repeat(values, 2), np.repeat(np.arange(n + 1) / n, 2)[1:-1]
    parts = [
        _area([*_points(levels, high), *_points(levels[::-1], low[::-1])], MUTED, 0.16),
        _dashed(0, 0, 1, 1),
        curve(_points([0, *xs, 1], [0, *ys, 1]), ACCENT),
    ]
    parts += [] if flag_level is None else [_dot(flag_level, float((values <= flag_level).mean()))]
    name = "Calibration: share of healthy test studies with p at most t, against t"
    return _square(name, "t", "Healthy studies with p ≤ t", parts)


def _froc_share(false_positives: float) -> float:
    """Position on the logarithmic axis in [0, 1]; values below its start are drawn at the start."""
    span = math.log2(_FROC_HIGH / _FROC_LOW)
    return min(math.log2(max(false_positives, _FROC_LOW) / _FROC_LOW) / span, 1.0)


def _at(x: float, y: float) -> tuple[float, float]:
    """Shares of the square in the units of the drawing."""
    return _LEFT + x * _SIZE, _TOP + (1 - y) * _SIZE


def _points(xs: Iterable[float], ys: Iterable[float]) -> list[tuple[float, float]]:
    return [_at(x, y) for x, y in zip(xs, ys)]


def _area(points: Sequence[tuple[float, float]], colour: str, opacity: float) -> str:
    """A tinted polygon."""
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polygon points="{corners}" style="fill:{colour};opacity:{opacity}"/>'


def _dashed(x1: float, y1: float, x2: float, y2: float) -> str:
    """The line of random scores, or of p-values that are uniform among healthy studies."""
    return line(*_at(x1, y1), *_at(x2, y2), f"stroke:{MUTED};stroke-dasharray:2 4")


def _dot(x: float, y: float, radius: float = 5, colour: str = FLAG) -> str:
    """A point with a rim in the page's colour, to stand out from the curve."""
    (cx, cy), style = _at(x, y), f"fill:{colour};stroke:{SURFACE};stroke-width:2"
    return f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="{radius}" style="{style}"/>'


def _square(
    name: str, x_name: str, y_name: str, parts: Sequence[str], x_ticks: Mapping[float, str] | None = None
) -> Markup:
    """Grid, axes and names around the parts."""
    bottom, middle = _TOP + _SIZE, _TOP + _SIZE / 2
    grid = []
    for share, tick in _SHARES.items():
        x, y = _at(0, share)
        grid.append(line(x, y, x + _SIZE, y))
        grid.append(text(x - 8, y + 4, tick, "end"))
    for share, tick in (x_ticks or _SHARES).items():
        grid.append(text(_at(share, 0)[0], bottom + 17, tick, "middle"))
    names = [
        text(_LEFT + _SIZE / 2, bottom + 38, x_name, "middle"),
        f'<g transform="rotate(-90 10 {middle})">{text(10, middle, y_name, "middle")}</g>',
    ]
    return svg(_LEFT + _SIZE + 14, bottom + 46, name, [*grid, *parts, *names])
