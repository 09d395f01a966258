"""The output of `nomaly monitor`: monitor.json, monitor.html and a sentence."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

import custom
from custom.calibration.monitor import Monitoring
from custom.files import atomic_write
from custom.reporting.page import (
    ACCENT,
    FLAG,
    HEALTHY,
    INK,
    LINE,
    MUTED,
    RESEARCH_NOTE,
    curve,
    dot,
    line,
    svg,
    text,
    ticks,
    write_page,
)
from custom.reporting.wording import DECISIONS

_LEFT, _WIDTH, _TOP, _HEIGHT = 46, 930, 26, 180
_MOST_ROWS = 30


@dataclass(frozen=True)
class MonitoredStudy:
    """One study of the series.

    Args:
        study: its id.
        run: its results table.
        date: of that run, ISO 8601; None if unknown.
        score: larger = more abnormal.
        p_value: in (0, 1].
        decision: of the run: "flag", "uncertain", "likely_normal" or None.
        group: its calibration group; None without groups.
        kind: its kind, "image" or "volume"; None if unknown.
        healthy_studies: number of healthy calibration studies behind the p-value; None if unknown.
    """

    study: str
    run: str
    date: str | None
    score: float | None
    p_value: float
    decision: str | None = None
    group: str | None = None
    kind: str | None = None
    healthy_studies: int | None = None

    @property
    def flagged(self) -> bool:
        """Whether the run flagged it."""
        return self.decision == "flag"


def write_monitor_report(
    folder: str | os.PathLike[str],
    found: Monitoring,
    studies: Sequence[MonitoredStudy],
    left_out: Mapping[str, int],
    notes: Sequence[str] = (),
) -> None:
    """Write monitor.json and monitor.html.

    Args:
        folder: target; existing files are replaced.
        found: result of `custom.calibration.monitor.monitor`.
        studies: the series, in its order.
        left_out: numbers of studies not in it, by reason.
        notes: each becomes a banner.

    Raises:
        NomalyError: a file cannot be written.
    """
    folder = Path(folder)
    with atomic_write(folder / "monitor.json") as file:
        json.dump(_content(found, studies, left_out, notes), file, indent=2, ensure_ascii=False, allow_nan=False)
    first, last = (0, -1) if found.alarm is None or found.onset is None else (found.onset, found.alarm)
    names = run_names(studies)
    alarming = [replace(study, run=names[study.run]) for study in studies[first : last + 1]]
    write_page(
        folder / "monitor.html",
        "monitor.html.jinja",
        summary=_headless(monitor_sentence(found, studies)),
        banners=[*dict.fromkeys([*notes, RESEARCH_NOTE])],
        found=found,
        studies=studies,
        left_out={reason: number for reason, number in left_out.items() if number},
        flagged=sum(study.flagged for study in studies),
        dates=[study.date[:10] for study in studies if study.date],
        rows=list(enumerate(alarming, first + 1))[-_MOST_ROWS:],
        plots={"p_values": p_value_svg(studies, found), "cusum": cusum_svg(found, studies)},
        decisions=DECISIONS,
        runs=list(names),
        version=custom.__version__,
    )


def monitor_sentence(found: Monitoring, studies: Sequence[MonitoredStudy]) -> str:
    """The finding in one sentence; a drift with the studies of its alarm and its onset."""
    m, p = len(studies), _p_value(found.ks_p)
    if found.alarm is None and not found.uneven:
        return f"In control: {m} studies, KS p = {p}, CUSUM {found.peak:.1f} (limit {_up(found.limit)})"
    if found.alarm is None or found.onset is None:
        return (
            f"Drift: the p-values of {m} studies are not uniform, KS p = {p}; onset unknown, as the CUSUM is within "
            f"its limit, {found.peak:.1f} (limit {_up(found.limit)})"
        )
    alarm, onset = studies[found.alarm], studies[found.onset]
    date = f", {alarm.date[:10]}" if alarm.date else ""
    return (
        f"Drift: alarm at case {alarm.study} (study {found.alarm + 1} of {m}{date}), onset near case {onset.study}; "
        f"scores are {found.direction} than at calibration (another scanner, protocol or population?)"
    )


def run_names(studies: Sequence[MonitoredStudy]) -> dict[str, str]:
    """For the path of each run, in their order, the shortest part that is unique among them.

    This is usually the folder's name; for .../march/out and .../april/out it is march and april.
    """
    parts = {study.run: _parts(study.run) for study in studies}
    while len(parts) > 1 and len({own[-1] for own in parts.values()}) == 1 and min(map(len, parts.values())) > 1:
        parts = {run: own[:-1] for run, own in parts.items()}
    names = {}
    for run, own in parts.items():
        others = [other for path, other in parts.items() if path != run]
        lengths = (k for k in range(1, len(own)) if all(other[-k:] != own[-k:] for other in others))
        names[run] = "/".join(own[-next(lengths, len(own)) :])
    return names


def p_value_svg(studies: Sequence[MonitoredStudy], found: Monitoring) -> Markup:
    """p-values in the order of the series, flagged ones in the colour of flags."""
    parts = _frame(len(studies), 1.0, (0, 0.25, 0.5, 0.75, 1), "p-value") + _marks(studies, found)
    for i, study in enumerate(studies):
        colour, size = (FLAG, 3.5) if study.flagged else (HEALTHY, 2.5)
        title = f"{study.study}: p = {_p_value(study.p_value)}" + (", flagged" if study.flagged else "")
        parts.append(dot(_x(i, len(studies)), _y(study.p_value, 1.0), colour, title, size))
    return _drawing("p-values over time", parts)


def cusum_svg(found: Monitoring, studies: Sequence[MonitoredStudy]) -> Markup:
    """Both sides of the CUSUM and their limit."""
    m, top = len(studies), 1.12 * max(found.peak, found.limit)
    parts = _frame(m, top, ticks(0, top, 5), "CUSUM") + _marks(studies, found)
    limit = _y(found.limit, top)
    parts.append(line(_LEFT, limit, _LEFT + _WIDTH, limit, f"stroke:{FLAG};stroke-dasharray:6 4"))
    for values, colour in ((found.lower, MUTED), (found.higher, ACCENT)):
        parts.append(curve([(_x(i, m), _y(float(value), top)) for i, value in enumerate(values)], colour))
    parts.append(text(_LEFT + 6, limit - 6, f"limit {_up(found.limit)}", colour=FLAG))
    return _drawing("CUSUM of the p-values over time, and its limit", parts)


def _frame(m: int, top: float, levels: Sequence[float], name: str) -> list[str]:
    """Axes: number of the study, and `name` from 0 to `top`."""
    base, right = _TOP + _HEIGHT, _LEFT + _WIDTH
    parts = [text(0, 10, name)]
    for level in levels:
        y = _y(level, top)
        parts += [line(_LEFT, y, right, y), text(_LEFT - 8, y + 4, f"{level:g}", "end")]
    parts += [text(_x(tick - 1, m), base + 18, f"{tick:g}", "middle") for tick in ticks(1, m, 12) if tick >= 1]
    return [*parts, text(_LEFT + _WIDTH / 2, base + 36, "Study, in chronological order", "middle")]


def _marks(studies: Sequence[MonitoredStudy], found: Monitoring) -> list[str]:
    """Marks of the start of each run, of the onset of the drift and of its alarm."""
    m, base, parts = len(studies), _TOP + _HEIGHT, []
    for i in range(1, m):
        if studies[i].run != studies[i - 1].run:
            x = _x(i - 0.5, m)
            parts.append(line(x, base, x, base + 6, f"stroke:{MUTED}"))
    if found.alarm is None or found.onset is None:
        return parts
    # The labels are placed apart from each other, inside the drawing.
    onset, alarm = _x(found.onset, m), _x(found.alarm, m)
    parts.append(
        f'<rect x="{onset:.1f}" y="{_TOP}" width="{max(alarm - onset, 1):.1f}" height="{_HEIGHT}" '
        f'style="fill:{FLAG};opacity:.07"/>'
    )
    for x, name, style in ((onset, "onset", f"stroke:{LINE}"), (alarm, "alarm", f"stroke:{INK};stroke-dasharray:4 3")):
        end = name == "onset" and onset > _LEFT + 40 or x > _LEFT + _WIDTH - 40
        parts.append(line(x, 8, x, base, style))
        if name == "alarm" or end or alarm - onset > 45:  # at the left edge both do not fit
            parts.append(text(x + (-5 if end else 5), 16, name, "end" if end else "start", INK))
    return parts


def _drawing(label: str, parts: Sequence[str]) -> Markup:
    return svg(_LEFT + _WIDTH + 14, _TOP + _HEIGHT + 44, label, parts)


def _x(position: float, m: int) -> float:
    """Horizontal coordinate of the study at a position counted from 0."""
    return _LEFT + (position + 0.5) / m * _WIDTH


def _y(value: float, top: float) -> float:
    return _TOP + (1 - value / top) * _HEIGHT


def _parts(run: str) -> tuple[str, ...]:
    """The path of a run's folder in parts; a results table of another name is its last part."""
    path = Path(os.path.abspath(run))
    folder = path.parent if path.name == "results.csv" else path
    return folder.parts[1:] or (path.name,)


