"""What a run has found so far, one file a study: a run that was stopped goes on from them."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from custom.reporting.case_view import CaseView, Outline, SliceView
from custom.reporting.files import atomic_write
from custom.reporting.results import LesionResult, StudyResult

FOLDER = "records"


@dataclass
class StudyRecord:
    """Row and lesions of a study, and its layers for the report (None where there are none)."""

    result: StudyResult
    lesions: list[LesionResult]
    view: CaseView | None = None


class StudyRecords:
    """The records of a results folder. Each is written whole or not at all, after the images of its study: what has a
    record is done.

    Args:
        folder: of the run; several processes may share it.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder) / FOLDER

    def write(self, record: StudyRecord) -> None:
        """Keep what was found in a study.

        Raises:
            NomalyError: if it cannot be written.
        """
        view = None if record.view is None else _encoded(asdict(record.view))
        content = {"result": asdict(record.result), "lesions": [asdict(row) for row in record.lesions], "view": view}
        with atomic_write(self._path(record.result.study)) as file:
            json.dump(content, file, ensure_ascii=False)

    def read(self, case: str, with_view: bool = True) -> StudyRecord | None:
        """The record of a study; None if there is none, or none of this version."""
        try:
            content = json.loads(self._path(case).read_text(encoding="utf-8"))
            view = _view(content["view"]) if with_view and content["view"] is not None else None
            lesions = [LesionResult(**row) for row in content["lesions"]]
            return StudyRecord(StudyResult(**content["result"]), lesions, view)
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None

    def done(self, cases: Sequence[str]) -> set[str]:
        """Those of the studies that need not be done again: a failed one is tried anew."""
        records = {case: self.read(case, with_view=False) for case in cases if self._path(case).exists()}
        return {case for case, record in records.items() if record is not None and record.result.status != "failed"}

    def clear(self) -> None:
        """Forget all."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, case: str) -> Path:
        """File of a study."""
        return self.folder / f"{case}.json"


def _encoded(value: Any) -> Any:
    """The value with text in the place of bytes."""
    if isinstance(value, dict):
        return {key: _encoded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encoded(item) for item in value]
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value


def _view(content: dict[str, Any]) -> CaseView:
    """Read back what `asdict` and `_encoded` made of a view."""
    slices = tuple(_slice(part) for part in content["slices"])
    thumbnail = base64.b64decode(content["thumbnail"])
    return CaseView(**{**content, "size": tuple(content["size"]), "slices": slices, "thumbnail": thumbnail})


def _slice(content: dict[str, Any]) -> SliceView:
    """Read back a slice of a view."""
    pictures = {name: base64.b64decode(content[name]) for name in ("image", "pseudo_healthy", "overlay")}
    regions = {int(number): Outline(**outline) for number, outline in content["regions"].items()}
    truth = None if content["truth"] is None else Outline(**content["truth"])
    return SliceView(content["index"], **pictures, regions=regions, truth=truth)
