"""The evaluation of a labelled test set: every number with its interval, beside the baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from custom.calibration.decision import DecisionRule
from custom.metrics.lesion_level import LesionEvaluation
from custom.metrics.not_computable import reasons
from custom.metrics.pixel_evaluation import PixelEvaluation
from custom.metrics.ra_detection import BoxDetection
from custom.metrics.reconstruction_quality import ReconstructionQuality
from custom.metrics.study_level import METRICS, RESAMPLINGS, StudyTable


def evaluate_scores(
    studies: StudyTable,
    rule: DecisionRule,
    synthetic: bool,
    flag_level: float | None = None,
    baselines: Mapping[str, Mapping] | None = None,
    pixel: PixelEvaluation | None = None,
    lesions: LesionEvaluation | None = None,
    ra_detection: BoxDetection | None = None,
    reconstruction: ReconstructionQuality | None = None,
    failed: Mapping[str, int] | None = None,
    refused: Sequence[bool] | None = None,
) -> dict:
    """Metrics of a test set as a dictionary that JSON can hold; None stands where something cannot be computed.

    Intervals are 95 %, by 1000 resamplings of subjects; those of rates among studies of different patients are
    Clopper and Pearson's. Studies without a p-value are left out of rates and triage; ``n_without_p_value`` counts
    them.

    Args:
        studies: names, labels, scores, p-values and decisions.
        rule: what the decisions were made by; only repeated in the result.
        synthetic: whether any image or lesion was made, to be said beside every number.
        flag_level: p-value at or below which a study was flagged, less than alpha in the confident mode; None for
            alpha itself.
        baselines: name -> {"scores": (n,) in the order of the studies, "pixel": its pooled maps, or None}; the maps are
            those of the studies of `pixel`, in their order.
        pixel: the pooled maps of the same studies, but for abnormal ones without a lesion mask.
        lesions: the found lesions and false regions of the same studies.
        ra_detection: the boxes of the same studies.
        reconstruction: the quality of the pseudo-healthy images of the same studies.
        failed: number of "healthy" and "abnormal" studies that could not be scored; None = none.
        refused: which of the studies the input check would not let pass in use; they count in all other numbers. None
            without an input check.

    Returns:
        n_healthy, n_abnormal, n_failed (not among them), n_without_mask (abnormal studies whose lesions are not known,
        left out of all that needs them; None without maps), n_without_p_value, input_check (share of the healthy and
        of the abnormal that it would refuse; None without), synthetic, seed, alpha, flag_level,
        confidence, likely_normal_p, image, false_alarm_rate, sensitivity, triage, groups, pixel, lesions, ra_detection,
        reconstruction, baselines, best_baseline (the baseline of the largest AUROC, and the method's lead over it),
        best_pixel_baseline (the same by average precision of pixels), scores (a row a study), not_computable (why, for
        each number that is None, by its dotted path).
    """
    baselines = baselines or {}
    for name, baseline in baselines.items():
        studies.check_length(f"baselines[{name!r}]['scores']", baseline["scores"])
    healthy, abnormal = studies.labels == 0, studies.labels == 1
    maps = {name: baseline["pixel"] for name, baseline in baselines.items() if baseline.get("pixel")}
    parts = {"pixel": pixel, "lesions": lesions, "ra_detection": ra_detection, "reconstruction": reconstruction}
    evaluation = json_able(
        {
            "n_healthy": int(healthy.sum()),
            "n_abnormal": int(abnormal.sum()),
            "n_failed": {"healthy": 0, "abnormal": 0} | dict(failed or {}),
            "n_without_mask": None if pixel is None else int(abnormal.sum()) - len(pixel.dices),
            "n_without_p_value": sum(p is None for p in studies.p_values),
            "input_check": refused
            and {"healthy": studies.share(refused, healthy), "abnormal": studies.share(refused, abnormal)},
            "synthetic": bool(synthetic),
            "seed": int(studies.seed),
            "alpha": float(rule.alpha),
            "flag_level": float(rule.alpha if flag_level is None else flag_level),
            "confidence": rule.confidence,
            "likely_normal_p": float(rule.likely_normal_p),
            "image": {**studies.ranking(studies.scores, METRICS), "prevalence": float(studies.labels.mean())},
            "false_alarm_rate": studies.rate(healthy),
            "sensitivity": studies.rate(abnormal),
            "triage": studies.triage(),
            "groups": studies.by_group({} if pixel is None else pixel.dices),
            **{name: part and part.result(RESAMPLINGS, studies.seed) for name, part in parts.items()},
            "baselines": {
                name: {**studies.ranking(baseline["scores"]), "pixel_ap": maps[name].ap() if name in maps else None}
                for name, baseline in baselines.items()
            },
            "best_baseline": studies.lead(baselines) if baselines else None,
            "best_pixel_baseline": pixel and pixel.lead(maps, RESAMPLINGS, studies.seed),
            "scores": studies.rows(),
        }
    )
    return {**evaluation, "not_computable": reasons(evaluation, maps=pixel is not None)}


def json_able(value: object) -> object:
    """NaN and infinity become None, at any depth, and an interval without a value becomes None as a whole."""
    if isinstance(value, dict):
        if isinstance(value.get("value"), float) and math.isnan(value["value"]):
            return None
        return {key: json_able(item) for key, item in value.items()}
    if isinstance(value, list):
        return [json_able(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
