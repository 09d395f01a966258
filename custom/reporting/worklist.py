"""The worklist of the report: summary sentences, order of the studies, and what is shown of each."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from custom.calibration.decision import DecisionRule
from custom.metrics.records import Evaluation, StudyRow
from custom.rendering.case_view import CaseView
from custom.rendering.images import data_uri
from custom.reporting.wording import DECISIONS, UNITS, count, decimals, headed, p_value, size
from custom.runs.tables import RegionResult, StudyResult
from custom.scoring.part_statistics import PARTS

# Reductions, in this order, if the views of a run are too large to be mailed: slices, quality, pixels.
_REDUCTIONS: tuple[dict[str, int], ...] = (
    {"max_slices": 12},
    {"max_slices": 12, "quality": 70},
    {"max_slices": 6, "quality": 60},
    {"max_slices": 3, "quality": 50, "side": 256},
    {"max_slices": 1, "quality": 40, "side": 160},
)

logger = logging.getLogger(__name__)


class RegionRow(TypedDict):
    """A row of the region table of the case view, as text."""

    number: int
    size: str
    position: str
    peak: str
    p: str


class CaseData(TypedDict):
    """Data of a case for the report's script."""

    view: dict[str, Any] | None
    regions: list[RegionRow]


@dataclass(frozen=True)
class Case:
    """A row of the worklist.

    Attributes:
        number: place in the worklist, from 1.
        result: of the study.
        state: key of `DECISIONS`.
        decision: the same as shown.
        rank: place of the state in `DECISIONS`, by which decisions are sorted.
        truth: label or group as shown; None if unknown.
        thumbnail: data URI; None without a view.
        score, p_value, extent, unit: as shown.
        parts: of a fused score, as shown; empty without.
        data: of the case view; None if it has nothing to show.
    """

    number: int
    result: StudyResult
    state: str
    decision: str
    rank: int
    truth: str | None
    thumbnail: str | None
    score: str
    parts: str
    p_value: str
    extent: str
    unit: str
    data: CaseData | None


def worklist_key(result: StudyResult) -> tuple[int, float, float, str]:
    """Sort key of the worklist: smallest p-value first, then largest score, then name; studies that are not assessable
    follow, then failed ones.
    """
    p = math.inf if result.p_value is None else result.p_value
    score = -math.inf if result.score is None else result.score
    return ("ok", "not_assessable", "failed").index(result.status), p, -score, result.study


def state_of(result: StudyResult) -> str:
    """Key of `DECISIONS` for a study."""
    return result.decision or "none" if result.status == "ok" else result.status


def summary_sentences(studies: Sequence[StudyResult], rule: DecisionRule | None, n_healthy: int) -> list[str]:
    """The finding of a run with its target false-alarm rate, the expected false alarms, and studies without result.

    Args:
        studies: the results.
        rule: how p-values became decisions; None if unknown.
        n_healthy: number of healthy calibration studies, 0 if unknown.
    """
    done = [study for study in studies if study.status == "ok"]
    failed, rejected = (sum(study.status == status for study in studies) for status in ("failed", "not_assessable"))
    decided = [study for study in done if study.decision is not None]
    sentences = [
        f"{count(len(done), 'study', 'studies')} scored; the detector is not calibrated, so no study can be flagged."
    ]
    if not done:
        sentences = ["No study could be scored."]
    if decided:
        flagged = sum(study.decision == "flag" for study in decided)
        verb = "is" if flagged == 1 else "are"
        sentences = [f"{flagged} of {count(len(decided), 'study', 'studies')} {verb} flagged"]
        sentences[0] += f"; {_target(rule, n_healthy, studies)}." if rule and n_healthy else "."
        if rule:
            flags = f"{rule.alpha * len(decided):.2g}"
            sentences.append(
                f"If all {len(decided)} were healthy, at most {flags} {'flag' if flags == '1' else 'flags'} would be "
                "expected."
            )
    elif n_healthy and done:
        sentences = [f"{count(len(done), 'study', 'studies')} scored; none has a p-value, so no study can be flagged."]
    undecided = len(done) - len(decided)
    if decided and undecided:
        sentences.append(f"{count(undecided, 'study has', 'studies have')} no p-value (reason in the worklist).")
    if rejected:
        verb = count(rejected, "study is", "studies are")
        sentences.append(f"{verb} not assessable: rejected by the input check (reason in the worklist).")
    if failed:
        sentences.append(
            f"{count(failed, 'study', 'studies')} could not be read or scored (reason at the end of the worklist)."
        )
    return sentences


