"""The table of measured performance, docs/results.csv: one row for each data set, bundle, method and weights."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from custom.calibration.conformal import p_values
from custom.files import atomic_write
from custom.metrics.intervals import bootstrap_weights, rate_stat
from custom.metrics.records import Evaluation, Stat
from custom.reporting.benchmark_table import auroc_difference

Row = dict[str, str]  # text as in the file


class DataSet(NamedTuple):
    """A real set: its title, and the bundle of each method for it."""

    title: str
    bundles: dict[str, str]


SETS = {
    "covid_cxr": DataSet("COVID-19 Radiography, adults' chest films", {"memmc": "memmc_covid"}),
    "hand_wrist": DataSet("MedNIST hands, 64 px", {"ra": "ra_wrist"}),
    "hyperkvasir": DataSet("HyperKvasir, windows of colonoscopy frames", {"memmc": "memmc_colonoscopy"}),
    "ixi_t1": DataSet("IXI, T1-weighted slices", {"ra": "ra_brain"}),
    "lgg_flair": DataSet("TCGA-LGG, FLAIR slices of glioma patients", {"ra": "ra_brain_flair"}),
    "pediatric_cxr": DataSet("Kermany, children's chest films", {"ra": "ra_chest", "memmc": "memmc_pneumonia"}),
}

KEY = ("set", "bundle", "method", "weights", "seed")  # of a row; with other weights it is measured again
# Column -> title; each figure has two more columns, the ends of its 95 % interval.
FIGURES = {
    "auroc": "image AUROC",
    "auprc": "image AUPRC",
    "sensitivity_at_5_fpr": "sensitivity at 5 % false positives",
    "pixel_ap": "pixel AP",
    "dice": "Dice at the healthy threshold",
    "sensitivity_at_1_false_region": "lesions found at 1 false region an image (FROC)",
    "false_alarm_rate": "false alarms at alpha 5 %",
    "sensitivity": "sensitivity at alpha 5 %",
    "auroc_difference": "AUROC minus best baseline",
    "pixel_ap_difference": "pixel AP minus best baseline",
    "rejected_healthy": "healthy studies that the input check rejects",
    "rejected_abnormal": "abnormal studies that the input check rejects",
    "site_false_alarm_rate": "false alarms after calibration on half of the healthy test subjects",
    "site_sensitivity": "sensitivity after calibration on half of the healthy test subjects",
}
COLUMNS = (
    "set",
    "lesions",  # "real" or "synthetic"
    "bundle",
    "method",  # "nomaly", "paper", or the name of a baseline
    "weights",  # "shipped", "trained", or "" of a baseline
    "seed",
    "sha256",
    "n_healthy",
    "n_abnormal",
    *(f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high")),
    "best_baseline",
    "best_pixel_baseline",
    "site_n_healthy",
    "site_n_calibration",
    "commit",
    "command",
)
OURS, PAPER, PEER = "nomaly", "paper", "imagenet_neighbours"
SITE_ALPHA = 0.05


def read_rows(path: str | Path) -> list[Row]:
    """Rows of the file; none if it does not exist."""
    file = Path(path)
    return list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8")))) if file.is_file() else []


def write_rows(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write the file, sorted by data set, bundle, weights and method, best AUROC first among baselines."""
    with atomic_write(path) as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(sorted(rows, key=_order))


