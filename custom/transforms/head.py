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
CUT_AREA = 0.5  # a top slice this large means that the volume does not reach the vertex


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
        first, last = self._slab(head, float(spacing[2]), str(name))
        plane = np.asarray(head[..., first : last + 1].any(axis=2))
        start, end = square_box(plane, spacing, self.head_margin)
        return np.append(start, first), np.append(end, last + 1)

    def _slab(self, head: np.ndarray, step_mm: float, name: str) -> tuple[int, int]:
        """Return the first and last slice (inclusive) that the slab selects."""
        if head.shape[2] == 1 or self.slab_mm is None:
            return 0, head.shape[2] - 1
        vertex = vertex_slice(head)
        areas = head.sum(axis=(0, 1))
        if vertex == head.shape[2] - 1 and areas[-1] > CUT_AREA * areas.max():
            logger.warning("%s does not reach the top of the head: slab_mm is counted from its topmost slice.", name)
        below = (vertex - np.arange(head.shape[2])) * step_mm
        chosen = np.flatnonzero((below >= self.slab_mm[0]) & (below <= self.slab_mm[1]) & (areas > 0))
        if chosen.size == 0:
            raise NomalyError(
                f"slab_mm {list(self.slab_mm)} selects no slice of {name}: the volume covers 0 to {below[0]:.0f} mm "
                f"below the vertex in steps of {step_mm:g} mm. Choose another slab_mm, or a volume of the whole head."
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
