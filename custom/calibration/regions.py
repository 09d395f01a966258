"""The minimum size of a region above the pixel threshold, from healthy studies only."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from custom.errors import NomalyError


def minimum_region(sizes: Sequence[ArrayLike], false_regions_per_study: float) -> int:
    """Minimum size in pixels for which healthy studies have at most the allowed mean number of regions.

    Args:
        sizes: for each healthy study, the sizes of its regions above the pixel threshold.
        false_regions_per_study: allowed mean number of false regions per healthy study, >= 0.

    Returns:
        At least 1; one more than the largest region if no false region is allowed.

    Raises:
        NomalyError: ``false_regions_per_study`` is negative, or there are no studies.
    """
    if not false_regions_per_study >= 0:
        raise NomalyError(f"false_regions_per_study must be a mean number >= 0, got {false_regions_per_study}.")
    if len(sizes) == 0:
        raise NomalyError("sizes must cover at least one healthy study, got none.")
    allowed = int(np.floor(false_regions_per_study * len(sizes) + 1e-9))
    pooled = np.sort(np.concatenate([np.asarray(study, dtype=np.int64).ravel() for study in sizes]))[::-1]
    return 1 if len(pooled) <= allowed else int(pooled[allowed]) + 1
