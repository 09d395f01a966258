"""Results that an output folder already contains: a run replaces or continues them only on request."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NoReturn

from custom.errors import NomalyError
from custom.studies.own_files import TABLES, own_files


def earlier_tables(folder: Path) -> list[Path]:
    """The tables and pages in a folder that a run of Nomaly wrote."""
    own = own_files(folder)
    return [folder / name for name in TABLES if name in own and (folder / name).exists()]


def only_failures(folder: Path) -> bool:
    """Whether all studies of the earlier run failed, such as a mistyped path: nothing is lost without them."""
    try:
        with open(folder / "results.csv", encoding="utf-8-sig", newline="") as stream:
            return all(row["status"] == "failed" for row in csv.DictReader(stream))
    except (OSError, ValueError, KeyError, csv.Error):
        return False


def refuse_earlier(folder: Path, name: str, resumable: bool) -> NoReturn:
    """Refuse to replace earlier results.

    Args:
        folder: output folder of the run.
        name: what it contains.
        resumable: whether a run of this kind can be resumed.

    Raises:
        NomalyError: always.
    """
    continuing = "resume true to continue that run, " if resumable else ""
    raise NomalyError(
        f"output_dir {folder} already contains results ({name}): choose another output_dir, "
        f"{continuing}or overwrite true to replace them."
    )
