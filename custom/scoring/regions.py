"""Regions: the connected parts of a mask on the network's grid, of a map over its threshold or of the truth."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage


def label_regions(
    anomaly_map: ArrayLike, threshold: float, minimum_size: int = 1
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.int64]]:
    """Label the regions above the threshold, the most massive first.

    Args:
        anomaly_map: (X, Y, Z) or (1, X, Y, Z), larger = more abnormal.
        threshold: map value above which (strictly) a pixel is abnormal.
        minimum_size: regions of fewer pixels are left out.

    Returns:
        Labels of the map's shape (0 = no region); for each region, in the order of the labels, its mass, the sum of
        map minus threshold, and its size in pixels.
    """
    values = np.asarray(anomaly_map, dtype=np.float64)
    labels = label_components(values > threshold, minimum_size)
    masses = np.bincount(labels.ravel(), (values - threshold).ravel(), minlength=1)[1:].astype(np.float64, copy=False)
    order = np.argsort(-masses, kind="stable")
    number = np.zeros(len(masses) + 1, dtype=np.int32)
    number[order + 1] = np.arange(1, len(masses) + 1)
    return number[labels], masses[order], sizes(labels)[order]


def label_components(mask: ArrayLike, minimum_size: int = 1) -> NDArray[np.int32]:
    """Label the components of a mask 1, 2, ...; pixels that touch at a corner are connected.

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
