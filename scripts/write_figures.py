"""Write every measured figure of the repository from docs/results.csv, which scripts/measure_results.py makes.

    python scripts/write_figures.py
    python scripts/write_figures.py --check     (changes nothing; 1 if a file is not up to date)

Rewrites docs/results.md, the parts between <!-- figures --> and <!-- end of figures --> in the bundles' cards and in
docs/concepts/calibration.md, the rows of the bundles in README.md and docs/bundles/index.md, and eval_metrics in the
bundles' metadata and provenance. Text outside these parts stays as it is. A bundle whose weights were not measured has
no figures anywhere.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from custom.commands.options import OptionParser, add_switch
from custom.errors import NomalyError, report_mistake
from custom.files import atomic_write
from custom.metrics.verdicts import baseline_verdicts
from custom.reporting.evidence import OURS, PAPER, SETS, Row, figure, read_rows
from custom.reporting.evidence_tables import CARD, counts, interval, results_page, table, value

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- figures -->", "<!-- end of figures -->"
WARNINGS = (
    "not above the best baseline",
    "lead over the best baseline not significant",
    "false alarms exceed the target",
)
ALPHA = 0.05


def pages(root: Path) -> Iterator[tuple[Path, str]]:
    """Every file with figures, and its content according to results.csv.

    Raises:
        NomalyError: a file lacks the part for its figures.
    """
    rows = read_rows(root / "docs" / "results.csv")
    bundles = sorted(path.parents[1] for path in root.glob("bundles/*/models/provenance.json"))
    own = {folder.name: shipped_rows(rows, folder) for folder in bundles}
    yield root / "docs" / "results.md", results_page(rows)
    for folder in bundles:
        mine = own[folder.name]
        seeds = [row for row in rows if row["bundle"] == folder.name and row["weights"] == "trained"]
        yield with_part(folder / "docs" / "README.md", card_part(mine, seeds) if mine else unmeasured(folder.name))
        metrics = {"eval_metrics": eval_metrics(mine) if mine else {}}
        for path in (folder / "configs" / "metadata.json", folder / "models" / "provenance.json"):
            content = json.loads(path.read_text(encoding="utf-8")) | metrics
            yield path, json.dumps(content, indent=4, ensure_ascii=False) + "\n"
    for path in (root / "README.md", root / "docs" / "bundles" / "index.md"):
        yield path, with_bundle_rows(path.read_text(encoding="utf-8"), own)
    yield with_part(root / "docs" / "concepts" / "calibration.md", false_alarm_part(own))


def shipped_rows(rows: Sequence[Row], folder: Path) -> list[Row]:
    """Rows of the weights that a bundle ships, and of what stands beside them, ours first; empty if not measured."""
    digest = json.loads((folder / "models" / "provenance.json").read_text(encoding="utf-8"))["sha256"]
    found = [row for row in rows if row["bundle"] == folder.name and row["weights"] != "trained"]
    found = [row for row in found if row["weights"] == "" or row["sha256"] == digest]
    return found if found and found[0]["method"] == OURS else []


def unmeasured(bundle: str) -> str:
    """What a card says instead of figures."""
    command = f"    python scripts/measure_results.py --data DATA --bundles {bundle}"
    return f"These weights were not measured yet:\n\n{command}\n    python scripts/write_figures.py\n"


def with_part(path: Path, part: str) -> tuple[Path, str]:
    """A file with new figures between its two marks."""
    text = path.read_text(encoding="utf-8")
    pieces = re.split(f"{re.escape(BEGIN)}.*?{re.escape(END)}", text, flags=re.DOTALL)
    if len(pieces) != 2:
        raise NomalyError(f"{path} must contain {BEGIN} and {END} once, around its figures: add them.")
    return path, f"{pieces[0]}{BEGIN}\n\n{part}\n{END}{pieces[1]}"


def card_part(rows: Sequence[Row], seeds: Sequence[Row]) -> str:
    """Figures of a card: the table of all methods, then decisions and input check in sentences."""
    ours = rows[0]
    lines = [*table(rows, CARD), "", f"{counts(ours)}. {verdict(ours)}", "", *sentences(ours)]
    if seeds:
        lines += ["", seed_sentence(seeds)]
    bundle, data = ours["bundle"], f"--dataset_dir DATA/{ours['set']}"
    return "\n".join(
        [
            *lines,
            "",
            f"Weights of seed {ours['seed']}, commit {ours['commit']}, 95 % intervals by bootstrapping of subjects",
            "(rates: Clopper-Pearson). DATA holds a folder with a `datalist.json` for each set. All bundles; this one:",
            "",
            f"    {ours['command']}",
            f"    nomaly calibrate {bundle} {data} --output CALIBRATION",
            f"    nomaly evaluate {bundle} {data} --calibration CALIBRATION --baselines all --output EVALUATION",
            "",
        ]
    )


def verdict(row: Row) -> str:
    """Comparison with the best baselines in sentences."""
    studies = {"name": row["best_baseline"], "auroc_difference": figure(row, "auroc_difference")}
    pixels = {"name": row["best_pixel_baseline"], "ap_difference": figure(row, "pixel_ap_difference")}
    found: Any = {"best_baseline": studies, "best_pixel_baseline": pixels}
    return " ".join(part["text"] for part in baseline_verdicts(found))


def sentences(row: Row) -> Iterator[str]:
    """Decisions, site calibration and input check."""
    alarms, hits = figure(row, "false_alarm_rate"), figure(row, "sensitivity")
    yield f"At alpha {ALPHA} the false-alarm rate is {interval(alarms)} and the sensitivity {interval(hits)}." + (
        " **This exceeds the target**: calibrate on healthy studies of the place of use." if exceeds(row) else ""
    )
    if site := figure(row, "site_false_alarm_rate"):
        yield (
            f"Calibrated on the {row['site_n_calibration']} healthy test studies of a random half of their subjects, "
            f"the rate on the other {row['site_n_healthy']} is {interval(site)} and the sensitivity "
            f"{interval(figure(row, 'site_sensitivity'))}."
        )
    healthy, abnormal = figure(row, "rejected_healthy"), figure(row, "rejected_abnormal")
    if healthy and abnormal:
        yield f"The input check rejects {interval(healthy)} of the healthy and {interval(abnormal)} of the others."


def seed_sentence(rows: Sequence[Row]) -> str:
    """Image AUROC of trainings with several seeds, with both scores."""
    texts = []
    for method, name in ((OURS, "this score"), (PAPER, "the published score")):
        found = {row["seed"]: figure(row, "auroc") for row in rows if row["method"] == method}
        values = ", ".join(f"{stat['value']:.3f}" for stat in found.values() if stat)
        texts.append(f"with {name} {values}")
    seeds = ", ".join(sorted({row["seed"] for row in rows}))
    return f"Image AUROC of trainings with the seeds {seeds}: {'; '.join(texts)}."


def exceeds(row: Row) -> bool:
    """Whether the false-alarm rate is above the target beyond chance."""
    alarms = figure(row, "false_alarm_rate")
    return bool(alarms and alarms["low"] is not None and alarms["low"] > ALPHA)


def eval_metrics(rows: Sequence[Row]) -> dict[str, Any]:
    """Figures for a bundle's metadata, with three digits."""
    ours, best = rows[0], best_of(rows)
    names = {
        "image_auroc": figure(ours, "auroc"),
        "false_alarm_rate_at_alpha_0.05": figure(ours, "false_alarm_rate"),
        "sensitivity_at_alpha_0.05": figure(ours, "sensitivity"),
        f"best_baseline_{ours['best_baseline']}_image_auroc": figure(best, "auroc") if best else None,
        "pixel_ap": figure(ours, "pixel_ap"),
    }
    studies: dict[str, Any] = {kind: int(ours[f"n_{kind}"]) for kind in ("healthy", "abnormal")}
    return {
        "test_studies": studies | {"abnormalities": ours["lesions"]},
        **{name: {end: rounded(number) for end, number in stat.items()} for name, stat in names.items() if stat},
    }


