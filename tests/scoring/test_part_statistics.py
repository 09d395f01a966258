"""Parts of a score are standardised by healthy studies."""

from __future__ import annotations

import pytest
import torch

from custom.errors import NomalyError
from custom.scoring.part_statistics import PartStatistics

NAMES = ("map", "structure", "code")


def parts_of(*values: float) -> dict[str, torch.Tensor]:
    """Parts of a study without patches."""
    return {name: torch.tensor(value, dtype=torch.float64) for name, value in zip(NAMES, values, strict=True)}


def rows(count: int, *functions) -> list[dict[str, float]]:
    """Parts of healthy studies, each a function of the study's number."""
    return [{name: float(f(number)) for name, f in zip(NAMES, functions, strict=True)} for number in range(count)]


def same(number: int) -> float:
    return number


def test_parts_are_in_standard_deviations_of_the_healthy_studies() -> None:
    statistics = PartStatistics()
    # by hand: means 4.5, 9, 1; sample deviation of 0 ... 9 is sqrt(82.5 / 9), twice that, and none
    statistics.fit(rows(10, same, lambda number: 2 * number, lambda number: 1.0), "image")
    deviation = (82.5 / 9) ** 0.5
    z = statistics(parts_of(4.5 + deviation, 9 - 2 * deviation, 3.0), 0)
    assert {name: value.item() for name, value in z.items()} == pytest.approx({"map": 1, "structure": -1, "code": 2})
    assert statistics.studies.tolist() == [10, 0]


def test_parts_are_unchanged_before_the_fit_and_after_a_reset() -> None:
    statistics, parts = PartStatistics(), parts_of(1.0, -2.0, 3.0)
    assert statistics(parts, 1) == parts
    statistics.fit(rows(10, same, same, same), "image")
    statistics.reset()
    assert statistics(parts, 1) == parts and not statistics.studies.any()


def test_too_few_healthy_studies_are_refused_with_the_number_needed() -> None:
    message = "the score needs at least 10 healthy validation studies to standardise its parts, got 9: add healthy"
    with pytest.raises(NomalyError, match=message):
        PartStatistics().fit(rows(9, same, same, same), "image")


def test_each_kind_has_its_own_statistics_and_takes_over_the_others_before_its_fit() -> None:
    statistics, parts = PartStatistics(), parts_of(0.0, 0.0, 0.0)
    statistics.fit(rows(10, same, same, same), "volume")  # mean 4.5
    assert statistics(parts, 0) == statistics(parts, 1) and statistics.studies.tolist() == [0, 10]
    statistics.fit(rows(11, lambda number: 10 + number, same, same), "image")  # means 15, 5, 5
    assert statistics.mean.tolist() == [[15, 5, 5, 0], [4.5, 4.5, 4.5, 0]] and statistics.studies.tolist() == [11, 10]
    assert statistics(parts, torch.tensor(1)) == statistics(parts, 1)


def test_part_without_statistics_is_left_as_it_is() -> None:
    statistics = PartStatistics()
    statistics.fit(rows(10, same, same, same), "image")
    patches = torch.tensor(0.25, dtype=torch.float64)
    assert statistics({"patches": patches}, 0) == {"patches": patches}


@pytest.mark.parametrize("kinds", [1, 2])
def test_weights_of_earlier_releases_get_neutral_statistics_of_later_parts(kinds: int) -> None:
    earlier = {"mean": torch.tensor([1.0, 2.0, 3.0]), "std": torch.full((3,), 2.0), "studies": torch.tensor(12)}
    if kinds == 2:
        earlier = {name: tensor.expand(2, *tensor.shape) for name, tensor in earlier.items()}
    statistics = PartStatistics()
    statistics.load_state_dict(earlier)
    assert statistics.mean.tolist() == 2 * [[1, 2, 3, 0]] and statistics.studies.tolist() == [12, 12]
    assert statistics.std.tolist() == 2 * [[2, 2, 2, 1]]
    for kind in (0, 1):
        assert [value.item() for value in statistics(parts_of(3.0, 2.0, 1.0), kind).values()] == [1, 0, -1]