def merged(rows: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """Rows with those of the same key replaced."""
    replaced = {key_of(row) for row in new}
    return [*(row for row in rows if key_of(row) not in replaced), *new]


def key_of(row: Mapping[str, str]) -> tuple[str, ...]:
    """What a row is about."""
    return tuple(row[name] for name in KEY)


def figure(row: Mapping[str, str], name: str) -> Stat | None:
    """A figure of a row; None if it was not measured."""
    value, low, high = (row.get(f"{name}{end}", "") for end in ("", "_low", "_high"))
    if value == "":
        return None
    return {"value": float(value), "low": float(low) if low else None, "high": float(high) if high else None}


def rows_of(
    evaluation: Evaluation, paper: Evaluation | None, about: Mapping[str, str], settings: str, beside: Evaluation | None
) -> list[Row]:
    """Rows of one detector on one data set: its score, the published score, and the baselines.

    Args:
        evaluation: with the score of the bundle.
        paper: of the same weights with the published score, without baselines; None = not measured.
        about: set, bundle, weights, seed, sha256, commit and command.
        settings: checksum that stands in the rows of baselines.
        beside: evaluation of the same studies that has the baselines; None = there are none.
    """
    best = beside["best_baseline"] if beside else None
    reference = _with_scores(beside, beside["baselines"][best["name"]]["scores"]) if beside and best else None
    pixels = beside["best_pixel_baseline"] if beside else None
    shared = {
        "lesions": "synthetic" if evaluation["synthetic"] else "real",
        "best_baseline": best["name"] if best else "",
        "best_pixel_baseline": pixels["name"] if pixels else "",
    }
    rows = [
        {**about, **shared, "method": method, **_figures(found, reference)}
        for method, found in ((OURS, evaluation), (PAPER, paper))
        if found is not None
    ]
    if lead := evaluation["best_pixel_baseline"]:
        rows[0].update(_cells("pixel_ap_difference", lead["ap_difference"]))
    own = {"weights": "", "seed": str(evaluation["seed"]), "sha256": settings}
    own |= {f"n_{kind}": rows[0][f"n_{kind}"] for kind in ("healthy", "abnormal")}
    for name, baseline in evaluation["baselines"].items():
        stats: dict[str, Any] = {
            "auroc": baseline["auroc"],
            "auprc": baseline["auprc"],
            "sensitivity_at_5_fpr": baseline["tpr_at_5_fpr"],
            "pixel_ap": baseline["pixel_ap"],
            "dice": baseline["dice"],
            "sensitivity_at_1_false_region": baseline["sensitivity_at_1_false_positive"],
            "false_alarm_rate": baseline["false_alarm_rate"],
            "sensitivity": baseline["sensitivity"],
        }
        if reference and name != shared["best_baseline"]:
            stats["auroc_difference"] = auroc_difference(_with_scores(evaluation, baseline["scores"]), reference)
        rows.append({**about, **shared, **own, "method": name, **_all_cells(stats)})
    return rows


def _figures(evaluation: Evaluation, reference: Mapping[str, Any] | None) -> Row:
    """Numbers of studies and figures of a detector, compared with the scores of the best baseline."""
    pixel, lesions, check = evaluation["pixel"], evaluation["lesions"], evaluation["input_check"]
    site, counts = after_site_calibration(evaluation)
    stats = {
        "auroc": evaluation["image"]["auroc"],
        "auprc": evaluation["image"]["auprc"],
        "sensitivity_at_5_fpr": evaluation["image"]["tpr_at_5_fpr"],
        "pixel_ap": pixel["ap"] if pixel else None,
        "dice": pixel["dice"] if pixel else None,
        "sensitivity_at_1_false_region": lesions["sensitivity_at_1_false_positive"] if lesions else None,
        "false_alarm_rate": evaluation["false_alarm_rate"],
        "sensitivity": evaluation["sensitivity"],
        "auroc_difference": auroc_difference(evaluation, reference) if reference else None,
        "rejected_healthy": check["healthy"] if check else None,
        "rejected_abnormal": check["abnormal"] if check else None,
        **site,
    }
    return {
        "n_healthy": str(evaluation["n_healthy"]),
        "n_abnormal": str(evaluation["n_abnormal"]),
        **counts,
        **_all_cells(stats),
    }


def after_site_calibration(evaluation: Evaluation, seed: int = 0) -> tuple[dict[str, Stat | None], Row]:
    """What a calibration on healthy studies of the place of use would give.

    The healthy test studies of a random half of their subjects are the calibration; the others and the abnormal studies
    of other subjects are flagged at alpha 5 %.

    Returns:
        Figures, and the numbers of healthy studies that are measured and calibrated on; empty with too few of them.
    """
    rows = evaluation["scores"]
    subjects = sorted({row["subject"] for row in rows if not row["label"]})
    drawn = set(np.random.default_rng(seed).permutation(subjects)[: len(subjects) // 2].tolist())
    calibration = [row["score"] for row in rows if not row["label"] and row["subject"] in drawn]
    if len(calibration) < 1 / SITE_ALPHA - 1:
        return {}, {}
    rest = [row for row in rows if row["subject"] not in drawn]
    flagged = p_values(calibration, [row["score"] for row in rest]) <= SITE_ALPHA
    weights = bootstrap_weights([row["subject"] for row in rest], 1000, seed)
    rates = []
    for label in (0, 1):
        members = [index for index, row in enumerate(rest) if row["label"] == label]
        names = [rest[index]["subject"] for index in members]
        rates.append(rate_stat(flagged[members], names, weights[:, members]))
    healthy = sum(not row["label"] for row in rest)
    return (
        {"site_false_alarm_rate": rates[0], "site_sensitivity": rates[1]},
        {"site_n_healthy": str(healthy), "site_n_calibration": str(len(calibration))},
    )


def _with_scores(evaluation: Evaluation, scores: Sequence[float]) -> dict[str, Any]:
    """The studies of an evaluation with other scores."""
    return {"scores": [{**row, "score": score} for row, score in zip(evaluation["scores"], scores)]}


def _all_cells(stats: Mapping[str, Any]) -> Row:
    return {key: text for name, stat in stats.items() for key, text in _cells(name, stat).items()}


def _cells(name: str, stat: Mapping[str, Any] | None) -> Row:
    """A figure's three columns; empty without a value."""
    values: Iterator[Any] = iter((None, None, None) if stat is None else (stat["value"], stat["low"], stat["high"]))
    return {
        f"{name}{end}": "" if value is None else f"{value:.4f}" for end, value in zip(("", "_low", "_high"), values)
    }


def _order(row: Mapping[str, str]) -> tuple:
    place = {OURS: 0, PAPER: 1, PEER: 2}.get(row["method"], 3)
    return row["set"], row["bundle"], place, row["weights"], int(row["seed"]), -float(row.get("auroc") or 0)
