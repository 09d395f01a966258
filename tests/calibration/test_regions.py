"""The least region of a mask, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from custom.calibration.regions import minimum_region
from custom.errors import NomalyError

SIZES = [[9, 2], [], [4, 4, 1], [30]]  # of four healthy studies


@pytest.mark.parametrize(
    ("allowed", "least"),
    [
        (0.0, 31),  # none at all
        (0.25, 10),  # one region in four studies: the one of 30
        (0.5, 5),  # two: 30 and 9
        (0.75, 5),  # three would need one of the two of 4 without the other
        (1.0, 3),
        (1.5, 1),
        (99.0, 1),
    ],
)
def test_healthy_studies_keep_at_most_the_allowed_regions(allowed: float, least: int) -> None:
    assert minimum_region(SIZES, allowed) == least
    pooled = np.concatenate([np.asarray(study) for study in SIZES])
    assert (pooled >= least).sum() <= allowed * len(SIZES)


def test_no_region_at_all_allows_every_size() -> None:
    assert minimum_region([[], []], 0.0) == 1


def test_negative_number_and_no_study_are_refused() -> None:
    with pytest.raises(NomalyError, match="false_regions_per_study must be a mean number >= 0, got -1"):
        minimum_region(SIZES, -1)
    with pytest.raises(NomalyError, match="sizes must cover at least one healthy study, got none"):
        minimum_region([], 1.0)
