"""Reasons why numbers of an evaluation are missing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase

from custom.metrics.records import Evaluation

WORDS = {
    "healthy": "the test set has no healthy study",
    "abnormal": "the test set has no abnormal study",
    "decisions": "no study has a p-value",
    "healthy_decisions": "no healthy study has a p-value",
    "abnormal_decisions": "no abnormal study has a p-value",
    "maps": "no maps were evaluated",
    "masks": "no abnormal study has a lesion mask",
    "threshold": "the detector is not calibrated, so it has no pixel threshold",
}

# (path, what this number needs in the order in which it is checked, reason if all of that is available)
NEEDS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("image.*", ("healthy", "abnormal"), "it is not defined for these scores"),
    ("false_alarm_rate", ("healthy", "decisions", "healthy_decisions"), ""),
    ("sensitivity", ("abnormal", "decisions", "abnormal_decisions"), ""),
    ("triage", ("decisions",), ""),
    ("triage.healthy", ("healthy", "healthy_decisions"), ""),
    ("triage.abnormal", ("abnormal", "abnormal_decisions"), ""),
    ("groups.*.auroc", ("healthy",), "it is not defined for these scores"),
    ("groups.*.sensitivity", ("decisions",), "no study of this group has a p-value"),
    ("groups.*.dice", ("maps", "masks", "threshold"), "no study of this group has a lesion mask"),
    ("pixel", ("maps", "abnormal", "masks"), ""),
    ("pixel.aupro", (), "all evaluated pixels belong to lesions"),
    ("pixel.*", ("threshold",), "all evaluated pixels belong to lesions"),
    ("lesions", ("maps", "threshold"), "the test set has no healthy study and no lesion mask"),
    ("lesions.false_positives_per_study", ("healthy",), ""),
    ("lesions.sensitivity", ("abnormal", "masks"), ""),
    (
        "lesions.sensitivity_at_1_false_positive",
        ("healthy", "abnormal", "masks"),
        "at every threshold tested there is more than one false region per healthy study",
    ),
    ("lesions.by_size.*.sensitivity", ("abnormal", "masks"), "no lesion has this size"),
    (
        "lesions.froc",
        ("healthy", "abnormal", "masks"),
        "at every threshold tested there are more false regions than the operating points allow",
    ),
    ("ra_detection", ("maps", "abnormal", "masks"), ""),
    (
        "ra_detection.published",
        ("healthy",),
        "at every threshold up to 1, more than 5 % of the healthy pixels are flagged",
    ),
    ("ra_detection.scale_free", ("threshold",), ""),
    ("reconstruction", ("maps",), "the test set has no healthy study and no lesion mask"),
    ("reconstruction.healthy_*", ("healthy",), "the slices are empty or too small for SSIM"),
    ("reconstruction.*", ("abnormal", "masks"), "the slices are too small for SSIM"),
    ("n_without_mask", ("maps",), ""),
    ("baselines.*.pixel_ap", ("maps", "abnormal", "masks"), "this baseline has no map"),
    ("baselines.*.dice", ("maps", "abnormal", "masks"), "this baseline has no map or no healthy studies for one"),
    (
        "baselines.*.sensitivity_at_1_false_positive",
        ("maps", "healthy", "abnormal", "masks"),
        "this baseline has no map, no threshold, or more false regions at every threshold tested",
    ),
    ("baselines.*.false_alarm_rate", ("healthy",), "there were no healthy studies to calibrate the baseline on"),
    ("baselines.*.sensitivity", ("abnormal",), "there were no healthy studies to calibrate the baseline on"),
    ("baselines.*", ("healthy", "abnormal"), "it is not defined for these scores"),
    ("best_baseline", (), "no baseline was computed"),
    ("best_baseline.auroc_difference", ("healthy", "abnormal"), "it is not defined for these scores"),
    ("best_pixel_baseline", ("maps", "abnormal", "masks"), "no baseline with a map was computed"),
)
NEVER = {
    "reconstruction.ahi": "the anomaly-to-healthy index needs an Inception network trained on natural images, which is "
    "not included in this software",
}


def reasons(evaluation: Evaluation, maps: bool) -> dict[str, str]:
    """Dotted path of every missing number -> reason; if a whole part is missing, only the path of that part.

    Args:
        evaluation: complete except for ``not_computable``.
        maps: whether maps were evaluated at all.
    """
    known = {"maps": maps, **_available(evaluation)}
    missing = {path: _reason(path, known) for path in _missing(evaluation)}
    failed = evaluation["n_failed"]
    for kind, number in (("healthy", failed["healthy"]), ("abnormal", failed["abnormal"])):
        if number and not known[kind]:  # the class is missing because all its studies failed
            cause = f"all {number} {kind} studies failed" if number > 1 else f"the only {kind} study failed"
            missing = {path: cause if reason == WORDS[kind] else reason for path, reason in missing.items()}
    return {path: reason for path, reason in missing.items() if reason} | NEVER


def _available(evaluation: Evaluation) -> dict[str, bool]:
    """Which requirements of numbers this test set meets."""
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


def _missing(value: object, path: str = "") -> Iterator[str]:
    """Dotted paths of all None; a FROC of None only is one path; entries of by_size are named by size.

    A value without an interval is not missing.
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
    """Why the number at this path is missing; None for an entry that is not a number, such as a group's name."""
    for pattern, needs, otherwise in NEEDS:
        if fnmatchcase(path, pattern):
            return next((WORDS[need] for need in needs if not known[need]), otherwise)
    return None