def _headless(sentence: str) -> str:
    """The sentence without its first words, which are the heading of the page."""
    rest = sentence.partition(": ")[2]
    return rest[0].upper() + rest[1:]


def _up(limit: float) -> str:
    """One decimal, rounded up, so that no statistic within the limit appears to exceed it."""
    return f"{math.ceil(limit * 10 - 1e-9) / 10:.1f}"


def _p_value(value: float) -> str:
    return f"{value:.2f}" if value >= 0.095 else f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


def _content(
    found: Monitoring, studies: Sequence[MonitoredStudy], left_out: Mapping[str, int], notes: Sequence[str]
) -> dict[str, Any]:
    """The whole finding as plain JSON values; studies are counted from 1."""
    places = {"alarm": found.alarm, "began_about": found.onset}
    higher, lower = found.higher.tolist(), found.lower.tolist()
    runs = run_names(studies)
    return {
        "finding": monitor_sentence(found, studies),
        "in_control": not found.drifted,
        "studies": len(studies),
        "left_out": dict(left_out),
        "healthy_studies": found.healthy_studies,
        "alarm_rate": found.alarm_rate,
        "planned_studies": found.planned_studies,
        "ks": {"statistic": found.ks_statistic, "p_value": found.ks_p, "alarm_at_or_below": found.alarm_rate / 2},
        "cusum": {
            "peak": found.peak,
            "limit": found.limit,
            **{
                name: None if at is None else {"case": studies[at].study, "study": at + 1}
                for name, at in places.items()
            },
            "scores_became": found.direction,
        },
        "notes": list(notes),
        "version": custom.__version__,
        "runs": [{"run": name, "results": path} for path, name in runs.items()],
        "series": [
            {**asdict(study), "run": runs[study.run], "cusum_higher": up, "cusum_lower": down}
            for study, up, down in zip(studies, higher, lower)
        ],
    }
