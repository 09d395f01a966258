"""Spacing, field of view and tilt of a study, in millimetres and degrees, where its file specifies them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

# The measures with their wording; each is one row of the ranges that calibration learns.
MEASURES = {
    "pixel": "the pixels are {value} mm wide",
    "step": "the slices are {value} mm apart",
    "field": "the image is {value} mm wide",
}
# Factors by which a measure may be below the minimum and above the maximum of the healthy studies. Finer pixels and
# slices are always accepted, as every study is resampled to the network's grid. Heads of all ages differ by a factor
# of 2.
BELOW = {"pixel": np.inf, "step": np.inf, "field": 2.0}
ABOVE = {"pixel": 3.0, "step": 3.0, "field": 2.0}


def measure(image: Any) -> np.ndarray:
    """(3,) pixel width, slice distance, longer side of the field of view in mm; NaN where unknown.

    Args:
        image: study (C, X, Y, Z) after preprocessing; `original_affine` and `spacing_known` are read from its metadata.
    """
    meta = getattr(image, "meta", {})
    if not meta.get("spacing_known", False):
        return np.full(len(MEASURES), np.nan)
    affine = np.asarray(image.affine, np.float64)[:3, :3]
    steps = np.linalg.norm(np.asarray(meta.get("original_affine", image.affine), np.float64)[:3, :3], axis=0)
    through = slice_axis(meta.get("original_affine", image.affine), affine) if image.shape[3] > 1 else 2
    sides = np.linalg.norm(affine[:, :2], axis=0) * image.shape[1:3]
    step = steps[through] if image.shape[3] > 1 else np.nan
    return np.array([np.delete(steps, through).mean(), step, sides.max()])


def slice_axis(original: Any, affine: np.ndarray) -> int:
    """Axis of the file along which the slices of the preprocessed study are stacked."""
    directions = unit(np.asarray(original, np.float64)[:3, :3])
    return int(np.argmax(np.abs(directions.T @ unit(affine)[:, 2])))


def ranges(measures: Sequence[np.ndarray]) -> np.ndarray:
    """(3, 2) minimum and maximum of the healthy studies' measures; 0 where unknown."""
    table = np.asarray(measures, np.float64).reshape(-1, len(MEASURES))
    known = ~np.isnan(table)
    least = np.where(known, table, np.inf).min(0, initial=np.inf)
    greatest = np.where(known, table, 0.0).max(0, initial=0.0)
    return np.stack([np.where(np.isfinite(least), least, 0.0), greatest], axis=1)


def spacing_reasons(measures: np.ndarray, healthy: np.ndarray) -> list[str]:
    """Which measures (3,) of a study are outside the widened ranges (3, 2) of the healthy studies."""
    reasons = []
    for (name, words), value, (least, greatest) in zip(MEASURES.items(), measures, healthy):
        if np.isnan(value) or greatest <= 0 or least / BELOW[name] <= value <= greatest * ABOVE[name]:
            continue
        reasons.append(
            f"{words.format(value=shown(value))}; the healthy calibration studies have {span(least, greatest)} mm"
        )
    return reasons


def tilt(image: Any) -> float | None:
    """Angle in degrees between the slices of a study (C, X, Y, Z) and the nearest anatomical plane; None if unknown.

    Preprocessing has oriented a volume to the nearest anatomical axes. A single slice keeps its orientation, so it is
    compared with the axial plane.
    """
    meta = getattr(image, "meta", {})
    if not meta.get("spacing_known", False):
        return None
    if image.shape[3] > 1:
        across = np.abs(normal(image.affine)).max()
    else:
        across = np.abs(normal(meta.get("original_affine", image.affine)))[2]
    return float(np.degrees(np.arccos(np.clip(across, 0, 1))))


def normal(affine: Any) -> np.ndarray:
    """Unit vector perpendicular to the plane of the first two axes."""
    axes = unit(np.asarray(affine, np.float64)[:3, :3])
    across = np.cross(axes[:, 0], axes[:, 1])
    return across / max(float(np.linalg.norm(across)), 1e-12)


def unit(columns: np.ndarray) -> np.ndarray:
    """The columns scaled to length one."""
    return columns / np.maximum(np.linalg.norm(columns, axis=0), 1e-12)


def span(least: float, greatest: float) -> str:
    """A range as text."""
    low, high = shown(least), shown(greatest)
    return low if low == high else f"{low} to {high}"


def shown(value: float) -> str:
    """Millimetres, with decimals where they matter."""
    return f"{value:.0f}" if value >= 20 else f"{value:.1f}" if value >= 0.95 else f"{value:.2g}"
