"""The table of a benchmark: one row per model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from custom.metrics.image_level import auroc
from custom.metrics.intervals import bootstrap_weights, distinct, stat
from custom.metrics.records import Stat, read_evaluation

RESAMPLINGS = 1000
SYNTHETIC_NOTE = "Synthetic images or lesions: these numbers do not apply to patients."

Row = dict[str, Any]

# Column of the tables -> path in an evaluation; each is a value with an interval.
STATS = {
    "auroc": ("image", "auroc"),
    "auprc": ("image", "auprc"),
    "pixel_ap": ("pixel", "ap"),
    "dice": ("pixel", "dice"),
    "false_alarm_rate": ("false_alarm_rate",),
    "sensitivity": ("sensitivity",),
}
TITLES = {
    "name": "Model",
    "bundle": "Bundle",
    "n_healthy": "Healthy",
    "n_abnormal": "Abnormal",
    "auroc": "AUROC",
    "auroc_difference": "AUROC minus first model",
    "auprc": "AUPRC",
    "pixel_ap": "Pixel AP",
    "dice": "Dice, calibrated threshold",
    "false_alarm_rate": "False-alarm rate",
    "alpha": "Target false-alarm rate",
    "sensitivity": "Sensitivity",
    "best_baseline_auroc": "AUROC of best baseline",
    "best_baseline": "Best baseline",
    "beats_baseline": "Better than best baseline?",
    "parameters_millions": "Parameters (millions)",
    "studies_per_second": "Studies/s",
    "peak_mib": "Peak memory (MiB)",
    "device": "Device",
    "threads": "Threads",
    "synthetic": "Synthetic?",
    "seed": "Seed",
    "weight_hash": "Weights",
    "note": "Note",
}
_DIGITS = {"alpha": 3, "best_baseline_auroc": 3, "parameters_millions": 3, "studies_per_second": 2, "peak_mib": 0}


def benchmark_row(
    name: str,
    bundle: str,
    evaluation: Mapping[str, Any] | None,
    run: Mapping[str, Any] | None = None,
    *,
    seconds: float | None = None,
    peak_mib: float | None = None,
    threads: int | None = None,
    parameters: int | None = None,
    note: str = "",
) -> Row:
    """A row of the table, with the keys of `TITLES`; None for unknown values.

    Args:
        name: of the model in this benchmark.
        bundle: of the model.
        evaluation: content of metrics.json of this or an earlier release; None if the model failed.
        run: content of run.json.
        seconds: median time per study from loading to map, without the baselines.
        peak_mib: largest memory of the process.
        threads: number of CPU threads that it could use.
        parameters: number of weights, without the calibration.
        note: why it failed, or other remarks.
    """
    found, run = read_evaluation(evaluation or {}), run or {}
    best = found.get("best_baseline")
    auroc = _at(found, ("baselines", best["name"], "auroc")) if best else None
    return dict.fromkeys(TITLES) | {
        "name": name,
        "bundle": bundle,
        "n_healthy": found.get("n_healthy"),
        "n_abnormal": found.get("n_abnormal"),
        "alpha": found.get("alpha"),
        "synthetic": found.get("synthetic"),
        "seed": found.get("seed"),
        **{key: _at(found, path) for key, path in STATS.items()},
        "best_baseline": best["name"] if best else None,
        "best_baseline_auroc": auroc["value"] if auroc else None,
        "beats_baseline": _beats(best.get("auroc_difference") if best else None),
        "parameters_millions": None if parameters is None else parameters / 1e6,
        "studies_per_second": 1 / seconds if seconds else None,
        "peak_mib": peak_mib,
        "device": run.get("device"),
        "threads": threads,
        "weight_hash": run.get("model_hash") or run.get("weight_hash"),  # runs of earlier releases have the latter
        "note": note,
    }


def auroc_difference(evaluation: Mapping[str, Any], first: Mapping[str, Any], seed: int = 0) -> Row | None:
    """AUROC of one evaluation minus that of the first, paired: both over the studies that they share.

    Args:
        evaluation: content of metrics.json; a study without a subject counts as a patient of its own.
        first: of the model it is compared with.
        seed: of the resampling of patients.

    Returns:
        {"value", "low", "high", "n"}: the difference, its 95 % interval (None with fewer than 5 patients of a class)
        and the number of shared studies; None if no study is shared, a class is missing, or labels or groups disagree.
    """
    one, other = ({row["case"]: row for row in found.get("scores") or []} for found in (evaluation, first))
    cases = [case for case in one if case in other]
    truth = [one[case]["label"] for case in cases]
    kinds = [[(rows[case].get("label"), rows[case].get("group")) for case in cases] for rows in (one, other)]
    if set(truth) != {0, 1} or kinds[0] != kinds[1]:
        return None
    scores = [[rows[case]["score"] for case in cases] for rows in (one, other)]
    subjects = [one[case].get("subject", case) for case in cases]
    weights = bootstrap_weights(subjects, RESAMPLINGS, seed)
    resampled = auroc(truth, scores[0], weights) - auroc(truth, scores[1], weights)
    patients = min(distinct(subjects, [label == kind for label in truth]) for kind in (0, 1))
    return {**stat(auroc(truth, scores[0]) - auroc(truth, scores[1]), resampled, patients), "n": len(cases)}


def cell(row: Row, key: str) -> str:
    """An entry as text; an en dash if unknown."""
    value = row[key]
    if value is None or value == "":
        return "–" if key != "note" else ""
    if isinstance(value, Mapping):
        value, low, high = ends(value)
        sign = "+" if key == "auroc_difference" else ""
        return f"{value:{sign}.3f}" + ("" if low is None else f" [{low:{sign}.3f}, {high:{sign}.3f}]")
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.{_DIGITS[key]}f}" if key in _DIGITS else str(value).replace("\n", " ")


def _at(evaluation: Mapping[str, Any], path: Sequence[str]) -> Stat | None:
    """The stat at a path; None if a part of the path or the value itself is missing."""
    found: Any = evaluation
    for key in path:
        found = found.get(key) if found else None
    return found if found and found.get("value") is not None else None


def ends(stat: Mapping[str, Any] | None) -> tuple[float | None, float | None, float | None]:
    """Value, low and high of a stat, each None if missing; an interval has both ends or none."""
    value, low, high = ((stat or {}).get(key) for key in ("value", "low", "high"))
    return (value, low, high) if low is not None and high is not None else (value, None, None)


def _beats(lead: Stat | None) -> str | None:
    """Whether the method ranks studies significantly better than the best baseline."""
    if not lead or lead.get("value") is None:
        return None
    _, low, _ = ends(lead)
    if low is None:
        return "too few studies"
    return "no" if lead["value"] <= 0 else "yes" if low > 0 else "not significant"
