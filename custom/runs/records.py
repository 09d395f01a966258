"""Results so far, in one file per study: a run that was stopped resumes from them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from custom.earlier_names import COLUMNS, current_name
from custom.files import atomic_write
from custom.rendering.case_view import CaseView, SliceView
from custom.rendering.outlines import Outline
from custom.runs.tables import RegionResult, StudyResult
from custom.studies.items import ImageSource, StudyItem
from custom.studies.own_files import RECORDS


@dataclass
class StudyRecord:
    """Results of one study.

    Args:
        result: its row of results.csv.
        regions: its rows of regions.csv.
        view: its image layers for the report; None for a study that failed.
        source: fingerprint of its files, see :func:`source_digest`.
    """

    result: StudyResult
    regions: list[RegionResult]
    view: CaseView | None = None
    source: str = ""


class StudyRecords:
    """The records of an output folder. Each is written completely or not at all, after the images of its study: a study
    with a record is done.

    Args:
        folder: output folder of the run; several processes may share it.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder) / RECORDS

    def write(self, record: StudyRecord) -> None:
        """Write the record of a study.

        Raises:
            NomalyError: if it cannot be written.
        """
        view = None if record.view is None else _encoded(asdict(record.view))
        rows = {"result": asdict(record.result), "regions": [asdict(row) for row in record.regions]}
        content = {**rows, "view": view, "source": record.source}
        with atomic_write(self.path(record.result.study)) as file:
            json.dump(content, file, ensure_ascii=False)

    def read(self, case: str, with_view: bool = True) -> StudyRecord | None:
        """The record of a study; None if it does not exist or cannot be read by this release."""
        try:
            content = json.loads(self.path(case).read_text(encoding="utf-8"))
            view = _view(content["view"]) if with_view and content["view"] is not None else None
            regions = [RegionResult(**row) for row in content["regions"]]
            result = {current_name(name, COLUMNS): value for name, value in content["result"].items()}
            return StudyRecord(StudyResult(**result), regions, view, content["source"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def done(self, items: Iterable[StudyItem]) -> set[str]:
        """Names of the studies that need not be processed again: their files are unchanged, and they did not fail."""
        records = {item["case"]: (item, self.read(item["case"], with_view=False)) for item in items}
        return {
            case
            for case, (item, record) in records.items()
            if record is not None and record.result.status != "failed" and record.source == source_digest(item["image"])
        }

    def cases(self) -> Iterator[str]:
        """Names of the studies that have a record; other files are ignored."""
        for path in sorted(self.folder.glob("*.json")):
            if self.read(path.stem, with_view=False):
                yield path.stem

    def forget(self, case: str) -> None:
        """Remove the record of a study, and the folder once it is empty."""
        self.path(case).unlink()
        with suppress(OSError):
            self.folder.rmdir()

    def clear(self) -> None:
        """Remove all records."""
        for case in self.cases():
            self.forget(case)

    def path(self, case: str) -> Path:
        """Path of a study's record."""
        return self.folder / f"{case}.json"


def source_digest(image: ImageSource) -> str:
    """Fingerprint of the files of a study: paths, sizes and modification times."""
    paths = [Path(image)] if isinstance(image, (str, os.PathLike)) else [Path(path) for path in image]
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    facts = [(os.fsencode(file.absolute()), *_facts(file)) for file in files]
    return hashlib.sha256(repr(sorted(facts)).encode()).hexdigest()[:16]


def _facts(file: Path) -> tuple[int, int]:
    """Size and modification time of a file; zeros for one that is not accessible."""
    try:
        status = file.stat()
    except OSError:
        return 0, 0
    return status.st_size, status.st_mtime_ns


def _encoded(value: Any) -> Any:
    """The value with bytes replaced by base64 text."""
    if isinstance(value, dict):
        return {key: _encoded(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encoded(item) for item in value]
    return base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value


def _view(content: dict[str, Any]) -> CaseView:
    """The view from what `asdict` and `_encoded` made of it."""
    slices = tuple(_slice(part) for part in content["slices"])
    thumbnail = base64.b64decode(content["thumbnail"])
    return CaseView(**{**content, "size": tuple(content["size"]), "slices": slices, "thumbnail": thumbnail})


def _slice(content: dict[str, Any]) -> SliceView:
    """A slice of a view, likewise."""
    layers = {name: base64.b64decode(content[name]) for name in ("image", "pseudo_healthy", "overlay")}
    regions = {int(number): Outline(**outline) for number, outline in content["regions"].items()}
    truth = None if content["truth"] is None else Outline(**content["truth"])
    return SliceView(content["index"], **layers, regions=regions, truth=truth)
