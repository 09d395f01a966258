"""Loading of a study, 2-D image or volume, into the common data model: (C, X, Y, Z) with its affine."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import MapTransform, Orientation, SpatialCrop, Transform

from custom.errors import NomalyError
from custom.studies.formats import case_name, load_error, study_path
from custom.studies.items import ImageSource
from custom.studies.readers import read_study


def _display_affine(affine: np.ndarray) -> np.ndarray:
    """Return the affine of an image that is stored as displayed (LPS: x to the left, y to the back)."""
    spacing_x, spacing_y = np.linalg.norm(affine[:3, :2], axis=0)
    return np.diag([-spacing_x, -spacing_y, 1.0, 1.0])


def _affine_of(image: MetaTensor) -> np.ndarray:
    """Return the affine of an image as 4 x 4, also if it has only two axes."""
    found = np.asarray(image.affine, dtype=np.float64)
    if found.shape == (4, 4):
        return found
    affine = np.eye(4)
    affine[:2, :2], affine[:2, 3] = found[:2, :2], found[:2, 2]
    return affine


def _promote(image: MetaTensor, path: Path) -> MetaTensor:
    """Give a 2-D image Z = 1 and keep only the meta data that every study has."""
    shape = tuple(image.shape[1:])
    is_2d = len(shape) == 2 or (len(shape) == 3 and shape[2] == 1)
    if len(shape) > 3 or (not is_2d and image.shape[0] != 1):
        raise load_error(
            path,
            f"a volume must have one value per voxel, but this one has shape {shape} with {image.shape[0]} values per "
            "voxel (a 4-D time series or a colour volume)",
            "Save the volume to analyse as a 3-D file and use that.",
        )
    own = _affine_of(image)
    if not _is_invertible(own):
        raise load_error(
            path,
            f"the affine must be invertible, but it is {own.tolist()}",
            "Fix the header, or export it again.",
        )
    without_geometry = "integers" in image.meta and is_2d  # read with Pillow, or displayed pixels in memory
    # A single sagittal or coronal slice has no axial plane to reorient to: the stored plane is kept.
    as_shown = is_2d and (without_geometry or nib.io_orientation(own)[2, 0] != 2)
    affine = _display_affine(own) if as_shown else own
    meta = {
        "filename_or_obj": str(path),
        "case": case_name(path),
        "original_affine": affine if without_geometry else own,
        "space": "RAS",
        "spatial_shape": np.asarray(shape),
        "original_channel_dim": "no_channel",
        "spacing_known": image.meta["spacing_known"],
        "sides_known": image.meta["sides_known"] and not as_shown,
        "source_files": image.meta.get("source_files", [str(path)]),
        "dicom": image.meta.get("dicom", False),
        "content": image.meta.get("content", (0, shape[0], 0, shape[1])),
        "integers": image.meta.get("integers", ""),
        "rows_first": image.meta.get("rows_first", is_2d and (without_geometry or image.meta.get("dicom", False))),
        **{name: image.meta.get(name, "") for name in ("modality", "body_part", "view", "stored")},
    }
    data = image.as_tensor().float().reshape(image.shape[0], *shape[:2], -1)
    meta["eight_bit"] = without_geometry and _are_bytes(data)
    return MetaTensor(data, affine=torch.as_tensor(affine), meta=meta)


def _is_invertible(affine: np.ndarray) -> bool:
    """Whether an affine assigns its own direction of the patient to each axis."""
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        return False
    return not np.isnan(nib.io_orientation(affine)).any()


def _are_bytes(values: torch.Tensor) -> bool:
    """Whether all values are integers from 0 to 255."""
    return bool(((values >= 0) & (values <= 255) & (values == values.round())).all())


def _in_plane_shape(image: MetaTensor) -> tuple[int, int]:
    """Return the sides X and Y that the study will have after orientation to LPS."""
    world_axis_of = nib.io_orientation(np.asarray(image.affine))[:, 0].astype(int).tolist()
    shape = image.shape[1:]
    return shape[world_axis_of.index(0)], shape[world_axis_of.index(1)]


def upright(film: MetaTensor) -> MetaTensor:
    """Return a film that is stored turned or mirrored (`stored` in `meta`) upright, traced; other images unchanged."""
    return cast(MetaTensor, Orientation(axcodes="LPS", labels=None)(film)) if film.meta["stored"] else film


def without_border(film: MetaTensor) -> MetaTensor:
    """Return the part of a film inside its border of padding (`content` in `meta`), traced; other images unchanged."""
    left, right, top, bottom = film.meta["content"]
    if (right - left, bottom - top) == film.shape[1:3]:
        return film
    crop = SpatialCrop(roi_start=(left, top, 0), roi_end=(right, bottom, film.shape[3]))
    return cast(MetaTensor, crop(film))


class LoadStudy(Transform):
    """Load one study as a (C, X, Y, Z) float32 MetaTensor with the intensities of its file.

    A study is a file, the list of the files of one DICOM series, or its folder. A 2-D image (PNG, JPEG, TIFF, one DICOM
    slice) gets Z = 1. 2-D images without orientation get the affine diag(-1, -1, 1, 1), "already in display
    orientation", which ``Orientationd(axcodes="LPS")`` leaves unchanged. Images stored as negatives (MONOCHROME1) are
    inverted to bone bright. The orientation that an image file states (EXIF, TIFF Orientation) is applied:
    `spatial_shape` and all results are those of the upright image. A DICOM film whose PatientOrientation states that
    it is stored turned or mirrored is brought upright, and one with a border of PixelPaddingValue is cropped to what is
    inside; the results lie on the pixels as stored.

    `meta` keeps `integers` (type of integers in PNG for the values of a 2-D image without geometry, else ""),
    `rows_first` (whether arrays of the study usually have rows before columns), `original_affine` and `spatial_shape`
    (of the file), `spacing_known` (whether the file specifies its pixel size), `sides_known` (whether it specifies the
    sides of the patient), `filename_or_obj` (for a series its folder), `source_files` (for a series in the order of
    Z), `dicom` (whether they are DICOM), `eight_bit` (whether it is an image file such as PNG with integers from 0 to
    255), the DICOM values `modality`, `body_part` and `view`, upper case, else "", `stored` (how a film was brought
    upright, else ""), and `content` (first and last + 1 column and row of a film inside its border of padding; of
    others the whole image).

    Args:
        channels: 1 (grey) or 3 (colour). A grey image stored as RGB(A) is accepted for 1, a colour image is not.
        min_size: smallest side in pixels of the X-Y plane after orientation to LPS.

    Raises:
        NomalyError: if the file is missing, unreadable, too large for the memory, 4-D, smaller than `min_size`,
            constant, contains NaN or infinite values, or has the wrong number of channels; if a series is not a volume.
    """

    def __init__(self, channels: int = 1, min_size: int = 64) -> None:
        if channels not in (1, 3):
            raise NomalyError(f"channels must be 1 (grey) or 3 (colour), got {channels}. Correct the config.")
        self.channels = channels
        self.min_size = min_size

    def __call__(self, image: ImageSource) -> MetaTensor:
        path = study_path(image)
        study = upright(without_border(self._with_channels(_promote(read_study(image), path), path)))
        self._check_values(study, path)
        self._check_size(study, path)
        return study

    def _with_channels(self, image: MetaTensor, path: Path) -> MetaTensor:
        """Return the image with `self.channels` channels, or reject it."""
        found = image.shape[0]
        if found == self.channels:
            return image
        if self.channels == 1 and found == 3 and bool((image == image[:1]).all()):
            return cast(MetaTensor, image[:1])
        kinds = {1: "grey (1 channel)", 3: "colour (3 channels)"}
        raise load_error(
            path,
            f"the image must be {kinds[self.channels]}, but it is {kinds.get(found, f'of {found} channels')}",
            "Use a model made for such images, or convert the image if its colours carry no meaning.",
        )

    @staticmethod
    def _check_values(image: MetaTensor, path: Path) -> None:
        """Reject NaN, infinite and constant images."""
        bad = int((~torch.isfinite(image.as_tensor())).sum())
        if bad:
            raise load_error(
                path,
                f"all intensities must be finite, but {bad} of {image.numel()} are NaN or infinite",
                "Fix the conversion that wrote the file.",
            )
        low, high = float(image.min()), float(image.max())
        if low == high:
            raise load_error(
                path, f"the image must not be constant, but all its intensities equal {low:g}", "Check the export."
            )

    def _check_size(self, image: MetaTensor, path: Path) -> None:
        """Reject images whose X-Y plane is too small."""
        plane = _in_plane_shape(image)
        if min(plane) < self.min_size:
            raise load_error(
                path,
                f"each in-plane side must have at least min_size = {self.min_size} pixels, but the plane is "
                f"{plane[0]} x {plane[1]} (left-right x front-back)",
                "Use the study at its full resolution.",
            )


class LoadStudyd(MapTransform):
    """Dictionary version of :py:class:`LoadStudy`; also loads the annotation mask under `mask_key`, as 0/1.

    `case` is derived from the file name if the item has none. The mask is optional.

    Args:
        keys: keys of the paths, or of the files of a series; all except `mask_key` are loaded by LoadStudy.
        mask_key: key of the mask, (1, X, Y, Z) of 0 and 1 after loading (1 = any value above 0).
        channels: see LoadStudy.
        min_size: see LoadStudy.
        allow_missing_keys: whether keys other than `mask_key` may be absent.

    Raises:
        NomalyError: as LoadStudy, and if mask and image have different grids.
    """

    def __init__(
        self,
        keys: Sequence[Hashable] | Hashable = ("image", "mask"),
        mask_key: Hashable = "mask",
        channels: int = 1,
        min_size: int = 64,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.mask_key = mask_key
        self.loader = LoadStudy(channels, min_size)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        image_keys = [key for key in self.keys if key != self.mask_key]
        if "case" not in item:
            item["case"] = case_name(item[image_keys[0]])
        for key in image_keys:
            if key in item or not self.allow_missing_keys:
                item[key] = self.loader(item[key])
                item[key].meta["case"] = item["case"]  # the name in later messages: a path may identify the patient
        if self.mask_key in self.keys and item.get(self.mask_key) is not None:
            item[self.mask_key] = self._load_mask(item[self.mask_key], item[image_keys[0]])
        return item

    @staticmethod
    def _load_mask(source: ImageSource, image: MetaTensor) -> MetaTensor:
        """Load a mask and check that it has the grid of the image."""
        path = study_path(source)
        mask = _promote(read_study(source), path)
        mask.meta["stored"] = image.meta["stored"]  # the mask is on the grid of the file, too
        if np.array_equal(mask.meta["spatial_shape"][:2], image.meta["spatial_shape"][:2]):
            mask.meta["content"] = image.meta["content"]
        mask = upright(without_border(mask))
        same_shape = mask.shape[1:] == image.shape[1:]
        if not same_shape or not np.allclose(mask.affine, image.affine, atol=1e-2):
            found, wanted = (tuple(grid.shape[1:]) for grid in (mask, image))
            detail = "the same shape but another affine" if same_shape else f"shape {found}"
            raise load_error(
                path,
                f"a mask must have the grid of its image {image.meta['filename_or_obj']} (shape {wanted}), but it "
                f"has {detail}",
                "Resample the mask to the image (nearest neighbour).",
            )
        binary = (mask.as_tensor() > 0).any(dim=0, keepdim=True).float()
        return MetaTensor(binary, meta=mask.meta)