def worklist(
    studies: Iterable[StudyResult],
    views: Mapping[str, CaseView],
    regions: Mapping[str, Sequence[RegionResult]],
    evaluation: Evaluation | None,
    budget: int,
) -> list[Case]:
    """The rows of the worklist, in the order of `worklist_key`.

    Args:
        studies: the results.
        views: by study.
        regions: by study.
        evaluation: holds the truth, if known.
        budget: largest number of characters of all views together.
    """
    studies = sorted(studies, key=worklist_key)
    truths = {row["case"]: row for row in (evaluation.get("scores") or [] if evaluation else [])}
    places = decimals([study.score for study in studies if study.score is not None])
    fitted = fit_views(views, [study.study for study in studies], budget)
    ranks = {state: rank for rank, state in enumerate(DECISIONS)}
    cases = []
    for number, study in enumerate(studies, 1):
        truth, view, state = truths.get(study.study), views.get(study.study), state_of(study)
        rows = [_region_row(region) for region in regions.get(study.study, ())]
        data = fitted[study.study].as_json() if study.study in fitted else None
        cases.append(
            Case(
                number=number,
                result=study,
                state=state,
                decision=DECISIONS[state],
                rank=ranks[state],
                truth=None if truth is None else _truth(truth),
                thumbnail=None if view is None else data_uri(view.thumbnail),
                score="–" if study.score is None else f"{study.score:.{places}f}",
                parts=parts_of(study),
                p_value=p_value(study.p_value),
                extent=size(study.region_size),
                unit=UNITS.get(study.region_unit or "", ""),
                data={"view": data, "regions": rows} if data or rows else None,
            )
        )
    return cases


def parts_of(study: StudyResult) -> str:
    """Parts of a fused score, in standard deviations above the mean of healthy studies; empty without."""
    values = {name: getattr(study, f"score_{name}") for name in PARTS}
    return ", ".join(f"{name} {value:+.1f}".replace("-", "−") for name, value in values.items() if value is not None)


def fit_views(views: Mapping[str, CaseView], order: Iterable[str], budget: int) -> dict[str, CaseView]:
    """Make the views of a run small enough for one file.

    All cases get the same reduction, the first of `_REDUCTIONS` that fits, so that they remain comparable. If none
    fits, the views at the end of `order` are omitted.

    Args:
        views: by study.
        order: studies, the most important first.
        budget: largest number of characters of all views together.
    """
    original = {study: views[study] for study in order if study in views}
    fitted, total = original, sum(view.characters for view in original.values())
    for reduction in _REDUCTIONS:
        if total <= budget:
            return fitted
        logger.info(
            "The case views take %.1f MB and are reduced, as the report may hold %.1f MB: %s",
            total / 1e6,
            budget / 1e6,
            reduction,
        )
        fitted = {study: view.reduced(**reduction) for study, view in original.items()}
        total = sum(view.characters for view in fitted.values())
    sizes = np.cumsum([view.characters for view in fitted.values()])
    kept = dict(list(fitted.items())[: int((sizes <= budget).sum())])
    if len(kept) < len(fitted):
        logger.info(
            "Case views of the last %d studies omitted to limit the size of the report.", len(fitted) - len(kept)
        )
    return kept


def _target(rule: DecisionRule, n_healthy: int, studies: Sequence[StudyResult]) -> str:
    """The target false-alarm rate, as a clause."""
    grouped, share = any(study.group for study in studies), f"{100 * rule.alpha:.3g} %"
    similar = f"the {count(n_healthy, 'calibration study', 'calibration studies')}"
    if rule.confidence is None:
        similar = "the calibration studies of its group" if grouped else similar
        return f"a healthy study similar to {similar} is flagged with a probability of at most {share}"
    similar = "the calibration studies of their group" if grouped else similar
    return (
        f"with {100 * rule.confidence:.3g} % confidence, at most {share} of healthy studies similar to {similar} are "
        "flagged"
    )


def _truth(row: StudyRow) -> str:
    return "Healthy" if not row["label"] else headed(row.get("group") or "abnormal")


def _region_row(region: RegionResult) -> RegionRow:
    """A row of the region table of the case view."""
    if region.z is None:
        position = ", ".join(f"{value:.0f}".replace("-", "−") for value in (region.x, region.y))
    else:  # by the patient's sides, which are clear under either sign convention
        centre = zip((region.x, region.y, region.z), ("RL", "AP", "SI"))
        position = ", ".join(f"{abs(value):.0f} {sides[value < 0]}" for value, sides in centre)
    return {
        "number": region.region,
        "size": f"{size(region.size)} {UNITS[region.unit]}",
        "position": f"{position} {region.position_unit}",
        "peak": f"{region.peak:.3g}",
        "p": p_value(region.p_value),
    }
