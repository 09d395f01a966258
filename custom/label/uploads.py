"""The files that a request to the server may name: studies, files of sessions, and its own upload."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from custom.errors import NomalyError
from custom.studies.formats import IMAGE_SUFFIXES

# Formats of a single file: a header such as MHD may name any file of the machine as its pixels.
SERVED_SUFFIXES = (".nii.gz", ".nii", ".dcm", ".tif", ".tiff", *IMAGE_SUFFIXES)
OWN_FOLDERS = ("labels",)  # of MONAI Label, in the studies folder


class UnknownName(NomalyError):
    """A model or image that the server does not have."""


def place_of(image: Any, store: Callable[[str], str], studies: str, uploads: Sequence[str]) -> str:
    """Path of the image of a request.

    Args:
        image: name in the store, name of a folder of one DICOM series among the studies, or path of an upload.
        store: gives the path of a name, "" for an unknown name.
        studies: folder of the studies.
        uploads: folders of uploads and sessions; other paths are refused.

    Raises:
        NomalyError: UnknownName if it is none of these; if the file has a format that is not read.
    """
    place = ""
    if isinstance(image, str) and image and "\0" not in image:
        if any(_inside(image, folder) for folder in uploads):
            place = image
        elif os.path.basename(image) == image and not image.startswith("."):  # a DICOM store would accept ../ as well
            place = store(image) or _folder_of_studies(studies, image)
    if not place:
        raise UnknownName(
            f"image must be the name of an image on the server, got {image!r}: /datastore/ lists them; sessions expire."
        )
    if not os.path.isdir(place) and not place.lower().endswith(SERVED_SUFFIXES):
        formats, found = ", ".join(SERVED_SUFFIXES), os.path.splitext(place)[1] or "a file without a suffix"
        raise NomalyError(f"image must be one of {formats}, got {found}: convert it to one of these.")
    return place


def remove_upload(image: Any) -> None:
    """Remove the upload of a request: MONAI Label does so only after successful requests."""
    if isinstance(image, str) and os.path.realpath(os.path.dirname(image)) == os.path.realpath(tempfile.gettempdir()):
        with suppress(OSError):
            os.unlink(image)


def _inside(path: str, folder: str) -> bool:
    """Whether an absolute path exists within a folder, links followed."""
    place, root = os.path.realpath(path), os.path.realpath(folder)
    return os.path.isabs(path) and place.startswith(root + os.sep) and os.path.exists(place)


def _folder_of_studies(studies: str, name: str) -> str:
    """Path of a folder in the studies folder; "" if it does not exist."""
    folder = os.path.join(studies, name)
    return folder if name not in OWN_FOLDERS and os.path.isdir(folder) else ""
