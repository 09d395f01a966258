"""Near-duplicates among studies: copies, also recompressed, resized or of another brightness, inflate every figure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate
from tqdm import tqdm

from custom.errors import NomalyError
from custom.studies.items import ImageSource
from custom.studies.readers import read_study

SIDE = 32  # pixels of a thumbnail
# Copies agree to 0.99 and more, films of different patients in similar position to 0.95 and heads to 0.96.
SAME = 0.99
ROWS = 1000  # that are compared at once


def thumbnail_of(image: ImageSource) -> NDArray[np.float32] | None:
    """(SIDE * SIDE,) thumbnail of the middle slice, with mean 0 and length 1; None if the study cannot be read."""
    try:
        values = read_study(image).as_tensor().float().mean(0)
    except NomalyError:
        return None  # reported when the study is used
    plane = values[..., values.shape[2] // 2] if values.ndim == 3 else values
    if plane.ndim != 2 or not torch.isfinite(plane).all():
        return None
    small = interpolate(plane[None, None], (SIDE, SIDE), mode="area").flatten().numpy()
    small = small - small.mean()
    length = float(np.linalg.norm(small))
    return (small / length).astype(np.float32) if length > 0 else None


def near_duplicates(images: Sequence[ImageSource]) -> list[tuple[int, int]]:
    """Pairs of positions of studies that show nearly the same image, in order."""
    shown = tqdm(images, desc="Looking for duplicates", unit="study", delay=2, leave=False, disable=None)
    thumbnails = {
        index: thumbnail for index, image in enumerate(shown) if (thumbnail := thumbnail_of(image)) is not None
    }
    positions = list(thumbnails)
    if not positions:
        return []
    matrix = np.stack(list(thumbnails.values()))
    pairs = []
    for start in range(0, len(matrix), ROWS):
        alike = matrix[start : start + ROWS] @ matrix.T >= SAME
        pairs += [
            (positions[start + row], positions[other]) for row, other in np.argwhere(alike) if start + row < other
        ]
    return pairs
