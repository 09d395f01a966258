"""Reading of a study's files by the reader of their format, after the checks that need no pixels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache
from os import PathLike
from pathlib import Path

import itk
import nibabel as nib
from monai.data import MetaTensor, PILReader
from monai.transforms import LoadImage
from PIL import Image

from custom.errors import NomalyError
from custom.transforms.dicom import read_dicom
from custom.transforms.dicom_headers import series_of_folder
from custom.transforms.formats import PICTURE_SUFFIXES, check_access, check_memory, is_dicom, study_path, unreadable

GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def read_study(image: str | PathLike | Sequence[str]) -> MetaTensor:
    """Read a study as its format has it, (C, X, Y) or (C, X, Y, Z).

    Args:
        image: a file, the folder of one DICOM series, or the list of a series' files.

    Raises:
        NomalyError: if it is missing, may not be read, does not fit into memory, or its reader fails.
    """
    path = study_path(image)
    if not isinstance(image, (str, PathLike)):
        return read_dicom([Path(file) for file in image], path)
    check_access(path)
    try:
        files = series_of_folder(path) if path.is_dir() else [path] if is_dicom(path) else []
        if not files:
            check_memory(path, _count_values(path))
            return _read_plain(path)
    except NomalyError:
        raise
    except Exception as error:  # the readers of MONAI raise anything, from zlib.error to ITK's RuntimeError
        raise unreadable(path, error) from error
    return read_dicom(files, path)


def _read_plain(path: Path) -> MetaTensor:
    """Read a file that is not DICOM as MONAI does."""
    reader = PILReader(converter=_grey_or_rgb) if path.suffix.lower() in PICTURE_SUFFIXES else None
    return _loader()(path, reader=reader)


@lru_cache(maxsize=1)
def _loader() -> LoadImage:
    """Make MONAI's loader once: each new one warns that NVIDIA's DICOM decoder is absent."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*nvImageCodec.*")
        return LoadImage(image_only=True, ensure_channel_first=True)


def _grey_or_rgb(picture: Image.Image) -> Image.Image:
    """Drop transparency and expand palettes, so that array values are intensities and never palette indices."""
    if picture.mode in GREY_MODES or picture.mode == "RGB":
        return picture
    return picture.convert("L" if picture.mode in ("LA", "La") else "RGB")


def _count_values(path: Path) -> int:
    """Return the number of values of a file that is not DICOM, by its header."""
    name = path.name.lower()
    if name.endswith(PICTURE_SUFFIXES):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # whether it fits is checked here
            with Image.open(path) as picture:
                return picture.width * picture.height * len(picture.getbands())
    if name.endswith((".nii", ".nii.gz")):
        return math.prod(nib.load(path).shape)
    reader = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
    if reader is None:
        return 0  # no image: its reader tells the reason
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    sides = (reader.GetDimensions(axis) for axis in range(reader.GetNumberOfDimensions()))
    return math.prod(sides) * reader.GetNumberOfComponents()
