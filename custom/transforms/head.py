"""The crop that frames every head alike: an axial slab below the vertex, square in millimetres."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import CropForeground, MapTransform
from monai.transforms.inverse import InvertibleTransform
from skimage.filters import gaussian
from skimage.measure import label

from custom.errors import NomalyError

logger = logging.getLogger(__name__)

SMOOTHING_MM = 1.5
VERTEX_AREA = 0.05  # fraction of the largest slice; a sphere of head size reaches it 2-3 mm below its top
CUT_KEY = "head_cut_mm"
CUT_AREA = 0.65  # fraction of the largest slice; with a larger top slice the distance of the vertex cannot be estimated
CUT_MM = 5.0  # a vertex closer to the topmost slice is taken as that slice
FIT_MM = 40.0  # the areas of the slices in this distance below the topmost one give the vertex above it


def head_mask(volume: np.ndarray, spacing: Sequence[float], threshold: float = 0.1) -> np.ndarray:
    """Return the largest bright object of a volume on a dark background as bool, (X, Y, Z).

    The cut is at the fraction `threshold` between the 1st and the 99th percentile of the lightly smoothed volume;
    percentiles, because neither bright fat nor a few hot pixels change them.
    """
    sigma = [SMOOTHING_MM / step if size > 1 else 0.0 for step, size in zip(spacing, volume.shape)]
    smooth = gaussian(volume.astype(np.float32), sigma=sigma, preserve_range=True)
    low, high = np.percentile(smooth, [1, 99])
    bright = smooth > low + threshold * (high - low)
    components = label(bright, connectivity=1)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return components == sizes.argmax() if sizes.any() else np.ones_like(bright)


def vertex_slice(head: np.ndarray) -> int:
    """Return the topmost slice (third axis to Superior) in which the head is more than a tip."""
    areas = head.sum(axis=(0, 1))
    return int(np.flatnonzero(areas > VERTEX_AREA * areas.max())[-1])


def mm_to_vertex(head: np.ndarray, step_mm: float) -> float:
    """Return the distance in mm from the topmost slice up to the vertex of a head that is cut off there.

    0 if the volume reaches the vertex, to one slice and 5 mm; NaN if the distance cannot be estimated. The areas of an
    ellipsoid's slices are a quadratic function of height: one is fitted to the topmost 40 mm and followed upwards.
    """
    shares = head.sum(axis=(0, 1)) / head.sum(axis=(0, 1)).max()
    if shares[-1] <= VERTEX_AREA:
        return 0.0
    count = max(3, int(FIT_MM / step_mm) + 1)
    if shares[-1] > CUT_AREA or len(shares) < count:
        return float("nan")
    curve = np.polynomial.Polynomial.fit(np.arange(1 - count, 1) * step_mm, shares[-count:], 2)
    roots = (curve - VERTEX_AREA).roots()
    above = roots[np.isreal(roots) & (roots.real > 0)].real
    slices = np.floor(above.min() / step_mm) if above.size else np.nan
    return 0.0 if slices * step_mm < max(CUT_MM, 2 * step_mm) else float(slices * step_mm)


def cut_reason(image: torch.Tensor) -> str:
    """Return why the slab of a prepared head was not found, "" if it was."""
    if not np.isnan(_missing_mm(image)):
        return ""
    return (
        "the top of the head is outside the volume, so the slab to analyse cannot be found: use a volume of the head "
        "up to its vertex"
    )


def cut_remark(image: torch.Tensor) -> str:
    """Return how the slab of a prepared head was found although its top is cut off, "" if it is complete."""
    missing = _missing_mm(image)
    if not missing > 0:
        return ""
    return (
        f"The top of the head is outside the volume: by the shape of the head, the vertex is about {missing:.0f} mm "
        "above the topmost slice, and the analysed slab is counted from there."
    )


def _missing_mm(image: torch.Tensor) -> float:
    """What CropHead found: 0 = the head is complete, or the image is not a volume of one."""
    return float(image.meta.get(CUT_KEY, 0.0)) if isinstance(image, MetaTensor) else 0.0


def square_box(plane: np.ndarray, spacing: Sequence[float], margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Return start and end (exclusive) of the box around `plane`'s True pixels, square in millimetres.

    `margin` is added on each side as a fraction of the longer side. The box may leave the image.
    """
    step = np.asarray(spacing[:2], dtype=float)
    inside = [np.flatnonzero(plane.any(axis=1 - axis)) for axis in range(2)]
    first, last = (np.array([indices[end] for indices in inside]) for end in (0, -1))
    side_mm = ((last + 1 - first) * step).max() * (1 + 2 * margin)
    size = np.maximum(np.round(side_mm / step), 1).astype(int)
    start = np.round((first + last + 1 - size) / 2).astype(int)
    return start, start + size


