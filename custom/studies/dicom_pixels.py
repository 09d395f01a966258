"""Pixels of DICOM files as values of their modality; ITK (GDCM) decodes JPEG, JPEG-LS, JPEG 2000 and RLE."""

from __future__ import annotations

from pathlib import Path

import itk
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset

from custom.studies.dicom_frames import count_channels, count_frames, rescale_of
from custom.studies.formats import load_error


def read_pixels(file: Path, header: FileDataset) -> np.ndarray:
    """Decode the pixels of one file.

    Args:
        file: its path.
        header: its header.

    Returns:
        (C, X, Y, frames), X = column, Y = row, in the units of the modality, negatives (MONOCHROME1) inverted. Padding
        (PixelPaddingValue to PixelPaddingRangeLimit) is NaN.

    Raises:
        NomalyError: if the pixels cannot be decoded.
    """
    array, applied = _plain_pixels(file, header) if _is_misread(header) else _decoded_pixels(file, header)
    # ITK applies one slope per file, not per frame: undo it, exactly, as stored values are integers.
    stored = np.round((array - applied[1]) / applied[0])
    wanted = np.array([rescale_of(header, number) for number in range(count_frames(header))])
    if not np.allclose(wanted, applied, rtol=1e-12, atol=0):
        array = stored * wanted[:, 0] + wanted[:, 1]
    padding = _padding(header)
    return array if padding is None else np.where((stored >= padding[0]) & (stored <= padding[1]), np.nan, array)


def content_of(values: np.ndarray) -> tuple[int, int, int, int]:
    """Return the smallest box of all pixels that are not padding, which is NaN: its first column, the column after its
    last, and the same of its rows; the whole image if all is padding.

    Args:
        values: (C, X, Y, Z).
    """
    known = ~np.isnan(values).all(axis=(0, 3))
    if not known.any():
        return (0, values.shape[1], 0, values.shape[2])
    columns, rows = (np.flatnonzero(known.any(axis=axis)) for axis in (1, 0))
    return (int(columns[0]), int(columns[-1]) + 1, int(rows[0]), int(rows[-1]) + 1)


def _is_misread(header: Dataset) -> bool:
    """Whether ITK cannot read pixels: signed ones of 8 bits, or those not in the lowest bits of their cells."""
    high, bits = header.get("HighBit"), header.get("BitsStored")
    is_shifted = high is not None and bits is not None and high + 1 != bits
    return is_shifted or (header.get("BitsAllocated") == 8 and header.get("PixelRepresentation") == 1)


def fill_padding(values: np.ndarray) -> np.ndarray:
    """Set NaN, which marks padding, to the lowest other value, as background; in place. 0 if all is padding."""
    empty = np.isnan(values)
    if empty.any():
        values[empty] = 0 if empty.all() else np.nanmin(values)
    return values


def _decoded_pixels(file: Path, header: FileDataset) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels from ITK, (C, X, Y, frames), with the slope and intercept that it applied to them."""
    itk.ProcessObject.SetGlobalWarningDisplay(False)  # its warnings name files
    reader = itk.GDCMImageIO.New()
    try:
        image = itk.imread(str(file), imageio=reader)
    except Exception as error:  # ITK raises RuntimeError, its wrapping others
        syntax = getattr(getattr(header.file_meta, "TransferSyntaxUID", None), "name", "unknown encoding")
        step = "Export the file again, without compression or with a common one."
        raise load_error(file, f"the pixels must be readable, but could not be decoded ({syntax})", step) from error
    array = itk.array_from_image(image)
    array = array[..., None] if image.GetNumberOfComponentsPerPixel() == 1 else array
    applied = np.array([reader.GetRescaleSlope(), reader.GetRescaleIntercept()])
    return array.transpose(3, 2, 1, 0), applied


def _plain_pixels(file: Path, header: FileDataset) -> tuple[np.ndarray, np.ndarray]:
    """Return grey pixels that are not compressed, read without ITK, and slope 1 and intercept 0."""
    syntax = header.file_meta.get("TransferSyntaxUID")
    cell = int(header.BitsAllocated)
    bits = _bits_stored(header)
    high = int(header.get("HighBit", bits - 1))
    shift, fits = high + 1 - bits, 0 < bits <= high + 1 <= cell and cell in (8, 16, 32)
    if (syntax and syntax.is_compressed) or not fits or count_channels(header) != 1:
        raise load_error(
            file,
            "pixels must be unsigned or of 16 bits, and HighBit must be BitsStored - 1, except in a grey image without "
            f"compression, but HighBit is {high} with {bits} of {cell} bits",
            "Export the file again, without compression.",
        )
    order = ">" if syntax == pydicom.uid.ExplicitVRBigEndian else "<"
    shape = (1, count_frames(header), int(header.Rows), int(header.Columns))
    data = pydicom.dcmread(file, force=True).PixelData
    cells = np.frombuffer(data, f"{order}u{cell // 8}", int(np.prod(shape))).astype(np.int64)
    if cells.max() < 2 ** bits and (cells % 2**shift).any():
        problem = f"HighBit must be that of the pixels, but it is {high} and they have the bits 0 to {bits - 1}"
        raise load_error(file, problem, "Correct the tag, or export the file again.")
    values = (cells >> shift) & (2**bits - 1)
    if header.get("PixelRepresentation") == 1:
        values = np.where(values >= 2 ** (bits - 1), values - 2**bits, values)
    if header.PhotometricInterpretation == "MONOCHROME1":
        values = _inverted(values, header)
    return values.reshape(shape).transpose(0, 3, 2, 1).astype(np.float64), np.array([1.0, 0.0])


def _bits_stored(header: Dataset) -> int:
    """Return the number of bits of a value; all of its cell where the header does not state it."""
    return int(header.get("BitsStored", header.BitsAllocated))


def _inverted(values: np.ndarray, header: Dataset) -> np.ndarray:
    """Return stored values of a negative as those of a positive, within the bits stored."""
    return (-1 if header.get("PixelRepresentation") == 1 else 2 ** _bits_stored(header) - 1) - values


def _padding(header: Dataset) -> tuple[float, float] | None:
    """Return the lowest and highest stored value of padding, of negatives inverted; None if there is no padding."""
    limits = [header.get(name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    found = np.array([limit for limit in limits if isinstance(limit, int) and abs(limit) < 2**32], dtype=np.int64)
    if limits[0] is None or not found.size or count_channels(header) != 1:
        return None
    if header.get("PixelRepresentation") == 1:  # some writers store a negative value as unsigned
        found = np.where(found >= 2 ** (int(header.BitsAllocated) - 1), found - 2 ** int(header.BitsAllocated), found)
    if header.get("PhotometricInterpretation") == "MONOCHROME1":
        found = _inverted(found, header)
    return float(found.min()), float(found.max())
