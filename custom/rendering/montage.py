"""All slices of a study in one picture: input, pseudo-healthy image and map, one above the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom.errors import NomalyError
from custom.rendering.images import as_array, as_plane, image_grid, to_rgb


def montage(
    image: ArrayLike,
    reconstruction: ArrayLike,
    anomaly_map: ArrayLike,
    truth: ArrayLike | None = None,
    *,
    columns: int = 8,
    vmax: float | None = None,
) -> NDArray[np.uint8]:
    """Draw every slice of a study, several in a line; each line has a row for the input, the pseudo-healthy image, the
    map over the input and, if given, the truth.

    Args:
        image: (C, X, Y, Z), C = 1 or 3, values in [0, 1].
        reconstruction: pseudo-healthy image, shaped as `image`.
        anomaly_map: (1, X, Y, Z), larger = more abnormal.
        truth: annotation mask (1, X, Y, Z) of 0 and 1, drawn in white; None = unknown.
        columns: slices in a line.
        vmax: map value shown in full colour; None = the largest of the study.

    Returns:
        (H, W, 3) uint8; ``PIL.Image.fromarray(...).save("head.png")`` writes it.

    Raises:
        NomalyError: shapes that differ, or less than one column.
    """
    parts = [as_array(part) for part in (image, reconstruction, anomaly_map, *([] if truth is None else [truth]))]
    if columns < 1:
        raise NomalyError(f"columns must be at least 1, got {columns}.")
    if len({part.shape[1:] for part in parts}) > 1 or parts[0].ndim != 4:
        shapes = ", ".join(str(part.shape) for part in parts)
        raise NomalyError(
            f"image, reconstruction, anomaly_map and truth must be (C, X, Y, Z) of one size, got {shapes}."
        )
    full = float(np.nanmax(parts[2])) if vmax is None else vmax
    depth = parts[0].shape[-1]
    lines = []
    for first in range(0, depth, columns):
        shown = [part[..., first : first + columns].transpose(3, 0, 1, 2) for part in parts]  # (slices, C, X, Y)
        line = image_grid(*shown[:3], max_cases=columns, vmax=full)
        if truth is not None:
            tiles = [np.pad(to_rgb(as_plane("truth", mask)), ((1, 1), (1, 1), (0, 0))) for mask in shown[3]]
            line = np.concatenate([line, np.concatenate(tiles, axis=1)])
        missing = min(columns, depth) - len(shown[0])
        lines.append(np.pad(line, ((0, 2), (0, missing * (line.shape[1] // len(shown[0]))), (0, 0))))
    return np.concatenate(lines)
