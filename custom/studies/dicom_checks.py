"""Checks of one DICOM file before its pixels are read: a complete image, of a kind that can be assessed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom.dataset import Dataset, FileDataset

from custom.studies.dicom_encoding import fragment_fault, palette_fault, storage_fault, value_fault
from custom.studies.dicom_frames import count_frames
from custom.studies.dicom_headers import object_name, read_header
from custom.studies.dicom_mosaic import mosaic_mark, read_mosaic
from custom.studies.formats import check_access, load_error, unreadable

RAW = "FOR PROCESSING"
COPY_AGAIN = "The file is truncated or damaged: copy or export it again."


def read_headers(files: Sequence[Path]) -> list[FileDataset]:
    """Return the headers of the files of a study, each of which must be a complete image.

    Raises:
        NomalyError: if one is missing, broken, truncated, or not an image that can be assessed; it states which one.
    """
    count = len(files)
    return [image_header(file, f"file {n} of {count}, " if count > 1 else "") for n, file in enumerate(files, 1)]


def image_header(file: Path, place: str = "") -> FileDataset:
    """Return the header of a file that must be a complete image.

    Args:
        file: its path.
        place: its place among the files of its study, for errors, such as "file 3 of 20, ".

    Raises:
        NomalyError: see `read_headers`.
    """
    check_access(file)
    try:
        header, rest = read_header(file)
        broken = storage_fault(header)
        name = "" if broken else object_name(header)
        broken = broken or ("" if name else value_fault(header))
        missing = "" if broken or name else _missing_pixels(file, header, rest)
    except (ValueError, TypeError) as error:  # its text contains the value, which may be a name
        raise unreadable(file, ValueError(f"{place}a value in its header has the wrong type")) from error
    except Exception as error:  # pydicom raises anything on a broken file
        raise unreadable(file, error) from error
    if broken:
        raise load_error(file, f"{place}all values in its header must be intact, but {broken}", COPY_AGAIN)
    if name:
        step = "Use the images that it was made from."
        raise load_error(file, f"{place}the file must be an image, but it is another DICOM object ({name})", step)
    if missing:
        raise load_error(file, f"{place}the file must contain all its pixels, but {missing}", COPY_AGAIN)
    _check_kind(file, header)
    return header


def _check_kind(file: Path, header: Dataset) -> None:
    """Reject images that are complete, but not as a viewer shows them."""
    mosaic = mosaic_mark(header)
    if mosaic and read_mosaic(header) is None:
        raise load_error(
            file,
            "a mosaic (all slices of a volume as tiles of one image) must state number, distance and normal of its "
            f"slices in a header of Siemens, but this one ({mosaic}) does not",
            "Convert the series to NIfTI, for example with dcm2niix, and use one volume of it.",
        )
    bits = header.get("BitsAllocated") or 8
    if (header.get("SamplesPerPixel") or 1) > 1 and bits > 8:
        problem = f"a colour image must have 8 bits per colour, but this one has {bits}"
        raise load_error(file, problem, "Export it with 8 bits per colour.")
    intent = str(header.get("PresentationIntentType") or "").upper()
    if intent == RAW or getattr(header.get("SOPClassUID"), "name", "").endswith("For Processing"):
        raise load_error(
            file,
            f"a radiograph must be for presentation, but this one is {RAW} (PresentationIntentType): raw values of the "
            "detector, with another grey scale",
            "Export the image FOR PRESENTATION of the same examination.",
        )


def _missing_pixels(file: Path, header: FileDataset, rest: int) -> str:
    """Return what is missing from truncated pixels, "" if nothing: ITK would fill them with 0 or grey."""
    if not header.get("Rows") or not header.get("Columns"):
        return "its header does not state their number"
    palette = palette_fault(header)
    if palette:
        return palette
    syntax = getattr(header.file_meta, "TransferSyntaxUID", None)
    head = _head_bytes(file, file.stat().st_size - rest)
    if syntax and (syntax.is_deflated or syntax.is_compressed):
        return "" if syntax.is_deflated else fragment_fault(file, file.stat().st_size - rest + head, header)
    needed = count_frames(header) * header.Rows * header.Columns * header.SamplesPerPixel * header.BitsAllocated // 8
    if "422" in str(header.PhotometricInterpretation):
        needed = needed * 2 // 3
    rest -= head
    return "" if rest >= needed else f"of {needed} bytes only {max(0, rest)} follow its header"


def _head_bytes(file: Path, offset: int) -> int:
    """Return the length of the header of the element at `offset`: 8 bytes with implicit value type, 12 with explicit.

    Read from the file, as some archives write implicit types in spite of the transfer syntax (PS3.5, 7.1).
    """
    with file.open("rb") as stream:
        stream.seek(offset + 4)
        return 12 if stream.read(2) in (b"OB", b"OW") else 8
