"""The studies that a user names by files, folders and lists."""

from __future__ import annotations

import json
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

from tqdm import tqdm

from custom.errors import NomalyError
from custom.studies.case_names import UniqueNames, pseudonym
from custom.studies.datalist import DATALIST, load_datalist
from custom.studies.dicom_headers import DicomFile, scan_file
from custom.studies.formats import STUDY_SUFFIXES, case_name, is_dicom

logger = logging.getLogger(__name__)

PLAIN_SUFFIXES = tuple(suffix for suffix in STUDY_SUFFIXES if suffix != ".dcm")
LIST_SUFFIX = ".txt"
# Suffixes that the log may name: what else follows the last dot of a name may be a part of the patient's.
KNOWN_SUFFIXES = frozenset(
    ".avi .bval .bvec .cfg .css .csv .db .doc .docx .dvl .exe .gif .gz .h5 .hdr .htm .html .img .inf .ini .ipynb .js "
    ".json .jsonl .lnk .log .mat .md .mp4 .nc .npy .npz .ods .odt .pdf .pkl .ppt .pptx .pt .pth .py .raw .rtf .sh .svg "
    ".sqlite .tar .toml .tmp .tsv .txt .url .webp .xls .xlsx .xml .yaml .yml .zip".split()
)


@dataclass
class _Study:
    """A study that was found: its files, what identifies it, whether they are a series, and fields of a datalist."""

    files: list[str]
    identity: str
    is_series: bool = False
    fields: dict[str, Any] = field(default_factory=dict)

    def item(self, names: UniqueNames, keep_identifiers: bool) -> dict[str, Any]:
        """The item of the study, under a name that no other has."""
        image = sorted(self.files) if self.is_series else self.files[0]
        case = case_name(image) if keep_identifiers else pseudonym(self.identity)
        return {**self.fields, "image": image, "case": names(self.fields.get("case", case))}


def find_studies(
    inputs: str | PathLike | Sequence[str | PathLike], keep_identifiers: bool = False
) -> list[dict[str, Any]]:
    """An item {"image", "case"} for each study, in the order as given, then by path.

    An input is an image file; a folder, gone through with all that lies below it; a text file with one path a line,
    relative to its folder, where lines that begin with # are comments; or `datalist.json` or a folder that holds it, of
    which the section test is taken, or all where that is empty. DICOM files are known by their content. Those of one
    cross-sectional series make one study, whose `image` is the list of its files; a film or a multi-frame file is one
    by itself.

    What is no image is passed over in folders, and so are results of earlier runs that lie below them. A file or folder
    that the user names himself, and what cannot be read, stays in the list: it fails with its reason when it is read,
    and the others go on. What is named twice counts once.

    Args:
        inputs: one or several.
        keep_identifiers: name studies after their files or folders; else by a hash of their DICOM UID or path. Items
            of a datalist keep the `case` and `subject` that it gives.

    Raises:
        NomalyError: if there is nothing to read, or a list is wrong.
    """
    paths = [Path(path) for path in ([inputs] if isinstance(inputs, (str, PathLike)) else inputs)]
    search = _Search(keep_identifiers)
    empty = {number: path for number, path in enumerate(paths) if not search.add(path)}
    search.report()
    if not search.studies:
        raise NomalyError(
            f"studies must name at least one study, got {', '.join(map(str, paths)) or 'nothing'}: give image files "
            f"({', '.join(STUDY_SUFFIXES)}, DICOM without a suffix), a folder of them, or a list of them."
        )
    for path in empty.values():
        search.add_single(path)
    names = UniqueNames()
    return [study.item(names, keep_identifiers) for study in search.studies.values()]


