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


def test_each_kind_has_its_own_statistics_and_takes_over_the_others_before_its_fit() -> None:
    statistics, parts = PartStatistics(), torch.zeros(3, dtype=torch.float64)
    statistics.fit([[number, number, number] for number in range(10)], "volume")  # mean 4.5
    assert torch.equal(statistics(parts, 0), statistics(parts, 1)) and statistics.studies.tolist() == [0, 10]
    statistics.fit([[10.0 + number, number, number] for number in range(11)], "image")  # means 15, 5, 5
    assert statistics.mean.tolist() == [[15, 5, 5], [4.5, 4.5, 4.5]] and statistics.studies.tolist() == [11, 10]
    assert torch.equal(statistics(parts, torch.tensor(1)), statistics(parts, 1))


def test_weights_with_one_fit_use_it_for_both_kinds() -> None:
    earlier = {"mean": torch.tensor([1.0, 2.0, 3.0]), "std": torch.full((3,), 2.0), "studies": torch.tensor(12)}
    statistics = PartStatistics()
    statistics.load_state_dict(earlier)
    assert statistics.mean.tolist() == 2 * [[1, 2, 3]] and statistics.studies.tolist() == [12, 12]
    for kind in (0, 1):
        assert statistics(torch.tensor([3.0, 2.0, 1.0]), kind).tolist() == [1, 0, -1]
