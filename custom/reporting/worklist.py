"""The studies of a run as a reader works through them: what was found, in which order, and what is shown of each."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from custom.calibration.decision import DecisionRule
from custom.rendering.case_view import CaseView
from custom.rendering.images import data_uri
from custom.reporting.wording import DECISIONS, UNITS, count, decimals, headed, p_value, size
from custom.runs.tables import RegionResult, StudyResult

# What is given up, in this order, where the views of a run are too large to be mailed: slices, fidelity, pixels.
_REDUCTIONS = (
    {"max_slices": 12},
    {"max_slices": 12, "quality": 70},
    {"max_slices": 6, "quality": 60},
    {"max_slices": 3, "quality": 50, "side": 256},
    {"max_slices": 1, "quality": 40, "side": 160},
)

logger = logging.getLogger(__name__)


def worklist_key(result: StudyResult) -> tuple[Any, ...]:
    """Sort key of the worklist: smallest p-value first, then largest score; then studies that are not assessable, last
    failed ones; equal ones by name.
    """
    p = math.inf if result.p_value is None else result.p_value
    score = -math.inf if result.score is None else result.score
    return ("ok", "not_assessable", "failed").index(result.status), p, -score, result.study


def state_of(result: StudyResult) -> str:
    """Key of `DECISIONS` for a study."""
    return result.decision or "none" if result.status == "ok" else result.status


def summary_sentences(studies: Sequence[StudyResult], rule: DecisionRule | None, n_healthy: int) -> list[str]:
    """The finding of a run and its guarantee in one sentence, then what chance alone would do and what failed.

    Args:
        studies: the results.
        rule: how p-values became decisions; None where that is not known.
        n_healthy: number of healthy calibration studies, 0 if not known.
    """
    done = [study for study in studies if study.status == "ok"]
    failed, refused = (sum(study.status == status for study in studies) for status in ("failed", "not_assessable"))
    decided = [study for study in done if study.decision is not None]
    sentences = [f"{count(len(done), 'study', 'studies')} scored; not calibrated, so none can be flagged."]
    if not done:
        sentences = ["No study could be assessed."]
    if decided:
        flagged = sum(study.decision == "flag" for study in decided)
        verb = "is" if flagged == 1 else "are"
        sentences = [f"{flagged} of {count(len(decided), 'study', 'studies')} {verb} flagged"]
        sentences[0] += f"; {_guarantee(rule, n_healthy, studies)}." if rule and n_healthy else "."
        if rule:
            sentences.append(
                f"Were all {len(decided)} healthy, up to {rule.alpha * len(decided):.2g} flags would be expected."
            )
    elif n_healthy and done:
        sentences = [f"{count(len(done), 'study', 'studies')} scored; none has a p-value, so none can be flagged."]
    undecided = len(done) - len(decided)
    if decided and undecided:
        sentences.append(f"{count(undecided, 'study has no p-value and says', 'studies have no p-value and say')} why.")
    if refused:
        verb = count(refused, "study is", "studies are")
        sentences.append(f"{verb} not assessable, being unlike all that the detector knows; each says why.")
    if failed:
        sentences.append(f"{count(failed, 'study', 'studies')} could not be read or scored; see the end of the list.")
    return sentences


def worklist(
    studies: Iterable[StudyResult],
    views: Mapping[str, CaseView],
    regions: Mapping[str, Sequence[RegionResult]],
    evaluation: Mapping[str, Any] | None,
    budget: int,
) -> list[dict[str, Any]]:
    """What the report shows of each study, in the order of `worklist_key`.

    Args:
        studies: the results.
        views: by study.
        regions: by study.
        evaluation: tells the truth, if it is known.
        budget: characters that all views may take.
    """
    studies = sorted(studies, key=worklist_key)
    truths = {row["case"]: row for row in (evaluation or {}).get("scores") or []}
    places = decimals([study.score for study in studies if study.score is not None])
    fitted = fit_views(views, [study.study for study in studies], budget)
    ranks = {state: rank for rank, state in enumerate(DECISIONS)}
    cases = []
    for number, study in enumerate(studies, 1):
        truth, view, state = truths.get(study.study), views.get(study.study), state_of(study)
        rows = [_lesion(region) for region in regions.get(study.study, ())]
        data = fitted[study.study].as_json() if study.study in fitted else None
        cases.append(
            {
                "number": number,
                "result": study,
                "state": state,
                "decision": DECISIONS[state],
                "rank": ranks[state],
                "truth": None if truth is None else _truth(truth),
                "thumbnail": None if view is None else data_uri(view.thumbnail),
                "score": "–" if study.score is None else f"{study.score:.{places}f}",
                "p_value": p_value(study.p_value),
                "extent": size(study.region_size),
                "unit": UNITS.get(study.region_unit or "", ""),
                "data": {"view": data, "regions": rows} if data or rows else None,
            }
        )
    return cases


def fit_views(views: Mapping[str, CaseView], order: Iterable[str], budget: int) -> dict[str, CaseView]:
    """Make the views of a run small enough for one file.

    All cases are treated alike, by the first of `_REDUCTIONS` that fits, so that they can be compared; where even the
    last does not, the cases at the end of `order` go without.

    Args:
        views: by study.
        order: studies, the most important first.
        budget: characters that all views may take.
    """
    original = {study: views[study] for study in order if study in views}
    fitted, total = original, sum(view.characters for view in original.values())
    for reduction in _REDUCTIONS:
        if total <= budget:
            return fitted
        logger.info(
            "The case views take %.1f MB, the report has room for %.1f: %s", total / 1e6, budget / 1e6, reduction
        )
        fitted = {study: view.reduced(**reduction) for study, view in original.items()}
        total = sum(view.characters for view in fitted.values())
    sizes = np.cumsum([view.characters for view in fitted.values()])
    kept = dict(list(fitted.items())[: int((sizes <= budget).sum())])
    if len(kept) < len(fitted):
        logger.info("Case views left out for want of room: those of the last %d studies.", len(fitted) - len(kept))
    return kept


def _guarantee(rule: DecisionRule, n_healthy: int, studies: Sequence[StudyResult]) -> str:
    """What is promised of healthy studies, as a clause."""
    like = "the one calibration study" if n_healthy == 1 else f"the {n_healthy} calibration ones"
    if any(study.group for study in studies):
        like = "the calibration ones of its group"
    share = f"{100 * rule.alpha:.3g} %"
    if rule.confidence is None:
        return f"a healthy study like {like} is flagged with a probability of at most {share}"
    like = like.replace("its group", "their group")
    return (
        f"with {100 * rule.confidence:.3g} % confidence over calibration sets, at most {share} of healthy studies like "
        f"{like} are flagged"
    )


def _truth(row: Mapping[str, Any]) -> str:
    return "Healthy" if not row["label"] else headed(row.get("group") or "abnormal")


def _lesion(region: RegionResult) -> dict[str, Any]:
    """A row of the case view's table."""
    if region.z is None:
        position = ", ".join(f"{value:.0f}".replace("-", "−") for value in (region.x, region.y))
    else:  # by the patient's sides, which readers of either sign convention understand
        centre = zip((region.x, region.y, region.z), ("RL", "AP", "SI"))
        position = ", ".join(f"{abs(value):.0f} {sides[value < 0]}" for value, sides in centre)
    return {
        "number": region.region,
        "size": f"{size(region.size)} {UNITS[region.unit]}",
        "position": f"{position} {region.position_unit}",
        "peak": f"{region.peak:.3g}",
        "p": p_value(region.p_value),
    }
