"""What an intensity picture of a head gives away about its anatomy, without a model: head, brain, grey levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from custom.errors import NomalyError

_PLANE = ndimage.generate_binary_structure(2, 1)[:, :, None]  # neighbours inside a slice only


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float], wavelength: float):
    """Smooth random field of unit variance.

    A coarse grid of normal values, one node per half wavelength, is interpolated by normalised Gaussians, axis by axis.

    Args:
        rng: source of the random values.
        shape: voxels along each axis.
        spacing: millimetres per voxel along each axis.
        wavelength: distance in millimetres over which the field swings once.

    Returns:
        float32 array of ``shape``, mean about 0, standard deviation about 1.
    """
    node = wavelength / 2.0
    counts = [int(np.ceil(n * s / node)) + 3 for n, s in zip(shape, spacing)]
    field = rng.standard_normal(counts, dtype=np.float32)
    for n, s, count in zip(shape, spacing, counts):
        offset = (np.arange(n) * s / node + 1.0)[:, None] - np.arange(count)[None]
        weights = np.exp(-(offset**2) / 0.72)
        weights /= np.sqrt((weights**2).sum(1, keepdims=True))  # keeps the variance at 1 between the nodes too
        # contract the leading axis; after as many turns as axes the order is the original one
        field = np.moveaxis(np.tensordot(weights.astype(np.float32), field, axes=(1, 0)), 0, -1)
    return np.ascontiguousarray(field)


@dataclass(frozen=True)
class HeadAnatomy:
    """Masks and grey levels of one head, all arrays (X, Y, Z).

    Attributes:
        head: everything inside the outer contour, slice by slice.
        brain: everything inside the skull, ventricles included.
        depth: millimetres below the brain's surface inside its slice; 0 outside the brain.
        centre: brain's centre of mass in voxels.
        width: diameter in millimetres of a disc as large as the head's largest slice, times 0.9 (a head is longer than wide).
        white: grey level of the bright tissue (white matter in T1w).
        dark: grey level of fluid.
        spacing: millimetres per voxel.
    """

    head: np.ndarray
    brain: np.ndarray
    depth: np.ndarray
    centre: np.ndarray
    width: float
    white: float
    dark: float
    spacing: tuple[float, float, float]

    @classmethod
    def of(cls, volume: np.ndarray, spacing: tuple[float, float, float]) -> "HeadAnatomy":
        """Find the anatomy of ``volume`` (X, Y, Z), values in [0, 1].

        Raises:
            NomalyError: nothing in the picture is brighter than the background.
        """
        head = _head(volume)
        area = head.sum(axis=(0, 1)).max() * spacing[0] * spacing[1]
        width = 0.9 * 2.0 * float(np.sqrt(area / np.pi))
        brain = _brain(volume, head, width, spacing)
        values = volume[brain]
        dark, white = np.percentile(values, (1, 75))
        depth = _depth(brain, spacing)
        centre = np.array([axis.mean() for axis in np.nonzero(brain)])
        return cls(head, brain, depth, centre, width, float(white), float(min(dark, 0.3 * white)), spacing)


def _depth(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Distance to the mask's border inside each slice (the far third spacing keeps the slices apart); the picture's edge is border."""
    padded = np.pad(mask, ((1, 1), (1, 1), (0, 0)))
    return ndimage.distance_transform_edt(padded, sampling=(spacing[0], spacing[1], 1e4))[1:-1, 1:-1].astype(np.float32)


def _filled(mask: np.ndarray) -> np.ndarray:
    return np.stack([ndimage.binary_fill_holes(mask[..., z]) for z in range(mask.shape[2])], axis=-1)


def _largest(mask: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """The connected part with the most voxels (or the largest sum of ``weight``)."""
    parts, count = ndimage.label(mask)
    if count <= 1:
        return mask
    sums = np.bincount(parts.ravel(), weights=None if weight is None else weight.ravel())
    sums[0] = 0
    return parts == sums.argmax()


def _head(volume: np.ndarray) -> np.ndarray:
    bright = volume > 0.12 * np.percentile(volume, 99)
    if volume.max() <= 0 or volume.max() - volume.min() < 1e-3 or not bright.any():
        raise NomalyError(
            f"image has no foreground: a synthetic lesion needs a head brighter than its background, got values in "
            f"[{volume.min():.3g}, {volume.max():.3g}]; check that the image was loaded and scaled to [0, 1]"
        )
    # closing bridges the dark skull where the scalp is thin; opening drops specks of noise
    return _filled(_largest(ndimage.binary_opening(ndimage.binary_closing(bright, _PLANE, 2), _PLANE)))


def _brain(volume: np.ndarray, head: np.ndarray, width: float, spacing: Sequence[float]) -> np.ndarray:
    """Bright tissue that is cut off from the scalp by the dark skull; a peeled head where no skull is seen."""
    depth = _depth(head, spacing)
    peeled = depth > 0.09 * width
    if not peeled.any():
        return head
    tissue = (volume > 0.45 * np.median(volume[peeled])) & (depth > 0.035 * width)
    steps = max(1, round(0.018 * width / spacing[0]))
    core = _largest(ndimage.binary_erosion(tissue, _PLANE, steps), depth)
    brain = ndimage.binary_dilation(core, _PLANE, 3 * steps)
    brain = ndimage.binary_erosion(_filled(brain), _PLANE, 2 * steps) & head
    return brain if brain.sum() > 0.3 * head.sum() else peeled
