"""A study as one picture for people who work in Python: image, pseudo-healthy image, map with regions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from skimage.segmentation import find_boundaries

from custom.errors import NomalyError
from custom.rendering.colours import map_colours, palette_of
from custom.rendering.images import as_array, as_plane, lay_over, strongest_slice, to_rgb

OUTLINES = {"grey": (64, 224, 208), "colour": (255, 225, 40)}
GAP = 4


def panels(
    image: ArrayLike,
    reconstruction: ArrayLike,
    anomaly_map: ArrayLike,
    regions: ArrayLike | None = None,
    *,
    vmax: float | None = None,
    spacing: Sequence[float] = (1.0, 1.0),
    height: int = 320,
) -> NDArray[np.uint8]:
    """Draw image, pseudo-healthy image, and the map over the image with the outlines of the regions, side by side.

    Args:
        image: (C, X, Y, Z), C = 1 or 3, values in [0, 1].
        reconstruction: pseudo-healthy image, shaped as `image`.
        anomaly_map: (1, X, Y, Z), larger = more abnormal.
        regions: (1, X, Y, Z) numbers of the regions, 0 = none; None without a calibration.
        vmax: map value shown in full colour; None = the largest of this map.
        spacing: size of a pixel along x and y in mm; sets the proportions.
        height: of the picture in pixels.

    Returns:
        (height, W, 3) uint8. Of a volume, the strongest slice of its regions, or of its map without regions.

    Raises:
        NomalyError: a height below 16.
    """
    if height < 16:
        raise NomalyError(f"height must be at least 16 pixels, got {height}: give a larger one.")
    values = as_array(anomaly_map)
    palette = palette_of(len(as_array(image)))
    labels = np.zeros(values.shape) if regions is None else as_array(regions)
    z = strongest_slice(values * (labels > 0) if labels.any() else values)
    size = max(1, round(height * values.shape[1] * spacing[0] / (values.shape[2] * spacing[1]))), height
    base, healthy = (
        _resized(to_rgb(as_plane("image", as_array(part)[..., z])), size) for part in (image, reconstruction)
    )
    field = as_plane("anomaly_map", values[..., z])[..., 0]
    layer = _resized(map_colours(field, float(values.max()) if vmax is None else vmax, palette), size)
    overlay = lay_over(base, layer)
    numbers = Image.fromarray(as_plane("regions", labels[..., z])[..., 0].astype(np.int32))
    outlined = np.asarray(numbers.resize(size, Image.Resampling.NEAREST))
    overlay[find_boundaries(outlined, mode="thick")] = OUTLINES[palette]
    gap = np.full((height, GAP, 3), 255, np.uint8)
    return np.concatenate([base, gap, healthy, gap, overlay], axis=1)


def _resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Pixels (Y, X, 3 or 4) at another width and height."""
    return np.array(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BILINEAR))
