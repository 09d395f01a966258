"""The tables and the page of a benchmark."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

import custom
from custom.files import atomic_write
from custom.reporting.benchmark_seeds import MEASURES, NOTE, seed_titles
from custom.reporting.benchmark_table import STATS, SYNTHETIC_NOTE, TITLES, Row, cell, ends
from custom.reporting.page import ACCENT, FLAG, MUTED, RESEARCH_NOTE, dot, line, svg, text, write_page


def write_benchmark(
    folder: str | os.PathLike[str], rows: Sequence[Row], data: str, machine: str = "", seeds: Sequence[Row] = ()
) -> None:
    """Write benchmark.csv, benchmark.md and benchmark.html.

    Args:
        folder: target; existing files are replaced.
        rows: from `benchmark_row`; the others are compared with the first.
        data: description of the data set.
        machine: description of the machine that the models ran on.
        seeds: means over seeds, of `over_seeds`; empty without seeds.

    Raises:
        NomalyError: a file cannot be written.
    """
    folder = Path(folder)
    with atomic_write(folder / "benchmark.csv") as file:
        file.write(table_csv(rows))
    if seeds:
        with atomic_write(folder / "benchmark_seeds.csv") as file:
            file.write(seeds_csv(seeds))
    with atomic_write(folder / "benchmark.md") as file:
        file.write(table_markdown(rows, seeds))
    shown = _shown(rows)
    write_page(
        folder / "benchmark.html",
        "benchmark.html.jinja",
        data=data,
        machine=machine,
        banners=[SYNTHETIC_NOTE, RESEARCH_NOTE] if any(row["synthetic"] for row in rows) else [RESEARCH_NOTE],
        rows=[{key: cell(row, key) for key in shown} for row in rows],
        titles={key: TITLES[key] for key in shown},
        seeds=[{key: cell(row, key) for key in seed_titles(seeds)} for row in seeds],
        seed_titles=seed_titles(seeds),
        seed_note=NOTE,
        notes=[(row["name"], row["note"], row["n_healthy"] is None) for row in rows if row["note"]],
        plots={TITLES[key]: stat_svg(rows, key) for key in STATS},
        first=rows[0]["name"],
        version=custom.__version__,
    )


def table_csv(rows: Sequence[Row]) -> str:
    """All columns; a value with an interval becomes three, such as auroc, auroc_low and auroc_high."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    intervals = (*STATS, "auroc_difference")
    names = [[key, f"{key}_low", f"{key}_high"] if key in intervals else [key] for key in TITLES]
    writer.writerow([name for group in names for name in group])
    for row in rows:
        cells = [ends(row[key]) if key in intervals else [row[key]] for key in TITLES]
        writer.writerow(["" if value is None else value for group in cells for value in group])
    return stream.getvalue()


def seeds_csv(seeds: Sequence[Row]) -> str:
    """The means over seeds; each measure becomes three columns, such as auroc, auroc_low and auroc_high."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["name", "seeds", *(f"{key}{end}" for key in MEASURES for end in ("", "_low", "_high"))])
    for row in seeds:
        values = [value for key in MEASURES for value in ends(row[key])]
        writer.writerow([row["name"], row["seeds"], *("" if value is None else value for value in values)])
    return stream.getvalue()


def table_markdown(rows: Sequence[Row], seeds: Sequence[Row] = ()) -> str:
    """The columns with any known value, whether the data are synthetic, and the means over seeds."""
    table = _markdown(rows, {key: TITLES[key] for key in _shown(rows)})
    notes = [
        "Intervals are 95 %; too few studies give none. The AUROC difference is paired, over the studies that "
        "both models share."
    ]
    if any(row["synthetic"] for row in rows):
        notes.append(f"**{SYNTHETIC_NOTE}**")
    means = [_markdown(seeds, seed_titles(seeds)), NOTE] if seeds else []
    return "\n\n".join([*means, table, *notes]) + "\n"


def _markdown(rows: Sequence[Row], titles: Mapping[str, str]) -> str:
    """Rows under their titles."""
    lines = [list(titles.values()), ["---"] * len(titles)]
    lines += [[cell(row, key).replace("|", "\\|") for key in titles] for row in rows]
    return "\n".join(f"| {' | '.join(words)} |" for words in lines)


def _shown(rows: Sequence[Row]) -> list[str]:
    """Columns with a value in any row."""
    return [key for key in TITLES if any(row[key] not in (None, "") for row in rows)]


def stat_svg(rows: Sequence[Row], key: str) -> Markup:
    """A dot and its interval for each model, on an axis from 0 to 1; "" if no model has the value.

    The name of a model is above its dot, so that the drawing fits a telephone. A small line
    marks the best baseline (AUROC) or the target (false-alarm rate).
    """
    if not any(row[key] for row in rows):
        return Markup("")
    left, width, height, bottom = 10, 300, 38, 14 + 38 * len(rows)
    mark = {"auroc": "best_baseline_auroc", "false_alarm_rate": "alpha"}.get(key)

    def _at(value: float) -> float:
        return left + min(max(value, 0), 1) * width

    parts = []
    for tick in (0, 0.25, 0.5, 0.75, 1):
        parts += [line(_at(tick), 8, _at(tick), bottom), text(_at(tick), bottom + 16, f"{tick:g}", "middle")]
    for i, row in enumerate(rows):
        y = 36 + i * height
        parts.append(text(left, y - 13, _short(row["name"])))
        if mark and row[mark] is not None:
            parts.append(line(_at(row[mark]), y - 8, _at(row[mark]), y + 8, f"stroke:{FLAG};stroke-width:2"))
        value, low, high = ends(row[key])
        if value is None:
            parts.append(text(left + 6, y + 4, "unknown"))
            continue
        if low is not None and high is not None:
            parts.append(line(_at(low), y, _at(high), y, f"stroke:{MUTED};stroke-width:2;opacity:.6"))
        parts.append(dot(_at(value), y, ACCENT, f"{row['name']}: {cell(row, key)}", 4.5))
    return svg(left + width + 10, bottom + 24, f"{TITLES[key]} of each model", parts)


def _short(name: str) -> str:
    """A name that fits next to a plot: long ones are shortened in the middle, as their ends differ."""
    return name if len(name) <= 46 else f"{name[:30]}…{name[-15:]}"
