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
NOT_MM = {1: "m", 3: "micrometre"}  # NIfTI-1 standard, xyzt_units; 0, unknown, is mm by custom
# What tells the spacing in the text header of MetaImage and of NRRD; ITK takes 1 mm where it is missing.
SPACING_WORDS = {
    ".mha": (b"elementspacing", b"elementsize"),
    ".mhd": (b"elementspacing", b"elementsize"),
    ".nrrd": (b"spacings:", b"space directions:"),
}
HEADER_BYTES = 2**16
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
    reader = PILReader(converter=_grey_or_rgb) if path.suffix.lower() in IMAGE_SUFFIXES else None
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        _check_units(path)
    image = _loader()(path, reader=reader)
    image.meta |= {"spacing_known": _states_spacing(path), "sides_known": _states_sides(path)}
    return image


def _check_units(path: Path) -> None:
    """Refuse a NIfTI file that is not in mm: its affine would be taken for one in mm."""
    unit = NOT_MM.get(int(nib.load(path).header["xyzt_units"]) & 7)
    if unit:
        step = "Convert the file to mm, or correct xyzt_units in its header."
        raise load_error(path, f"the units of a NIfTI file must be mm, but its header says {unit}", step)


def _states_spacing(path: Path) -> bool:
    """Tell whether a file that is not DICOM says how large its voxels are."""
    suffix = path.suffix.lower()
    if suffix not in SPACING_WORDS:
        return suffix not in (*IMAGE_SUFFIXES, ".tif", ".tiff")
    with path.open("rb") as stream:
        header = stream.read(HEADER_BYTES).lower()
    return any(word in header for word in SPACING_WORDS[suffix])


def _states_sides(path: Path) -> bool:
    """Tell whether a NIfTI file says how the patient lies in it; of other formats nothing is relied upon."""
    if not path.name.lower().endswith(NIFTI_SUFFIXES):
        return False
    header = nib.load(path).header
    return bool(header["sform_code"] > 0 or header["qform_code"] > 0)


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
    if name.endswith(IMAGE_SUFFIXES):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # whether it fits is checked here
            with Image.open(path) as picture:
                return picture.width * picture.height * len(picture.getbands())
    if name.endswith(NIFTI_SUFFIXES):
        return math.prod(nib.load(path).shape)
    itk.ProcessObject.SetGlobalWarningDisplay(False)  # its warnings name files
    reader = itk.ImageIOFactory.CreateImageIO(str(path), itk.CommonEnums.IOFileMode_ReadMode)
    if reader is None:
        return 0  # no image: its reader tells the reason
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    sides = (reader.GetDimensions(axis) for axis in range(reader.GetNumberOfDimensions()))
    return math.prod(sides) * reader.GetNumberOfComponents()
