"""Borders of masks as SVG paths."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.measure import approximate_polygon, find_contours


@dataclass(frozen=True)
class Outline:
    """Border of a mask in one slice: an SVG path in pixels, and the number of pixels inside."""

    path: str
    pixels: int


def outline_path(mask: NDArray[np.bool_]) -> str:
    """Contour of a mask (X, Y), drawn halfway between its pixels and those outside; pixel (0, 0) spans 0 to 1."""
    xs, ys = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    corner = np.array([xs[0], ys[0]])
    crop = np.pad(mask[xs[0] : xs[-1] + 1, ys[0] : ys[-1] + 1], 1).astype(float)
    rings = [approximate_polygon(ring, 0.3) for ring in find_contours(crop, 0.5, fully_connected="high")]
    # The padding shifts by one, the pixel's centre by half.
    return "".join("M" + "L".join(f"{x:g} {y:g}" for x, y in ring[:-1] + corner - 0.5) + "Z" for ring in rings)
