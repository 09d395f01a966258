"""The least size of a region over the pixel threshold, from healthy studies alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from custom.errors import NomalyError


def minimum_region(sizes: Sequence[ArrayLike], false_regions_per_study: float) -> int:
    """Least size, in pixels, so that healthy studies have at most so many regions of this size or more on average.

    Args:
        sizes: for each healthy study the sizes of its regions over the pixel threshold.
        false_regions_per_study: allowed mean number of false regions of a healthy study, >= 0.

    Returns:
        At least 1; one more than the largest region where none is allowed.

    Raises:
        NomalyError: a negative number is allowed, or there is no study.
    """
    if not false_regions_per_study >= 0:
        raise NomalyError(f"false_regions_per_study must be a mean number >= 0, got {false_regions_per_study}.")
    if len(sizes) == 0:
        raise NomalyError("sizes must be of at least one healthy study, got none.")
    allowed = int(np.floor(false_regions_per_study * len(sizes) + 1e-9))
    pooled = np.sort(np.concatenate([np.asarray(study, dtype=np.int64).ravel() for study in sizes]))[::-1]
    return 1 if len(pooled) <= allowed else int(pooled[allowed]) + 1
