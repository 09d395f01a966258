"""What the report says of an evaluation: every figure in words, in groups."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MISSING = object()


@dataclass(frozen=True)
class Figure:
    """One row of a table of figures.

    Attributes:
        name: what it is, as a reader says it.
        stat: {"value", "low", "high"}, the latter two where there is an interval; None where it is not computable.
        remark: how to read it; where it is not computable, why.
        percent: whether it is shown in per cent.
        share: whether it lies in [0, 1], so that it can be drawn on an axis.
    """

    name: str
    stat: Mapping[str, Any] | None
    remark: str = ""
    percent: bool = False
    share: bool = True


# (path, name, remark, options): the remark may quote the evaluation's numbers.
_STUDIES = (
    ("image.auroc", "AUROC", "0.5 is guessing", {}),
    ("image.auprc", "AUPRC", "{image.prevalence:.2f}, the share of abnormal studies, is guessing", {}),
    ("image.fpr_at_95_tpr", "False alarms at 95 % sensitivity", "", {"percent": True}),
    ("image.tpr_at_5_fpr", "Sensitivity at 5 % false alarms", "", {"percent": True}),
    ("false_alarm_rate", "Realised false alarms", "Healthy studies flagged", {"percent": True}),
    ("sensitivity", "Sensitivity", "Abnormal studies flagged", {"percent": True}),
)
_LESIONS = (
    ("lesions.sensitivity", "Lesions found", "Of {lesions.n} lesions, by the calibrated mask", {"percent": True}),
    (
        "lesions.false_positives_per_study",
        "False regions",
        "Mean number in a healthy study",
        {"share": False},
    ),
)
_PIXELS = (
    ("pixel.ap", "Average precision", "{pixel.prevalence:.3f}, the share of lesion pixels, is guessing", {}),
    ("pixel.aupro", "AUPRO", "Overlap with each lesion, up to 30 % false pixels", {}),
    ("pixel.dice", "Dice", "Mean over abnormal studies with a mask, at the calibrated threshold", {}),
    ("pixel.best_dice", "Best Dice", "Upper bound: all pixels pooled, threshold chosen on the test set", {}),
    (
        "pixel.false_positive_rate",
        "Realised false pixels",
        "Calibrated to {pixel.pixel_false_positive_rate:.2%} of healthy pixels",
        {"percent": True},
    ),
)
_RA = tuple(
    (f"ra_detection.{kind}.{key}", f"{name}, {how}", remark if key == "detection_rate" else "", options)
    for kind, how, remark in (
        ("published", "as published", "Its threshold is set on the healthy test studies; depends on the map's scale"),
        ("scale_free", "scale-free", "At the calibrated threshold"),
    )
    for key, name, options in (
        ("detection_rate", "Lesions detected", {"percent": True}),
        ("precision", "Precision", {}),
        ("f1", "F1", {}),
    )
)
_RECONSTRUCTION = (
    ("reconstruction.healthy_mae", "Error on healthy studies", "Mean absolute difference; grey range 0 to 1", {}),
    ("reconstruction.healthy_ssim", "Similarity on healthy studies", "SSIM; 1 is identical", {}),
    ("reconstruction.conserve", "Healthy tissue kept", "SSIM outside of the lesions of abnormal studies", {}),
    ("reconstruction.correct", "Lesions changed", "1 - SSIM inside of the lesions", {}),
    ("reconstruction.index", "Both together", "Harmonic mean of the two", {}),
)
_GROUPS = (
    ("Studies", _STUDIES),
    ("Lesions", _LESIONS),
    ("Pixels", _PIXELS),
    ("Detection as in the RA paper", _RA),
    ("Pseudo-healthy images", _RECONSTRUCTION),
)


def figure_groups(evaluation: Mapping[str, Any]) -> list[tuple[str, list[Figure]]]:
    """Every figure of an evaluation, in named groups; one that cannot be computed says why.

    What an evaluation of another version does not have is left out.
    """
    groups = [(name, list(_figures(evaluation, rows))) for name, rows in _GROUPS]
    return [(name, figures) for name, figures in groups if figures]


def key_figures(evaluation: Mapping[str, Any], alpha: float | None) -> list[Figure]:
    """The five that a reader looks for first."""
    promise = "" if alpha is None else f"Promised: at most {100 * alpha:.3g} %"
    best = look_up(evaluation, "pixel.best_dice", None)
    dice = "Mean per abnormal study" + (f"; best of all pixels pooled {best:.2f}" if best is not None else "")
    asked = (
        ("image.auroc", "Image AUROC", "0.5 is guessing", {}),
        ("false_alarm_rate", "Realised false alarms", promise, {"percent": True}),
        ("sensitivity", "Sensitivity", "Abnormal studies flagged", {"percent": True}),
        ("pixel.ap", "Pixel AP", "Over all test pixels", {}),
        ("pixel.dice", "Dice", dice, {}),
    )
    return [_figure(evaluation, *row) for row in asked]


def look_up(mapping: Mapping[str, Any], path: str, default: Any = _MISSING) -> Any:
    """The entry at a dotted path, or `default` where the path ends early."""
    value: Any = mapping
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return default
        value = value[key]
    return value


def _figures(evaluation: Mapping[str, Any], rows: Sequence[tuple]) -> Iterator[Figure]:
    """The rows that this evaluation has, or gives a reason for not having."""
    reasons = evaluation.get("not_computable") or {}
    for path, *rest in rows:
        parent = path.rsplit(".", 1)[0] if "." in path else ""
        there = look_up(evaluation, path) is not _MISSING
        if there or path in reasons or parent in reasons:
            yield _figure(evaluation, path, *rest)


def _figure(evaluation: Mapping[str, Any], path: str, name: str, remark: str, options: Mapping[str, bool]) -> Figure:
    """One figure, with its remark filled in, or the reason why there is none."""
    stat = look_up(evaluation, path, None)
    stat = stat if isinstance(stat, Mapping) or stat is None else {"value": stat}
    if not stat or stat.get("value") is None:
        return Figure(name, None, _reason(evaluation.get("not_computable") or {}, path), **options)
    return Figure(name, stat, _filled(remark, lambda key: look_up(evaluation, key, None)), **options)


def _reason(reasons: Mapping[str, str], path: str) -> str:
    """Why there is no figure at a path: its own reason, or that of what it is part of."""
    while path not in reasons and "." in path:
        path = path.rsplit(".", 1)[0]
    return f"Not computable: {reasons[path]}" if path in reasons else "Not computable from these data"


def _filled(remark: str, value_of: Callable[[str], Any]) -> str:
    """The remark with its number in place; nothing if the number is not known."""
    if "{" not in remark:
        return remark
    before, rest = remark.split("{")
    field, after = rest.split("}")
    path, _, form = field.partition(":")
    value = value_of(path)
    return "" if value is None else f"{before}{value:{form}}{after}".replace("%", " %")
