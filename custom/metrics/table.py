"""An evaluation as a Markdown table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from custom.metrics.verdicts import baseline_sentence, false_alarm_sentence

Row = tuple[str, str, str]
TRIAGE = {"flag": "flagged", "uncertain": "uncertain", "likely_normal": "likely normal"}
SYNTHETIC = "The data or the lesions are synthetic: these numbers say nothing about patients."


def table_markdown(evaluation: Mapping) -> str:
    """Groups of rows: study level, false alarms, by group, pixels, lesions, boxes, reconstruction, baselines.

    After them a sentence says whether the method beats the best baseline. A number that is missing is told with its
    reason; a part that is missing as a whole is one row.
    """
    lines = ["| Metric | Value [95 % interval] | n |", "|---|---|---|"]
    for title, rows in GROUPS.items():
        found = list(rows(evaluation))
        if found:
            lines += [f"| **{title}** | | |", *(f"| {' | '.join(row)} |" for row in found)]
    promise = false_alarm_sentence(evaluation)
    lines += [
        "",
        *([promise] if promise else []),
        baseline_sentence(evaluation),
        *([SYNTHETIC] if evaluation["synthetic"] else []),
    ]
    return "\n".join(lines) + "\n"


def _study_level(evaluation: Mapping) -> Iterator[Row]:
    image, n = evaluation["image"], _both(evaluation)
    failed = evaluation.get("n_failed") or {}
    if any(failed.values()):
        told = f"{failed['healthy']} healthy, {failed['abnormal']} abnormal"
        yield "Studies that failed and are not counted", str(sum(failed.values())), told
    for name, share in (evaluation.get("input_check") or {}).items():
        if share:
            told = f"{evaluation[f'n_{name}']} {name}; counted in all other rows"
            yield f"Share of the {name} that the input check would refuse", _text(
                evaluation, f"input_check.{name}"
            ), told
    yield "AUROC", _text(evaluation, "image.auroc"), n
    yield f"AUPRC (prevalence {image['prevalence']:.2f})", _text(evaluation, "image.auprc"), n
    yield "False-positive rate at 95 % sensitivity", _text(evaluation, "image.fpr_at_95_tpr"), n
    yield "Sensitivity at 5 % false-positive rate", _text(evaluation, "image.tpr_at_5_fpr"), n


def _decisions(evaluation: Mapping) -> Iterator[Row]:
    at = f"alpha = {evaluation['alpha']}"
    if evaluation["confidence"] is not None:
        at += f", kept with {100 * evaluation['confidence']:g} % confidence"
    yield f"False-alarm rate at {at}", _text(evaluation, "false_alarm_rate"), f"{evaluation['n_healthy']} healthy"
    yield f"Sensitivity at {at}", _text(evaluation, "sensitivity"), f"{evaluation['n_abnormal']} abnormal"
    for name, shares in (evaluation["triage"] or {}).items():
        if shares:
            told = ", ".join(f"{shares[decision]:.3f} {words}" for decision, words in TRIAGE.items())
            yield f"Triage of the {name}", told, f"{evaluation[f'n_{name}']} {name}"
    if evaluation["n_without_p_value"] and evaluation["triage"]:
        yield "Studies without a p-value, left out of these rates", str(evaluation["n_without_p_value"]), ""


def _by_group(evaluation: Mapping) -> Iterator[Row]:
    for name, group in evaluation["groups"].items():
        n = f"{group['n']} abnormal"
        yield f"{name}: AUROC", _text(evaluation, f"groups.{name}.auroc", group["auroc"]), n
        yield f"{name}: sensitivity", _text(evaluation, f"groups.{name}.sensitivity", group["sensitivity"]), n


def _pixels(evaluation: Mapping) -> Iterator[Row]:
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
    yield "Dice at the healthy-fixed threshold", _text(evaluation, "pixel.dice"), abnormal
    yield "Best pooled Dice (upper bound: threshold from the test set)", _text(evaluation, "pixel.best_dice"), n
    promise = f"{pixel['pixel_false_positive_rate']:g} on the healthy calibration pixels"
    rate = _text(evaluation, "pixel.false_positive_rate")
    yield f"Pixel false-positive rate (set to {promise})", rate, n


def _lesions(evaluation: Mapping) -> Iterator[Row]:
    lesions = evaluation["lesions"]
    if not lesions:
        yield "Lesions", _text(evaluation, "lesions"), ""
        return
    n, healthy = f"{lesions['n']} lesions", f"{evaluation['n_healthy']} healthy"
    points = lesions["froc"]["false_positives_per_study"]
    yield "Lesions hit by the calibrated mask", _text(evaluation, "lesions.sensitivity"), n
    yield "False regions of a healthy study", _text(evaluation, "lesions.false_positives_per_study"), healthy
    if not lesions["n"]:
        return
    yield "FROC: false regions of a healthy study", " / ".join(f"{point:g}" for point in points), ""
    yield "FROC: lesions hit", _points(evaluation, lesions["froc"]["sensitivity"]), n
    for entry in lesions["by_size"]:
        name, n = entry["name"], f"{entry['n']} lesions"
        low, high = entry["pixels"]
        size = f"{low} pixels or more" if high is None else f"{low} to {high} pixels"
        hit = _text(evaluation, f"lesions.by_size.{name}.sensitivity", entry["sensitivity"])
        yield f"{name.capitalize()} lesions ({size}): hit", hit, n
        if entry["n"]:
            yield f"{name.capitalize()} lesions: FROC", _points(evaluation, entry["froc"]), n


def _boxes(evaluation: Mapping) -> Iterator[Row]:
    if not evaluation["ra_detection"]:
        yield "Boxes", _text(evaluation, "ra_detection"), ""
        return
    titles = {"published": "As published (depends on the map's scale)", "scale_free": "Scale-free"}
    for name, title in titles.items():
        part = evaluation["ra_detection"][name]
        if part is None:
            yield title, _text(evaluation, f"ra_detection.{name}"), ""
            continue
        n, path = f"{part['n']} boxes", f"ra_detection.{name}"
        yield f"{title}: detection rate", _text(evaluation, f"{path}.detection_rate"), n
        both = f"{_text(evaluation, f'{path}.precision')} / {_text(evaluation, f'{path}.f1')}"
        yield f"{title}: precision / F1; threshold set on {part['threshold_set_on']}", both, n


def _reconstruction(evaluation: Mapping) -> Iterator[Row]:
    if not evaluation["reconstruction"]:
        yield "Reconstruction", _text(evaluation, "reconstruction"), ""
        return
    healthy, abnormal = f"{evaluation['n_healthy']} healthy", _abnormal_with_masks(evaluation)
    yield "Mean absolute error", _text(evaluation, "reconstruction.healthy_mae"), healthy
    yield "SSIM", _text(evaluation, "reconstruction.healthy_ssim"), healthy
    if evaluation["reconstruction"]["index"] is None:
        yield "Conserved and changed", _text(evaluation, "reconstruction.index"), abnormal
        return
    yield "Conserved off the lesions (SSIM)", _text(evaluation, "reconstruction.conserve"), abnormal
    yield "Changed inside the lesions (1 - SSIM)", _text(evaluation, "reconstruction.correct"), abnormal
    yield "Harmonic mean of the two", _text(evaluation, "reconstruction.index"), abnormal


def _baselines(evaluation: Mapping) -> Iterator[Row]:
    for name, baseline in evaluation["baselines"].items():
        yield f"Baseline {name}: AUROC", _text(evaluation, f"baselines.{name}.auroc", baseline["auroc"]), _both(
            evaluation
        )
        if baseline["pixel_ap"] is not None:
            yield f"Baseline {name}: pixel AP", _number(baseline["pixel_ap"]), _both_with_masks(evaluation)


GROUPS: dict[str, Callable[[Mapping], Iterator[Row]]] = {
    "Studies": _study_level,
    "Decisions": _decisions,
    "By group, against all healthy studies": _by_group,
    "Pixels": _pixels,
    "Lesions": _lesions,
    "Boxes, as for the Reversed Autoencoder": _boxes,
    "Pseudo-healthy images": _reconstruction,
    "Baselines": _baselines,
}


def _text(evaluation: Mapping, path: str, value: Mapping | float | None = None) -> str:
    """The number at a dotted path, or the given one whose path has a name from the data; or why there is none."""
    if value is None:
        value = evaluation
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
    if value is None:
        reason = evaluation.get("not_computable", {}).get(path)
        return f"not computable: {reason}" if reason else "not computable"
    return _interval(value) if isinstance(value, Mapping) else _number(value)


def _points(evaluation: Mapping, sensitivity: list[float | None]) -> str:
    """Sensitivities at the operating points, a dash where even the strictest threshold has more false regions."""
    if all(point is None for point in sensitivity):
        return _text({"not_computable": evaluation.get("not_computable", {})}, "lesions.froc")
    return " / ".join("-" if point is None else f"{point:.3f}" for point in sensitivity)


def _both(evaluation: Mapping) -> str:
    return f"{evaluation['n_healthy']} healthy, {evaluation['n_abnormal']} abnormal"


def _abnormal_with_masks(evaluation: Mapping) -> str:
    """The abnormal studies whose lesions are known."""
    return f"{evaluation['n_abnormal'] - (evaluation['n_without_mask'] or 0)} abnormal"


def _both_with_masks(evaluation: Mapping) -> str:
    return f"{evaluation['n_healthy']} healthy, {_abnormal_with_masks(evaluation)}"


def _interval(entry: Mapping) -> str:
    if entry["low"] is None:  # too few patients
        return f"{entry['value']:.3f}"
    return f"{entry['value']:.3f} [{entry['low']:.3f}, {entry['high']:.3f}]"


def _number(value: float) -> str:
    return f"{value:.3f}"
