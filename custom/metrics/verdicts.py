"""Whether a method beats the floors, said plainly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def floor_verdicts(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Does the method rank studies, and mark pixels, better than the best floor?

    On studies it beats the best floor where the 95 % interval of the paired difference of their AUROC lies above 0; on
    pixels where the low end of the interval of its average precision lies above the floor's.

    Returns:
        A list of {"beats": bool, "text": str}; a comparison that was not measured is left out.
    """
    verdicts = (_on_studies(evaluation.get("best_floor")), _on_pixels(evaluation))
    return [verdict for verdict in verdicts if verdict]


def floor_sentence(evaluation: Mapping[str, Any]) -> str:
    """The verdicts as one text."""
    texts = [verdict["text"] for verdict in floor_verdicts(evaluation)]
    if not (evaluation.get("best_floor") or {}).get("auroc_difference"):
        texts.insert(
            0,
            "Whether the method ranks studies better than a floor is not known: no floor was computed, or a class is "
            "missing.",
        )
    return " ".join(texts)


def _on_studies(best: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The verdict on ranking studies."""
    lead = (best or {}).get("auroc_difference")
    if not lead or lead.get("value") is None:
        return None
    interval = "" if lead.get("low") is None else f" [{lead['low']:+.3f}, {lead['high']:+.3f}]"
    numbers = f"its AUROC differs by {lead['value']:+.3f}{interval}"
    return _verdict("Ranking studies", best["name"], lead["value"], lead.get("low"), numbers)


def _on_pixels(evaluation: Mapping[str, Any]) -> dict[str, Any] | None:
    """The verdict on marking pixels."""
    method = (evaluation.get("pixel") or {}).get("ap")
    floors = {name: floor.get("pixel_ap") for name, floor in (evaluation.get("floors") or {}).items()}
    known = {name: value for name, value in floors.items() if value is not None}
    if not method or not known:
        return None
    name = max(known, key=known.get)
    lead, low = method["value"] - known[name], method.get("low")
    numbers = f"average precision {method['value']:.3f} against {known[name]:.3f}"
    return _verdict("Marking pixels", name, lead, None if low is None else low - known[name], numbers)


def _verdict(what: str, floor: str, lead: float, low: float | None, numbers: str) -> dict[str, Any]:
    """One comparison with the best floor, `low` the low end of the lead's interval."""
    best = f"the best floor ({floor.replace('_', ' ')})"
    if lead <= 0:
        return {"beats": False, "text": f"{what}, the method does not beat {best}: {numbers}."}
    if low is None or low <= 0:
        return {
            "beats": False,
            "text": f"{what}, the method is ahead of {best}, but the lead is within chance: {numbers}.",
        }
    return {"beats": True, "text": f"{what}, the method beats {best}: {numbers}."}