class _Search:
    """Gathers studies by what makes two the same: the UIDs of their series, or the place of their file."""

    def __init__(self, keep_identifiers: bool) -> None:
        self.keep_identifiers = keep_identifiers
        self.studies: dict[tuple[str, ...], _Study] = {}
        self.passed_over: Counter[str] = Counter()
        self.twice = 0
        self._files: set[str] = set()

    def add(self, path: Path, may_be_list: bool = True) -> bool:
        """Add what a path stands for; tell whether that is anything."""
        if path.name == DATALIST and os.path.isfile(path):
            return self._add_datalist(path.parent)
        if not os.path.isdir(path):
            if may_be_list and path.suffix.lower() == LIST_SUFFIX and os.path.isfile(path):
                return all([self.add(entry, may_be_list=False) or self.add_single(entry) for entry in _read_list(path)])
            self._add_file(path, named=True)
            return True
        if os.path.isfile(path / DATALIST):
            return self._add_datalist(path)
        found, closed, results = _walk(path)
        self.passed_over += Counter({"results folder": results})
        for folder in closed:
            self.add_single(folder)
        # 10 000 headers take several seconds, more on a slow network drive
        files = tqdm(found, desc="Reading headers", unit="file", delay=2, leave=False, disable=None)
        return any([self._add_file(file, named=False) for file in files]) or bool(closed)

    def add_single(self, path: Path, identity: str = "", **fields: Any) -> bool:
        """Add a study of one file or folder."""
        place = os.path.realpath(path)
        if place in self._files:
            self.twice += 1
        else:
            self._files.add(place)
            self.studies[(place,)] = _Study([str(path)], identity or os.path.abspath(path), fields=fields)
        return True

    def report(self) -> None:
        """Log how much was passed over, by kind; names of files may tell who a patient is and are not logged."""
        if self.passed_over:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.passed_over.items()))
            logger.info("Passed over %d files that hold no image: %s.", self.passed_over.total(), kinds)
        if self.twice:
            logger.info("Files that are named twice count once: %d.", self.twice)

    def _add_datalist(self, folder: Path) -> bool:
        """Add the section test of a datalist, or all where that is empty."""
        sections = load_datalist(folder, required=(), name_of=case_name if self.keep_identifiers else pseudonym)
        items = sections["test"] or [item for section in sections.values() for item in section]
        for item in items:
            self.add_single(Path(item["image"]), **{key: value for key, value in item.items() if key != "image"})
        return bool(items)

    def _add_file(self, path: Path, named: bool) -> bool:
        """Add a file unless it is no image and was not named; tell whether it was one."""
        if path.name.lower().endswith(PLAIN_SUFFIXES):
            return self.add_single(path)
        try:
            dicom = os.path.isfile(path) and is_dicom(path)
        except OSError:  # it may not be read: that is told by its row
            return self.add_single(path)
        header = scan_file(path) if dicom else None
        if header is not None and header.kind == "slice":
            return self._add_slice(header)
        if named or (dicom and header is None) or (header is not None and header.kind):
            return self.add_single(path, identity=header.instance if header is not None else "")
        self.passed_over[f"DICOM {header.name}" if header is not None else _kind(path)] += 1
        return False

    def _add_slice(self, header: DicomFile) -> bool:
        """Add a file to its series."""
        place = os.path.realpath(header.path)
        if place in self._files:
            self.twice += 1
            return True
        self._files.add(place)
        series = self.studies.setdefault((header.study, header.series), _Study([], header.series, is_series=True))
        series.files.append(str(header.path))
        return True


def _kind(path: Path) -> str:
    """What a file that is no image is called in the log."""
    suffix = path.suffix.lower()
    return suffix if suffix in KNOWN_SUFFIXES else "of another kind" if suffix else "without suffix"


def _read_list(path: Path) -> Iterator[Path]:
    """Paths of a list, one a line.

    Raises:
        NomalyError: if it names none or cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        if any("\0" in line for line in lines):
            raise ValueError("it holds a NUL byte")
    except (OSError, ValueError) as error:
        raise NomalyError(f"a list of studies must be readable text, got {path} ({error}); correct it.") from None
    entries = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not entries:
        raise NomalyError(f"a list of studies must name at least one path, got none in {path}; write one a line.")
    return (path.parent / entry for entry in entries)


def _walk(folder: Path) -> tuple[list[Path], list[Path], int]:
    """Files below a folder, by path, without hidden ones; folders that may not be read; the number with our results."""
    files: list[Path] = []
    results = 0
    closed: list[Path] = []
    seen = {os.path.realpath(folder)}
    for root, folders, names in os.walk(folder, followlinks=True, onerror=lambda e: closed.append(Path(e.filename))):
        files += [Path(root, name) for name in names if not name.startswith(".")]
        inside = sorted(name for name in folders if not name.startswith("."))
        wanted = [name for name in inside if not _holds_results(Path(root, name))]
        results += len(inside) - len(wanted)
        folders[:] = [name for name in wanted if _is_new(os.path.join(root, name), seen)]
    return sorted(files), sorted(closed), results


def _holds_results(folder: Path) -> bool:
    """Tell whether a folder is of a run of ours, or of a study in one: its maps are images too."""
    return _is_of_a_run(folder) or (
        (folder.parent / "records" / f"{folder.name}.json").is_file() and _is_of_a_run(folder.parent)
    )


def _is_of_a_run(folder: Path) -> bool:
    """Tell whether a folder holds the run.json of a run."""
    try:
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(run, dict) and "fingerprint" in run


def _is_new(folder: str, seen: set[str]) -> bool:
    """Tell whether a folder was not gone through before, by a link or another."""
    place = os.path.realpath(folder)
    is_new = place not in seen
    seen.add(place)
    return is_new
