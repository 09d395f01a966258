"""The rounds that hand out a histogram's excess: by hand, and equal in recorded graphs."""

from __future__ import annotations

import pytest
import torch

from custom.scoring.redistribution import redistribute


class Rounds(torch.nn.Module):
    """The rounds at a limit of 6."""

    def forward(self, histogram: torch.Tensor, excess: torch.Tensor) -> torch.Tensor:
        return redistribute(histogram.clone(), excess, 6)


@pytest.fixture
def histograms() -> tuple[torch.Tensor, torch.Tensor]:
    """Forty histograms of sixteen bins, and from -3 to 59 counts to hand out."""
    generator = torch.Generator().manual_seed(0)
    histogram = torch.randint(0, 7, (40, 16), generator=generator)
    return histogram, torch.randint(-3, 60, (40, 1), generator=generator)


@pytest.mark.parametrize(
    ("excess", "expected"),
    [
        (0, [0, 2, 1, 0]),
        (-2, [0, 2, 1, 0]),
        (1, [1, 2, 1, 1]),  # three bins below 2, so every third: the first and the fourth
        (2, [1, 2, 2, 1]),  # every bin below
        (9, [2, 2, 2, 2]),  # round after round until all are full
    ],
)
def test_excess_goes_to_the_bins_below_the_limit(excess: int, expected: list[int]) -> None:
    assert redistribute(torch.tensor([[0, 2, 1, 0]]), torch.tensor([[excess]]), 2).tolist() == [expected]


def test_nothing_goes_over_the_limit_and_nothing_is_taken_away(histograms) -> None:
    before, excess = histograms
    after = Rounds()(before, excess)
    done = excess[:, 0] <= 0
    assert (after <= 6).all() and (after >= before).all() and torch.equal(after[done], before[done])


def test_recorded_graphs_go_as_many_rounds_as_the_values_need(histograms) -> None:
    module, example = Rounds(), (torch.zeros(2, 16, dtype=torch.long), torch.ones(2, 1, dtype=torch.long))
    tables = torch.export.Dim("tables", min=1)
    exported = torch.export.export(module, example, dynamic_shapes=({0: tables}, {0: tables})).module()
    traced = torch.jit.trace(module, example, check_trace=False)
    expected = module(*histograms)
    assert torch.equal(exported(*histograms), expected) and torch.equal(traced(*histograms), expected)
