"""File formats of studies, the names of studies, and the one form of error about their files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import psutil

from custom.errors import NomalyError

TIFF_SUFFIXES = (".tif", ".tiff")
IMAGE_SUFFIXES = tuple(
    ".png .jpg .jpeg .jpe .jfif .bmp .dib .webp .gif .jp2 .j2k .jpf .jpx .avif .pgm .ppm .pbm .pnm .tga".split()
)
NIFTI_SUFFIXES = (".nii.gz", ".nii")
PAIRS = {".img.gz": ".hdr.gz", ".img": ".hdr"}  # values and header of NIfTI pairs and Analyze
NIBABEL_SUFFIXES = (*NIFTI_SUFFIXES, *PAIRS.values(), ".mgz", ".mgh", ".mnc")
ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
# Formats of images that are not read: a study of its own in the results, with this reason.
UNREAD_FORMATS = {
    ".heic": "HEIC",
    ".heif": "HEIF",
    ".jxl": "JPEG XL",
    ".svs": "Aperio SVS",
    ".ndpi": "Hamamatsu NDPI",
    ".czi": "Zeiss CZI",
    ".nd2": "Nikon ND2",
    ".par": "Philips PAR/REC",
    ".brik": "AFNI BRIK/HEAD",
    ".brik.gz": "AFNI BRIK/HEAD",
    ".mif": "MRtrix MIF",
    ".mif.gz": "MRtrix MIF",
    ".gipl": "GIPL",
    ".gipl.gz": "GIPL",
    ".vtk": "VTK",
    ".vti": "VTK",
}
STUDY_SUFFIXES = (*NIBABEL_SUFFIXES, ".dcm", *ITK_SUFFIXES, *TIFF_SUFFIXES, *IMAGE_SUFFIXES)
DICOM_MARK, MARK_OFFSET = b"DICM", 128  # PS3.10 section 7.1
FIRST_ELEMENTS = (0x00, 0x01, 0x02, 0x05, 0x08, 0x10, 0x12, 0x14, 0x16, 0x18)  # of groups 2 and 8
GIB = 2**30
COPIES = 6  # of a float32 image in memory at once during processing


def case_name(image: str | PathLike | Sequence[str]) -> str:
    """Return the name of a study: its file's or folder's name without a known image suffix."""
    name = study_path(image).name
    for suffix in (*STUDY_SUFFIXES, *PAIRS, *UNREAD_FORMATS):
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


def study_path(image: str | PathLike | Sequence[str]) -> Path:
    """Return the path of a study: its one file or folder, else the folder that contains all its files."""
    if isinstance(image, (str, PathLike)):
        return Path(image)
    if len(image) == 1:
        return Path(image[0])
    return Path(os.path.commonpath([os.path.dirname(os.path.abspath(file)) for file in image]) if image else "series")


def header_of_pair(path: Path) -> Path:
    """Return the header (.hdr) of a pair of files by the path of its values (.img); any other path as it is."""
    for values, header in PAIRS.items():
        if path.name.lower().endswith(values):
            stem = path.name[: -len(values)]
            found = (path.with_name(stem + suffix) for suffix in (header, header.upper()))
            return next((place for place in found if place.is_file()), path)
    return path


def check_format(path: Path) -> None:
    """Reject a format of images that is known but not read.

    Raises:
        NomalyError: with the name of the format.
    """
    name = path.name.lower()
    found = next((text for suffix, text in UNREAD_FORMATS.items() if name.endswith(suffix)), None)
    if found:
        step = "Convert it to NIfTI or NRRD (volumes), PNG or TIFF (2-D images), or use the DICOM files."
        raise load_error(path, f"format not supported: {found}", step)


def load_error(path: str | PathLike, problem: str, next_step: str) -> NomalyError:
    """Build the one form of error about a study's files: file, rule and value, next step."""
    return NomalyError(f"Study {path}: {problem}. {next_step}")


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its suffix, its "DICM" prefix, or a first element as old archives write it.

    Raises:
        OSError: if it cannot be read.
    """
    if path.suffix.lower() == ".dcm":
        return True
    with path.open("rb") as stream:
        head = stream.read(MARK_OFFSET + len(DICOM_MARK))
    return head[MARK_OFFSET:] == DICOM_MARK or _begins_with_element(head)


def _begins_with_element(head: bytes) -> bool:
    """Whether a file without preamble begins with an element of group 2 or 8, of explicit or implicit value type."""
    if len(head) <= MARK_OFFSET or head[:2] not in (b"\x02\x00", b"\x08\x00") or head[3] != 0:
        return False
    length = int.from_bytes(head[4:8], "little")
    return head[2] in FIRST_ELEMENTS and (
        head[4:6] in (b"UL", b"OB", b"CS", b"UI", b"DA", b"SH", b"TM")
        or (length == 4 if head[2] == 0 else length <= 64)
    )


def check_access(path: Path) -> None:
    """Reject a path that does not exist, cannot be read, or is an empty file.

    Raises:
        NomalyError: with the reason.
    """
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        step = "Check the path for spelling and mounts."
        raise load_error(path, "file not found", step) from None
    except OSError as error:
        step = "Check its permissions, its links and the mount."
        raise load_error(path, f"it cannot be read ({error.strerror})", step) from error
    kind, needed = ("folder", os.R_OK | os.X_OK) if path.is_dir() else ("file", os.R_OK)
    if not os.access(path, needed):
        step = "Give the user who runs this the permission to read it."
        raise load_error(path, f"the {kind} cannot be read (permission denied)", step)
    if kind == "file" and status.st_size == 0:
        raise load_error(path, "the file is empty (0 bytes)", "Copy or export it again.")


def check_memory(path: Path, values: int) -> None:
    """Reject an image that is too large for the free memory, before its pixels are read.

    Args:
        path: path of the study.
        values: number of voxels times channels.

    Raises:
        NomalyError: if `COPIES` copies in float32 do not fit.
    """
    needed, free = 4 * COPIES * values, psutil.virtual_memory().available
    if needed > free:
        raise load_error(
            path,
            f"the image must fit into the free memory, but its {values} values need about {needed / GIB:.1f} GiB and "
            f"{free / GIB:.1f} GiB are free",
            "Give fewer slices or a coarser image, close other programs, or use a machine with more memory.",
        )


def unreadable(path: Path, error: Exception) -> NomalyError:
    """Build the error about a file whose reader failed."""
    if isinstance(error, PermissionError):
        step = "Give the user who runs this the permission to read it."
        return load_error(path, "the file cannot be read (permission denied)", step)
    lines = [line for line in str(error).strip().splitlines() if line.strip()] or ["no reason given"]
    reason = lines[-1].split("): ", 1)[-1] if lines[-1].startswith("ITK ERROR") else lines[0]
    return load_error(
        path,
        f"the file must be a readable PNG, JPEG, NIfTI or DICOM image, but the reader failed "
        f"({type(error).__name__}: {reason[:200]})",
        "The file may be truncated or of another format: open it in a viewer, then copy or export it again.",
    )