def rounded(number: Any) -> float | None:
    """Three digits, of a number that may be missing."""
    return None if number is None else round(number, 3)


def best_of(rows: Sequence[Row]) -> Row | None:
    """Row of the best baseline."""
    return next((row for row in rows if row["method"] == rows[0]["best_baseline"]), None)


def with_bundle_rows(text: str, own: dict[str, list[Row]]) -> str:
    """A page whose table of bundles has their AUROC, that of the best baseline, and warnings in the comment."""
    lines = text.split("\n")
    for index, line in enumerate(lines):
        if (found := re.match(r"\| \[`(\w+)`\]", line)) and found[1] in own:
            rows = own[found[1]]
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            comment = [part for part in cells[5].split("; ") if part not in WARNINGS]
            measured = [rows[0], best_of(rows)] if rows else [None, None]
            cells[3:5] = [value(figure(row, "auroc") if row else None) for row in measured]
            cells[5] = "; ".join([*comment, *(warnings(rows[0]) if rows else ())])
            lines[index] = f"| {' | '.join(cells)} |"
    return "\n".join(lines)


def warnings(row: Row) -> Iterator[str]:
    """What a reader must know beside the AUROC."""
    lead = figure(row, "auroc_difference")
    if lead and lead["value"] <= 0:
        yield WARNINGS[0]
    elif lead and (lead["low"] is None or lead["low"] <= 0):
        yield WARNINGS[1]
    if exceeds(row):
        yield WARNINGS[2]


def false_alarm_part(own: dict[str, list[Row]]) -> str:
    """Table of the realised false-alarm rates."""
    lines = [
        "| bundle, data | flagged share of healthy studies | after calibration on half of their subjects |",
        "|---|---|---|",
    ]
    for row in (rows[0] for rows in own.values() if rows):
        site = figure(row, "site_false_alarm_rate")
        after = f"{interval(site)} of {row['site_n_healthy']}" if site else "-"
        rate = f"{interval(figure(row, 'false_alarm_rate'))} of {row['n_healthy']}"
        lines.append(f"| `{row['bundle']}`, {SETS[row['set']].title} | {rate} | {after} |")
    return "\n".join([*lines, ""])


def outdated(files: Iterable[tuple[Path, str]]) -> dict[Path, str]:
    """The files whose content differs from what it should be."""
    return {path: text for path, text in files if not path.is_file() or path.read_text(encoding="utf-8") != text}


def main() -> int:
    """Write or check."""
    parser = OptionParser(description=__doc__)
    add_switch(parser, "check", "change nothing; exit code 1 if a file is not up to date")
    args = parser.parse_args()
    try:
        changed = outdated(pages(ROOT))
        for path, text in changed.items():
            print(f"{'not up to date' if args.check else 'written'}: {path.relative_to(ROOT)}")
            if not args.check:
                with atomic_write(path) as file:
                    file.write(text)
    except Exception as error:
        report_mistake("write_figures", error)
        return 2
    return int(bool(args.check and changed))


if __name__ == "__main__":
    sys.exit(main())
