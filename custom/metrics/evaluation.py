"""The evaluation of a labelled test set: every number with its interval, beside the floors, and a table to read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom.calibration.conformal import decide
from custom.errors import NomalyError
from custom.metrics.image_level import auprc, auroc, bootstrap_weights, clopper_pearson, percentile_interval
from custom.metrics.pixel_level import PixelEvaluation

RESAMPLINGS = 1000


def evaluate_scores(
    cases: Sequence[str],
    labels: Sequence[int],
    scores: ArrayLike,
    subjects: Sequence[str],
    groups: Sequence[str | None],
    p_values: ArrayLike | None,
    alpha: float,
    synthetic: bool,
    seed: int,
    pixel: PixelEvaluation | None = None,
    floors: Mapping[str, Mapping] | None = None,
    flag_level: float | None = None,
) -> dict:
    """Metrics of a test set as a dictionary that JSON can hold; None stands where something cannot be computed.

    Intervals are 95 %: of ranking and pixel metrics by 1000 resamplings of subjects, of rates by Clopper and Pearson,
    for which the studies ought to be of different patients.

    Args:
        cases: (n,) unique names of the studies; failed studies are left out.
        labels: (n,) 0 healthy, 1 abnormal.
        scores: (n,) study scores, larger = more abnormal.
        subjects: (n,) the patient of each study.
        groups: (n,) pathology of each study, None or "" for healthy ones.
        p_values: (n,) calibrated p-values; None without a calibration.
        alpha: the promised false-alarm rate.
        synthetic: whether any image or lesion was made, to be said beside every number.
        seed: seed of the resampling.
        pixel: the pooled maps of the same studies, if there are lesion masks.
        floors: name -> {"scores": (n,) in the order of `cases`, "pixel_ap": float or None}.
        flag_level: p-value at or below which a study is flagged: ``confident_alpha`` in the confident mode, or None for
            alpha itself.

    Returns:
        n_healthy, n_abnormal, synthetic, seed, alpha, image, false_alarm_rate, sensitivity, groups, pixel, floors,
        best_floor (the floor of the largest AUROC, and the method's lead over it), scores (a row a study).
    """
    labels, scores = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    columns = {"labels": labels, "scores": scores, "subjects": subjects, "groups": groups}
    columns |= {} if p_values is None else {"p_values": p_values}
    columns |= {f"floors[{name!r}]['scores']": floor["scores"] for name, floor in (floors or {}).items()}
    _check_lengths(cases, columns)

    level = alpha if flag_level is None else flag_level
    decisions = [None] * len(cases) if p_values is None else [decide(p, level) for p in np.asarray(p_values, float)]
    p_column = [None] * len(cases) if p_values is None else [float(p) for p in p_values]
    weights = bootstrap_weights(subjects, RESAMPLINGS, seed)
    ranked = _Ranking(labels, weights)
    flags = None if p_values is None else np.array([decision == "flag" for decision in decisions])
    return _json_able(
        {
            "n_healthy": int((labels == 0).sum()),
            "n_abnormal": int((labels == 1).sum()),
            "synthetic": bool(synthetic),
            "seed": int(seed),
            "alpha": float(alpha),
            "image": {**ranked.metrics(scores), "prevalence": float(labels.mean())},
            "false_alarm_rate": _rate(flags, labels == 0),
            "sensitivity": _rate(flags, labels == 1),
            "groups": _group_metrics(cases, labels, scores, groups, flags, weights, pixel),
            "pixel": None if pixel is None else pixel.result(RESAMPLINGS, seed),
            "floors": {
                name: {**ranked.metrics(floor["scores"]), "pixel_ap": floor.get("pixel_ap")}
                for name, floor in (floors or {}).items()
            },
            "best_floor": ranked.lead(scores, floors) if floors else None,
            "scores": [
                {"case": c, "label": int(label), "group": g or None, "score": float(score), "p_value": p, "decision": d}
                for c, label, g, score, p, d in zip(cases, labels, groups, scores, p_column, decisions)
            ],
        }
    )


class _Ranking:
    """AUROC and AUPRC of several scores of the same studies under the same resamplings."""

    def __init__(self, labels: NDArray, weights: NDArray[np.float64]) -> None:
        self.labels = labels
        self.weights = weights

    def metrics(self, scores: ArrayLike) -> dict[str, dict[str, float]]:
        """Both metrics of one score per study, with intervals."""
        result = {}
        for name, metric in (("auroc", auroc), ("auprc", auprc)):
            low, high = percentile_interval(metric(self.labels, scores, self.weights))
            result[name] = {"value": metric(self.labels, scores), "low": low, "high": high}
        return result

    def lead(self, scores: ArrayLike, floors: Mapping[str, Mapping]) -> dict:
        """The best floor by AUROC and the method's AUROC minus its, with the interval of the paired difference."""
        best = max(floors, key=lambda name: auroc(self.labels, floors[name]["scores"]))
        other = floors[best]["scores"]
        differences = auroc(self.labels, scores, self.weights) - auroc(self.labels, other, self.weights)
        low, high = percentile_interval(differences)
        value = auroc(self.labels, scores) - auroc(self.labels, other)
        return {"name": best, "auroc_difference": {"value": value, "low": low, "high": high}}


def _group_metrics(
    cases: Sequence[str],
    labels: NDArray,
    scores: NDArray,
    groups: Sequence[str | None],
    flags: NDArray | None,
    weights: NDArray,
    pixel: PixelEvaluation | None,
) -> dict[str, dict]:
    """Per pathology, its abnormal studies against all healthy ones under the one model."""
    names = np.array([group or "" for group in groups])
    result = {}
    for name in dict.fromkeys(names[labels == 1].tolist()):
        members = (labels == 1) & (names == name)
        kept = members | (labels == 0)
        known = {} if pixel is None else pixel.dices
        dices = [known[cases[i]] for i in np.flatnonzero(members) if cases[i] in known]
        result[name or "ungrouped"] = {
            "n": int(members.sum()),
            "auroc": _Ranking(labels[kept], weights[:, kept]).metrics(scores[kept])["auroc"],
            "sensitivity": _rate(flags, members),
            "dice": float(np.mean(dices)) if dices else None,
        }
    return result


def _rate(flags: NDArray | None, members: NDArray) -> dict[str, float] | None:
    """Share of flagged studies among `members`, with the Clopper-Pearson interval."""
    n = int(members.sum())
    if flags is None or n == 0:
        return None
    hits = int(flags[members].sum())
    low, high = clopper_pearson(hits, n)
    return {"value": hits / n, "low": low, "high": high}


def _check_lengths(cases: Sequence[str], columns: Mapping[str, Sequence]) -> None:
    if len(cases) == 0:
        raise NomalyError("cases must name at least one study, got none: the test set is empty or all failed.")
    for name, column in columns.items():
        if len(column) != len(cases):
            raise NomalyError(f"{name} must have an entry a case, {len(cases)}, got {len(column)}.")


def _json_able(value: object) -> object:
    """NaN and infinity become None, at any depth, and an interval without a value becomes None as a whole."""
    if isinstance(value, dict):
        if "value" in value and math.isnan(value["value"]):
            return None
        return {key: _json_able(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json_able(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table_markdown(evaluation: Mapping) -> str:
    """A Markdown table of an evaluation, and a sentence that says whether the method beats the best floor."""
    healthy, abnormal = evaluation["n_healthy"], evaluation["n_abnormal"]
    both = f"{healthy} healthy, {abnormal} abnormal"
    image, pixel, alpha = evaluation["image"], evaluation["pixel"], evaluation["alpha"]
    rows = [
        ("AUROC", _interval(image["auroc"]), both),
        (f"AUPRC (prevalence {image['prevalence']:.2f})", _interval(image["auprc"]), both),
        (f"False-alarm rate at alpha = {alpha}", _interval(evaluation["false_alarm_rate"]), f"{healthy} healthy"),
        (f"Sensitivity at alpha = {alpha}", _interval(evaluation["sensitivity"]), f"{abnormal} abnormal"),
    ]
    for name, group in evaluation["groups"].items():
        rows.append((f"{name}: AUROC", _interval(group["auroc"]), f"{group['n']} abnormal"))
        rows.append((f"{name}: sensitivity", _interval(group["sensitivity"]), f"{group['n']} abnormal"))
    if pixel:
        rows += [
            ("Pixel AP", _interval(pixel["ap"]), both),
            ("Dice at the healthy-fixed threshold", _interval(pixel["dice"]), f"{abnormal} abnormal"),
            ("Best pooled Dice (upper bound: threshold from the test set)", _number(pixel["best_dice"]), both),
        ]
    for name, floor in evaluation["floors"].items():
        rows.append((f"Floor {name}: AUROC", _interval(floor["auroc"]), both))
        if floor["pixel_ap"] is not None:
            rows.append((f"Floor {name}: pixel AP", _number(floor["pixel_ap"]), both))

    lines = ["| Metric | Value [95 % interval] | n |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]
    lines += ["", floor_sentence(evaluation)]
    if evaluation["synthetic"]:
        lines += ["The data or the lesions are synthetic: these numbers say nothing about patients."]
    return "\n".join(lines) + "\n"


def floor_sentence(evaluation: Mapping) -> str:
    """One or two plain sentences: does the method rank studies, and mark pixels, better than the best floor?"""
    return " ".join(filter(None, (_study_verdict(evaluation.get("best_floor")), _pixel_verdict(evaluation))))


def _study_verdict(best: Mapping | None) -> str:
    """Whether the method ranks studies better than the best floor."""
    if not best or not best["auroc_difference"]:
        return (
            "Whether the method ranks studies better than a floor is not known: no floor was computed, or a class is "
            "missing."
        )
    lead = best["auroc_difference"]
    if lead["value"] <= 0:
        verdict = "The method does not beat the best floor"
    elif lead["low"] > 0:
        verdict = "The method beats the best floor"
    else:
        verdict = "The method is ahead of the best floor, but the lead is within chance"
    return f"{verdict} ({best['name']}): its AUROC differs by {_interval(lead, sign='+')}."


def _pixel_verdict(evaluation: Mapping) -> str | None:
    """Whether it marks pixels better; None where that was not measured."""
    pixel = evaluation["pixel"]
    floor_aps = {name: f["pixel_ap"] for name, f in evaluation["floors"].items() if f["pixel_ap"] is not None}
    if not pixel or not floor_aps:
        return None
    name = max(floor_aps, key=floor_aps.get)
    verb = "beats" if pixel["ap"]["value"] > floor_aps[name] else "does not beat"
    against = f"AP {pixel['ap']['value']:.3f} against {floor_aps[name]:.3f}"
    return f"On pixels it {verb} the best floor ({name}): {against}."


def _interval(entry: Mapping | None, sign: str = "") -> str:
    if entry is None:
        return "not computable"
    return f"{entry['value']:{sign}.3f} [{entry['low']:{sign}.3f}, {entry['high']:{sign}.3f}]"


def _number(value: float | None) -> str:
    return "not computable" if value is None else f"{value:.3f}"
