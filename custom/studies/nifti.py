"""Volumes read with nibabel: NIfTI, Analyze, MGH and MINC 1, with the geometry that their headers state."""

from __future__ import annotations

import gzip
import math
from collections.abc import Iterator
from contextlib import contextmanager
from io import IOBase
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.analyze import AnalyzeHeader
from nibabel.nifti1 import Nifti1Header
from nibabel.spatialimages import SpatialImage

from custom.studies.formats import NIFTI_SUFFIXES, PAIRS, check_memory, header_of_pair, load_error

NOT_MM = {1: "m", 3: "micrometre"}  # NIfTI-1 standard, xyzt_units; 0 (unknown) is mm by convention
GZIP_MARK, HDF5_MARK = b"\x1f\x8b", b"\x89HDF"
NIFTI2_SIZES = (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c")  # sizeof_hdr = 540 in both byte orders
COLOURS = 3
CIFTI_CODES = range(3000, 3100)  # intent_code of CIFTI-2


def read_volume(path: Path) -> MetaTensor:
    """Read a volume in the layout of its file, (C, X, Y) or (C, X, Y, Z), with its affine (RAS).

    `meta` states `spacing_known` (always) and `sides_known` (whether a NIfTI file specifies the patient's sides).

    Raises:
        NomalyError: if it holds complex or colour values, is not in mm, has no voxel size, does not fit into memory,
            is MINC 2 or CIFTI, has no voxels, or lacks a file of its pair.
    """
    with open_volume(path) as image:
        return nibabel_volume(image, path)


def nibabel_volume(image: SpatialImage, path: Path) -> MetaTensor:
    """The values of an opened volume as `read_volume` gives them; `path` names it in messages.

    Raises:
        NomalyError: as `read_volume`.
    """
    _check_shape(image, path)
    _check_values(image, path)
    _check_units(image, path)
    affine = affine_of(image, path)
    check_memory(path, math.prod(map(int, image.shape)))  # MGH counts in 32 bits
    values = np.asanyarray(image.dataobj).astype(np.float32)
    meta = {"spacing_known": True, "sides_known": _states_sides(image)}
    return MetaTensor(torch.from_numpy(_channel_first(values)), affine=torch.from_numpy(affine), meta=meta)


@contextmanager
def open_volume(path: Path) -> Iterator[SpatialImage]:
    """Open a volume, without its values; whether NIfTI is packed is found by its content, not by its name.

    Raises:
        NomalyError: if it is MINC 2, or the other file of a pair is missing.
    """
    if not path.name.lower().endswith(NIFTI_SUFFIXES):
        _check_format(path)
        yield cast(SpatialImage, nib.load(header_of_pair(path)))
        return
    with _unpacked(path) as stream:
        second = stream.read(4) in NIFTI2_SIZES
        yield (nib.Nifti2Image if second else nib.Nifti1Image).from_stream(stream)


def _unpacked(path: Path) -> IOBase:
    """The content of a file, unpacked if it is in gzip's format."""
    with path.open("rb") as stream:
        packed = stream.read(len(GZIP_MARK)) == GZIP_MARK
    return gzip.GzipFile(path, "rb") if packed else path.open("rb")


def _check_format(path: Path) -> None:
    """Reject MINC 2, and a pair of which one file is missing."""
    with path.open("rb") as stream:
        if stream.read(len(HDF5_MARK)) == HDF5_MARK:
            raise load_error(path, "format not supported: MINC 2", "Convert it to NIfTI, for example with mnc2nii.")
    for values, header in PAIRS.items():
        name = path.name.lower()
        if name.endswith((values, header)) and not _has_partner(header_of_pair(path), values, header):
            step = "Keep both files side by side under one name, or convert them to NIfTI (.nii.gz)."
            raise load_error(path, f"an image in two files needs both {header} and {values}, but one is missing", step)


def _has_partner(path: Path, values: str, header: str) -> bool:
    """Whether a header has its values beside it."""
    stem = path.name[: -len(header)]
    found = (path.with_name(stem + suffix) for suffix in (values, values.upper()))
    return path.name.lower().endswith(header) and any(place.is_file() for place in found)


def _check_shape(image: SpatialImage, path: Path) -> None:
    """Reject a file without voxels, and CIFTI: a table of brain areas in the form of NIfTI-2."""
    if isinstance(image.header, Nifti1Header) and int(image.header["intent_code"]) in CIFTI_CODES:
        step = "Use the image that its values were measured in."
        raise load_error(path, "format not supported: CIFTI, values of brain areas instead of an image", step)
    if len(image.shape) < 2 or min(image.shape) < 1:
        problem = (
            f"an image must have two axes or more, none of them empty, but its shape is {tuple(map(int, image.shape))}"
        )
        raise load_error(path, problem, "The header is damaged: convert the original images again.")


def _check_values(image: SpatialImage, path: Path) -> None:
    """Reject complex numbers and colours: one value per voxel is assessed."""
    kind = image.get_data_dtype()
    if kind.fields or kind.kind == "c":
        found = "RGB colours" if kind.fields else "complex numbers"
        step = "Save the magnitude" if kind.kind == "c" else "Save the grey values"
        problem = f"a volume must have one real number per voxel, but this one holds {found}"
        raise load_error(path, problem, f"{step} as a volume of its own and use that.")


def _check_units(image: SpatialImage, path: Path) -> None:
    """Reject a NIfTI file that is not in mm: its affine would be read as mm."""
    if not isinstance(image.header, Nifti1Header):
        return
    unit = NOT_MM.get(int(image.header["xyzt_units"]) & 7)
    if unit:
        step = "Convert the file to mm, or correct xyzt_units in its header."
        raise load_error(path, f"the units of a NIfTI file must be mm, but its header states {unit}", step)


def affine_of(image: SpatialImage, path: Path) -> np.ndarray:
    """Return the affine of a volume, (4, 4), RAS, in mm.

    Of a NIfTI file the sform if it is set, else the qform, else the voxel size alone (no orientation stated). A set
    qform is preferred to an sform that is not invertible or contradicts the voxel size of the header (pixdim), which
    the qform contains.

    Raises:
        NomalyError: if neither the sform nor pixdim states the voxel size.
    """
    if not isinstance(image.header, Nifti1Header):
        if isinstance(image.header, AnalyzeHeader):
            _check_sizes(image, image.header, path)
        return np.asarray(image.affine, np.float64)
    sform, qform_is_set = image.header.get_sform(coded=True)[0], bool(image.header["qform_code"] > 0)
    if sform is not None and not (qform_is_set and _contradicts(sform, image.header)):
        return np.asarray(sform, np.float64)
    _check_sizes(image, image.header, path)
    form = image.header.get_qform() if qform_is_set else image.header.get_base_affine()
    return np.asarray(form, np.float64)


def _contradicts(sform: np.ndarray, header: Nifti1Header) -> bool:
    """Whether an sform has other voxel sizes than the header, in which case it is not relied upon."""
    return not np.allclose(np.linalg.norm(sform[:3, :3], axis=0), header["pixdim"][1:4])


def _check_sizes(image: SpatialImage, header: AnalyzeHeader, path: Path) -> None:
    """Reject a header whose voxel sizes are not positive numbers: nibabel would assume 1 mm."""
    holder = image.file_map.get("header", image.file_map["image"])
    with holder.get_prepare_fileobj("rb") as stream:
        raw = type(header).from_fileobj(cast(IOBase, stream), check=False)
    sizes = [float(size) for size in raw["pixdim"][1:4]]
    used = [size for size, count in zip(sizes, image.shape) if count > 1]
    if not all(math.isfinite(size) and size != 0 for size in used):
        problem = f"the voxel size must be known, but the header states {sizes} mm and has no sform"
        raise load_error(path, problem, "Correct pixdim in the header, or convert the original images again.")


def _states_sides(image: SpatialImage) -> bool:
    """Whether a NIfTI file specifies the orientation of the patient; other formats are not relied upon."""
    header = image.header
    return isinstance(header, Nifti1Header) and bool(header["sform_code"] > 0 or header["qform_code"] > 0)


def _channel_first(values: np.ndarray) -> np.ndarray:
    """Move the axes after the third to the front, as (C, X, Y, Z).

    (X, Y, 1, Z) is one volume whose slices lie on the fourth axis, as some converters write it, unless Z is 3:
    colours.
    """
    if values.ndim < 4:
        return values[None]
    if values.ndim == 4 and values.shape[2] == 1 and values.shape[3] != COLOURS:
        return np.moveaxis(values, 3, 2)[None, ..., 0]
    return np.moveaxis(values.reshape(*values.shape[:3], -1), 3, 0)
