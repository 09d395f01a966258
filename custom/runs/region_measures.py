"""Sizes and positions of numbered regions, in physical units where they are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage


@dataclass(frozen=True)
class Region:
    """One numbered region of a label image.

    Attributes:
        number: value in the label image.
        size: size in `unit`.
        unit: "ml" for volumes, "mm2" for 2-D images of known spacing, "px" where the spacing is unknown.
        centre: mean position; millimetres in the world coordinates of the affine, or indices without an affine.
    """

    number: int
    size: float
    unit: str
    centre: tuple[float, ...]


def measure_regions(
    labels: ArrayLike, spacing: Sequence[float] | None = None, affine: ArrayLike | None = None
) -> list[Region]:
    """Measure the regions of a label image in the order of their numbers; numbers that do not occur are omitted.

    Args:
        labels: (X, Y) or (X, Y, Z) of whole numbers, 0 = no region.
        spacing: voxel size in millimetres along each axis, or None if unknown.
        affine: (4, 4) from indices to millimetres; None leaves the centres as indices.

    Raises:
        ValueError: if `spacing` does not match the axes of the labels.
    """
    labels = np.asarray(labels).round().astype(np.int64)
    if spacing is not None and len(spacing) != labels.ndim:
        raise ValueError(f"spacing must have one entry for each of the labels' {labels.ndim} axes, got {len(spacing)}.")
    unit, voxel_size = _unit(spacing)
    if (
        unit == "ml" and affine is not None
    ):  # slices of a tilted gantry are sheared: the product of the sides is too big
        voxel_size = abs(float(np.linalg.det(np.asarray(affine, dtype=np.float64)[:3, :3]))) / 1000
    counts = np.bincount(labels.ravel())
    numbers = [number for number in range(1, len(counts)) if counts[number]]
    if not numbers:
        return []
    centres = ndimage.center_of_mass(np.ones_like(labels), labels, numbers)
    return [
        Region(number, float(counts[number] * voxel_size), unit, _place(centre, affine))
        for number, centre in zip(numbers, centres)
    ]


def _place(centre: Sequence[float], affine: ArrayLike | None) -> tuple[float, ...]:
    """Position in the world coordinates of the affine, or the indices without one."""
    if affine is None:
        return tuple(float(index) for index in centre)
    homogeneous = [*centre, *[0.0] * (3 - len(centre)), 1.0]
    return tuple(float(value) for value in (np.asarray(affine, dtype=np.float64) @ homogeneous)[:3])


def _unit(spacing: Sequence[float] | None) -> tuple[str, float]:
    """Unit of size, and the size of one voxel in it."""
    if spacing is None:
        return "px", 1.0
    product = float(np.prod(spacing))
    return ("ml", product / 1000) if len(spacing) == 3 else ("mm2", product)
