"""The curves of a training by epoch, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from custom.reporting.page import ACCENT, FLAG, INK, LINE, MUTED, curve, dot, line, svg, text, ticks

_LEFT, _TOP, _WIDTH, _HEIGHT = 58, 14, 250, 150
_BESIDE = 86  # room for the names of horizontal lines
_MOST_DOTS = 30  # more would hide the line
_LOGARITHMIC = 8.0  # ratio of the largest to the smallest value from which the axis is logarithmic

Points = Sequence[tuple[int, float]]


def epochs_svg(
    name: str,
    points: Points,
    *,
    levels: Mapping[str, float] | None = None,
    chosen: int | None = None,
    phases: Sequence[int] = (),
    span: tuple[float, float] | None = None,
) -> Markup:
    """A figure by epoch; its axis is logarithmic if the values differ much.

    Args:
        name: of the figure, for screen readers.
        points: (epoch, value); values that are not finite are left out.
        levels: horizontal lines by name, such as the errors of simple models.
        chosen: epoch that is marked as the chosen one.
        phases: last epoch of each phase but the last one; a line marks the change.
        span: lowest and highest value of the axis; None = as the values.

    Returns:
        An `<svg>` element, or "" without any finite value.
    """
    points = [(epoch, value) for epoch, value in points if math.isfinite(value)]
    lines = {label: value for label, value in (levels or {}).items() if math.isfinite(value)}
    if not points:
        return Markup()
    values = [value for _, value in points] + list(lines.values())
    low, high = span or (min(values), max(values))
    logarithmic = span is None and low > 0 and high / low >= _LOGARITHMIC
    axis = _Axis(low, high, logarithmic)
    last = max(points[-1][0], 2)

    def _x(epoch: float) -> float:
        return _LEFT + (epoch - 1) / (last - 1) * _WIDTH

    bottom, right = _TOP + _HEIGHT, _LEFT + _WIDTH
    parts = []
    for value in axis.ticks():
        y = axis.y(value)
        parts += [line(_LEFT, y, right, y), text(_LEFT - 8, y + 4, f"{value:.4g}", "end")]
    parts += [text(_x(tick), bottom + 17, f"{tick:g}", "middle") for tick in _epoch_ticks(last)]
    for end in phases:
        parts.append(line(_x(end + 0.5), _TOP, _x(end + 0.5), bottom, f"stroke:{MUTED};stroke-dasharray:2 4"))
    for value in lines.values():
        parts.append(line(_LEFT, axis.y(value), right, axis.y(value), f"stroke:{FLAG};stroke-dasharray:6 4"))
    places = [(_x(epoch), axis.y(value)) for epoch, value in points]
    parts.append(curve(places, ACCENT))
    if len(points) <= _MOST_DOTS:
        parts += [dot(x, y, ACCENT, f"epoch {e}: {v:.4g}") for (x, y), (e, v) in zip(places, points)]
    for (x, y), (epoch, value) in zip(places, points):
        if epoch == chosen:
            parts.append(line(x, y, x, bottom, f"stroke:{LINE}"))
            parts.append(dot(x, y, INK, f"chosen, epoch {epoch}: {value:.4g}", 5))
    parts += [text(right + 6, axis.y(value) + 4, label) for label, value in lines.items()]
    parts.append(text(_LEFT + _WIDTH / 2, bottom + 36, "Epoch", "middle"))
    return svg(right + (_BESIDE if lines else 14), bottom + 42, f"{name} by epoch", parts)


class _Axis:
    """The vertical axis, linear or logarithmic.

    Args:
        low: value at its lower end.
        high: value at its upper end.
        logarithmic: whether equal distances are equal ratios; then both ends must be > 0.
    """

    def __init__(self, low: float, high: float, logarithmic: bool) -> None:
        self.logarithmic = logarithmic
        if high - low < 1e-9 * max(abs(high), 1e-9):  # a constant
            low, high = low - max(abs(low) * 0.1, 1e-6), high + max(abs(high) * 0.1, 1e-6)
        self.low, self.high = low, high

    def y(self, value: float) -> float:
        """Vertical coordinate; values outside are drawn at the end."""
        value = min(max(value, self.low), self.high)
        low, high, at = (math.log(v) for v in (self.low, self.high, value)) if self.logarithmic else self._plain(value)
        return _TOP + (1 - (at - low) / (high - low)) * _HEIGHT

    def _plain(self, value: float) -> tuple[float, float, float]:
        return self.low, self.high, value

    def ticks(self) -> list[float]:
        """Round values on the axis."""
        if not self.logarithmic:
            return ticks(self.low, self.high, 5)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        found = [value for power in powers for value in (10.0**power, 3 * 10.0**power)]
        found = [value for value in found if self.low <= value <= self.high]
        return found[:: math.ceil(len(found) / 6)]


def _epoch_ticks(last: int) -> list[float]:
    """Whole numbers among the epochs."""
    return [tick for tick in ticks(1, last, 6) if tick >= 1 and tick == int(tick)]
