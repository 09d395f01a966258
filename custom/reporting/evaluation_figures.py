"""The figures of an evaluation for the report, in groups, each with a remark."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from custom.metrics.records import Evaluation

_MISSING = object()


@dataclass(frozen=True)
class Figure:
    """One row of a table of figures.

    Attributes:
        name: shown to the reader.
        stat: {"value", "low", "high"}, the last two if it has an interval; None if not computable.
        remark: how to read it, or why it is not computable.
        percent: whether it is shown in per cent.
        share: whether it is in [0, 1], so that it can be drawn on an axis.
    """

    name: str
    stat: Mapping[str, Any] | None
    remark: str = ""
    percent: bool = False
    share: bool = True


class _Spec(NamedTuple):
    """Path in the evaluation, name, remark (it may quote a number of the evaluation) and format of a figure."""

    path: str
    name: str
    remark: str = ""
    percent: bool = False
    share: bool = True


_STUDIES = (
    _Spec("image.auroc", "AUROC", "0.5 = random"),
    _Spec("image.auprc", "AUPRC", "{image.prevalence:.2f} (prevalence) = random"),
    _Spec("image.fpr_at_95_tpr", "False-alarm rate at 95 % sensitivity", percent=True),
    _Spec("image.tpr_at_5_fpr", "Sensitivity at 5 % false-alarm rate", percent=True),
    _Spec("false_alarm_rate", "False-alarm rate", "Healthy studies flagged", percent=True),
    _Spec("sensitivity", "Sensitivity", "Abnormal studies flagged", percent=True),
)
_LESIONS = (
    _Spec("lesions.sensitivity", "Lesions hit", "Of {lesions.n} lesions, by the calibrated mask", percent=True),
    _Spec("lesions.false_positives_per_study", "False regions", "Mean number per healthy study", share=False),
)
_PIXELS = (
    _Spec("pixel.ap", "Average precision", "{pixel.prevalence:.3f} (share of lesion pixels) = random"),
    _Spec("pixel.aupro", "AUPRO", "Overlap per lesion, up to a false-positive rate of 30 %"),
    _Spec("pixel.dice", "Dice", "Mean over abnormal studies with a mask, at the calibrated threshold"),
    _Spec("pixel.best_dice", "Best Dice", "Upper bound: all pixels pooled, threshold chosen on the test set"),
    _Spec(
        "pixel.false_positive_rate",
        "Pixel false-positive rate",
        "Target, from the calibration: {pixel.pixel_false_positive_rate:.2%} of healthy pixels",
        percent=True,
    ),
)
_PERCENT = ("detection_rate",)
_BOXES = tuple(
    _Spec(f"ra_detection.{kind}.{key}", f"{name}, {title}", remark if key == "detection_rate" else "", key in _PERCENT)
    for kind, title, remark in (
        ("published", "as published", "Threshold set on the healthy test studies; depends on the map's scale"),
        ("scale_free", "scale-free", "At the calibrated threshold"),
    )
    for key, name in (("detection_rate", "Lesions detected"), ("precision", "Precision"), ("f1", "F1"))
)
_RECONSTRUCTION = (
    _Spec("reconstruction.healthy_mae", "Error on healthy studies", "Mean absolute difference; intensities 0 to 1"),
    _Spec("reconstruction.healthy_ssim", "Similarity on healthy studies", "SSIM; 1 = identical"),
    _Spec("reconstruction.conserve", "Healthy tissue conserved", "SSIM outside the lesions of abnormal studies"),
    _Spec("reconstruction.correct", "Lesions changed", "1 - SSIM inside the lesions"),
    _Spec("reconstruction.index", "Combined", "Harmonic mean of the two"),
)
_GROUPS = (
    ("Studies", _STUDIES),
    ("Lesions", _LESIONS),
    ("Pixels", _PIXELS),
    ("Detection as in the RA paper", _BOXES),
    ("Pseudo-healthy images", _RECONSTRUCTION),
)


def figure_groups(evaluation: Evaluation) -> list[tuple[str, list[Figure]]]:
    """Every figure of an evaluation, in named groups; one that cannot be computed gives the reason.

    Figures that an evaluation of another release lacks are left out.
    """
    groups = [(name, list(_figures(evaluation, specs))) for name, specs in _GROUPS]
    return [(name, figures) for name, figures in groups if figures]


def key_figures(evaluation: Evaluation, alpha: float | None) -> list[Figure]:
    """The five most important figures.

    Args:
        evaluation: of a labelled run.
        alpha: target false-alarm rate of the decisions; None if unknown.
    """
    target = "" if alpha is None else f"Target: at most {100 * alpha:.3g} %"
    best = look_up(evaluation, "pixel.best_dice", None)
    dice = "Mean per abnormal study" + (f"; best of all pixels pooled {best:.2f}" if best is not None else "")
    specs = (
        _Spec("image.auroc", "Study AUROC", "0.5 = random"),
        _Spec("false_alarm_rate", "False-alarm rate", target, percent=True),
        _Spec("sensitivity", "Sensitivity", "Abnormal studies flagged", percent=True),
        _Spec("pixel.ap", "Pixel AP", "All test pixels pooled"),
        _Spec("pixel.dice", "Dice", dice),
    )
    return [_figure(evaluation, spec) for spec in specs]


def look_up(mapping: Mapping[str, Any], path: str, default: Any = _MISSING) -> Any:
    """The entry at a dotted path, or `default` if the path does not exist."""
    value: Any = mapping
    for key in path.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return default
        value = value[key]
    return value


def _figures(evaluation: Evaluation, specs: Sequence[_Spec]) -> Iterator[Figure]:
    """The figures that this evaluation contains, or gives a reason for lacking."""
    reasons = evaluation.get("not_computable") or {}
    for spec in specs:
        parent = spec.path.rsplit(".", 1)[0] if "." in spec.path else ""
        if look_up(evaluation, spec.path) is not _MISSING or spec.path in reasons or parent in reasons:
            yield _figure(evaluation, spec)


def _figure(evaluation: Evaluation, spec: _Spec) -> Figure:
    """One figure, with its remark filled in, or the reason why it is missing."""
    stat = look_up(evaluation, spec.path, None)
    stat = stat if isinstance(stat, Mapping) or stat is None else {"value": stat}
    if not stat or stat.get("value") is None:
        stat, remark = None, _reason(evaluation.get("not_computable") or {}, spec.path)
    else:
        remark = _filled(spec.remark, lambda key: look_up(evaluation, key, None))
    return Figure(spec.name, stat, remark, spec.percent, spec.share)


def _reason(reasons: Mapping[str, str], path: str) -> str:
    """Why the figure at a path is missing: its own reason, or that of the part it belongs to."""
    while path not in reasons and "." in path:
        path = path.rsplit(".", 1)[0]
    return f"Not computable: {reasons[path]}" if path in reasons else "Not computable from these data"


def _filled(remark: str, value_of: Callable[[str], Any]) -> str:
    """The remark with its number inserted; empty if the number is unknown."""
    if "{" not in remark:
        return remark
    before, rest = remark.split("{")
    field, after = rest.split("}")
    path, _, form = field.partition(":")
    value = value_of(path)
    return "" if value is None else f"{before}{value:{form}}{after}".replace("%", " %")
