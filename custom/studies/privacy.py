"""What may tell who a patient is stays out of logs, tables, reports and names: paths, and files' own names.

Items of studies that a user named carry ``private``; see :func:`custom.runs.inputs.inference_items`. The way back from
a case's name to its files is the key of :func:`write_key` alone.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from custom.errors import root_cause
from custom.files import atomic_write
from custom.studies.formats import study_path

KEY_COLUMNS = ("study", "files", "path", "first_file")
SHORT = 4  # letters of a name from which it may tell something


def files_of(item: Mapping[str, Any]) -> list[str]:
    """Paths of an item's image, read or not: one file or folder, or the files of a series."""
    image = item.get("source", item["image"])
    return [str(image)] if isinstance(image, (str, os.PathLike)) else [str(path) for path in image]


def without_identifiers(text: str, item: Mapping[str, Any]) -> str:
    """A text about a study with its case in the place of its paths, and of the names of its files and folders."""
    if not item.get("private"):
        return text
    files = [Path(path) for path in files_of(item)]
    files += [Path(item["mask"])] if isinstance(item.get("mask"), (str, os.PathLike)) else []
    inside = [path for folder in files if folder.is_dir() for path in folder.rglob("*")]
    paths = {*files, *inside, study_path(files_of(item)), *(path.parent for path in files if len(files) > 1)}
    for path in sorted({str(path) for path in paths} | {str(path.absolute()) for path in paths}, key=len, reverse=True):
        text = text.replace(path, item["case"]) if len(path) > 1 else text
    # The name of a file alone, as a word: one of few letters tells nothing, and may stand for something else.
    names = sorted({path.name for path in (*files, *inside) if len(path.name) >= SHORT}, key=len, reverse=True)
    for name in names:
        text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", lambda _: item["case"], text)
    return text


def failure(error: BaseException, item: Mapping[str, Any]) -> str:
    """Why a study failed, in words that may stand in logs and tables; whose it is stands beside it."""
    return without_identifiers(root_cause(error), item).removeprefix(f"Study {item['case']}: ")


def without_studies(words: Sequence[str], studies: str | Sequence[str] | None) -> list[str]:
    """The words of a command without the studies that it names, alone, in a list or as the value of an option."""
    hidden = {str(study) for study in ([studies] if isinstance(studies, str) else studies or ())}

    def is_hidden(word: str) -> bool:
        value = word.partition("=")[2] if word.startswith("--") else word
        return value in hidden or (value.startswith("[") and any(repr(study) in value for study in hidden))

    return ["[studies]" if is_hidden(word) else word for word in words]


def printable(text: str) -> str:
    """A text that can be written as UTF-8: a path may hold bytes that are none."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_key(path: str | os.PathLike, items: Iterable[Mapping[str, Any]], keep: bool = False) -> None:
    """Write which files each private case stands for, readable by the owner alone; nothing where none is private.

    Args:
        path: of the file.
        items: studies.
        keep: whether what is in the file already stays, of a run that is gone on with.
    """
    rows = dict(_read_key(Path(path))) if keep else {}
    for item in items:
        if item.get("private"):
            files = files_of(item)
            places = printable(str(study_path(files))), printable(min(files))
            rows[item["case"]] = (item["case"], str(len(files)), *places)
    if not rows:
        return
    with atomic_write(path) as stream:
        os.chmod(stream.name, 0o600)
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(KEY_COLUMNS)
        writer.writerows(rows.values())


def _read_key(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Rows of a key by case; none where there is no file."""
    if path.is_file():
        with open(path, encoding="utf-8", newline="") as stream:
            yield from ((row[0], tuple(row)) for row in csv.reader(stream) if tuple(row) != KEY_COLUMNS)
