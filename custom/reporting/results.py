"""The table of a run (results.csv) and what made it (run.json)."""

from __future__ import annotations

import csv
import hashlib
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
from custom.errors import NomalyError
from custom.reporting.files import atomic_write

STATUSES = ("ok", "failed")
DECISIONS = ("flag", "normal")
LESION_UNITS = ("ml", "mm2", "px")


@dataclass
class StudyResult:
    """What a run found in one study; the fields, in this order, are the columns of results.csv.

    Args:
        study: unique id of the study.
        status: "ok", or "failed" (then `error` says why, and the numbers are None).
        score: study score, larger = more abnormal.
        p_value: conformal p-value in (0, 1], small = unlike the healthy calibration studies; None if not calibrated.
        decision: "flag" or "normal"; None if not calibrated.
        lesion_count: number of connected regions over the pixel threshold.
        lesion_volume: their total size in `lesion_unit`.
        lesion_unit: "ml" for volumes, "mm2" for pictures of known pixel size, "px" otherwise.
        seconds: time that the study took.
        error: a reason that a person can act on; empty for a study that went well.

    Raises:
        NomalyError: an unknown status, decision or unit; a failure without a reason; a score that is not finite.
    """

    study: str
    status: str = "ok"
    score: float | None = None
    p_value: float | None = None
    decision: str | None = None
    lesion_count: int | None = None
    lesion_volume: float | None = None
    lesion_unit: str | None = None
    seconds: float | None = None
    error: str = ""

    def __post_init__(self) -> None:
        """Bring 0-d tensors and numpy numbers to plain ones and refuse what the table cannot mean."""
        for name in ("score", "p_value", "lesion_volume", "seconds"):
            value = getattr(self, name)
            setattr(self, name, None if value is None else float(value))
        self.lesion_count = None if self.lesion_count is None else int(self.lesion_count)
        _check_choice("status", self.status, STATUSES)
        for name, choices in (("decision", DECISIONS), ("lesion_unit", LESION_UNITS)):
            if getattr(self, name) is not None:
                _check_choice(name, getattr(self, name), choices)
        if self.status == "failed" and not self.error:
            raise NomalyError(f"error of study {self.study!r} must say why it failed, got ''. Give the reason.")
        if self.score is not None and not math.isfinite(self.score):
            raise NomalyError(
                f"score of study {self.study!r} must be finite, got {self.score}. Report the study as failed."
            )


COLUMNS = tuple(field.name for field in fields(StudyResult))


def write_results_csv(rows: Iterable[StudyResult], path: str | os.PathLike[str]) -> None:
    """Write one row a study, in the given order, atomically; None becomes an empty cell.

    Raises:
        NomalyError: the file cannot be written.
    """
    with atomic_write(path, "w") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(astuple(row) for row in rows)


def read_results_csv(path: str | os.PathLike[str]) -> list[StudyResult]:
    """Read back what `write_results_csv` wrote.

    Raises:
        NomalyError: the file is missing or its header is not that of a results table.
    """
    if not Path(path).is_file():
        raise NomalyError(f"Results table {path} must be a file, found none. Name the results.csv of a run.")
    with open(path, encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise NomalyError(
                f"Header of {path} must be {','.join(COLUMNS)}, got {','.join(reader.fieldnames or ())}. "
                "Name the results.csv of a run of this version."
            )
        return [StudyResult(**{k: v if k == "error" else v or None for k, v in row.items()}) for row in reader]


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


def weight_hash(state_dict: Mapping[str, torch.Tensor]) -> str:
    """Fingerprint of a network's weights: first 16 hex digits of SHA-256 over names, dtypes, shapes and bytes.

    It depends neither on the order of the entries nor on the device.

    Raises:
        NomalyError: an entry is not a tensor.
    """
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name]
        if not isinstance(tensor, torch.Tensor):
            raise NomalyError(
                f"state_dict[{name!r}] must be a tensor, got {type(tensor).__name__}. Pass network.state_dict()."
            )
        # The header carries the shape, so the end of one tensor can never be read as the start of the next.
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


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
