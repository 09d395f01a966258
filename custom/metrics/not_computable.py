"""Why a number of an evaluation is missing, in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

WORDS = {
    "healthy": "the test set has no healthy study",
    "abnormal": "the test set has no abnormal study",
    "decisions": "no study has a p-value",
    "healthy_decisions": "no healthy study has a p-value",
    "abnormal_decisions": "no abnormal study has a p-value",
    "maps": "no maps were evaluated",
    "masks": "no abnormal study has a lesion mask",
    "threshold": "the detector is not calibrated, so there is no pixel threshold",
}

# What each number needs, in the order in which it is told, and what is said if it has all that.
NEEDS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("image.*", ("healthy", "abnormal"), "the scores allow none"),
    ("false_alarm_rate", ("healthy", "decisions", "healthy_decisions"), ""),
    ("sensitivity", ("abnormal", "decisions", "abnormal_decisions"), ""),
    ("triage", ("decisions",), ""),
    ("triage.healthy", ("healthy", "healthy_decisions"), ""),
    ("triage.abnormal", ("abnormal", "abnormal_decisions"), ""),
    ("groups.*.auroc", ("healthy",), "the scores allow none"),
    ("groups.*.sensitivity", ("decisions",), "no study of this group has a p-value"),
    ("groups.*.dice", ("maps", "masks", "threshold"), "no study of this group has a lesion mask"),
    ("pixel", ("maps", "abnormal", "masks"), ""),
    ("pixel.aupro", (), "no assessed pixel is free of lesions"),
    ("pixel.*", ("threshold",), "no assessed pixel is free of lesions"),
    ("lesions", ("maps", "threshold"), "no study is healthy or has a lesion mask"),
    ("lesions.false_positives_per_study", ("healthy",), ""),
    ("lesions.sensitivity", ("abnormal", "masks"), ""),
    ("lesions.by_size.*.sensitivity", ("abnormal", "masks"), "no lesion is of this size"),
    ("lesions.froc", ("healthy", "abnormal", "masks"), "the sweep of thresholds reaches none of the operating points"),
    ("ra_detection", ("maps", "abnormal", "masks"), ""),
    ("ra_detection.published", ("healthy",), "no threshold up to 1 has 5 % or less of the healthy pixels above it"),
    ("ra_detection.scale_free", ("threshold",), ""),
    ("reconstruction", ("maps",), "no study is healthy or has a lesion mask"),
    ("reconstruction.healthy_*", ("healthy",), "the slices are too small for SSIM, or empty"),
    ("reconstruction.*", ("abnormal", "masks"), "the slices are too small for SSIM"),
    ("n_without_mask", ("maps",), ""),
    ("baselines.*.pixel_ap", ("maps", "abnormal", "masks"), "this baseline has no map"),
    ("baselines.*", ("healthy", "abnormal"), "the scores allow none"),
    ("best_baseline", (), "no baseline was computed"),
    ("best_baseline.auroc_difference", ("healthy", "abnormal"), "the scores allow none"),
    ("best_pixel_baseline", ("maps", "abnormal", "masks"), "no baseline that has a map was computed"),
)
NEVER = {
    "reconstruction.ahi": "the anomaly-to-healthy index needs an Inception network trained on natural images, which is "
    "not part of this software",
}


def reasons(evaluation: Mapping[str, Any], maps: bool) -> dict[str, str]:
    """Dotted path of every missing number -> why; of a part that is missing as a whole, only its own path.

    Args:
        evaluation: the dictionary, complete but for this part.
        maps: whether maps were evaluated at all.
    """
    known = {"maps": maps, **_what_is_known(evaluation)}
    missing = {path: _reason(path, known) for path in _missing(evaluation)}
    for kind, number in evaluation.get("n_failed", {}).items():  # there were some: say what became of them
        if number and not known[kind]:
            all_of = f"all {number} {kind} studies failed" if number > 1 else f"the one {kind} study failed"
            missing = {path: all_of if reason == WORDS[kind] else reason for path, reason in missing.items()}
    return {path: reason for path, reason in missing.items() if reason} | NEVER


def _what_is_known(evaluation: Mapping[str, Any]) -> dict[str, bool]:
    """Which of the things that numbers need this test set has."""
    rows, pixel = evaluation["scores"], evaluation["pixel"]
    decided = {row["label"] for row in rows if row["decision"] is not None}
    return {
        "healthy": evaluation["n_healthy"] > 0,
        "abnormal": evaluation["n_abnormal"] > 0,
        "decisions": bool(decided),
        "healthy_decisions": 0 in decided,
        "abnormal_decisions": 1 in decided,
        "masks": pixel is not None,
        "threshold": evaluation["lesions"] is not None or (pixel is not None and pixel["threshold"] is not None),
    }


def _missing(value: Any, path: str = "") -> Iterator[str]:
    """Dotted paths of what is None; a list of None counts as missing itself; entries of by_size go by their names.

    A value that has no interval is not missing.
    """
    if value is None:
        yield path
    elif isinstance(value, Mapping) and "value" not in value:
        if path.endswith("froc") and all(point is None for point in value["sensitivity"]):
            yield path
            return
        for key, item in value.items():
            yield from _missing(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list) and path == "lesions.by_size":
        for item in value:
            yield from _missing({"sensitivity": item["sensitivity"]}, f"{path}.{item['name']}")


def _reason(path: str, known: Mapping[str, bool]) -> str | None:
    """Why the number at this path is missing; None for an entry that is no number, such as a group's name."""
    for pattern, needs, otherwise in NEEDS:
        if fnmatchcase(path, pattern):
            return next((WORDS[need] for need in needs if not known[need]), otherwise)
    return None
