"""The report of a run: one self-contained HTML file that opens offline."""

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
from custom.metrics.records import Evaluation, StudyRow
from custom.metrics.verdicts import baseline_verdicts, false_alarm_sentence
from custom.rendering.case_view import CaseView
from custom.rendering.colours import colour_scale
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
    evaluation: Evaluation | None = None,
    *,
    regions: Mapping[str, Sequence[RegionResult]] | None = None,
    alpha: float | None = None,
    healthy_scores: Mapping[str, Sequence[float]] | None = None,
) -> None:
    """Write report.html: finding, banners, key figures (if evaluated), worklist with case views, provenance.

    Args:
        path: where to write; replaced atomically.
        title: heading of the report.
        notes: each becomes a banner; the note on research software is always added.
        run: provenance, as `write_run_info` returns it; shown unchanged. Its "decision_rule" {"alpha", "confidence",
            "likely_normal_p"} specifies how p-values became decisions.
        studies: the results, in any order.
        views: by study; may be missing for some.
        evaluation: if the truth is known.
        regions: by study, for the table of the case view.
        alpha: target false-alarm rate of the decisions; None = the run's, or the evaluation's.
        healthy_scores: scores of the healthy calibration studies by kind of study, for the summary and the histogram;
            these are left out for studies of both kinds, whose scores are not comparable.

    Raises:
        NomalyError: the file cannot be written.
    """
    healthy = _healthy(healthy_scores or {}, studies)
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
        states=[(key, name, sum(case.state == key for case in cases)) for key, name in DECISIONS.items()],
        evaluation=evaluation,
        key_figures=key_figures(evaluation, rule.alpha if rule else None) if evaluation else [],
        figure_groups=figure_groups(evaluation) if evaluation else [],
        verdicts=baseline_verdicts(evaluation) if evaluation else [],
        exceeded=false_alarm_sentence(evaluation) if evaluation else None,
        plots=_plots(studies, evaluation, healthy, rule, level),
        rule=rule,
        level=level,
        thresholds={kind: found["pixel_threshold"] for kind, found in (run.get("calibration") or {}).items()},
        colour_scales={"grey": colour_scale("grey"), "colour": colour_scale("colour")},
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


def _healthy(scores: Mapping[str, Sequence[float]], studies: Sequence[StudyResult]) -> list[float]:
    """Scores of the healthy calibration studies of the same kind as all studies; empty for studies of both kinds."""
    kinds = {study.kind for study in studies if study.kind is not None} or set(scores)
    return [float(score) for score in scores.get(next(iter(kinds)), ())] if len(kinds) == 1 else []


def _rule(run: Mapping[str, Any], evaluation: Evaluation | None, alpha: float | None) -> DecisionRule | None:
    """How p-values became decisions: by the argument, the run or the evaluation, in this order; None if unknown."""
    known = {**(evaluation or {}), **(run.get("decision_rule") or {})}
    alpha = known.get("alpha") if alpha is None else alpha
    if alpha is None:
        return None
    likely = known.get("likely_normal_p")
    return DecisionRule(alpha, known.get("confidence"), max(alpha, 0.2 if likely is None else likely))


def _flag_level(rule: DecisionRule | None, n_healthy: int, studies: Sequence[StudyResult]) -> float | None:
    """p-value at or below which a study is flagged; None if it differs between studies or none can be flagged."""
    if rule is None or n_healthy < minimum_n(rule.alpha, rule.confidence) or any(study.group for study in studies):
        return None
    return rule.flag_level(n_healthy)


def _banners(
    notes: Sequence[str],
    rule: DecisionRule | None,
    healthy: Sequence[float],
    studies: Sequence[StudyResult],
    evaluation: Evaluation | None,
) -> Iterator[str]:
    """The notes, and warnings that follow from the data."""
    yield from notes
    if evaluation and evaluation.get("synthetic") and not any("synthetic" in note.lower() for note in notes):
        yield "Synthetic data: these numbers do not apply to patients."
    if not healthy and not any(study.p_value is not None for study in studies):
        yield "Not calibrated: no p-values, decisions or masks. Run nomaly calibrate first."
    if rule is not None and 0 < len(healthy) < minimum_n(rule.alpha, rule.confidence):
        yield (
            f"Too few healthy calibration studies: with {len(healthy)} no study can be flagged at alpha = "
            f"{rule.alpha:g}. At least {minimum_n(rule.alpha, rule.confidence)} are needed."
        )
    yield RESEARCH_NOTE


