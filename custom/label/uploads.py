"""Which files a request to the server may name: those of the studies, of sessions, and what came with it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from custom.errors import NomalyError
from custom.studies.formats import IMAGE_SUFFIXES

# Formats that are one file. A header such as MHD may name any file of the machine as its pixels.
SERVED_SUFFIXES = (".nii.gz", ".nii", ".dcm", ".tif", ".tiff", *IMAGE_SUFFIXES)
OWN_FOLDERS = ("labels",)  # of MONAI Label, among the studies


class UnknownName(NomalyError):
    """A model or image of a request that the server does not have."""


def place_of(image: Any, store: Callable[[str], str], studies: str, uploads: Sequence[str]) -> str:
    """Path of the image of a request.

    Args:
        image: name in the store, name of a folder of one DICOM series among the studies, or path of an upload.
        store: gives the path of a name, "" if it has none.
        studies: folder of the studies.
        uploads: folders of uploads and sessions; no other path is taken.

    Raises:
        NomalyError: UnknownName if it is none of these; if the file is of a kind that is not read.
    """
    place = ""
    if isinstance(image, str) and image and "\0" not in image:
        if any(_inside(image, folder) for folder in uploads):
            place = image
        elif os.path.basename(image) == image and not image.startswith("."):  # a store of DICOM would take ../ as well
            place = store(image) or _folder_of_studies(studies, image)
    if not place:
        raise UnknownName(
            f"image must be the name of an image of the server, got {image!r}: /datastore/ lists them; sessions end."
        )
    if not os.path.isdir(place) and not place.lower().endswith(SERVED_SUFFIXES):
        kinds, found = ", ".join(SERVED_SUFFIXES), os.path.splitext(place)[1] or "a file without a suffix"
        raise NomalyError(f"image must be a file of one of {kinds}, got {found}: export it as one of these.")
    return place


def remove_upload(image: Any) -> None:
    """Remove a file that came with a request: MONAI Label does so after requests that went well alone."""
    if isinstance(image, str) and os.path.realpath(os.path.dirname(image)) == os.path.realpath(tempfile.gettempdir()):
        with suppress(OSError):
            os.unlink(image)


def _inside(path: str, folder: str) -> bool:
    """Whether an absolute path is of something within a folder, links followed."""
    place, root = os.path.realpath(path), os.path.realpath(folder)
    return os.path.isabs(path) and place.startswith(root + os.sep) and os.path.exists(place)


def _folder_of_studies(studies: str, name: str) -> str:
    """Path of a folder that lies among the studies; "" if there is none of this name."""
    folder = os.path.join(studies, name)
    return folder if name not in OWN_FOLDERS and os.path.isdir(folder) else ""
