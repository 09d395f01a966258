"""Which files of a folder Nomaly wrote. All others are the user's: they are studies, and never replaced."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from custom.errors import NomalyError
from custom.files import atomic_write

RECORDS = "records"
TABLES = ("results.csv", "regions.csv", "metrics.json", "metrics.md", "report.html", "key.csv")
RUN_FILES = ("run.json", *TABLES)
IMAGES = ("map", "mask", "pseudo_healthy", "deviation")
SCENE_FILES = ("slicer.mrml", "slicer_image.nii.gz")
STUDY_FILES = (
    *(f"{name}{suffix}" for name in IMAGES for suffix in (".png", ".nii.gz")),
    *("segmentation.dcm", "map.dcm", "report.dcm"),
    *SCENE_FILES,
)


def own_files(folder: Path) -> set[str]:
    """Names of the files in a folder that Nomaly wrote: as the output folder of a run, or as that of a study in it."""
    run = run_of(folder)
    own = set() if run is None else set(run.get("files", RUN_FILES))
    try:
        with open(_list_of(folder), encoding="utf-8") as file:
            return own.union(file.read().splitlines())
    except (OSError, ValueError):
        return own.union(STUDY_FILES if _is_of_an_earlier_release(folder) else ())


def other_files(folder: Path, names: Iterable[str]) -> list[Path]:
    """Existing files of these names in a folder that Nomaly did not write."""
    existing = [folder / name for name in names if os.path.lexists(folder / name)]
    own = own_files(folder) if existing else set()
    return [path for path in existing if path.name not in own]


def refuse_to_replace(files: list[Path], parameter: str) -> None:
    """Refuse to write over the user's files.

    Args:
        files: files that Nomaly did not write.
        parameter: the folder that the user chose, as the message names it.

    Raises:
        NomalyError: if there are any; names the first ones.
    """
    if files:
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        raise NomalyError(
            f"{parameter} contains files that results would replace and that no run of Nomaly wrote "
            f"({', '.join(map(str, files[:3]))}{more}): choose another output_dir, or move them away. They are not "
            "replaced, also not with overwrite true."
        )


def list_own(folder: Path, names: Iterable[str]) -> None:
    """Write which files of a study's folder are of Nomaly; without any, remove the list, and the folder if it is empty.

    Raises:
        WriteError: if the list cannot be written.
    """
    if lines := "".join(f"{name}\n" for name in names):
        with atomic_write(_list_of(folder)) as stream:
            stream.write(lines)
        return
    with suppress(OSError):
        _list_of(folder).unlink(missing_ok=True)
    for place in (folder, folder.parent / RECORDS):
        with suppress(OSError):  # it does not exist, or has other files
            place.rmdir()


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """The time in which the files of a study are written: all of its names are listed first, at the end what exists.

    Raises:
        NomalyError: if a file of one of these names is the user's, or the list cannot be written.
    """
    refuse_to_replace(other_files(folder, STUDY_FILES), f"folder {folder}")
    list_own(folder, STUDY_FILES)
    yield
    list_own(folder, [name for name in STUDY_FILES if (folder / name).exists()])


def remove_own(folder: Path) -> None:
    """Remove the files of a study that Nomaly wrote, and the folder if it is empty then."""
    for name in own_files(folder) & set(STUDY_FILES):
        with suppress(OSError):  # if it cannot be removed, writing will fail and report it
            (folder / name).unlink()
    list_own(folder, [])


def run_of(folder: Path) -> dict[str, Any] | None:
    """Content of the run.json of a run in a folder; None without one."""
    try:
        with open(folder / "run.json", encoding="utf-8") as file:
            run = json.load(file)
    except (OSError, ValueError):
        return None
    return run if isinstance(run, dict) and "fingerprint" in run else None


def _list_of(folder: Path) -> Path:
    """File with the names of the files that a run wrote to the folder of a study, one per line."""
    return folder.parent / RECORDS / f"{folder.name}.files"


def _is_of_an_earlier_release(folder: Path) -> bool:
    """Whether the folder of a study was written by a release that kept no lists."""
    run, records = run_of(folder.parent), folder.parent / RECORDS
    if run is None or "files" in run:
        return False
    return not records.is_dir() or (records / f"{folder.name}.json").is_file()  # an evaluation left no records
