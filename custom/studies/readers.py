"""Reading of study files with the reader of their format, after the checks that need no pixels."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import cast

import itk
import torch
from monai.data import ITKReader, MetaTensor
from monai.transforms import LoadImage

from custom.errors import NomalyError
from custom.studies.dicom import read_dicom
from custom.studies.dicom_headers import series_of_folder
from custom.studies.formats import (
    IMAGE_SUFFIXES,
    NIBABEL_SUFFIXES,
    PAIRS,
    TIFF_SUFFIXES,
    check_access,
    check_format,
    check_memory,
    is_dicom,
    study_path,
    unreadable,
)
from custom.studies.image_files import read_image_file
from custom.studies.memory import MemoryImage
from custom.studies.nifti import read_volume
from custom.studies.nrrd import SPACING_WORDS, left_anterior_superior, states_spacing


def read_study(image: str | PathLike | Sequence[str]) -> MetaTensor:
    """Read a study in the layout of its file, (C, X, Y) or (C, X, Y, Z).

    Args:
        image: a file, the folder of one DICOM series, the list of a series' files, or an image in memory.

    Raises:
        NomalyError: if it is missing, cannot be read, does not fit into memory, or its reader fails.
    """
    path = study_path(image)
    if isinstance(image, MemoryImage):
        return image.read()
    if not isinstance(image, (str, PathLike)):
        return read_dicom([Path(file) for file in image], path)
    check_access(path)
    try:
        files = series_of_folder(path) if path.is_dir() else [path] if is_dicom(path) else []
        if not files:
            return _read_plain(path)
    except NomalyError:
        raise
    except Exception as error:  # the readers of MONAI raise anything, from zlib.error to ITK's RuntimeError
        raise unreadable(path, error) from error
    return read_dicom(files, path)


def _read_plain(path: Path) -> MetaTensor:
    """Read a file that is not DICOM, by its suffix."""
    name = path.name.lower()
    check_format(path)
    if name.endswith((*IMAGE_SUFFIXES, *TIFF_SUFFIXES)):
        return read_image_file(path)
    if name.endswith((*NIBABEL_SUFFIXES, *PAIRS)):
        return read_volume(path)
    return _read_with_itk(path)


def _read_with_itk(path: Path) -> MetaTensor:
    """Read a file with ITK: NRRD, MetaImage, and any other that the user names."""
    check_memory(path, _count_values(path))
    image = cast(MetaTensor, _loader()(path, reader=ITKReader()))
    affine = left_anterior_superior(path)
    if affine is not None:
        image.affine = torch.from_numpy(affine)
    known = path.suffix.lower() not in SPACING_WORDS or states_spacing(path)
    image.meta |= {"spacing_known": known, "sides_known": False}
    return image


@lru_cache(maxsize=1)
def _loader() -> LoadImage:
    """Create MONAI's loader once: each new one warns that NVIDIA's DICOM decoder is missing."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*nvImageCodec.*")
        return LoadImage(image_only=True, ensure_channel_first=True)


def _count_values(path: Path) -> int:
    """Return the number of values of a file that ITK reads, from its header."""
    itk.ProcessObject.SetGlobalWarningDisplay(False)  # its warnings name files
    reader = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
    if reader is None:
        return 0  # not an image: the reader reports the reason
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    sides = (reader.GetDimensions(axis) for axis in range(reader.GetNumberOfDimensions()))
    return math.prod(sides) * reader.GetNumberOfComponents()
