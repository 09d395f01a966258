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
import nibabel as nib
from monai.data import MetaTensor, PILReader
from monai.transforms import LoadImage
from PIL import Image

from custom.errors import NomalyError
from custom.studies.dicom import read_dicom
from custom.studies.dicom_headers import series_of_folder
from custom.studies.formats import (
    IMAGE_SUFFIXES,
    check_access,
    check_memory,
    is_dicom,
    load_error,
    study_path,
    unreadable,
)

NIFTI_SUFFIXES = (".nii", ".nii.gz")
NOT_MM = {1: "m", 3: "micrometre"}  # NIfTI-1 standard, xyzt_units; 0 (unknown) is mm by convention
# Keywords of the spacing in the text headers of MetaImage and NRRD; ITK assumes 1 mm if it is missing.
SPACING_WORDS = {
    ".mha": (b"elementspacing", b"elementsize"),
    ".mhd": (b"elementspacing", b"elementsize"),
    ".nrrd": (b"spacings:", b"space directions:"),
}
HEADER_BYTES = 2**16
GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")


def read_study(image: str | PathLike | Sequence[str]) -> MetaTensor:
    """Read a study in the layout of its file, (C, X, Y) or (C, X, Y, Z).

    Args:
        image: a file, the folder of one DICOM series, or the list of a series' files.

    Raises:
        NomalyError: if it is missing, cannot be read, does not fit into memory, or its reader fails.
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
    """Read a file that is not DICOM with MONAI."""
    reader = PILReader(converter=_grey_or_rgb) if path.suffix.lower() in IMAGE_SUFFIXES else None
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        _check_units(path)
    image = _loader()(path, reader=reader)
    image.meta |= {"spacing_known": _states_spacing(path), "sides_known": _states_sides(path)}
    return image


def _check_units(path: Path) -> None:
    """Reject a NIfTI file that is not in mm: its affine would be read as mm."""
    unit = NOT_MM.get(int(_nifti(path).header["xyzt_units"]) & 7)
    if unit:
        step = "Convert the file to mm, or correct xyzt_units in its header."
        raise load_error(path, f"the units of a NIfTI file must be mm, but its header states {unit}", step)


def _nifti(path: Path) -> nib.Nifti1Image:
    """A NIfTI file, without its values."""
    return cast(nib.Nifti1Image, nib.load(path))


def _states_spacing(path: Path) -> bool:
    """Whether a file that is not DICOM specifies the size of its voxels."""
    suffix = path.suffix.lower()
    if suffix not in SPACING_WORDS:
        return suffix not in (*IMAGE_SUFFIXES, ".tif", ".tiff")
    with path.open("rb") as stream:
        header = stream.read(HEADER_BYTES).lower()
    return any(word in header for word in SPACING_WORDS[suffix])


def _states_sides(path: Path) -> bool:
    """Whether a NIfTI file specifies the orientation of the patient; other formats are not relied upon."""
    if not path.name.lower().endswith(NIFTI_SUFFIXES):
        return False
    header = _nifti(path).header
    return bool(header["sform_code"] > 0 or header["qform_code"] > 0)


@lru_cache(maxsize=1)
def _loader() -> LoadImage:
    """Create MONAI's loader once: each new one warns that NVIDIA's DICOM decoder is missing."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*nvImageCodec.*")
        return LoadImage(image_only=True, ensure_channel_first=True)


def _grey_or_rgb(image: Image.Image) -> Image.Image:
    """Drop transparency and expand palettes, so that array values are intensities, not palette indices."""
    if image.mode in GREY_MODES or image.mode == "RGB":
        return image
    return image.convert("L" if image.mode in ("LA", "La") else "RGB")


def _count_values(path: Path) -> int:
    """Return the number of values of a file that is not DICOM, from its header."""
    name = path.name.lower()
    if name.endswith(IMAGE_SUFFIXES):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # whether it fits is checked here
            with Image.open(path) as image:
                return image.width * image.height * len(image.getbands())
    if name.endswith(NIFTI_SUFFIXES):
        return math.prod(_nifti(path).shape)
    itk.ProcessObject.SetGlobalWarningDisplay(False)  # its warnings name files
    reader = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
    if reader is None:
        return 0  # not an image: the reader reports the reason
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    sides = (reader.GetDimensions(axis) for axis in range(reader.GetNumberOfDimensions()))
    return math.prod(sides) * reader.GetNumberOfComponents()
