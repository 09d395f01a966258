"""Connected components of masks on the network's grid: the lesions of the truth, the regions of a map."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage


def label_components(mask: ArrayLike, minimum_size: int = 1) -> NDArray[np.int32]:
    """Number the components of a mask 1, 2, ...; pixels that touch by a corner belong together.

    Args:
        mask: bool, of any shape; axes of length 1 do not matter.
        minimum_size: components of fewer pixels are left out.

    Returns:
        int32 of the shape of `mask`, 0 outside.
    """
    mask = np.asarray(mask, dtype=bool)
    flat = np.squeeze(mask)
    if flat.ndim == 0:
        return mask.astype(np.int32)
    labels, count = ndimage.label(flat, np.ones((3,) * flat.ndim, dtype=bool))
    if minimum_size > 1 and count:
        kept = np.bincount(labels.ravel()) >= minimum_size
        kept[0] = False
        labels = (np.cumsum(kept) * kept)[labels]
    return labels.reshape(mask.shape).astype(np.int32, copy=False)


def sizes(labels: NDArray[np.int32]) -> NDArray[np.int64]:
    """(n,) number of pixels of each component of an image of labels."""
    return np.bincount(labels.ravel(), minlength=1)[1:]


def touched(labels: NDArray[np.int32], mask: ArrayLike) -> NDArray[np.int32]:
    """Numbers of the components that share at least one pixel with a mask, ascending."""
    numbers = np.unique(labels[np.asarray(mask, dtype=bool)])
    return numbers[numbers > 0]
