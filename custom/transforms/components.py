"""Lesions: the connected components of a mask, with their sizes in units a reader can use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from skimage.measure import label, regionprops


@dataclass(frozen=True)
class Lesion:
    """One connected component.

    Attributes:
        size: in `unit`.
        unit: "ml" for volumes, "mm2" for pictures of known spacing, "px" where the spacing is unknown.
        voxels: number of voxels or pixels.
        centroid: mean index along each axis of the array.
        peak: largest value of the anomaly map inside, None without a map.
    """

    size: float
    unit: str
    voxels: int
    centroid: tuple[float, ...]
    peak: float | None = None


def lesions(
    mask: np.ndarray,
    spacing: Sequence[float] | None = None,
    anomaly_map: np.ndarray | None = None,
    min_size: float = 0.0,
) -> list[Lesion]:
    """List the components of a mask, largest first; voxels that touch by a corner belong together.

    Args:
        mask: (X, Y) or (X, Y, Z), foreground where > 0.
        spacing: voxel sides in millimetres, one for each axis, or None if unknown.
        anomaly_map: of the shape of `mask`, for `Lesion.peak`.
        min_size: smaller ones are left out; in the unit of the result.

    Raises:
        ValueError: if `spacing` or `anomaly_map` does not fit the mask.
    """
    mask = np.asarray(mask) > 0
    if spacing is not None and len(spacing) != mask.ndim:
        raise ValueError(f"spacing must have one entry for each of the mask's {mask.ndim} axes, got {len(spacing)}.")
    if anomaly_map is not None and np.shape(anomaly_map) != mask.shape:
        raise ValueError(f"anomaly_map must have the mask's shape {mask.shape}, got {np.shape(anomaly_map)}.")
    unit, voxel_size = _unit(spacing)
    found = []
    for region in regionprops(label(mask, connectivity=mask.ndim), intensity_image=anomaly_map):
        voxels = int(region.num_pixels)
        centroid = tuple(float(index) for index in region.centroid)
        peak = None if anomaly_map is None else float(region.intensity_max)
        found.append(Lesion(voxels * voxel_size, unit, voxels, centroid, peak))
    return sorted((lesion for lesion in found if lesion.size >= min_size), key=lambda lesion: -lesion.size)


def _unit(spacing: Sequence[float] | None) -> tuple[str, float]:
    """Return the unit of size and the size of one voxel in it."""
    if spacing is None:
        return "px", 1.0
    product = float(np.prod(spacing))
    return ("ml", product / 1000) if len(spacing) == 3 else ("mm2", product)
