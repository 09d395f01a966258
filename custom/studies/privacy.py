"""Pseudonyms: keep what may identify a patient, paths and file names, out of logs, tables, reports and names.

Studies with pseudonyms carry ``private``; see :func:`custom.runs.inputs.inference_items`. Only the key written by
:func:`write_key` links a pseudonym to its files.
"""

from __future__ import annotations

import csv
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from custom.errors import root_cause
from custom.files import atomic_write
from custom.studies.formats import study_path
from custom.studies.items import Study, StudyItem

logger = logging.getLogger(__name__)

KEY_COLUMNS = ("study", "files", "path", "first_file")
SHORT = 4  # shorter names cannot identify a patient and may be ordinary words


def files_of(item: StudyItem | Study) -> list[str]:
    """Paths of a study's image, loaded or not: one file or folder, or the files of a series."""
    fields: Mapping[str, object] = item  # `image` of a listed study, `source` of a prepared one
    image = fields.get("source", fields["image"])
    return [str(image)] if isinstance(image, (str, os.PathLike)) else [str(path) for path in cast(Sequence, image)]


def without_identifiers(text: str, item: StudyItem | Study) -> str:
    """Replace the paths of a private study, and the names of its files and folders, in a text by its case."""
    if not item.get("private"):
        return text
    files = [Path(path) for path in files_of(item)]
    mask = item.get("mask")
    files += [Path(mask)] if isinstance(mask, (str, os.PathLike)) else []
    inside = [path for folder in files if folder.is_dir() for path in folder.rglob("*")]
    paths = {*files, *inside, study_path(files_of(item)), *(path.parent for path in files if len(files) > 1)}
    for path in sorted({str(path) for path in paths} | {str(path.absolute()) for path in paths}, key=len, reverse=True):
        text = text.replace(path, item["case"]) if len(path) > 1 else text
    # A bare file name, as a whole word; short ones identify nobody and may mean something else.
    names = sorted({path.name for path in (*files, *inside) if len(path.name) >= SHORT}, key=len, reverse=True)
    for name in names:
        text = re.sub(rf"(?<![\w.-]){re.escape(name)}(?![\w-])", lambda _: item["case"], text)
    return text


def failure(error: BaseException, item: StudyItem | Study) -> str:
    """Why a study failed, safe for logs and tables, without the name of the study, which is given beside it."""
    return without_identifiers(root_cause(error), item).removeprefix(f"Study {item['case']}: ")


def without_studies(words: Sequence[str], studies: str | Sequence[str] | None) -> list[str]:
    """The words of a command with STUDIES for the studies: as a word, in a list or as the value of an option."""
    hidden = {str(study) for study in ([studies] if isinstance(studies, str) else studies or ())}

    def _is_hidden(word: str) -> bool:
        value = word.partition("=")[2] if word.startswith("--") else word
        return value in hidden or (
            value.startswith("[")
            and any(repr(study) in value or json.dumps(study, ensure_ascii=False) in value for study in hidden)
        )

    return ["STUDIES" if _is_hidden(word) else word for word in words]


def printable(text: str) -> str:
    """Make a text writable as UTF-8: a path may contain bytes that are not valid UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_key(path: str | os.PathLike, items: Iterable[StudyItem | Study], keep: bool = False) -> None:
    """Write which files belong to each private case, readable only by the owner; no file if no study is private.

    Args:
        path: the key file.
        items: studies.
        keep: keep the rows already in the file, for a resumed run.
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
    logger.info("Studies have pseudonyms: %s maps them to files. Do not share it.", path)


def _read_key(path: Path) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Rows of a key by case; nothing if the file does not exist."""
    if path.is_file():
        with open(path, encoding="utf-8", newline="") as stream:
            yield from ((row[0], tuple(row)) for row in csv.reader(stream) if tuple(row) != KEY_COLUMNS)
