"""The evaluation of a labelled test set: every number with its interval, next to the baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

from custom.calibration.decision import DecisionRule
from custom.metrics.image_level import auprc, auroc
from custom.metrics.lesion_level import LesionEvaluation
from custom.metrics.not_computable import reasons
from custom.metrics.pixel_evaluation import PixelEvaluation
from custom.metrics.ra_detection import BoxDetection
from custom.metrics.reconstruction_quality import ReconstructionQuality
from custom.metrics.records import BaselineMetrics, ClassCounts, ClassRates, Evaluation
from custom.metrics.study_level import RESAMPLINGS, StudyTable, tpr_at_5_fpr

T = TypeVar("T")


@dataclass(frozen=True)
class BaselineResult:
    """A baseline on the same test set.

    Attributes:
        scores: (n,) in the order of the studies, larger = more abnormal.
        pixel: its pooled maps, of the studies of the method's own pooled maps in their order; None without maps.
        lesions: the lesions hit and the false regions of the same studies; None without maps.
        flagged: (n,) whether its own calibration flags each study; None without one.
        peer: whether it uses more than healthy images; it is then no candidate for the best baseline.
    """

    scores: Sequence[float]
    pixel: PixelEvaluation | None = None
    lesions: LesionEvaluation | None = None
    flagged: Sequence[bool] | None = None
    peer: bool = False


def evaluate_scores(
    studies: StudyTable,
    rule: DecisionRule,
    synthetic: bool,
    flag_level: float | None = None,
    baselines: Mapping[str, BaselineResult] | None = None,
    pixel: PixelEvaluation | None = None,
    lesions: LesionEvaluation | None = None,
    ra_detection: BoxDetection | None = None,
    reconstruction: ReconstructionQuality | None = None,
    failed: ClassCounts | None = None,
    rejected: Sequence[bool] | None = None,
) -> Evaluation:
    """Metrics of a test set, ready for JSON: NaN and infinity become None.

    Intervals are 95 %, by 1000 resamplings of subjects; for rates among studies of different patients they are Clopper
    and Pearson's. Studies without a p-value are left out of rates and triage.

    Args:
        studies: names, labels, scores, p-values and decisions.
        rule: the rule behind the decisions; only repeated in the result.
        synthetic: whether any image or lesion is synthetic.
        flag_level: p-value at or below which a study was flagged, less than alpha in the confident mode; None = alpha.
        baselines: by name.
        pixel: the pooled maps of the same studies, without abnormal studies that have no lesion mask.
        lesions: the lesions hit and the false regions of the same studies.
        ra_detection: the boxes of the same studies.
        reconstruction: the quality of the pseudo-healthy images of the same studies.
        failed: numbers of studies that could not be scored; None = none.
        rejected: (n,) whether the input check rejects each study; rejected studies count in all other numbers. None
            without an input check.

    Raises:
        NomalyError: scores of a baseline of another length, or pooled maps of other studies.
    """
    baselines = baselines or {}
    for name, baseline in baselines.items():
        studies.check_length(f"baselines[{name!r}].scores", baseline.scores)
    healthy, abnormal = studies.labels == 0, studies.labels == 1
    seed = studies.seed
    simple = {name: baseline for name, baseline in baselines.items() if not baseline.peer}
    maps = {name: baseline.pixel for name, baseline in simple.items() if baseline.pixel is not None}
    scores = {name: baseline.scores for name, baseline in simple.items()}
    content: Evaluation = {
        "n_healthy": int(healthy.sum()),
        "n_abnormal": int(abnormal.sum()),
        "n_failed": failed or {"healthy": 0, "abnormal": 0},
        "n_without_mask": None if pixel is None else int(abnormal.sum()) - len(pixel.dices),
        "n_without_p_value": sum(p is None for p in studies.p_values),
        "input_check": _rejection_rates(studies, rejected),
        "synthetic": bool(synthetic),
        "seed": int(seed),
        "alpha": float(rule.alpha),
        "flag_level": float(rule.alpha if flag_level is None else flag_level),
        "confidence": rule.confidence,
        "likely_normal_p": float(rule.likely_normal_p),
        "image": studies.image_metrics(),
        "false_alarm_rate": studies.rate(healthy),
        "sensitivity": studies.rate(abnormal),
        "triage": studies.triage(),
        "groups": studies.by_group({} if pixel is None else pixel.dices),
        "pixel": None if pixel is None else pixel.result(RESAMPLINGS, seed),
        "lesions": None if lesions is None else lesions.result(RESAMPLINGS, seed),
        "ra_detection": None if ra_detection is None else ra_detection.result(RESAMPLINGS, seed),
        "reconstruction": None if reconstruction is None else reconstruction.result(RESAMPLINGS, seed),
        "baselines": {name: _baseline_metrics(studies, baseline) for name, baseline in baselines.items()},
        "best_baseline": studies.lead(scores) if scores else None,
        "best_pixel_baseline": None if pixel is None else pixel.lead(maps, RESAMPLINGS, seed),
        "scores": studies.rows(),
        "not_computable": {},
    }
    evaluation = json_able(content)
    evaluation["not_computable"] = reasons(evaluation, maps=pixel is not None)
    return evaluation


def _rejection_rates(studies: StudyTable, rejected: Sequence[bool] | None) -> ClassRates | None:
    """Share of the healthy and of the abnormal studies that the input check rejects; None without it."""
    if not rejected:
        return None
    healthy, abnormal = (studies.share(rejected, studies.labels == label) for label in (0, 1))
    return {"healthy": healthy, "abnormal": abnormal}


def _baseline_metrics(studies: StudyTable, baseline: BaselineResult) -> BaselineMetrics:
    """The same numbers as of the method, those of pixels and lesions if the baseline has maps."""
    pixel = None if baseline.pixel is None else baseline.pixel.result(RESAMPLINGS, studies.seed)
    lesions = None if baseline.lesions is None else baseline.lesions.result(RESAMPLINGS, studies.seed)
    flagged = baseline.flagged
    alarms, hits = (None if flagged is None else studies.share(flagged, studies.labels == label) for label in (0, 1))
    return {
        "peer": baseline.peer,
        "auroc": studies.ranking(auroc, baseline.scores),
        "auprc": studies.ranking(auprc, baseline.scores),
        "tpr_at_5_fpr": studies.ranking(tpr_at_5_fpr, baseline.scores),
        "auroc_difference": studies.lead({"": baseline.scores})["auroc_difference"],
        "false_alarm_rate": alarms,
        "sensitivity": hits,
        "pixel_ap": None if pixel is None else pixel["ap"],
        "dice": None if pixel is None else pixel["dice"],
        "sensitivity_at_1_false_positive": None if lesions is None else lesions["sensitivity_at_1_false_positive"],
        "scores": [float(score) for score in baseline.scores],
    }


def json_able(value: T) -> T:
    """NaN and infinity become None, at any depth; a stat without a value becomes None as a whole."""
    return cast(T, _json_able(value))


def _json_able(value: object) -> object:
    if isinstance(value, dict):
        if isinstance(value.get("value"), float) and math.isnan(value["value"]):
            return None
        return {key: _json_able(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json_able(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
