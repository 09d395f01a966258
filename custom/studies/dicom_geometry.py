"""Geometry of a DICOM stack from its headers: the order of its slices, its affine, and its faults.

Terms and rules follow DICOM PS3.3 C.7.6.2 (Image Plane): positions in mm, LPS.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from custom.studies.formats import load_error

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
ALIKE = 1e-3  # direction cosines and spacings, mm
ROUNDED = 6e-3  # direction cosines of one orientation, of which some were rounded to two decimals (0.3 degrees)
SAME_POSITION = 1e-3  # mm
UNEVEN, ROUNDING = 0.02, 0.01  # of the step between slices, and mm: scanners round their positions


@dataclass(frozen=True)
class Plane:
    """Position and grid of one slice.

    Attributes:
        position: centre of the first pixel, LPS mm, (3,).
        cosines: directions of rising column and of rising row, (6,).
        spacing: between rows, then between columns, mm, (2,).
        size: (columns, rows).
        depth: distance to the next slice in the header, mm; 1 if it is missing.
    """

    position: np.ndarray
    cosines: np.ndarray
    spacing: np.ndarray
    size: tuple[int, int]
    depth: float = 1.0

    @property
    def normal(self) -> np.ndarray:
        """Direction in which slices are stacked, (3,)."""
        return np.cross(self.cosines[:3], self.cosines[3:])


def numbers(source: Dataset | None, keyword: str, count: int) -> np.ndarray | None:
    """Return a tag's finite numbers, (count,); None if it is missing or invalid."""
    value = None if source is None else source.get(keyword)
    try:
        found = np.asarray(value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        return None
    return found if found.size == count and np.isfinite(found).all() else None


def pixel_spacing(source: Dataset | None, *keywords: str) -> np.ndarray | None:
    """Return the first of these spacings that is two positive numbers, (between rows, between columns) in mm."""
    found = [numbers(source, keyword, 2) for keyword in keywords]
    return next((spacing for spacing in found if spacing is not None and (spacing > 0).all()), None)


def plane_of(
    position: Dataset | None, orientation: Dataset | None, measures: Dataset | None, size: tuple[int, int]
) -> Plane | None:
    """Return the plane of a slice; None if a tag is missing or invalid.

    Args:
        position: header, or functional group of a frame, with ImagePositionPatient.
        orientation: the same for ImageOrientationPatient.
        measures: the same for PixelSpacing.
        size: (columns, rows).
    """
    where, cosines = numbers(position, "ImagePositionPatient", 3), numbers(orientation, "ImageOrientationPatient", 6)
    spacing = pixel_spacing(measures, "PixelSpacing")
    if where is None or cosines is None or spacing is None:
        return None
    if abs(np.linalg.norm(np.cross(cosines[:3], cosines[3:])) - 1) > 10 * ALIKE:
        return None
    depths = [numbers(measures, keyword, 1) for keyword in ("SpacingBetweenSlices", "SliceThickness")]
    depth = next((float(depth[0]) for depth in depths if depth is not None and depth[0] > 0), 1.0)
    return Plane(where, cosines, spacing, size, depth)


def stack_order(planes: Sequence[Plane], path: Path) -> list[int]:
    """Return the order of slices along their normal.

    Args:
        planes: planes of one series, in any order.
        path: path of the study, for errors.

    Raises:
        NomalyError: if they do not form one evenly spaced stack: several orientations, sizes or pixel spacings, several
            images at one position, missing slices, uneven distances, a bent stack.
    """
    if not planes:
        raise load_error(path, "a series must have at least one image, but it has none", "Export it again.")
    _check_alike(planes, path)
    depths = np.array([plane.position @ _exact(planes).normal for plane in planes])
    order = np.argsort(depths, kind="stable")
    _check_one_image_each(depths[order], path)
    _check_steps(depths[order], path)
    _check_straight(np.array([planes[index].position for index in order]), path)
    return order.tolist()


def stack_affine(planes: Sequence[Plane]) -> np.ndarray:
    """Return the affine (4 x 4, RAS mm) of (column, row, slice) for slices in order.

    The third column is (last - first) / (n - 1), which is also correct for a tilted gantry.
    """
    first, exact = planes[0], _exact(planes)
    affine = np.eye(4)
    affine[:3, 0] = exact.cosines[:3] * first.spacing[1]
    affine[:3, 1] = exact.cosines[3:] * first.spacing[0]
    affine[:3, 2] = exact.normal * first.depth
    if len(planes) > 1:
        affine[:3, 2] = (planes[-1].position - first.position) / (len(planes) - 1)
    affine[:3, 3] = first.position
    return LPS_TO_RAS @ affine


def _exact(planes: Sequence[Plane]) -> Plane:
    """Return the plane with the direction cosines to use: the first, or the least rounded one where they differ."""
    if len(_kinds([plane.cosines for plane in planes])) == 1:
        return planes[0]
    axes = [plane.cosines.reshape(2, 3) for plane in planes]
    return planes[int(np.argmin([np.abs(pair @ pair.T - np.eye(2)).max() for pair in axes]))]


def _check_alike(planes: Sequence[Plane], path: Path) -> None:
    """Reject slices of several orientations, sizes or pixel spacings."""
    orientations = _kinds([plane.cosines for plane in planes], ROUNDED)
    if len(orientations) > 1:
        found = " + ".join(str(count) for _, count in orientations[:5])
        raise load_error(
            path,
            f"all slices must have one orientation, but they have {len(orientations)} ({found} slices): a localizer, "
            "or several stacks in one series",
            "Use one stack as a separate series.",
        )
    sizes = Counter(plane.size for plane in planes).most_common()
    if len(sizes) > 1:
        found = _counts(sizes, lambda size: f"{size[0]} x {size[1]}")
        step = "Use the slices of one size as a separate series."
        raise load_error(path, f"all slices must have one size, but they have {found}", step)
    spacings = _kinds([plane.spacing for plane in planes])
    if len(spacings) > 1:
        found = _counts(spacings, lambda spacing: f"{spacing[0]:g} x {spacing[1]:g} mm")
        step = "Use the slices of one spacing as a separate series."
        raise load_error(path, f"all slices must have one PixelSpacing, but they have {found}", step)


def _kinds(vectors: Sequence[np.ndarray], tolerance: float = ALIKE) -> list[tuple[np.ndarray, int]]:
    """Return the distinct vectors with their counts, most frequent first."""
    kinds: list[list] = []
    for vector in vectors:
        same = next((kind for kind in kinds if np.abs(kind[0] - vector).max() <= tolerance), None)
        if same is None:
            kinds.append([vector, 1])
        else:
            same[1] += 1
    return [(vector, count) for vector, count in sorted(kinds, key=lambda kind: -kind[1])]


def _counts(kinds: Sequence[tuple], text: Callable) -> str:
    """Return the kinds and their counts as text."""
    return ", ".join(f"{text(kind)} ({count} slices)" for kind, count in kinds[:5])


def _check_one_image_each(depths: np.ndarray, path: Path) -> None:
    """Reject several images at one position."""
    places = np.cumsum(np.diff(depths, prepend=depths[0]) > SAME_POSITION)
    counts = np.bincount(places)
    if counts.max() > 1:
        many = counts.max()
        each = f"has {many} at each of its" if counts.min() == many else f"has up to {many} at a position, on"
        raise load_error(
            path,
            f"a volume must have one image at each position, but this series {each} {len(counts)} positions (several "
            "echoes, time points or reconstructions)",
            "Use one of them as a separate series.",
        )


def _check_steps(depths: np.ndarray, path: Path) -> None:
    """Reject missing slices and uneven distances."""
    gaps = np.diff(depths)
    if not gaps.size:
        return
    step = np.sort(gaps)[(gaps.size - 1) // 2]
    tolerance = max(UNEVEN * step, ROUNDING)
    uneven = np.abs(gaps - step) > tolerance
    if not uneven.any():
        return
    multiples = np.round(gaps / step)
    if (np.abs(gaps - multiples * step) <= multiples * tolerance).all() and multiples.min() > 0:
        places = np.flatnonzero(multiples > 1)
        lost, where = int((multiples - 1).sum()), f"after the position {depths[places[0]]:.2f} mm"
        among = where if len(places) == 1 else f"at {len(places)} places, the first {where}"
        raise load_error(
            path,
            f"slices must follow each other every {step:.2f} mm, but {lost} {'is' if lost == 1 else 'are'} missing "
            f"{among} along the stack",
            "Send the series again: its transfer was incomplete.",
        )
    raise load_error(
        path,
        f"slices must be equally spaced, but they are {gaps.min():.2f} to {gaps.max():.2f} mm apart",
        "Resample the series to equal distances and use it as NIfTI.",
    )


def _check_straight(positions: np.ndarray, path: Path) -> None:
    """Reject a stack whose slices drift sideways unevenly."""
    if len(positions) < 3:
        return
    steps = np.diff(positions, axis=0)
    mean = (positions[-1] - positions[0]) / (len(positions) - 1)
    off = float(np.linalg.norm(steps - mean, axis=1).max())
    # twice: the mean may be off by as much as each step
    if off > max(2 * UNEVEN * float(np.linalg.norm(mean)), 2 * ROUNDING):
        raise load_error(
            path,
            f"slices must be on a straight line, but a step between two is {off:.2f} mm off the mean step",
            "Resample the series to one grid and use it as NIfTI.",
        )
