"""The report of a run: one self-contained HTML file that opens anywhere, offline, and stays a file."""

from __future__ import annotations

import base64
import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from custom.calibration.conformal import minimum_n
from custom.calibration.decision import DecisionRule
from custom.metrics.verdicts import baseline_verdicts, false_alarm_sentence
from custom.rendering.case_view import CaseView
from custom.rendering.images import colour_scale
from custom.reporting.curves import calibration_svg, froc_svg, precision_recall_svg, roc_svg
from custom.reporting.evaluation_figures import figure_groups, key_figures
from custom.reporting.page import RESEARCH_NOTE, write_page
from custom.reporting.plots import histogram_svg
from custom.reporting.wording import DECISIONS, date, headed, interval, p_value, plain, size, stat, words
from custom.reporting.worklist import summary_sentences, worklist
from custom.runs.tables import RegionResult, StudyResult

_BUDGET = 28_000_000  # characters of case views, so that a report can still be mailed and opens at once
_SCRIPTS = ("report.js.jinja", "report.case.js.jinja")


def write_report(
    path: str | os.PathLike[str],
    title: str,
    notes: Sequence[str],
    run: Mapping[str, Any],
    studies: Sequence[StudyResult],
    views: Mapping[str, CaseView],
    evaluation: Mapping[str, Any] | None = None,
    *,
    regions: Mapping[str, Sequence[RegionResult]] | None = None,
    alpha: float | None = None,
    healthy_scores: Sequence[float] | None = None,
) -> None:
    """Write report.html: finding, banners, key figures (if evaluated), worklist with case views, provenance.

    Args:
        path: where to write; replaced atomically.
        title: heading of the report.
        notes: each becomes a loud banner; that this is research software is always said.
        run: what made the report, as `write_run_info` returns it; shown as it is. Its "decision_rule" {"alpha",
            "confidence", "likely_normal_p"} tells how p-values became decisions.
        studies: the results, in any order.
        views: by study; a study may lack one.
        evaluation: the dictionary of `custom.metrics.evaluation`, if the truth is known.
        regions: by study, for the table of the case view.
        alpha: false-alarm rate of the decisions; None takes the run's, or the evaluation's.
        healthy_scores: scores of the healthy calibration studies; give the summary its n and the histogram its ground.

    Raises:
        NomalyError: the file cannot be written.
    """
    healthy = [float(score) for score in healthy_scores] if healthy_scores is not None else []
    rule = _rule(run, evaluation, alpha)
    level = _flag_level(rule, len(healthy), studies)
    cases = worklist(studies, views, regions or {}, evaluation, _BUDGET)
    script = Markup("\n".join((Path(__file__).parent / name).read_text(encoding="utf-8") for name in _SCRIPTS))
    write_page(
        path,
        "report.html.jinja",
        title=title,
        summary=summary_sentences(studies, rule, len(healthy)),
        banners=[*dict.fromkeys(_banners(notes, rule, healthy, studies, evaluation))],
        cases=cases,
        states=[(key, name, sum(case["state"] == key for case in cases)) for key, name in DECISIONS.items()],
        evaluation=evaluation,
        key_figures=key_figures(evaluation, rule and rule.alpha) if evaluation else [],
        figure_groups=figure_groups(evaluation) if evaluation else [],
        verdicts=baseline_verdicts(evaluation) if evaluation else [],
        promise=false_alarm_sentence(evaluation) if evaluation else None,
        plots=_plots(studies, evaluation, healthy, rule, level),
        rule=rule,
        level=level,
        threshold=(run.get("calibration") or {}).get("pixel_threshold"),
        colour_scale=colour_scale(),
        provenance=_provenance(run),
        date=date(run.get("date")),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        headed=headed,
        stat_of=stat,
        interval_of=interval,
        size_of=size,
        p_of=p_value,
    )


def _rule(run: Mapping[str, Any], evaluation: Mapping[str, Any] | None, alpha: float | None) -> DecisionRule | None:
    """How p-values became decisions: as told, else as the run says, else as the evaluation says; None if unknown."""
    known = {**(evaluation or {}), **(run.get("decision_rule") or {})}
    alpha = known.get("alpha") if alpha is None else alpha
    if alpha is None:
        return None
    likely = known.get("likely_normal_p")
    return DecisionRule(alpha, known.get("confidence"), max(alpha, 0.2 if likely is None else likely))


def _flag_level(rule: DecisionRule | None, n_healthy: int, studies: Sequence[StudyResult]) -> float | None:
    """p-value at or below which a study is flagged; None where there is none that holds for all studies."""
    if rule is None or n_healthy < minimum_n(rule.alpha, rule.confidence) or any(study.group for study in studies):
        return None
    return rule.flag_level(n_healthy)


