"""Numbers and names as shown to readers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from typing import Any

DECISIONS = {
    "flag": "Flagged",
    "uncertain": "Uncertain",
    "likely_normal": "Likely normal",
    "none": "No decision",
    "not_assessable": "Not assessable",
    "failed": "Failed",
}
# A Stat, or {"value": ...} without interval.
StatLike = Mapping[str, Any]

_SHORT = {"pca": "PCA", "ra": "RA", "ssim": "SSIM", "kl": "KL", "elbo": "ELBO"}
UNITS = {"ml": "ml", "mm2": "mm²", "px": "px"}


def words(name: str) -> str:
    """An identifier as words."""
    return " ".join(_SHORT.get(word, word) for word in str(name).split("_"))


def headed(name: str) -> str:
    """An identifier as words, capitalised."""
    text = words(name)
    return text[:1].upper() + text[1:]


def date(value: str | None) -> str:
    """An ISO date and time in words, in UTC; any other text unchanged."""
    try:
        moment = datetime.fromisoformat(value or "")
    except ValueError:
        return value or ""
    moment = moment.astimezone(timezone.utc) if moment.tzinfo else moment
    return f"{moment.day} {moment:%B %Y, %H:%M}" + (" UTC" if moment.tzinfo else "")


def count(number: int, one: str, many: str) -> str:
    """A number with its noun in singular or plural."""
    return f"{number} {one if number == 1 else many}"


def size(value: float | None) -> str:
    """A size to about three digits, small ones as a power of ten; an en dash for None."""
    if value is None:
        return "–"
    if value == 0:
        return "0"
    if abs(value) < 0.01:
        return f"{value:.1e}"
    return f"{value:.{2 if abs(value) < 10 else 1 if abs(value) < 100 else 0}f}"


def duration(seconds: float) -> str:
    """A duration in its two largest units; below ten seconds with one decimal."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def p_value(value: float | None) -> str:
    """Three decimals, or a power of ten; an en dash for None."""
    return "–" if value is None else f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def stat(entry: StatLike | None, percent: bool = False) -> str:
    """The value of a statistic; an en dash if it is missing."""
    if not entry or entry.get("value") is None:
        return "–"
    return f"{_per_cent(entry['value'])} %" if percent else f"{entry['value']:.{_digits(entry)}f}"


def interval(entry: StatLike | None, percent: bool = False) -> str:
    """The interval of a statistic; empty without one."""
    if not entry or entry.get("low") is None or entry.get("high") is None:
        return ""
    low, high = entry["low"], entry["high"]
    return (
        f"{_per_cent(low)} – {_per_cent(high)} %"
        if percent
        else f"{low:.{_digits(entry)}f} – {high:.{_digits(entry)}f}"
    )


def plain(value: object) -> str:
    """A value of run.json as text: rounded numbers, joined lists, an en dash if empty."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(plain, value)) or "–"
    return str(value)


def decimals(values: Sequence[float]) -> int:
    """Decimals that give the largest value four significant digits, so that a column lines up."""
    largest = max((abs(value) for value in values), default=0.0)
    return max(0, 3 - math.floor(math.log10(largest))) if largest > 0 else 1


def _digits(entry: StatLike) -> int:
    """Decimals of a statistic and its interval."""
    return 3 if 0 < abs(entry["value"]) < 0.0995 else 2


def _per_cent(share: float) -> str:
    """A share in per cent, with one decimal if it is small."""
    return f"{100 * share:.{1 if 0 < share < 0.0995 else 0}f}"
