"""Images in memory: arrays, tensors and the images of other libraries, read as files with the same content."""

from __future__ import annotations

import sys
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from nibabel.spatialimages import SpatialImage
from numpy.typing import ArrayLike
from PIL import Image

from custom.errors import NomalyError
from custom.studies.formats import check_memory
from custom.studies.image_files import as_displayed, pillow_image
from custom.studies.nifti import nibabel_volume

ACCEPTED = "a path, a NumPy array, a tensor, or an image of nibabel, SimpleITK or Pillow"
INTEGERS = ("uint8", "uint16")


class MemoryImage(PathLike):
    """An image in memory, which stands where the path of a study's file stands; its path is only its name.

    Args:
        name: of the study.
        read: gives the image as a reader of files does, (C, X, Y) or (C, X, Y, Z), each time a new tensor.
    """

    def __init__(self, name: str, read: Callable[[], MetaTensor]) -> None:
        self.name = name
        self.read = read

    def __fspath__(self) -> str:
        return self.name

    __str__ = __fspath__


def memory_image(image: Any, name: str = "image", affine: ArrayLike | None = None) -> MemoryImage:
    """Wrap an image in memory.

    Args:
        image: a 2-D image as an array (rows, columns), also with a last axis of 1 or 3 channels, or a tensor with the
            channels first; a volume (X, Y, Z) with its affine; MONAI's MetaTensor (C, X, Y) or (C, X, Y, Z); or an
            image of nibabel, SimpleITK or Pillow.
        name: of the study.
        affine: (4, 4) from voxel to millimetres in RAS, as in nibabel; required for volumes given as arrays or tensors.

    Raises:
        NomalyError: another type, dtype or shape; an affine that is missing, invalid or not needed.
    """
    read = _reader(image, affine)
    if read is None:
        raise NomalyError(f"image must be {ACCEPTED}, got {type(image).__name__}: convert it to one of these.")
    if read is not _read_array and affine is not None:
        raise NomalyError(
            f"affine is for arrays and tensors, but this {type(image).__name__} has its own: omit affine, or give the "
            "values as an array."
        )
    if read is _read_array:
        values = _real_values(image)
        matrix = None if affine is None else _checked_affine(affine)
        _axes(values.shape, isinstance(image, torch.Tensor), matrix is not None)  # reported now, not during the run
        return MemoryImage(name, lambda: _read_array(image, matrix))
    return MemoryImage(name, lambda: read(image, Path(name)))


def _reader(image: Any, affine: ArrayLike | None) -> Callable[..., MetaTensor] | None:
    """How an image of this type is read; None for any other type."""
    if isinstance(image, MetaTensor) and affine is None:
        return _read_meta_tensor
    if isinstance(image, (np.ndarray, torch.Tensor)):
        return _read_array
    if isinstance(image, SpatialImage):
        return nibabel_volume
    if isinstance(image, Image.Image):
        return pillow_image
    return _read_simple_itk if type(image).__module__.split(".")[0] == "SimpleITK" else None


def _real_values(image: np.ndarray | torch.Tensor) -> np.ndarray:
    """The values of an array or tensor.

    Raises:
        NomalyError: if they are not real numbers.
    """
    if isinstance(image, torch.Tensor):
        image = image.detach().cpu().as_subclass(torch.Tensor)
        image = (image.float() if image.is_floating_point() else image).numpy()
    if image.dtype.kind not in "buif":
        raise NomalyError(
            f"image must hold real numbers, got dtype {image.dtype}: convert it, for example to float32 or uint8."
        )
    return image


def _read_array(image: np.ndarray | torch.Tensor, affine: np.ndarray | None) -> MetaTensor:
    """A 2-D image in display orientation, or a volume with its affine."""
    values = _real_values(image)
    integers = values.dtype.name if values.dtype.name in INTEGERS else ""
    values = values.transpose(_axes(values.shape, isinstance(image, torch.Tensor), affine is not None))
    values = np.array(values if values.ndim > 2 + (affine is not None) else values[None], np.float32, order="C")
    check_memory(Path("image"), values.size)
    if affine is None:
        return as_displayed(values, "" if len(values) > 1 and integers == "uint16" else integers)
    meta = {"spacing_known": True, "sides_known": True}
    return MetaTensor(torch.from_numpy(values), affine=torch.from_numpy(affine), meta=meta)


def _axes(shape: tuple[int, ...], channels_first: bool, volume: bool) -> tuple[int, ...]:
    """The order of the axes that brings an array to (X, Y), (C, X, Y), (X, Y, Z) or (1, X, Y, Z).

    Raises:
        NomalyError: for any other shape.
    """
    if volume:
        if 0 not in shape and (len(shape) == 3 or (channels_first and len(shape) == 4 and shape[0] == 1)):
            return tuple(range(len(shape)))
        raise NomalyError(f"a volume must have the shape (X, Y, Z), got {shape}: select one volume, or omit affine.")
    if 0 not in shape and len(shape) == 2:
        return 1, 0
    if 0 not in shape and len(shape) == 3 and shape[0 if channels_first else 2] in (1, 3):
        return (0, 2, 1) if channels_first else (2, 1, 0)
    wanted = "(1 or 3, rows, columns)" if channels_first else "(rows, columns, 1 or 3)"
    raise NomalyError(
        f"image must have the shape (rows, columns) or {wanted}, got {shape}: give one image at a time, and for a "
        "volume (X, Y, Z) also its affine."
    )


def _checked_affine(affine: ArrayLike) -> np.ndarray:
    """An affine as float64.

    Raises:
        NomalyError: if it is not an invertible 4 x 4 matrix.
    """
    try:
        matrix = np.asarray(affine, np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-9:
        raise NomalyError(
            f"affine must be an invertible matrix of shape (4, 4), got {np.shape(matrix)}: give the affine of the "
            "volume, such as nibabel's image.affine."
        )
    return matrix


def _read_meta_tensor(image: MetaTensor, path: Path) -> MetaTensor:
    """MONAI's image: (C, X, Y), taken as displayed, or (C, X, Y, Z) with its affine."""
    values = np.array(_real_values(image), np.float32, order="C")
    if values.ndim not in (3, 4) or not values.size:
        raise NomalyError(f"a MetaTensor must be (C, X, Y) or (C, X, Y, Z), got {values.shape}: give one image.")
    check_memory(path, values.size)
    if values.ndim == 3:
        result = as_displayed(values, "")
        result.meta["rows_first"] = False
        return result
    affine = _checked_affine(image.affine.cpu())
    meta = {"spacing_known": True, "sides_known": True}
    return MetaTensor(torch.from_numpy(values), affine=torch.from_numpy(affine), meta=meta)


def _read_simple_itk(image: Any, path: Path) -> MetaTensor:
    """SimpleITK's image; its geometry is LPS. A 2-D image is taken as displayed."""
    sitk: Any = sys.modules["SimpleITK"]  # the image's own library, which Nomaly itself does not need
    values = _real_values(sitk.GetArrayFromImage(image))
    space, colours = image.GetDimension(), image.GetNumberOfComponentsPerPixel() > 1
    if space == 2:
        return _read_array(values, None)
    if space != 3 or colours:
        raise NomalyError(
            f"an image of SimpleITK must be 2-D, or 3-D with one value per voxel, got {space}-D with "
            f"{image.GetNumberOfComponentsPerPixel()}: extract one volume."
        )
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    result = _read_array(values.transpose(2, 1, 0), affine)
    result.meta |= {"sides_known": False, "rows_first": True}
    return result
