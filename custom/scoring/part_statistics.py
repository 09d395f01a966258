"""Standardisation of the parts of a study score by healthy studies."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from custom.errors import NomalyError

PARTS = ("map", "structure", "code")
MINIMUM = 10  # healthy studies from which a mean and a deviation can be estimated


class PartStatistics(nn.Module):
    """Mean and standard deviation of each part of the score over healthy studies that the network was not trained on.

    Parts are logarithms, since the distributions of all of them have a long tail. Before the fit the mean is 0 and the
    deviation 1. Both are buffers, stored with the detector's weights.
    """

    mean: Tensor
    std: Tensor
    studies: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(len(PARTS), dtype=torch.float64))
        self.register_buffer("std", torch.ones(len(PARTS), dtype=torch.float64))
        self.register_buffer("studies", torch.zeros((), dtype=torch.int64))

    def forward(self, parts: Tensor) -> Tensor:
        """Parts (K,) in standard deviations above the mean of healthy studies, in the order of PARTS."""
        return (parts.double() - self.mean.to(parts.device)) / self.std.to(parts.device)

    def reset(self) -> None:
        """Return to mean 0 and deviation 1."""
        self.mean.zero_()
        self.std.fill_(1)
        self.studies.zero_()

    def fit(self, parts: Sequence[Sequence[float]]) -> None:
        """Estimate mean and deviation from the parts of healthy studies, one row (K,) for each.

        Raises:
            NomalyError: too few studies.
        """
        if len(parts) < MINIMUM:
            raise NomalyError(
                f"the score needs at least {MINIMUM} healthy validation studies to standardise its parts, got "
                f"{len(parts)}: add healthy studies to the section validation."
            )
        rows = torch.as_tensor(parts, dtype=torch.float64)
        std = rows.std(0)
        self.mean.copy_(rows.mean(0))
        self.std.copy_(torch.where(std > 1e-9, std, torch.ones_like(std)))  # a part that never differs has no weight
        self.studies.fill_(len(rows))
