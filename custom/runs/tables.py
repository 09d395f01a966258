"""The tables of a run (results.csv, regions.csv) and its description (run.json)."""

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
from custom.scoring.part_statistics import PARTS
from custom.studies.kinds import KINDS

STATUSES = ("ok", "failed", "not_assessable")
DECISIONS = ("flag", "uncertain", "likely_normal")
SIZE_UNITS = ("ml", "mm2", "px")
POSITION_UNITS = ("mm", "px")
SCORE_PARTS = tuple(f"score_{name}" for name in PARTS)


@dataclass
class StudyResult:
    """Result of one study; the fields, in this order, are the columns of results.csv.

    Args:
        study: unique name of the study.
        status: "ok", "not_assessable" if the input check rejected it (reason in `note`), or "failed" (reason in
            `error`); without "ok" all numbers but `seconds` are None.
        score: study score, larger = more abnormal.
        p_value: conformal p-value in (0, 1], small = unlike the healthy calibration studies; None if not calibrated.
        decision: "flag", "uncertain" or "likely_normal"; None without a p-value.
        group: calibration group that the p-value refers to, such as a scanner; None without groups.
        kind: "image" for one slice, "volume" for several; the p-value refers to healthy studies of this kind.
        healthy_studies: number of healthy studies of that calibration, and of its group; None without a p-value.
        score_map: part of a fused score for the highest values of the map, in standard deviations above the mean of
            healthy studies; None if the score is not fused.
        score_structure: part for the dissimilarity of the structure, likewise.
        score_code: part for the distance of the latent code, likewise.
        score_patches: part for the distances of patches, likewise.
        region_count: number of findings: connected regions above the pixel threshold whose own p-value is at or below
            the alpha of the run; None without a p-value.
        region_size: their total size in `region_unit`.
        region_unit: "ml" for volumes, "mm2" for 2-D images of known pixel size, "px" otherwise.
        seconds: processing time of the study.
        note: why there is no p-value, why the study is not assessable, or other remarks; may be empty.
        error: why the study failed and what to do; empty otherwise.

    Raises:
        NomalyError: an unknown status, decision or unit; a failure without a reason; a score that is not finite.
    """

    study: str
    status: str = "ok"
    score: float | None = None
    p_value: float | None = None
    decision: str | None = None
    group: str | None = None
    kind: str | None = None
    healthy_studies: int | None = None
    score_map: float | None = None
    score_structure: float | None = None
    score_code: float | None = None
    score_patches: float | None = None
    region_count: int | None = None
    region_size: float | None = None
    region_unit: str | None = None
    seconds: float | None = None
    note: str = ""
    error: str = ""

    def __post_init__(self) -> None:
        """Convert 0-d tensors and numpy numbers to plain ones, and check the values."""
        for name in ("score", "p_value", *SCORE_PARTS, "region_size", "seconds"):
            value = getattr(self, name)
            setattr(self, name, None if value is None else float(value))
        for name in ("healthy_studies", "region_count"):
            value = getattr(self, name)
            setattr(self, name, None if value is None else int(float(value)))
        _check_choice("status", self.status, STATUSES)
        for name, choices in (("decision", DECISIONS), ("kind", KINDS), ("region_unit", SIZE_UNITS)):
            if getattr(self, name) is not None:
                _check_choice(name, getattr(self, name), choices)
        if self.status == "failed" and not self.error:
            raise NomalyError(f"error of study {self.study!r} must state why it failed, got ''. Give the reason.")
        if self.status == "not_assessable" and not self.note:
            raise NomalyError(
                f"note of study {self.study!r} must state why it is not assessable, got ''. Give the reason."
            )
        if self.score is not None and not math.isfinite(self.score):
            raise NomalyError(
                f"score of study {self.study!r} must be finite, got {self.score}. Report the study as failed."
            )


