"""An evaluation as a Markdown table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from custom.metrics.records import ClassRates, Evaluation, Stat, Triage
from custom.metrics.verdicts import baseline_sentence, false_alarm_sentence

Row = tuple[str, str, str]
SYNTHETIC = "The data or the lesions are synthetic: these numbers do not apply to patients."


def table_markdown(evaluation: Evaluation) -> str:
    """Groups of rows: study level, decisions, by group, pixels, lesions, boxes, reconstruction, baselines.

    A missing number is reported with its reason; a part that is missing as a whole is one row. After the table follow
    the verdicts and, for synthetic data, a warning.
    """
    lines = ["| Metric | Value [95 % interval] | n |", "|---|---|---|"]
    for title, rows in GROUPS.items():
        found = list(rows(evaluation))
        if found:
            lines += [f"| **{title}** | | |", *(f"| {' | '.join(row)} |" for row in found)]
    exceeded = false_alarm_sentence(evaluation)
    lines += [
        "",
        *([exceeded] if exceeded else []),
        baseline_sentence(evaluation),
        *([SYNTHETIC] if evaluation["synthetic"] else []),
    ]
    return "\n".join(lines) + "\n"


def _study_level(evaluation: Evaluation) -> Iterator[Row]:
    image, n, failed = evaluation["image"], _both(evaluation), evaluation["n_failed"]
    if failed["healthy"] or failed["abnormal"]:
        counts = f"{failed['healthy']} healthy, {failed['abnormal']} abnormal"
        yield "Failed studies, not counted below", str(failed["healthy"] + failed["abnormal"]), counts
    yield from _rejected(evaluation)
    yield "AUROC", _text(evaluation, "image.auroc"), n
    yield f"AUPRC (prevalence {image['prevalence']:.2f})", _text(evaluation, "image.auprc"), n
    yield "False-positive rate at 95 % sensitivity", _text(evaluation, "image.fpr_at_95_tpr"), n
    yield "Sensitivity at 5 % false-positive rate", _text(evaluation, "image.tpr_at_5_fpr"), n


def _rejected(evaluation: Evaluation) -> Iterator[Row]:
    rates: ClassRates = evaluation["input_check"] or {"healthy": None, "abnormal": None}
    for name, rate, number in (
        ("healthy", rates["healthy"], evaluation["n_healthy"]),
        ("abnormal", rates["abnormal"], evaluation["n_abnormal"]),
    ):
        if rate:
            n = f"{number} {name}; counted in all other rows"
            yield f"Share of {name} studies that the input check rejects", _interval(rate), n


def _decisions(evaluation: Evaluation) -> Iterator[Row]:
    at = f"alpha = {evaluation['alpha']}"
    if evaluation["confidence"] is not None:
        at += f" with {100 * evaluation['confidence']:g} % confidence"
    healthy, abnormal = f"{evaluation['n_healthy']} healthy", f"{evaluation['n_abnormal']} abnormal"
    yield f"False-alarm rate at {at}", _text(evaluation, "false_alarm_rate"), healthy
    yield f"Sensitivity at {at}", _text(evaluation, "sensitivity"), abnormal
    triage: Triage = evaluation["triage"] or {"healthy": None, "abnormal": None}
    for name, shares, n in (("healthy", triage["healthy"], healthy), ("abnormal", triage["abnormal"], abnormal)):
        if shares:
            text = (
                f"{shares['flag']:.3f} flagged, {shares['uncertain']:.3f} uncertain, "
                f"{shares['likely_normal']:.3f} likely normal"
            )
            yield f"Triage of {name} studies", text, n
    if evaluation["n_without_p_value"] and evaluation["triage"]:
        yield "Studies without a p-value, left out of these rates", str(evaluation["n_without_p_value"]), ""


def _by_group(evaluation: Evaluation) -> Iterator[Row]:
    for name, group in evaluation["groups"].items():
        n = f"{group['n']} abnormal"
        yield f"{name}: AUROC", _text(evaluation, f"groups.{name}.auroc", group["auroc"]), n
        yield f"{name}: sensitivity", _text(evaluation, f"groups.{name}.sensitivity", group["sensitivity"]), n


def _pixels(evaluation: Evaluation) -> Iterator[Row]:
    pixel, n, abnormal = evaluation["pixel"], _both_with_masks(evaluation), _abnormal_with_masks(evaluation)
    if evaluation["n_without_mask"]:
        left_out = "Abnormal studies without a lesion mask, left out of pixels, lesions and boxes"
        yield left_out, str(evaluation["n_without_mask"]), ""
    if not pixel:
        yield "Pixel metrics", _text(evaluation, "pixel"), n
        return
    method = "" if pixel["method"] == "exact" else ", from histograms"
    yield f"Pixel AP (prevalence {pixel['prevalence']:.4f}{method})", _text(evaluation, "pixel.ap"), n
    yield "AUPRO up to a pixel false-positive rate of 0.3", _text(evaluation, "pixel.aupro"), n
    yield "Dice at the calibrated threshold", _text(evaluation, "pixel.dice"), abnormal
    yield "Best pooled Dice (upper bound: threshold chosen on the test set)", _text(evaluation, "pixel.best_dice"), n
    target = f"{pixel['pixel_false_positive_rate']:g} on the healthy calibration pixels"
    rate = _text(evaluation, "pixel.false_positive_rate")
    yield f"Pixel false-positive rate (set to {target})", rate, n


def _lesions(evaluation: Evaluation) -> Iterator[Row]:
    lesions = evaluation["lesions"]
    if not lesions:
        yield "Lesions", _text(evaluation, "lesions"), ""
        return
    n, healthy = f"{lesions['n']} lesions", f"{evaluation['n_healthy']} healthy"
    points = lesions["froc"]["false_positives_per_study"]
    yield "Lesions hit by the calibrated mask", _text(evaluation, "lesions.sensitivity"), n
    yield "False regions per healthy study", _text(evaluation, "lesions.false_positives_per_study"), healthy
    if not lesions["n"]:
        return
    yield "FROC: false regions per healthy study", " / ".join(f"{point:g}" for point in points), ""
    yield "FROC: lesions hit", _points(evaluation, lesions["froc"]["sensitivity"]), n
    at_1 = _text(evaluation, "lesions.sensitivity_at_1_false_positive")
    yield "Lesions hit at 1 false region per healthy study", at_1, n
    for entry in lesions["by_size"]:
        name, n = entry["name"], f"{entry['n']} lesions"
        low, high = entry["pixels"]
        size = f"{low} pixels or more" if high is None else f"{low} to {high} pixels"
        hit = _text(evaluation, f"lesions.by_size.{name}.sensitivity", entry["sensitivity"])
        yield f"{name.capitalize()} lesions ({size}): hit", hit, n
        if entry["n"]:
            yield f"{name.capitalize()} lesions: FROC", _points(evaluation, entry["froc"]), n


def _boxes(evaluation: Evaluation) -> Iterator[Row]:
    if not evaluation["ra_detection"]:
        yield "Boxes", _text(evaluation, "ra_detection"), ""
        return
    found = evaluation["ra_detection"]
    for name, title, part in (
        ("published", "As published (depends on the map's scale)", found["published"]),
        ("scale_free", "Scale-free", found["scale_free"]),
    ):
        if part is None:
            yield title, _text(evaluation, f"ra_detection.{name}"), ""
            continue
        n, path = f"{part['n']} boxes", f"ra_detection.{name}"
        yield f"{title}: detection rate", _text(evaluation, f"{path}.detection_rate"), n
        both = f"{_text(evaluation, f'{path}.precision')} / {_text(evaluation, f'{path}.f1')}"
        yield f"{title}: precision / F1; threshold set on {part['threshold_set_on']}", both, n


def _reconstruction(evaluation: Evaluation) -> Iterator[Row]:
    if not evaluation["reconstruction"]:
        yield "Reconstruction", _text(evaluation, "reconstruction"), ""
        return
    healthy, abnormal = f"{evaluation['n_healthy']} healthy", _abnormal_with_masks(evaluation)
    yield "Mean absolute error", _text(evaluation, "reconstruction.healthy_mae"), healthy
    yield "SSIM", _text(evaluation, "reconstruction.healthy_ssim"), healthy
    if evaluation["reconstruction"]["index"] is None:
        yield "Conserved and changed tissue", _text(evaluation, "reconstruction.index"), abnormal
        return
    yield "Conserved outside the lesions (SSIM)", _text(evaluation, "reconstruction.conserve"), abnormal
    yield "Changed inside the lesions (1 - SSIM)", _text(evaluation, "reconstruction.correct"), abnormal
    yield "Harmonic mean of the two", _text(evaluation, "reconstruction.index"), abnormal


def _baselines(evaluation: Evaluation) -> Iterator[Row]:
    for name, baseline in evaluation["baselines"].items():
        auroc = _text(evaluation, f"baselines.{name}.auroc", baseline["auroc"])
        yield f"Baseline {name}: AUROC", auroc, _both(evaluation)
        if baseline["pixel_ap"] is not None:
            yield f"Baseline {name}: pixel AP", _interval(baseline["pixel_ap"]), _both_with_masks(evaluation)


GROUPS: dict[str, Callable[[Evaluation], Iterator[Row]]] = {
    "Studies": _study_level,
    "Decisions": _decisions,
    "By group, each against all healthy studies": _by_group,
    "Pixels": _pixels,
    "Lesions": _lesions,
    "Boxes, as for the Reversed Autoencoder": _boxes,
    "Pseudo-healthy images": _reconstruction,
    "Baselines": _baselines,
}


def _text(evaluation: Evaluation, path: str, value: Stat | float | None = None) -> str:
    """The number at a dotted path, or why it is missing; give the value if its path contains a name from the data."""
    found: object = value
    if found is None:
        found = evaluation
        for key in path.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
    if found is None:
        return _not_computable(evaluation, path)
    if isinstance(found, Mapping):
        return _interval({"value": found["value"], "low": found["low"], "high": found["high"]})
    return f"{found:.3f}"


def _not_computable(evaluation: Evaluation, path: str) -> str:
    reason = evaluation["not_computable"].get(path)
    return f"not computable: {reason}" if reason else "not computable"


def _points(evaluation: Evaluation, sensitivity: list[float | None]) -> str:
    """Sensitivities at the operating points, a dash if even the strictest threshold has more false regions."""
    if all(point is None for point in sensitivity):
        return _not_computable(evaluation, "lesions.froc")
    return " / ".join("-" if point is None else f"{point:.3f}" for point in sensitivity)


def _both(evaluation: Evaluation) -> str:
    return f"{evaluation['n_healthy']} healthy, {evaluation['n_abnormal']} abnormal"


def _abnormal_with_masks(evaluation: Evaluation) -> str:
    """The abnormal studies whose lesions are known."""
    return f"{evaluation['n_abnormal'] - (evaluation['n_without_mask'] or 0)} abnormal"


def _both_with_masks(evaluation: Evaluation) -> str:
    return f"{evaluation['n_healthy']} healthy, {_abnormal_with_masks(evaluation)}"


def _interval(entry: Stat) -> str:
    if entry["low"] is None:  # too few patients
        return f"{entry['value']:.3f}"
    return f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"
