"""What may tell who a patient is stays out of logs, tables, reports and names: paths, and files' own names.

Items of studies that a user named carry ``private``; see :func:`custom.data.inputs.inference_items`. The way back from
a case's name to its files is the key of :func:`write_key` alone.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from custom.reporting.files import atomic_write
from custom.transforms.formats import study_path


def files_of(item: Mapping[str, Any]) -> list[str]:
    """Paths of an item's image: one file or folder, or the files of a series."""
    image = item["image"]
    return [str(image)] if isinstance(image, (str, os.PathLike)) else [str(path) for path in image]


def without_identifiers(text: str, item: Mapping[str, Any]) -> str:
    """A text about a study with its case in the place of its paths, and of the names of its files and their folder."""
    if not item.get("private"):
        return text
    paths = [Path(path) for path in files_of(item)]
    paths += [study_path(files_of(item)), *{path.parent for path in paths if len(paths) > 1}]
    names = {str(path) for path in paths} | {str(path.absolute()) for path in paths} | {path.name for path in paths}
    for name in sorted(names - {"", "."}, key=len, reverse=True):
        text = text.replace(name, item["case"])
    return text


def without_studies(words: Sequence[str], studies: str | Sequence[str] | None) -> list[str]:
    """The words of a command without the studies that it names."""
    hidden = [studies] if isinstance(studies, str) else list(studies or ())
    return ["[studies]" if any(str(study) in word for study in hidden) else word for word in words]


def write_key(path: str | os.PathLike, items: Iterable[Mapping[str, Any]]) -> None:
    """Write which files each private case stands for, readable by the owner alone; nothing where none is private."""
    private = [item for item in items if item.get("private")]
    if not private:
        return
    with atomic_write(path) as stream:
        os.chmod(stream.name, 0o600)
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("study", "files", "path"))
        writer.writerows((item["case"], len(files_of(item)), study_path(files_of(item))) for item in private)
