"""Parts of a score are standardised by healthy studies."""

from __future__ import annotations

import pytest
import torch

from custom.errors import NomalyError
from custom.scoring.part_statistics import PartStatistics


def test_parts_are_in_standard_deviations_of_the_healthy_studies() -> None:
    statistics = PartStatistics()
    # by hand: means 4.5, 9, 1; sample deviation of 0 ... 9 is sqrt(82.5 / 9), twice that, and none
    statistics.fit([[number, 2 * number, 1.0] for number in range(10)], "image")
    deviation = (82.5 / 9) ** 0.5
    z = statistics(torch.tensor([4.5 + deviation, 9 - 2 * deviation, 3.0]), 0)
    torch.testing.assert_close(z, torch.tensor([1.0, -1.0, 2.0], dtype=torch.float64))
    assert statistics.studies.tolist() == [10, 0]


def test_parts_are_unchanged_before_the_fit_and_after_a_reset() -> None:
    statistics, parts = PartStatistics(), torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    assert torch.equal(statistics(parts, 1), parts)
    statistics.fit([[number, number, number] for number in range(10)], "image")
    statistics.reset()
    assert torch.equal(statistics(parts, 1), parts) and not statistics.studies.any()


def test_too_few_healthy_studies_are_refused_with_the_number_needed() -> None:
    message = "the score needs at least 10 healthy validation studies to standardise its parts, got 9: add healthy"
    with pytest.raises(NomalyError, match=message):
        PartStatistics().fit([[0.0, 0.0, 0.0]] * 9, "image")
