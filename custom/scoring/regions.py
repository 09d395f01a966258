"""Regions: the connected parts of an anomaly map over its threshold."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage


def label_regions(
    anomaly_map: ArrayLike, threshold: float, minimum_size: int = 1
) -> tuple[NDArray[np.int32], NDArray[np.float64], NDArray[np.int64]]:
    """Number the regions over the threshold, the most massive first; pixels that touch by a corner belong together.

    Args:
        anomaly_map: (X, Y, Z) or (1, X, Y, Z), larger = more abnormal.
        threshold: map value above which (strictly) a pixel is abnormal.
        minimum_size: regions of fewer pixels are left out.

    Returns:
        Labels of the map's shape (0 = no region), and of each region in their order the mass, which is the sum of map
        minus threshold, and the size in pixels.
    """
    values = np.asarray(anomaly_map, dtype=np.float64)
    labels, count = ndimage.label(values > threshold, structure=np.ones((3,) * values.ndim))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    masses = np.bincount(labels.ravel(), (values - threshold).ravel(), minlength=count + 1)[1:]
    kept = np.flatnonzero(sizes >= minimum_size)
    kept = kept[np.argsort(-masses[kept], kind="stable")]
    number = np.zeros(count + 1, dtype=np.int32)
    number[kept + 1] = np.arange(1, len(kept) + 1)
    return number[labels], masses[kept], sizes[kept]
