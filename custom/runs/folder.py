"""The output folder of a run: which results it contains, which of them are kept, and what it contains at the end."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from custom.errors import NomalyError
from custom.files import WriteError
from custom.locks import FolderLock
from custom.processes import is_main_process
from custom.rendering.case_view import CaseView
from custom.runs.records import StudyRecords
from custom.runs.tables import RegionResult, StudyResult, write_run_info
from custom.studies.earlier_results import earlier_tables, only_failures, refuse_earlier
from custom.studies.items import StudyItem
from custom.studies.own_files import (
    RUN_FILES,
    STUDY_FILES,
    TABLES,
    list_own,
    other_files,
    own_files,
    refuse_to_replace,
    remove_own,
)
from custom.studies.privacy import write_key

KEY_FILE = "key.csv"
UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")  # names of files that are being written


class RunFolder:
    """The results of a run on disk.

    Args:
        folder: output folder of the run.
        items: all studies of the run, in the order of the table.
        overwrite: whether existing results may be replaced.
        resume: whether the run that the existing results belong to is continued.
        resumable: whether a run of this kind can be resumed at all.
        images: whether each study gets a folder of images.

    Raises:
        NomalyError: if both ``overwrite`` and ``resume`` are set.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        items: Sequence[StudyItem],
        overwrite: bool = False,
        resume: bool = False,
        resumable: bool = True,
        images: bool = True,
    ) -> None:
        if overwrite and resume:
            raise NomalyError("overwrite and resume must not both be true: choose to replace results or to keep them.")
        self.folder = Path(folder)
        self.items = items
        self.overwrite = overwrite
        self.resume = resume
        self.resumable = resumable
        self.images = images
        self.records = StudyRecords(folder)
        self.lock = FolderLock(folder)

    @property
    def private(self) -> bool:
        """Whether studies are listed under pseudonyms."""
        return any(item.get("private") for item in self.items)

    @property
    def names(self) -> str:
        """What the names of the studies are, for ``run.json`` and the report."""
        if self.private:
            return f"pseudonyms, so that these results can be shared; {KEY_FILE} maps them to files"
        if any("private" in item for item in self.items):
            return "names of files, which may identify patients; --pseudonymise replaces them"
        return "as in the data set"

    @property
    def files(self) -> list[str]:
        """Names of the files that the run writes to the folder itself, for ``run.json``."""
        return [name for name in RUN_FILES if not (self.resumable and name.startswith("metrics"))]

    def check(self, fingerprint: Mapping[str, Any]) -> None:
        """Check that this run may use the folder, and lock it.

        Raises:
            NomalyError: if the folder contains results, not only of studies that failed, and neither ``overwrite`` nor
                ``resume`` is set, if the results to resume are from a different run, if another run is using the
                folder, or if a file of the user's would be replaced.
        """
        found = earlier_tables(self.folder)
        found += [self.records.folder] if self.resumable and next(self.records.cases(), None) else []
        if found and not (self.overwrite or self.resume or only_failures(self.folder)):
            refuse_earlier(self.folder, found[0].name, self.resumable)
        if found and self.resume:
            self._check_same(fingerprint)
        refuse_to_replace(self._users_files(), f"output_dir {self.folder}")
        if is_main_process():
            self.lock.acquire("output_dir")

    def begin(self, run: Mapping[str, Any]) -> None:
        """Remove what is not kept, and write ``run.json`` and the key of the pseudonyms.

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
        """Remove what is not kept."""
        if not self.folder.is_dir():
            return
        for path in (*self.folder.glob(".*"), *self.folder.glob("*/.*")):
            if UNFINISHED.fullmatch(path.name):
                path.unlink(missing_ok=True)
        own = own_files(self.folder)
        for name in TABLES:  # tables of an earlier run must not be mistaken for those of this one
            if name in own and (name != KEY_FILE or not self.resume):
                (self.folder / name).unlink(missing_ok=True)
        if not self.resume:
            self._forget()
        else:
            self._adopt()

    def gather(self) -> tuple[list[StudyResult], dict[str, list[RegionResult]]]:
        """Rows of all studies in their order, and the regions of each study that has a record."""
        records = [(item["case"], self.records.read(item["case"], with_view=False)) for item in self.items]
        lost = "no record was found: all machines of a run must share one output_dir. Run again with resume true."
        rows = [
            StudyResult(case, "failed", error=lost) if record is None else record.result for case, record in records
        ]
        return rows, {case: record.regions for case, record in records if record is not None}

    def views(self, cases: Iterable[str]) -> dict[str, CaseView]:
        """Image layers for the report, of the studies that have any."""
        records = {case: self.records.read(case) for case in cases}
        return {case: record.view for case, record in records.items() if record is not None and record.view is not None}

    def end(self) -> None:
        """Delete the records of a run that cannot be resumed, and unlock the folder."""
        if not self.resumable:
            self.records.clear()
        self.release()

    def release(self) -> None:
        """Unlock the folder for other runs."""
        self.lock.release()

    def _users_files(self) -> list[Path]:
        """Files that this run would replace, but that no run of ours wrote."""
        files = other_files(self.folder, self.files)
        cases = [item["case"] for item in self.items]
        if not own_files(self.folder):
            files += [path for path in map(self.records.path, cases) if path.exists()]
        for case in cases if self.images else ():
            files += other_files(self.folder / case, STUDY_FILES)
        return files

    def _check_same(self, fingerprint: Mapping[str, Any]) -> None:
        """Refuse to resume results of another model, calibration or setting."""
        try:
            known = dict(json.loads((self.folder / "run.json").read_text(encoding="utf-8"))["fingerprint"])
        except (OSError, ValueError, TypeError, KeyError):
            known = {}
        changed = [name for name, value in fingerprint.items() if known.get(name) != value]
        if changed:
            raise NomalyError(
                f"cannot resume the run in {self.folder}: it was made with a different "
                f"{', '.join(changed).replace('_', ' ')}. Repeat the options of that run, choose another output_dir, "
                "or give overwrite true."
            )

    def _adopt(self) -> None:
        """List the images of the records that are kept, where an earlier release wrote them."""
        for case in self.records.cases():
            folder = self.folder / case
            list_own(folder, [name for name in STUDY_FILES if name in own_files(folder) and (folder / name).exists()])

    def _forget(self) -> None:
        """Remove the records of an earlier run and the images that belong to them."""
        for case in self.records.cases():
            remove_own(self.folder / case)
            self.records.forget(case)
