"""Verdicts of an evaluation in sentences: comparison with the best baseline, and the target false-alarm rate."""

from __future__ import annotations

from typing import TypedDict

from custom.metrics.records import Evaluation, Stat


class Verdict(TypedDict):
    """Whether the method is significantly better than the best baseline, and the comparison as a sentence."""

    beats: bool
    text: str


def baseline_verdicts(evaluation: Evaluation) -> list[Verdict]:
    """Does the method rank studies, and mark pixels, significantly better than the best baseline?

    It does if the 95 % interval of the paired difference in AUROC over studies, or in average precision over pixels, is
    above 0. Without an interval there are too few studies to decide. Comparisons that were not made are left out.
    """
    studies, pixels = evaluation.get("best_baseline"), evaluation.get("best_pixel_baseline")
    verdicts = []
    if studies:
        verdicts.append(_verdict("Ranking of studies", studies["name"], "AUROC", studies["auroc_difference"]))
    if pixels:
        verdicts.append(_verdict("Marking of pixels", pixels["name"], "average precision", pixels["ap_difference"]))
    return [verdict for verdict in verdicts if verdict]


def false_alarm_sentence(evaluation: Evaluation) -> str | None:
    """That the target false-alarm rate is exceeded, if the realised rate's interval is above it; otherwise None."""
    rate, alpha = evaluation.get("false_alarm_rate"), evaluation.get("alpha")
    if alpha is None or rate is None or rate["low"] is None or rate["low"] <= alpha:
        return None
    return (
        f"Target false-alarm rate exceeded: {100 * rate['value']:.1f} % of the healthy studies are flagged, the target "
        f"is at most {100 * alpha:g} %. These studies may differ from the calibration studies: calibrate on comparable "
        "healthy studies (nomaly calibrate --healthy FOLDER --output SITE); nomaly monitor can locate the onset."
    )


def baseline_sentence(evaluation: Evaluation) -> str:
    """The verdicts as one text."""
    texts = [verdict["text"] for verdict in baseline_verdicts(evaluation)]
    best = evaluation.get("best_baseline")
    if not best or not best["auroc_difference"]:
        texts.insert(
            0,
            "Ranking of studies: not compared with a baseline, as none was computed or the test set lacks a class.",
        )
    return " ".join(texts)


def _verdict(task: str, baseline: str, metric: str, lead: Stat | None) -> Verdict | None:
    """The comparison with the best baseline by the method's lead in the metric; None without a lead."""
    if not lead:
        return None
    best, value, low, high = (
        f"the best baseline ({baseline.replace('_', ' ')})",
        lead["value"],
        lead["low"],
        lead["high"],
    )
    difference = f"difference in {metric} {value:+.3f}"
    if low is None or high is None:
        return {"beats": False, "text": f"{task}: too few studies to compare with {best}; {difference}."}
    numbers = f"{difference} [{low:+.3f}, {high:+.3f}]"
    if value <= 0:
        return {"beats": False, "text": f"{task}: not better than {best}; {numbers}."}
    if low <= 0:
        return {"beats": False, "text": f"{task}: difference from {best} not significant; {numbers}."}
    return {"beats": True, "text": f"{task}: significantly better than {best}; {numbers}."}