def _plots(
    studies: Sequence[StudyResult],
    evaluation: Evaluation | None,
    healthy: Sequence[float],
    rule: DecisionRule | None,
    level: float | None,
) -> dict[str, Any]:
    """Inline SVG: "squares", a list of (drawing, caption) set in "columns", and the "histogram"."""
    threshold = _score_at(healthy, level)
    lower = None if level is None or rule is None else _score_at(healthy, rule.likely_normal_p)
    lanes: list[tuple[str, str, Sequence[float]]] = [("Healthy calibration studies", "calibration", healthy)]
    squares: list[tuple[Markup, str]] = []
    if evaluation:
        rows = [row for row in evaluation.get("scores") or [] if row.get("score") is not None]
        for name, role, label in (("Healthy test studies", "healthy", 0), ("Abnormal test studies", "abnormal", 1)):
            lanes.append((name, role, [row["score"] for row in rows if row["label"] == label]))
        squares = [(drawing, caption) for drawing, caption in _squares(evaluation, rows, level) if drawing]
    elif healthy:
        lanes.append(("Studies of this run", "studies", [s.score for s in studies if s.score is not None]))
    else:
        lanes = []
    columns = 2 if len(squares) == 2 else 3
    free = (columns - len(squares) % columns) % columns or columns
    # A page as narrow as a telephone shows its own drawing, so that the words keep their size.
    roomy = histogram_svg(lanes, threshold, lower, width=560 if free < 3 else 760)
    narrow = histogram_svg(lanes, threshold, lower, width=290, bins=20)
    histogram = roomy and Markup('<div class="roomy">{}</div><div class="narrow">{}</div>').format(roomy, narrow)
    return {"squares": squares, "columns": columns, "free": free, "histogram": histogram}


def _squares(evaluation: Evaluation, rows: Sequence[StudyRow], level: float | None) -> Iterator[tuple[Markup, str]]:
    """The curves of an evaluation, each with its caption; a curve that cannot be drawn is empty."""
    labels, scores = [row["label"] for row in rows], [row["score"] for row in rows]
    false_alarms, sensitivity = evaluation.get("false_alarm_rate"), evaluation.get("sensitivity")
    roc_point = recall_point = None
    if false_alarms and sensitivity:
        roc_point = (false_alarms["value"], sensitivity["value"])
        flagged = [row["label"] for row in rows if row.get("decision") == "flag"]
        recall_point = (sensitivity["value"], sum(flagged) / len(flagged)) if flagged else None
    dot = " Dot: the decisions of this run."
    yield roc_svg(labels, scores, roc_point), f"ROC curve over studies.{dot if roc_point else ''}"
    caption = f"Precision against sensitivity.{dot if recall_point else ''} Dashed: random scores."
    yield precision_recall_svg(labels, scores, recall_point), caption
    p_values = [p for row in rows if not row["label"] and (p := row.get("p_value")) is not None]
    caption = (
        "Calibration of the p-values. Above the diagonal, false alarms exceed their target. Band: 95 % of the chance "
        f"variation of {len(p_values)} test studies, without that of the calibration set."
    )
    yield calibration_svg(p_values, level), caption
    lesions = evaluation.get("lesions")
    yield froc_svg(lesions["froc"] if lesions else None), "FROC curve: lesions hit against false regions."


def _score_at(healthy: Sequence[float], level: float | None) -> float | None:
    """Score that a study exceeds if and only if p <= level: at most level (n + 1) - 1 healthy scores then reach it."""
    if level is None or not healthy:
        return None
    allowed = math.floor(level * (len(healthy) + 1) + 1e-9) - 1
    return sorted(healthy, reverse=True)[allowed] if 0 <= allowed < len(healthy) else None


def _provenance(run: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Provenance in named groups of (name, text): plain values first, then each mapping."""
    single = {key: value for key, value in run.items() if not isinstance(value, Mapping)}
    groups = {"Run": single, **{words(key): value for key, value in run.items() if isinstance(value, Mapping)}}
    return [
        (name, [(words(key), _plain_entry(value)) for key, value in group.items()])
        for name, group in groups.items()
        if group
    ]


def _plain_entry(value: object) -> str:
    """Text of an entry; a mapping inside a group as "name value" pairs."""
    if isinstance(value, Mapping):
        return ", ".join(f"{words(key)} {_plain_entry(item)}" for key, item in value.items()) or "–"
    return plain(value)
