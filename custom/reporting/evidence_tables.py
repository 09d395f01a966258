"""The table of measured performance as Markdown: the page of all results, and parts of it for other pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from custom.metrics.records import Stat
from custom.reporting.evidence import FIGURES, OURS, PAPER, PEER, SETS, Row, figure

TITLES = {OURS: "`{bundle}`", PAPER: "the same network, published map and score (`paper_score`)"}
TITLES[PEER] = "peer: nearest neighbours of ImageNet features"
CARD = ("auroc", "auprc", "sensitivity_at_5_fpr", "pixel_ap", "dice", "sensitivity_at_1_false_region")
PAGE = (*CARD, "false_alarm_rate", "sensitivity", "auroc_difference", "pixel_ap_difference")
HEAD = """# Results

**Development half.** The test sections measured here served to choose the recipe of map, score and training, one for
all bundles, by its mean over all sets: the figures are not blind.

Every bundle stands beside its published score (the overlay `paper_score` on the same weights), simple baselines, and
what a user might take instead: nearest neighbours of ImageNet features (the idea of PatchCore, Roth et al., CVPR 2022,
with EfficientNet-Lite0), which is no candidate for the best baseline. Brackets are 95 % intervals by bootstrapping of
subjects (rates: Clopper-Pearson); differences are paired. Decisions and thresholds of each method are from the healthy
calibration studies of the set. Seeds, checksums of the weights, commits and commands: [results.csv](results.csv).

    python scripts/measure_results.py --data DATA     # measures, row by row; a stopped run resumes
    python scripts/write_figures.py                   # writes this page, the cards and the tables of the README
"""


def results_page(rows: Sequence[Row]) -> str:
    """The page of all results."""
    return "\n".join([HEAD, *overview(rows), *by_set(rows)]) + "\n"


def overview(rows: Sequence[Row]) -> Iterator[str]:
    """One row for each bundle and its weights."""
    names = (
        "weights, seed",
        "image AUROC",
        "published score",
        "best baseline",
        "ImageNet neighbours",
        "minus best baseline",
    )
    yield f"| set | bundle | {' | '.join(names)} | pixel AP | best baseline |"
    yield f"|{'---|' * (len(names) + 4)}"
    for row in (row for row in rows if row["method"] == OURS):
        beside = [other for other in rows if (other["set"], other["bundle"]) == (row["set"], row["bundle"])]
        named = {other["method"]: other for other in beside if other["weights"] == "" or same_weights(other, row)}
        cells = [
            set_title(row),
            f"`{row['bundle']}`",
            f"{row['weights']}, {row['seed']}",
            interval(figure(row, "auroc")),
        ]
        cells += [value(figure(named.get(name, {}), "auroc")) for name in (PAPER, row["best_baseline"], PEER)]
        cells += [interval(figure(row, "auroc_difference"), signed=True), value(figure(row, "pixel_ap"))]
        cells.append(value(figure(named.get(row["best_pixel_baseline"], {}), "pixel_ap")))
        yield f"| {' | '.join(cells)} |"


def by_set(rows: Sequence[Row]) -> Iterator[str]:
    """All methods and figures, one section for each set and bundle."""
    for name, bundle in dict.fromkeys((row["set"], row["bundle"]) for row in rows):
        group = [row for row in rows if (row["set"], row["bundle"]) == (name, bundle)]
        yield f"\n## {set_title(group[0])}: {bundle}\n"
        yield f"{counts(group[0])}.\n"
        for source in dict.fromkeys((row["weights"], row["seed"]) for row in group if row["weights"]):
            yield f"Weights: {source[0]}, seed {source[1]}.\n"
            shown = [row for row in group if row["weights"] == "" or (row["weights"], row["seed"]) == source]
            yield from [*table(shown, PAGE), ""]


def set_title(row: Row) -> str:
    """Name of a set; with drawn lesions it is called synthetic."""
    return SETS[row["set"]].title + (" (synthetic lesions)" if row["lesions"] == "synthetic" else "")


def same_weights(one: Row, other: Row) -> bool:
    """Whether two rows are about the same weights."""
    return (one["weights"], one["seed"]) == (other["weights"], other["seed"])


def table(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """A row for each method, without columns that no method has."""
    shown = [name for name in names if any(figure(row, name) for row in rows)]
    lines = [f"| method | {' | '.join(FIGURES[name] for name in shown)} |", f"|{'---|' * (len(shown) + 1)}"]
    for row in rows:
        cells = [title(row), *(interval(figure(row, name), signed=name.endswith("difference")) for name in shown)]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def title(row: Row) -> str:
    """Name of a row's method; lesions that are drawn are called synthetic."""
    text = TITLES.get(row["method"], f"baseline: {row['method'].replace('_', ' ')}").format(bundle=row["bundle"])
    return text + (", synthetic lesions" if row["lesions"] == "synthetic" else "")


def counts(row: Row) -> str:
    """Numbers of test studies in words."""
    kind = "with SYNTHETIC lesions" if row["lesions"] == "synthetic" else "abnormal ones"
    return f"Test section: {row['n_healthy']} healthy studies and {row['n_abnormal']} {kind}"


def interval(stat: Stat | None, signed: bool = False) -> str:
    """A figure with its interval; a dash without one."""
    if stat is None:
        return "-"
    sign = "+" if signed else ""
    ends = "" if stat["low"] is None else f" [{stat['low']:{sign}.3f}, {stat['high']:{sign}.3f}]"
    return f"{stat['value']:{sign}.3f}{ends}"


def value(stat: Stat | None) -> str:
    """A figure alone."""
    return "-" if stat is None else f"{stat['value']:.3f}"
