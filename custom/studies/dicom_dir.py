"""The files that a DICOMDIR lists (PS3.3 annex F)."""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.multival import MultiValue

from custom.studies.dicom_headers import quiet_dicom

NAME = "DICOMDIR"


@quiet_dicom()
def listed_files(directory: Path) -> list[Path]:
    """Return the images that a DICOMDIR lists, each once, in its order, also those that do not exist; none if it is
    broken.

    A name that does not exist as it is listed is also sought in lower case, as some systems mount discs.
    """
    try:
        records = pydicom.dcmread(directory, force=True).get("DirectoryRecordSequence") or []
        names = [record.get("ReferencedFileID") for record in records if record.get("DirectoryRecordType") == "IMAGE"]
        parts = [tuple(name) if isinstance(name, MultiValue) else (str(name),) for name in names if name]
    except Exception:  # pydicom raises anything on a broken file; reading the study reports it
        return []
    inside = [part for part in dict.fromkeys(parts) if ".." not in part and not Path(*part).is_absolute()]
    return [_found(directory.parent, part) for part in inside]


def _found(folder: Path, parts: tuple[str, ...]) -> Path:
    """Return the path of a listed file, in lower case where only that exists."""
    path, lower = folder.joinpath(*parts), folder.joinpath(*(part.lower() for part in parts))
    return lower if lower.exists() and not path.exists() else path
