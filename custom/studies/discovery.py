"""Find the studies that a user names by files, folders and lists."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, cast

from tqdm import tqdm

from custom.errors import NomalyError
from custom.studies.case_names import UniqueNames, pseudonym
from custom.studies.datalist import DATALIST, load_datalist
from custom.studies.dicom_dir import NAME as DICOMDIR
from custom.studies.dicom_dir import listed_files
from custom.studies.dicom_headers import DicomFile, scan_file
from custom.studies.first_look import problem_of
from custom.studies.formats import (
    PAIRS,
    STUDY_SUFFIXES,
    UNREAD_FORMATS,
    case_name,
    header_of_pair,
    is_dicom,
    study_path,
)
from custom.studies.items import StudyItem
from custom.studies.own_files import own_files

logger = logging.getLogger(__name__)

MOST_FOLDERS = 3  # above a file, whose names tell it from others
PLAIN_SUFFIXES = tuple(suffix for suffix in (*STUDY_SUFFIXES, *UNREAD_FORMATS) if suffix != ".dcm")
LIST_SUFFIX = ".txt"
# Suffixes that the log may contain: other text after the last dot may be part of the patient's name.
KNOWN_SUFFIXES = frozenset(
    ".avi .bval .bvec .cfg .css .csv .db .doc .docx .dvl .exe .gz .h5 .htm .html .inf .ini .ipynb .js "
    ".json .jsonl .lnk .log .mat .md .mp4 .nc .npy .npz .ods .odt .pdf .pkl .ppt .pptx .pt .pth .py .raw .rtf .sh .svg "
    ".sqlite .tar .toml .tmp .tsv .txt .url .xls .xlsx .xml .yaml .yml .zip".split()
)


@dataclass
class _Study:
    """A study found: its files, its identity, whether the files are a series, and its datalist fields."""

    files: list[str]
    identity: str
    is_series: bool = False
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def image(self) -> str | list[str]:
        """The file of the study, or the files of its series."""
        return sorted(self.files) if self.is_series else self.files[0]

    def name(self, folders: int = 0) -> str:
        """Name of the study after its file or folder, with the names of that many folders above."""
        above = study_path(self.image).absolute().parent.parts[1:]
        return "_".join([*above[len(above) - min(folders, len(above)) :], case_name(self.image)])


def find_studies(inputs: str | PathLike | Sequence[str | PathLike], pseudonymise: bool = False) -> list[StudyItem]:
    """Return one item with `image` and `case` per study, in the order of the inputs, then by path.

    An input is an image file; a folder, searched recursively; a text file with one path per line, relative to its
    folder, where lines that begin with # are comments; or `datalist.json` or a folder that contains it, of which the
    test section is used, or all sections if that is empty. DICOM files are recognised by their content; a DICOMDIR
    stands for the files that it lists. The files of one cross-sectional series are one study, whose `image` is the list
    of its files; a film or a multi-frame file is a study by itself.

    Files in folders that are not images are skipped, and so are results of earlier runs. Files and folders named by
    the user, and unreadable ones, stay in the list: they fail with their reason when they are read, without stopping
    the others. A study named twice counts once.

    Args:
        inputs: one input or several.
        pseudonymise: name studies by a hash of their DICOM UID or path instead of their file or folder. Items of a
            datalist keep their `case` and `subject`.

    Raises:
        NomalyError: if no study is found, or a list is invalid.
    """
    paths = [Path(path) for path in ([inputs] if isinstance(inputs, (str, PathLike)) else inputs)]
    search = _Search(pseudonymise)
    empty = {number: path for number, path in enumerate(paths) if not search.add(path)}
    search.report()
    if not search.studies:
        raise _nothing_found(paths)
    for path in empty.values():
        search.add_single(path)
    return search.items()


def check_studies(inputs: str | PathLike | Sequence[str | PathLike]) -> None:
    """Refuse inputs of which none exists or none can be a study, without searching further than the first study.

    Raises:
        NomalyError: as :func:`find_studies`, or with the reason why the first input cannot be read.
    """
    paths = [Path(path) for path in ([inputs] if isinstance(inputs, (str, PathLike)) else inputs)]
    if not any(_Search(first_only=True).add(path) for path in paths):
        raise _nothing_found(paths)
    problems = [problem for path in paths if (problem := problem_of(path))]
    if paths and len(problems) == len(paths):
        more = f" The other {len(problems) - 1} cannot be read, either." if problems[1:] else ""
        raise NomalyError(f"{problems[0]}{more}")


class _Search:
    """Collects studies by their identity: the UIDs of their series, or the location of their file."""

    def __init__(self, pseudonymise: bool = False, first_only: bool = False) -> None:
        self.pseudonymise = pseudonymise
        self.first_only = first_only  # of each folder
        self.studies: dict[tuple[str, ...], _Study] = {}
        self.skipped: Counter[str] = Counter()
        self.twice = 0
        self._files: set[str] = set()

    def add(self, path: Path, may_be_list: bool = True) -> bool:
        """Add the studies of a path; return whether there are any."""
        if path.name == DATALIST and os.path.isfile(path):
            return self._add_datalist(path.parent)
        if not os.path.isdir(path):
            if may_be_list and path.suffix.lower() == LIST_SUFFIX and os.path.isfile(path):
                return all([self.add(entry, may_be_list=False) or self.add_single(entry) for entry in _read_list(path)])
            return self._add_file(path, named=True)
        if os.path.isfile(path / DATALIST):
            return self._add_datalist(path)
        found, closed, results = _walk(path)
        self.skipped += Counter({"of Nomaly's results": results})
        for folder in closed:
            self.add_single(folder)
        # 10 000 headers take several seconds, more on a slow network drive
        files = tqdm(found, desc="Reading headers", unit="file", delay=2, leave=False, disable=None)
        added = (self._add_file(file, named=False) for file in files)
        return any(added if self.first_only else list(added)) or bool(closed)

    def add_single(self, path: Path, identity: str = "", **fields: Any) -> bool:
        """Add a study of one file or folder."""
        place = os.path.realpath(path)
        if place in self._files:
            self.twice += 1
        else:
            self._files.add(place)
            self.studies[(place,)] = _Study([str(path)], identity or os.path.abspath(path), fields=fields)
        return True

    def items(self) -> list[StudyItem]:
        """One item per study, each under a name of its own."""
        studies = list(self.studies.values())
        plain = [pseudonym(study.identity) for study in studies] if self.pseudonymise else distinct_names(studies)
        names = UniqueNames()
        cases = [names(study.fields.get("case", name)) for study, name in zip(studies, plain)]
        return [
            cast(StudyItem, {**study.fields, "image": study.image, "case": case}) for study, case in zip(studies, cases)
        ]

    def report(self) -> None:
        """Log how many files were skipped, by kind; file names may identify patients and are not logged."""
        if self.skipped:
            kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.skipped.items()))
            logger.info("Skipped %d files that are not images: %s.", self.skipped.total(), kinds)
        if self.twice:
            logger.info("Ignored %d files that were named more than once.", self.twice)

    def _add_datalist(self, folder: Path) -> bool:
        """Add the test section of a datalist, or all sections if that is empty."""
        sections = load_datalist(folder, required=(), name_of=pseudonym if self.pseudonymise else case_name)
        items = sections["test"] or [item for section in sections.values() for item in section]
        for item in items:
            fields: dict[str, Any] = {key: value for key, value in item.items() if key != "image"}
            self.add_single(Path(str(item["image"])), **fields)
        return bool(items)

    def _add_file(self, path: Path, named: bool) -> bool:
        """Add a file that is an image or was named by the user; return whether it was added."""
        if header_of_pair(path) != path:  # the values of a pair: the study is its header
            return not named or self.add_single(header_of_pair(path))
        if path.name.lower().endswith(PLAIN_SUFFIXES):
            return self.add_single(path)
        try:
            dicom = os.path.isfile(path) and is_dicom(path)
        except OSError:  # not readable: reported when the study is read
            return self.add_single(path)
        header = scan_file(path) if dicom else None
        if header is not None and header.kind == "slice":
            return self._add_slice(header)
        if named and header is not None and header.name == DICOMDIR:
            return any([self._add_listed(file) for file in listed_files(path)])
        if (
            named
            or path.name.lower().endswith(tuple(PAIRS))
            or (dicom and header is None)
            or (header is not None and header.kind)
        ):
            return self.add_single(path, identity=header.instance if header is not None else "")
        self.skipped[f"DICOM {header.name}" if header is not None else _kind(path)] += 1
        return False

    def _add_listed(self, path: Path) -> bool:
        """Add a file of a DICOMDIR; one that is missing fails when it is read."""
        return self._add_file(path, named=False) if os.path.isfile(path) else self.add_single(path)

    def _add_slice(self, header: DicomFile) -> bool:
        """Add a file to its series."""
        place = os.path.realpath(header.path)
        if place in self._files:
            self.twice += 1
            return True
        self._files.add(place)
        identity = header.series or "/".join(header.group)
        series = self.studies.setdefault(header.group, _Study([], identity, is_series=True))
        series.files.append(str(header.path))
        return True


def distinct_names(studies: Sequence[_Study]) -> list[str]:
    """Names after files; files of one name get as many names of the folders above as tell them apart.

    Several series of one folder keep its name: they are numbered later.
    """
    names = [study.name() for study in studies]
    groups: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        groups.setdefault(name.lower(), []).append(number)
    for numbers in groups.values():
        for folders in range(1, MOST_FOLDERS + 1) if len(numbers) > 1 else ():
            longer = {number: studies[number].name(folders) for number in numbers}
            if len({name.lower() for name in longer.values()}) == len(numbers):
                for number, name in longer.items():
                    names[number] = name
                break
    return names


def _nothing_found(paths: Sequence[Path]) -> NomalyError:
    """The mistake of inputs without a study."""
    return NomalyError(
        f"studies must name at least one study, got {', '.join(map(str, paths)) or 'nothing'}: give image files "
        f"({', '.join(STUDY_SUFFIXES)}, DICOM without a suffix), a folder of them, or a list of them."
    )


def _kind(path: Path) -> str:
    """How the log names a file that is not an image."""
    suffix = path.suffix.lower()
    return suffix if suffix in KNOWN_SUFFIXES else "of another type" if suffix else "without suffix"


def _read_list(path: Path) -> Iterator[Path]:
    """Paths of a list, one per line.

    Raises:
        NomalyError: if it is empty or cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        if any("\0" in line for line in lines):
            raise ValueError("it contains a NUL byte")
    except (OSError, ValueError) as error:
        raise NomalyError(f"a list of studies must be readable text, got {path} ({error}); correct it.") from None
    entries = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not entries:
        raise NomalyError(
            f"a list of studies must name at least one path, but {path} is empty; write one path per line."
        )
    return (path.parent / entry for entry in entries)


def _walk(folder: Path) -> tuple[list[Path], list[Path], int]:
    """Files below a folder, sorted, without hidden ones; unreadable folders; the number of our own result files."""
    files: list[Path] = []
    results = 0
    closed: list[Path] = []
    seen = {os.path.realpath(folder)}
    for root, folders, names in os.walk(folder, followlinks=True, onerror=lambda e: closed.append(Path(e.filename))):
        visible = [name for name in names if not name.startswith(".")]
        own = own_files(Path(root))  # a folder of studies may be a results folder as well
        files += [Path(root, name) for name in visible if name not in own]
        results += sum(name in own for name in visible)
        inside = sorted(name for name in folders if not name.startswith("."))
        folders[:] = [name for name in inside if _is_new(os.path.join(root, name), seen)]
    return sorted(files), sorted(closed), results


def _is_new(folder: str, seen: set[str]) -> bool:
    """Whether a folder has not been visited before, also through links."""
    place = os.path.realpath(folder)
    is_new = place not in seen
    seen.add(place)
    return is_new
