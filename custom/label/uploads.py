"""Which files a request to the server may name."""

from __future__ import annotations

import os
from pathlib import Path

from custom.errors import NomalyError
from custom.transforms.formats import PICTURE_SUFFIXES

# Formats that are one file. A header such as MHD may name any file of the machine as its pixels.
SERVED_SUFFIXES = (".nii.gz", ".nii", ".dcm", ".tif", ".tiff", *PICTURE_SUFFIXES)
OWN_FOLDERS = ("labels",)  # of MONAI Label, among the studies


def inside(path: str, folder: Path) -> bool:
    """Whether an absolute path is of something within a folder, links followed."""
    place, root = os.path.realpath(path), os.path.realpath(folder)
    return os.path.isabs(path) and place.startswith(root + os.sep) and os.path.exists(place)


def folder_of_studies(studies: str, name: str) -> str:
    """Path of a folder, as of a DICOM series, that lies among the studies; "" if there is none of this name."""
    plain = name not in (*OWN_FOLDERS, "", os.curdir, os.pardir) and not name.startswith(".")
    folder = os.path.join(studies, name)
    return folder if plain and os.path.basename(name) == name and "\0" not in name and os.path.isdir(folder) else ""


def check_suffix(path: str) -> None:
    """Refuse a file of a kind that is not served.

    Raises:
        NomalyError: naming those that are.
    """
    if not os.path.isdir(path) and not path.lower().endswith(SERVED_SUFFIXES):
        kinds = ", ".join(SERVED_SUFFIXES)
        found = "".join(Path(path).suffixes) or "a file without a suffix"
        raise NomalyError(f"image must be a file of one of {kinds}, got {found}: export it as one of these.")