@dataclass
class RegionResult:
    """One region of a study above the pixel threshold, whether or not it is a finding (p_value at or below the alpha of
    the run; only findings are outlined, counted and written to masks and DICOM objects). The fields, in this order, are
    the columns of regions.csv.

    Args:
        study: name of the study.
        region: number within the study, 1 = the most massive. A region that is too small for the grid of the study's
            file is omitted, and its number skipped.
        size: size in `unit`.
        unit: as `StudyResult.region_unit`.
        x, y, z: centre; millimetres in the world coordinates of the study's file (RAS+), or column and row of a 2-D
            image whose pixel size is unknown (then z is None).
        position_unit: "mm" or "px".
        peak: largest map value in the region.
        mass: sum of map minus threshold over the region, on the network's grid.
        p_value: (1 + number of healthy calibration studies whose most massive region is at least as massive) / (n + 1);
            None if the study has no p-value: then nothing is a finding.
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
        """Check the units."""
        _check_choice("unit", self.unit, SIZE_UNITS)
        _check_choice("position_unit", self.position_unit, POSITION_UNITS)


COLUMNS = tuple(field.name for field in fields(StudyResult))
NEEDED = ("study", "status", "score", "p_value", "decision")
REGION_COLUMNS = tuple(field.name for field in fields(RegionResult))


def write_results_csv(rows: Iterable[StudyResult], path: str | os.PathLike[str]) -> None:
    """Write one row per study, in the given order, atomically; None becomes an empty cell.

    Raises:
        NomalyError: the file cannot be written.
    """
    _write_table(COLUMNS, rows, path)


def write_regions_csv(rows: Iterable[RegionResult], path: str | os.PathLike[str]) -> None:
    """Write one row per region; otherwise as `write_results_csv`."""
    _write_table(REGION_COLUMNS, rows, path)


def read_results_csv(path: str | os.PathLike[str]) -> list[StudyResult]:
    """Read a table of `write_results_csv`, also of another release (with more or fewer columns) or saved by a
    spreadsheet program.

    Raises:
        NomalyError: the file was not found, is not a results table, or has invalid values.
    """
    if not Path(path).is_file():
        raise NomalyError(f"results table not found: {path}. Name the results.csv of a run.")
    with open(path, encoding="utf-8-sig", newline="") as stream:  # spreadsheet programs put a mark before the header
        reader = csv.DictReader(stream)
        try:
            if missing := [name for name in NEEDED if name not in (reader.fieldnames or ())]:
                raise NomalyError(
                    f"{path} must be a results table with the columns {', '.join(NEEDED)}, but lacks "
                    f"{', '.join(missing)}. Name the results.csv of a run."
                )
            return [_study_result(row) for row in reader]
        except (ValueError, csv.Error) as error:
            if isinstance(error, NomalyError):
                raise
            raise NomalyError(
                f"{path}, line {reader.line_num}, is not a row of a results table: {error}. Name the results.csv of a "
                "run, unchanged."
            ) from error


def _study_result(row: Mapping[str, str]) -> StudyResult:
    """A row of results.csv; columns that this release does not know are ignored."""
    cells: dict[str, Any] = {current_name(name, EARLIER_COLUMNS): text or None for name, text in row.items()}
    known = {name: cells[name] for name in COLUMNS if name in cells}
    return StudyResult(**{**known, "note": cells.get("note") or "", "error": cells.get("error") or ""})


def write_run_info(path: str | os.PathLike[str], info: Mapping[str, Any]) -> dict[str, Any]:
    """Write run.json atomically: `info` plus the versions of the software under "versions".

    Args:
        path: path of the file.
        info: description of the run (command, config, weight hash, seed, device, date...). Versions that it contains
            are kept. Numbers that are not finite become null, paths and devices become text.

    Returns:
        The content of the file, as plain JSON values; `write_report` takes it as `run`.

    Raises:
        NomalyError: the file cannot be written.
    """
    merged = {**info, "versions": {**software_versions(), **info.get("versions", {})}}
    plain = _plain(merged)
    with atomic_write(path, "w") as stream:
        stream.write(json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return plain


def software_versions() -> dict[str, str]:
    """Versions of Python, Nomaly and the packages on which the numbers depend."""
    packages = {name: metadata.version(name) for name in ("torch", "monai", "numpy")}
    return {"nomaly": custom.__version__, "python": platform.python_version(), **packages}


def _write_table(columns: tuple[str, ...], rows: Iterable[Any], path: str | os.PathLike[str]) -> None:
    """Write a header and one line per dataclass, atomically."""
    with atomic_write(path, "w") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(astuple(row) for row in rows)


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise NomalyError(f"{name} must be one of {', '.join(choices)}, got {value!r}. Use one of these words.")


def _plain(value: Any) -> Any:
    """The value with numpy, torch and path objects converted to what JSON can represent."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic, torch.Tensor)):
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, (str, int, bool)) or value is None else str(value)
