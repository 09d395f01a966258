"""Whether a method beats the baselines, and whether the promised false-alarm rate was kept, said plainly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def baseline_verdicts(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Does the method rank studies, and mark pixels, better than the best baseline?

    It beats the best baseline where the 95 % interval of the paired difference, of their AUROC over studies or of their
    average precision over pixels, lies above 0. Without an interval there are too few studies to tell.

    Returns:
        A list of {"beats": bool, "text": str}; a comparison that was not measured is left out.
    """
    studies, pixels = evaluation.get("best_baseline") or {}, evaluation.get("best_pixel_baseline") or {}
    verdicts = (
        _verdict("Ranking studies", studies.get("name"), "AUROC", studies.get("auroc_difference")),
        _verdict("Marking pixels", pixels.get("name"), "average precision", pixels.get("ap_difference")),
    )
    return [verdict for verdict in verdicts if verdict]


def false_alarm_sentence(evaluation: Mapping[str, Any]) -> str | None:
    """That the promised false-alarm rate was not kept, where the realised one's interval lies above it; else None."""
    rate, alpha = evaluation.get("false_alarm_rate") or {}, evaluation.get("alpha")
    if alpha is None or rate.get("low") is None or rate["low"] <= alpha:
        return None
    return (
        f"The promise is not kept on these studies: {100 * rate['value']:.1f} % of the healthy are flagged instead of "
        f"{100 * alpha:g} % at most. They are not like the calibration ones: calibrate on healthy studies of their "
        "kind (nomaly calibrate --healthy DIR --output site.json); nomaly monitor tells since when."
    )


def baseline_sentence(evaluation: Mapping[str, Any]) -> str:
    """The verdicts as one text."""
    texts = [verdict["text"] for verdict in baseline_verdicts(evaluation)]
    if not (evaluation.get("best_baseline") or {}).get("auroc_difference"):
        texts.insert(
            0,
            "Whether the method ranks studies better than a baseline is not known: no baseline was computed, or a "
            "class is missing.",
        )
    return " ".join(texts)


def _verdict(what: str, baseline: str | None, metric: str, lead: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """One comparison with the best baseline, of which the method's lead in the metric is told; None without a lead."""
    if not lead or lead.get("value") is None:
        return None
    best, value, low = f"the best baseline ({baseline.replace('_', ' ')})", lead["value"], lead.get("low")
    if low is None:
        text = f"{what}, the method's {metric} differs by {value:+.3f} from that of {best}: too few studies to tell."
        return {"beats": False, "text": text}
    numbers = f"its {metric} differs by {value:+.3f} [{low:+.3f}, {lead['high']:+.3f}]"
    if value <= 0:
        return {"beats": False, "text": f"{what}, the method does not beat {best}: {numbers}."}
    if low <= 0:
        text = f"{what}, the method is ahead of {best}, but the lead is within chance: {numbers}."
        return {"beats": False, "text": text}
    return {"beats": True, "text": f"{what}, the method beats {best}: {numbers}."}
