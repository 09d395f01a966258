"""The tables of a run (results.csv, regions.csv) and what made it (run.json)."""

from __future__ import annotations

import csv
import json
import math
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass, fields
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

import custom
from custom.earlier_names import COLUMNS as EARLIER_COLUMNS
from custom.earlier_names import current_name
from custom.errors import NomalyError
from custom.files import atomic_write

STATUSES = ("ok", "failed", "not_assessable")
DECISIONS = ("flag", "uncertain", "likely_normal")
SIZE_UNITS = ("ml", "mm2", "px")
POSITION_UNITS = ("mm", "px")


@dataclass
class StudyResult:
    """What a run found in one study; the fields, in this order, are the columns of results.csv.

    Args:
        study: unique id of the study.
        status: "ok"; "not_assessable" where the input check refused it (then `note` says why), or "failed" (then
            `error` says why); the numbers of these two are None.
        score: study score, larger = more abnormal.
        p_value: conformal p-value in (0, 1], small = unlike the healthy calibration studies; None if not calibrated.
        decision: "flag", "uncertain" or "likely_normal"; None without a p-value.
        group: calibration group that the p-value belongs to, such as a scanner; None where there are no groups.
        region_count: number of connected regions over the pixel threshold.
        region_size: their total size in `region_unit`.
        region_unit: "ml" for volumes, "mm2" for pictures of known pixel size, "px" otherwise.
        seconds: time that the study took.
        note: why there is no p-value, why the study is not assessable, or what else to know; empty if nothing.
        error: a reason that a person can act on; empty for a study that went well.

    Raises:
        NomalyError: an unknown status, decision or unit; a failure without a reason; a score that is not finite.
    """

    study: str
    status: str = "ok"
    score: float | None = None
    p_value: float | None = None
    decision: str | None = None
    group: str | None = None
    region_count: int | None = None
    region_size: float | None = None
    region_unit: str | None = None
    seconds: float | None = None
    note: str = ""
    error: str = ""

    def __post_init__(self) -> None:
        """Bring 0-d tensors and numpy numbers to plain ones and refuse what the table cannot mean."""
        for name in ("score", "p_value", "region_size", "seconds"):
            value = getattr(self, name)
            setattr(self, name, None if value is None else float(value))
        self.region_count = None if self.region_count is None else int(self.region_count)
        _check_choice("status", self.status, STATUSES)
        for name, choices in (("decision", DECISIONS), ("region_unit", SIZE_UNITS)):
            if getattr(self, name) is not None:
                _check_choice(name, getattr(self, name), choices)
        if self.status == "failed" and not self.error:
            raise NomalyError(f"error of study {self.study!r} must say why it failed, got ''. Give the reason.")
        if self.status == "not_assessable" and not self.note:
            raise NomalyError(
                f"note of study {self.study!r} must say why it is not assessable, got ''. Give the reason."
            )
        if self.score is not None and not math.isfinite(self.score):
            raise NomalyError(
                f"score of study {self.study!r} must be finite, got {self.score}. Report the study as failed."
            )


@dataclass
class RegionResult:
    """One region of a study's map over the pixel threshold; the fields, in this order, are the columns of regions.csv.

    Args:
        study: id of the study.
        region: number within the study, 1 = the most massive. A number is missing where the region is too small for the
            grid of the study's file.
        size: in `unit`.
        unit: as `StudyResult.region_unit`.
        x, y, z: its centre; millimetres in the world of the study's file (RAS+), or column and row of a picture whose
            pixel size is not known (then z is None).
        position_unit: "mm" or "px".
        peak: largest map value inside.
        mass: sum over the region, on the network's grid, of map minus threshold.
        p_value: (1 + number of healthy calibration studies whose most massive region is at least as massive) / (n + 1).
    """

    study: str
    region: int
    size: float
    unit: str
    x: float
    y: float
    z: float | None
    position_unit: str
    peak: float
    mass: float
    p_value: float | None = None

    def __post_init__(self) -> None:
        """Refuse units that the table cannot mean."""
        _check_choice("unit", self.unit, SIZE_UNITS)
        _check_choice("position_unit", self.position_unit, POSITION_UNITS)


COLUMNS = tuple(field.name for field in fields(StudyResult))
NEEDED = ("study", "status", "score", "p_value", "decision")
REGION_COLUMNS = tuple(field.name for field in fields(RegionResult))


def write_results_csv(rows: Iterable[StudyResult], path: str | os.PathLike[str]) -> None:
    """Write one row a study, in the given order, atomically; None becomes an empty cell.

    Raises:
        NomalyError: the file cannot be written.
    """
    _write_table(COLUMNS, rows, path)


def write_regions_csv(rows: Iterable[RegionResult], path: str | os.PathLike[str]) -> None:
    """Write one row a region; otherwise as `write_results_csv`."""
    _write_table(REGION_COLUMNS, rows, path)


def read_results_csv(path: str | os.PathLike[str]) -> list[StudyResult]:
    """Read back what `write_results_csv` wrote, also tables of other releases that have more columns or fewer.

    Raises:
        NomalyError: the file is missing, or is not a results table.
    """
    if not Path(path).is_file():
        raise NomalyError(f"Results table {path} must be a file, found none. Name the results.csv of a run.")
    with open(path, encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if missing := [name for name in NEEDED if name not in (reader.fieldnames or ())]:
            raise NomalyError(
                f"{path} must be a results table with the columns {', '.join(NEEDED)}, but has no "
                f"{', '.join(missing)}. Name the results.csv of a run."
            )
        return [_study_result(row) for row in reader]


def _study_result(row: Mapping[str, str]) -> StudyResult:
    """A row of results.csv; columns that this release does not know are passed over."""
    texts = ("note", "error")
    cells = {current_name(name, EARLIER_COLUMNS): text for name, text in row.items()}
    return StudyResult(
        **{name: cells[name] if name in texts else cells[name] or None for name in COLUMNS if name in cells}
    )


def write_run_info(path: str | os.PathLike[str], info: Mapping[str, Any]) -> dict[str, Any]:
    """Write run.json atomically: `info` plus the versions of the software under "versions".

    Args:
        path: where to write.
        info: what the run knows of itself (command, config, weight hash, seed, device, date...). Versions that it
            gives itself are kept. Numbers that are not finite become null, paths and devices become text.

    Returns:
        What was written, as plain JSON values; `write_report` takes it as `run`.

    Raises:
        NomalyError: the file cannot be written.
    """
    merged = {**info, "versions": {**software_versions(), **info.get("versions", {})}}
    plain = _plain(merged)
    with atomic_write(path, "w") as stream:
        stream.write(json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return plain


def software_versions() -> dict[str, str]:
    """Versions of Python, Nomaly and the packages that numbers depend on."""
    packages = {name: metadata.version(name) for name in ("torch", "monai", "numpy")}
    return {"nomaly": custom.__version__, "python": platform.python_version(), **packages}


def _write_table(columns: tuple[str, ...], rows: Iterable[Any], path: str | os.PathLike[str]) -> None:
    """Header and one line a dataclass, atomically."""
    with atomic_write(path, "w") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(astuple(row) for row in rows)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise NomalyError(f"{name} must be one of {', '.join(choices)}, got {value!r}. Use one of these words.")


def _plain(value: Any) -> Any:
    """Bring numpy, torch and path objects to what JSON can hold."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic, torch.Tensor)):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool)) or value is None else str(value)