class CropHead(CropForeground):
    """Crop a study in LPS orientation, (C, X, Y, Z), to the slab of the head that is analysed. Invertible.

    Along Z, slices with their centre `slab_mm` below the vertex, the topmost slice of the head, are kept. In the plane,
    the box around the head in those slices, widened by `margin`, is made square in millimetres; zeros fill the part
    outside the image. The inverse restores the exact original grid, with zeros outside the box.

    If the head is cut off at the top, the vertex is estimated (see mm_to_vertex), and its distance above the topmost
    slice is kept in `meta["head_cut_mm"]`. It is NaN where the vertex cannot be estimated or a part of the slab is
    above the volume: the slab is then counted from the topmost slice, and the input check rejects the study.

    Args:
        slab_mm: (a, b) with 0 <= a < b, millimetres below the vertex. None keeps all slices. A study of one
            slice (Z = 1) keeps it, whatever `slab_mm`.
        margin: added on each side of the head, as a fraction of the longer side of its box.
        threshold: edge of the head, see head_mask.

    Raises:
        NomalyError: if `slab_mm` is not a range, the study is not in LPS orientation, or the slab selects no slice.
    """

    def __init__(self, slab_mm: Sequence[float] | None = None, margin: float = 0.05, threshold: float = 0.1) -> None:
        super().__init__()
        if slab_mm is not None and not (len(slab_mm) == 2 and 0 <= slab_mm[0] < slab_mm[1]):
            raise NomalyError(f"slab_mm must be [a, b] with 0 <= a < b millimetres, got {slab_mm}. Correct the config.")
        if margin < 0:
            raise NomalyError(f"margin must be a fraction of the head's side, >= 0, got {margin}. Correct the config.")
        self.slab_mm = None if slab_mm is None else (float(slab_mm[0]), float(slab_mm[1]))
        self.head_margin = margin
        self.threshold = threshold

    def compute_bounding_box(self, img: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return start and end (exclusive) of the box in voxels; the in-plane box may leave the image."""
        name = img.meta.get("case", "the study") if isinstance(img, MetaTensor) else "the study"
        affine = np.asarray(img.affine) if isinstance(img, MetaTensor) else np.diag([-1.0, -1.0, 1.0, 1.0])
        if nib.aff2axcodes(affine) != ("L", "P", "S"):
            raise NomalyError(
                f"CropHead needs LPS orientation, but {name} is in {''.join(nib.aff2axcodes(affine))}. "
                'Put Orientationd(axcodes="LPS") before it.'
            )
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        volume = np.asarray(img.mean(dim=0))
        head = head_mask(volume, spacing, self.threshold)
        missing = self._missing_mm(head, float(spacing[2]), str(name))
        if isinstance(img, MetaTensor):
            img.meta[CUT_KEY] = missing
        first, last = self._slab(head, float(spacing[2]), float(np.nan_to_num(missing)), str(name))
        plane = np.asarray(head[..., first : last + 1].any(axis=2))
        start, end = square_box(plane, spacing, self.head_margin)
        return np.append(start, first), np.append(end, last + 1)

    def _missing_mm(self, head: np.ndarray, step_mm: float, name: str) -> float:
        """Return the distance from the topmost slice to the vertex above it; NaN if the slab cannot be found."""
        if head.shape[2] == 1 or self.slab_mm is None:
            return 0.0
        missing = mm_to_vertex(head, step_mm)
        if missing == 0:
            return missing
        logger.warning("%s does not reach the top of the head.", name)
        return missing if missing <= self.slab_mm[0] else float("nan")

    def _slab(self, head: np.ndarray, step_mm: float, missing_mm: float, name: str) -> tuple[int, int]:
        """Return the first and last slice (inclusive) that the slab selects."""
        if head.shape[2] == 1 or self.slab_mm is None:
            return 0, head.shape[2] - 1
        areas = head.sum(axis=(0, 1))
        below = (vertex_slice(head) - np.arange(head.shape[2])) * step_mm + missing_mm
        chosen = np.flatnonzero((below >= self.slab_mm[0]) & (below <= self.slab_mm[1]) & (areas > 0))
        if chosen.size == 0:
            raise NomalyError(
                f"slab_mm {list(self.slab_mm)} selects no slice of {name}: the volume covers {missing_mm:.0f} to "
                f"{below[0]:.0f} mm below the vertex in steps of {step_mm:g} mm. Choose another slab_mm, or a volume "
                "of the whole head."
            )
        return int(chosen[0]), int(chosen[-1])


class CropHeadd(MapTransform, InvertibleTransform):
    """Dictionary version of :py:class:`CropHead`: the box found on `source_key` crops every key.

    Args:
        keys: keys to crop; missing ones are skipped.
        source_key: key of the image that shows the head.
        slab_mm: see CropHead.
        margin: see CropHead.
    """

    def __init__(
        self,
        keys: Sequence[Hashable] | Hashable = ("image", "mask"),
        source_key: Hashable = "image",
        slab_mm: Sequence[float] | None = None,
        margin: float = 0.05,
        allow_missing_keys: bool = True,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.source_key = source_key
        self.cropper = CropHead(slab_mm, margin)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        start, end = self.cropper.compute_bounding_box(item[self.source_key])
        for key in self.key_iterator(item):
            item[key] = self.cropper.crop_pad(item[key], start, end)
        return item

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Put the images at `keys` back onto the grid that they were cropped from."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.cropper.inverse(item[key])
        return item
