"""Anatomy of a head from its intensities, without a trained model: head, brain, ventricles, grey levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from custom.errors import NomalyError

_PLANE = ndimage.generate_binary_structure(2, 1)[:, :, None]  # neighbours inside a slice only


def smooth_noise(
    rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float], wavelength: float
) -> np.ndarray:
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
        ventricles: dark cavities deep in the brain, near its middle; may be empty.
        depth: millimetres below the brain's surface inside its slice; 0 outside the brain.
        centre: brain's centre of mass in voxels.
        width: in millimetres; 0.9 of the diameter of a disc as large as the largest slice (a head is longer than wide).
        white: grey level of the bright tissue (white matter in T1w).
        dark: grey level of fluid.
        spacing: millimetres per voxel.
    """

    head: np.ndarray
    brain: np.ndarray
    ventricles: np.ndarray
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
            NomalyError: nothing in the image is brighter than the background.
        """
        head = _head(volume)
        area = head.sum(axis=(0, 1)).max() * spacing[0] * spacing[1]
        width = 0.9 * 2.0 * float(np.sqrt(area / np.pi))
        brain = _brain(volume, head, width, spacing)
        values = volume[brain]
        dark, white = np.percentile(values, (1, 75))
        depth = distance_in_slice(brain, spacing)
        centre = np.array([axis.mean() for axis in np.nonzero(brain)])
        ventricles = _ventricles((volume < 0.5 * white) & (depth > 0.19 * width), centre, width, spacing)
        dark = min(dark, 0.3 * white)
        return cls(head, brain, ventricles, depth, centre, width, float(white), float(dark), spacing)


def distance_in_slice(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Millimetres to the mask's border inside each slice; the image's edge counts as border."""
    # the huge third spacing keeps the slices apart
    padded = np.pad(mask, ((1, 1), (1, 1), (0, 0)))
    return ndimage.distance_transform_edt(padded, sampling=(spacing[0], spacing[1], 1e4))[1:-1, 1:-1].astype(np.float32)


def _filled(mask: np.ndarray) -> np.ndarray:
    """The mask with the holes of each slice filled."""
    return np.stack([ndimage.binary_fill_holes(mask[..., z]) for z in range(mask.shape[2])], axis=-1)


def _largest(mask: np.ndarray, weight: np.ndarray | None = None) -> np.ndarray:
    """The connected part with the most voxels (or the largest sum of ``weight``)."""
    parts, count = ndimage.label(mask)
    if count <= 1:
        return mask
    sums = np.bincount(parts.ravel(), weights=None if weight is None else weight.ravel())
    sums[0] = 0
    return parts == sums.argmax()


def _ventricles(dark: np.ndarray, centre: np.ndarray, width: float, spacing: Sequence[float]) -> np.ndarray:
    """Parts of a slice's dark voxels that are larger than specks and near the brain's middle, unlike sulci."""
    parts, _ = ndimage.label(dark, structure=_PLANE * np.array([0, 1, 0], bool))
    size = np.maximum(np.bincount(parts.ravel()), 1)
    off = [
        (np.bincount(parts.ravel(), weights=np.broadcast_to(line, dark.shape).ravel()) / size - c) * s
        for line, c, s in zip(np.ogrid[[slice(0, n) for n in dark.shape]][:2], centre, spacing)
    ]
    keep = (size * spacing[0] * spacing[1] > 0.002 * width**2) & (np.hypot(*off) < 0.2 * width)
    keep[0] = False
    return keep[parts]


def _head(volume: np.ndarray) -> np.ndarray:
    """The largest bright object with everything it encloses, slice by slice."""
    bright = volume > max(0.12 * np.percentile(volume, 99), volume.min() + 1e-3)
    # closing repairs a thin scalp; filling comes first, so that the brain does not outweigh the scalp around it
    solid = _filled(ndimage.binary_closing(bright, _PLANE, 2))
    head = _largest(ndimage.binary_opening(solid, _PLANE))  # opening drops specks of noise
    if not head.any():
        raise NomalyError(
            f"image has no foreground: a synthetic lesion needs a head brighter than its background, got values in "
            f"[{volume.min():.3g}, {volume.max():.3g}]; check that the image was loaded and scaled to [0, 1]."
        )
    return head


def _brain(volume: np.ndarray, head: np.ndarray, width: float, spacing: Sequence[float]) -> np.ndarray:
    """Bright tissue separated from the scalp by the dark skull; without a visible skull, the inner part of the head."""
    depth = distance_in_slice(head, spacing)
    peeled = depth > 0.09 * width
    if not peeled.any():
        return head
    tissue = (volume > 0.45 * np.median(volume[peeled])) & (depth > 0.035 * width)
    steps = max(1, round(0.018 * width / spacing[0]))
    core = _largest(ndimage.binary_erosion(tissue, _PLANE, steps), depth)
    brain = ndimage.binary_dilation(core, _PLANE, 3 * steps)
    brain = ndimage.binary_erosion(_filled(brain), _PLANE, 2 * steps) & head
    return brain if brain.sum() > 0.3 * head.sum() else peeled
