"""Results on the network's grid, resampled to the grid of the study's own file and written."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import IO

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import CropForeground, InvertibleTransform, Orientation, Resize, SpatialCrop, SpatialPad
from monai.transforms.utils import convert_applied_interp_mode, reset_ops_id
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from custom.files import atomic_write
from custom.studies.formats import NIFTI_SUFFIXES
from custom.studies.nifti import affine_of, open_volume
from custom.studies.own_files import IMAGES
from custom.transforms.head import CropHead
from custom.transforms.intensity import outside_intensity, unscale_intensity

# The inverse of each takes its parameters from the trace; the arguments here are placeholders.
INVERTERS: dict[str, Callable[[], InvertibleTransform]] = {
    "Orientation": lambda: Orientation(axcodes="LPS"),
    "CropHead": CropHead,
    "CropForeground": CropForeground,
    "SpatialCrop": lambda: SpatialCrop(roi_start=(0, 0, 0), roi_end=(1, 1, 1)),
    "Resize": lambda: Resize(spatial_size=(-1, -1, -1)),
    "SpatialPad": lambda: SpatialPad(spatial_size=(-1, -1, -1)),
}
# torch's "nearest" rounds down and shifts by half a voxel; "nearest-exact" does not.
RESIZE_MODES = {"trilinear": "trilinear", "nearest": "nearest-exact"}
SCALE_TEXT, OFFSET_TEXT = "nomaly_scale", "nomaly_offset"


def to_source(tensor: torch.Tensor, preprocessed_image: MetaTensor, mode: str = "trilinear") -> np.ndarray:
    """Resample a result to the grid of the study's file by inverting every traced transform, last one first.

    Args:
        tensor: (C, X, Y, Z) on the grid of `preprocessed_image`.
        preprocessed_image: the study as given to the network, with its `applied_operations`.
        mode: "trilinear" for maps and images, "nearest" for masks.

    Returns:
        float32 array of the file's spatial shape, (X, Y) for 2-D images and (X, Y, Z) for volumes, axes as the file
        was read; with a last axis C where C > 1. Zeros where the study was cropped.

    Raises:
        ValueError: if the shapes differ, `mode` is unknown, or a transform was applied that cannot be inverted here.
    """
    if mode not in RESIZE_MODES:
        raise ValueError(f"mode must be one of {list(RESIZE_MODES)}, got {mode!r}.")
    if tensor.shape[1:] != preprocessed_image.shape[1:]:
        raise ValueError(
            f"tensor must have the grid {tuple(preprocessed_image.shape[1:])} of the preprocessed image, got "
            f"{tuple(tensor.shape[1:])}. Crop or resize the result first."
        )
    data = MetaTensor(tensor.detach().as_subclass(torch.Tensor).float().cpu(), meta=deepcopy(preprocessed_image.meta))
    trace = convert_applied_interp_mode(deepcopy(preprocessed_image.applied_operations), mode=RESIZE_MODES[mode])
    data.applied_operations = reset_ops_id(trace)
    for name in [operation["class"] for operation in reversed(data.applied_operations)]:
        if name not in INVERTERS:
            raise ValueError(f"to_source can invert only {', '.join(INVERTERS)}, got {name}. Use Invertd.")
        data = INVERTERS[name]().inverse(data)
    spatial_shape = [int(size) for size in preprocessed_image.meta["spatial_shape"]]
    array = data.as_tensor().numpy().reshape(data.shape[0], *spatial_shape)
    return array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)


def source_spacing(image: MetaTensor) -> tuple[float, ...] | None:
    """Voxel size of the study's file in millimetres, in the order of its axes; None where it is unknown, as in PNG and
    JPEG images.
    """
    if not image.meta["spacing_known"]:
        return None
    sides = np.linalg.norm(np.asarray(image.meta["original_affine"])[:3, :3], axis=0)
    return tuple(float(side) for side in sides[: len(image.meta["spatial_shape"])])


def source_arrays(image: MetaTensor, volumes: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Results of a study on the grid of its file, see :func:`to_source`.

    Args:
        image: the study as given to the network.
        volumes: results (C, X, Y, Z) on the grid of `image`, by name. "labels" (region numbers) use nearest-neighbour
            resampling and also give "mask", 1 inside any region; "pseudo_healthy" is scaled back to the intensities of
            the file, and has the file's background where the study was cropped.
    """
    arrays = {}
    for name, volume in volumes.items():
        if name == "labels":
            arrays["labels"] = np.rint(to_source(volume.float(), image, "nearest")).astype(np.int32)
            arrays["mask"] = (arrays["labels"] > 0).astype(np.uint8)
        elif name == "pseudo_healthy":
            outside = outside_intensity(image)
            arrays[name] = to_source(unscale_intensity(volume, image) - outside, image) + np.float32(outside)
        else:
            arrays[name] = to_source(volume, image)
    return arrays