def _banners(
    notes: Sequence[str],
    rule: DecisionRule | None,
    healthy: Sequence[float],
    studies: Sequence[StudyResult],
    evaluation: Mapping[str, Any] | None,
) -> Iterator[str]:
    """What must be said loudly: the notes, and what follows from the data."""
    yield from notes
    if (evaluation or {}).get("synthetic") and not any("synthetic" in note.lower() for note in notes):
        yield "Synthetic data: these numbers say nothing about patients."
    if not healthy and not any(study.p_value is not None for study in studies):
        yield "Not calibrated: there are no p-values, decisions or masks. Run nomaly calibrate first."
    if rule is not None and 0 < len(healthy) < minimum_n(rule.alpha, rule.confidence):
        yield (
            f"Too few healthy calibration studies: with {len(healthy)}, no study can be flagged at alpha = "
            f"{rule.alpha:g}. At least {minimum_n(rule.alpha, rule.confidence)} are needed."
        )
    yield RESEARCH_NOTE


def _plots(
    studies: Sequence[StudyResult],
    evaluation: Mapping[str, Any] | None,
    healthy: Sequence[float],
    rule: DecisionRule | None,
    level: float | None,
) -> dict[str, Any]:
    """Inline SVG: "squares", a list of (drawing, caption), "columns" to set them in, and the "histogram"."""
    threshold = _score_at(healthy, level)
    lower = None if level is None else _score_at(healthy, rule.likely_normal_p)
    lanes = [("Healthy, for calibration", "calibration", healthy)]
    squares = []
    if evaluation:
        rows = [row for row in evaluation.get("scores") or [] if row.get("score") is not None]
        for name, role, label in (("Healthy, for test", "healthy", False), ("Abnormal, for test", "abnormal", True)):
            lanes.append((name, role, [row["score"] for row in rows if bool(row["label"]) == label]))
        squares = [(drawing, caption) for drawing, caption in _squares(evaluation, rows, level) if drawing]
    elif healthy:
        lanes.append(("Studies of this run", "studies", [s.score for s in studies if s.score is not None]))
    else:
        lanes = []
    columns = 2 if len(squares) == 2 else 3
    free = (columns - len(squares) % columns) % columns or columns
    histogram = histogram_svg(lanes, threshold, lower, width=560 if free < 3 else 760)
    return {"squares": squares, "columns": columns, "free": free, "histogram": histogram}


def _squares(
    evaluation: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], level: float | None
) -> Iterator[tuple[Markup, str]]:
    """The curves of an evaluation, each with its caption; a curve that cannot be drawn is empty."""
    labels, scores = [int(bool(row["label"])) for row in rows], [row["score"] for row in rows]
    rates = [(evaluation.get(key) or {}).get("value") for key in ("false_alarm_rate", "sensitivity")]
    dot = "" if None in rates else " The dot is the decision in force."
    yield roc_svg(labels, scores, None if dot == "" else tuple(rates)), f"ROC curve over studies.{dot}"
    flagged = [int(bool(row["label"])) for row in rows if row.get("decision") == "flag"]
    point = (rates[1], sum(flagged) / len(flagged)) if dot and flagged else None
    caption = f"Precision over sensitivity.{dot if point else ''} At the prevalence: guessing."
    yield precision_recall_svg(labels, scores, point), caption
    p_values = [row["p_value"] for row in rows if not row["label"] and row.get("p_value") is not None]
    caption = (
        f"Does the promise hold? Over the diagonal, healthy studies alarm too often. Band: 95 % of what chance gives "
        f"{len(p_values)} studies; the calibration set's own chance comes on top."
    )
    yield calibration_svg(p_values, level), caption
    froc = (evaluation.get("lesions") or {}).get("froc") or {}
    yield froc_svg(froc), "FROC curve over lesions: how many are found, at what price in false regions."


def _score_at(healthy: Sequence[float], level: float | None) -> float | None:
    """Score that a study exceeds if and only if p <= level: at most level (n + 1) - 1 healthy scores reach it."""
    if level is None or not healthy:
        return None
    allowed = math.floor(level * (len(healthy) + 1) + 1e-9) - 1
    return sorted(healthy, reverse=True)[allowed] if 0 <= allowed < len(healthy) else None


def _provenance(run: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """What made the report, in named groups of (name, text): what stands alone first, then each mapping."""
    alone = {key: value for key, value in run.items() if not isinstance(value, Mapping)}
    groups = {"Run": alone, **{words(key): value for key, value in run.items() if isinstance(value, Mapping)}}
    return [
        (name, [(words(key), _plain_entry(value)) for key, value in group.items()])
        for name, group in groups.items()
        if group
    ]


def _plain_entry(value: Any) -> str:
    """Text of an entry; a mapping inside a group as "name value" pairs."""
    if isinstance(value, Mapping):
        return ", ".join(f"{words(key)} {plain(item)}" for key, item in value.items()) or "–"
    return plain(value)
