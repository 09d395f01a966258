"""The folder of a run: whose results are in it, which of them are kept, what stands there at the end."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from custom.errors import NomalyError
from custom.files import WriteError
from custom.processes import is_main_process
from custom.rendering.case_view import CaseView
from custom.runs.records import StudyRecords
from custom.runs.study_outputs import remove_outputs
from custom.runs.tables import RegionResult, StudyResult, write_run_info
from custom.studies.privacy import write_key

KEY_FILE = "key.csv"
TABLES = ("results.csv", "regions.csv", "metrics.json", "metrics.md", "report.html", KEY_FILE)
PASSING = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")  # names of files that are being written
LOCK = ".lock"


class RunFolder:
    """Results of a run on the disk.

    Args:
        folder: of the run.
        items: all its studies, in the order of the table.
        overwrite: whether results that are there may be replaced.
        resume: whether they are gone on with.
        resumable: whether a stopped run of this kind can be gone on with at all.

    Raises:
        NomalyError: if both ``overwrite`` and ``resume`` are set.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        items: Sequence[Mapping[str, Any]],
        overwrite: bool = False,
        resume: bool = False,
        resumable: bool = True,
    ) -> None:
        if overwrite and resume:
            raise NomalyError("overwrite and resume must not both be true: choose to replace results or to keep them.")
        self.folder = Path(folder)
        self.items = items
        self.overwrite = overwrite
        self.resume = resume
        self.resumable = resumable
        self.records = StudyRecords(folder)
        self._held: FileLock | None = None

    @property
    def private(self) -> bool:
        """Whether studies go by hidden names."""
        return any(item.get("private") for item in self.items)

    def check(self, fingerprint: Mapping[str, Any]) -> None:
        """Refuse to touch results without leave, to go on with those of another run, and a second run at once.

        Raises:
            NomalyError: in each case.
        """
        found = [self.folder / name for name in TABLES if (self.folder / name).exists()]
        found += [self.records.folder] if self.resumable and next(self.records.cases(), None) else []
        if found and not (self.overwrite or self.resume):
            also = "resume true to go on with them, " if self.resumable else ""
            raise NomalyError(
                f"output_dir {self.folder} must not hold results, but has {found[0].name}: give another output_dir, "
                f"{also}or overwrite true."
            )
        if found and self.resume:
            self._check_same(fingerprint)
        if is_main_process():
            self._lock()

    def begin(self, run: Mapping[str, Any]) -> None:
        """Clear what is not to be kept, and say what this run is.

        Raises:
            WriteError: if the folder cannot be written to.
        """
        try:
            self._clear()
        except OSError as error:
            raise WriteError(Path(error.filename or self.folder), error) from error
        write_run_info(self.folder / "run.json", run)
        write_key(self.folder / KEY_FILE, self.items, keep=self.resume)

    def _clear(self) -> None:
        """Remove what is not to be kept."""
        if not self.folder.is_dir():
            return
        for path in (*self.folder.glob(".*"), *self.folder.glob("*/.*")):
            if PASSING.fullmatch(path.name):
                path.unlink(missing_ok=True)
        for name in TABLES:  # nothing of an earlier run may stand beside this one
            if name != KEY_FILE or not self.resume:
                (self.folder / name).unlink(missing_ok=True)
        if not self.resume:
            self._forget()

    def gather(self) -> tuple[list[StudyResult], dict[str, list[RegionResult]]]:
        """Rows of all studies in their order, and the regions of each."""
        records = [(item["case"], self.records.read(item["case"], with_view=False)) for item in self.items]
        lost = (
            "there is no record of it: output_dir must be one folder for all machines of a run. Run with resume true."
        )
        rows = [
            StudyResult(case, "failed", error=lost) if record is None else record.result for case, record in records
        ]
        return rows, {case: record.regions for case, record in records if record is not None}

    def views(self, cases: Iterable[str]) -> dict[str, CaseView]:
        """Layers of studies for the report, as far as there are any."""
        records = {case: self.records.read(case) for case in cases}
        return {case: record.view for case, record in records.items() if record is not None and record.view is not None}

    def end(self) -> None:
        """Drop the records of a run that is not to be gone on with, and let others in."""
        if not self.resumable:
            self.records.clear()
        self.release()

    def release(self) -> None:
        """Let other runs in."""
        if self._held is not None:
            self._held.release()
            with suppress(OSError):  # another process may hold it by now
                (self.folder / LOCK).unlink(missing_ok=True)
            self._held = None

    def _lock(self) -> None:
        """Keep other runs out until this one ends, however it ends; on a disk that knows no locks nothing is done."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            held = FileLock(self.folder / LOCK)
            held.acquire(blocking=False)
        except Timeout:
            raise NomalyError(
                f"output_dir {self.folder} must be of one run at a time, but another one is at work in it: wait for "
                "its end, or give another output_dir."
            ) from None
        except (OSError, NotImplementedError):  # told better where the first file is written
            return
        self._held = held

    def _check_same(self, fingerprint: Mapping[str, Any]) -> None:
        """Refuse to go on with results of another model, calibration or setting."""
        try:
            known = dict(json.loads((self.folder / "run.json").read_text(encoding="utf-8"))["fingerprint"])
        except (OSError, ValueError, TypeError, KeyError):
            known = {}
        other = [name for name, value in fingerprint.items() if known.get(name) != value]
        if other:
            raise NomalyError(
                f"resume must go on with the run in {self.folder}, but that one had another "
                f"{', '.join(other).replace('_', ' ')}: give what it was given, another output_dir, or overwrite true."
            )

    def _forget(self) -> None:
        """Remove the records of an earlier run and the images that belong to them."""
        for case in self.records.cases():
            remove_outputs(self.folder / case)
            with suppress(OSError):  # not there, or something of the user's is
                (self.folder / case).rmdir()
            self.records.forget(case)