def write_images(
    folder: str | os.PathLike[str], image: MetaTensor, arrays: Mapping[str, np.ndarray]
) -> dict[str, Path]:
    """Write the results of one study to a folder, on the grid of the study's file.

    A NIfTI study gives NAME.nii.gz with the affine, shape and header spacing of its file; DICOM and other volumes
    give NIfTI with the affine of their series; a PNG, JPEG or TIFF image gives NAME.png of the size of the
    upright image in pixels (a TIFF of more than 16 bits: NIfTI). Each
    file is written completely or not at all.

    Args:
        folder: folder of the study; created if it does not exist.
        image: the study as given to the network.
        arrays: output of :func:`source_arrays`; those named in `IMAGES` are written. "mask" as uint8 (0/1 in NIfTI,
            0/255 in PNG), others as float32, in PNG as 16 bit with value = nomaly_offset + nomaly_scale * pixel (text
            chunks of the PNG); "pseudo_healthy" as integers of the source's bit depth in PNG.

    Returns:
        The path of each file, by name. Other results of an earlier run are removed.

    Raises:
        WriteError: if a file cannot be written.
    """
    folder = Path(folder)
    remove_images(folder)
    source, as_png = Path(image.meta["filename_or_obj"]), _is_image_file(image)
    paths = {}
    for name in (name for name in IMAGES if name in arrays):
        array = arrays[name]
        paths[name] = folder / f"{name}{'.png' if as_png else '.nii.gz'}"
        with atomic_write(paths[name], "wb") as stream:
            if as_png:
                _save_png(stream, name, array, image.meta["integers"])
            else:
                dtype = np.uint8 if name == "mask" else np.float32
                content = _nifti(array.astype(dtype), image, source).to_bytes()
                stream.write(gzip.compress(content, compresslevel=1, mtime=0))
    return paths


def remove_images(folder: Path) -> None:
    """Remove the files of `write_images`."""
    for name, suffix in product(IMAGES, (".png", ".nii.gz")):
        with suppress(OSError):  # if it cannot be removed, writing will fail and report it
            (folder / f"{name}{suffix}").unlink(missing_ok=True)


def _is_image_file(image: MetaTensor) -> bool:
    """Whether results are written as PNG: those of PNG, JPEG and 2-D TIFF of up to 16 bits."""
    return bool(image.meta.get("integers")) and len(image.meta["spatial_shape"]) == 2


def _nifti(array: np.ndarray, image: MetaTensor, source: Path) -> nib.Nifti1Image:
    """The array as NIfTI with the header of the source, or with a new one where the source has another format."""
    if image.meta["dicom"] or not source.name.lower().endswith(NIFTI_SUFFIXES):
        return nib.Nifti1Image(array, np.asarray(image.meta["original_affine"]))
    with open_volume(source) as original:
        assert isinstance(original, nib.Nifti1Image)  # by its name; NIfTI-2 is a subclass
        affine, header = affine_of(original, source), original.header.copy()
    header.set_data_dtype(array.dtype)
    header.set_intent("none")
    header["cal_min"] = header["cal_max"] = 0  # the display range of the source does not suit the result
    header.extensions.clear()
    return type(original)(array.reshape(original.shape), affine, header)


def _save_png(stream: IO[bytes], name: str, array: np.ndarray, integers: str) -> None:
    """Save an array, indexed [x, y], as PNG; `integers` is the type of the source's values."""
    text = PngInfo()
    if name == "mask":
        pixels = np.where(array > 0.5, 255, 0).astype(np.uint8)
    elif name == "pseudo_healthy":
        dtype = np.dtype(integers)
        pixels = np.clip(np.round(array), 0, np.iinfo(dtype).max).astype(dtype)
    else:
        offset = min(float(array.min()), 0.0)
        scale = (float(array.max()) - offset) / 65535 or 1.0
        pixels = np.round((array - offset) / scale).astype(np.uint16)
        text.add_text(SCALE_TEXT, repr(scale))
        text.add_text(OFFSET_TEXT, repr(offset))
    Image.fromarray(np.ascontiguousarray(pixels.swapaxes(0, 1))).save(stream, "PNG", pnginfo=text)
