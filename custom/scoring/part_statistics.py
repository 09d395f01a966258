"""Standardisation of the parts of a study score by healthy studies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from custom.errors import NomalyError
from custom.studies.kinds import KINDS

PARTS = ("map", "structure", "code")
MINIMUM = 10  # healthy studies from which a mean and a deviation can be estimated


class PartStatistics(nn.Module):
    """Mean and standard deviation of each part of the score over healthy studies that the network was not trained on.

    Parts are logarithms, since the distributions of all of them have a long tail. The highest map values of a volume
    are from more pixels than those of a 2-D image, and its other parts are means over slices: each kind of study has
    its own row, in the order of KINDS. Before the fit the mean is 0 and the deviation 1. All are buffers, stored with
    the detector's weights.

    Buffers:
        mean, std: (2, K) float64, in the order of KINDS and PARTS.
        studies: (2,) int64, healthy studies of the kind behind its row; 0 = none: the row is that of the other kind.
    """

    mean: Tensor
    std: Tensor
    studies: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(len(KINDS), len(PARTS), dtype=torch.float64))
        self.register_buffer("std", torch.ones(len(KINDS), len(PARTS), dtype=torch.float64))
        self.register_buffer("studies", torch.zeros(len(KINDS), dtype=torch.int64))

    def forward(self, parts: Tensor, kind: int | Tensor) -> Tensor:
        """Parts (K,) in standard deviations above the mean of healthy studies, in the order of PARTS.

        Args:
            parts: of one study.
            kind: index of its kind in KINDS; a tensor (), int64, in a graph that is exported.
        """
        return (parts.double() - self.mean.to(parts.device)[kind]) / self.std.to(parts.device)[kind]

    def reset(self) -> None:
        """Return to mean 0 and deviation 1."""
        self.mean.zero_()
        self.std.fill_(1)
        self.studies.zero_()

    def fit(self, parts: Sequence[Sequence[float]], kind: str) -> None:
        """Estimate mean and deviation from the parts of healthy studies of one kind, one row (K,) for each.

        A kind that has not been fitted takes them over, so that its scores are of the same size.

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
        self.studies[KINDS.index(kind)] = len(rows)
        for index, name in enumerate(KINDS):
            if name == kind or int(self.studies[index]) == 0:
                self.mean[index] = rows.mean(0)
                self.std[index] = torch.where(std > 1e-9, std, torch.ones_like(std))  # no weight if it never differs

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        # Weights of earlier releases have one row for all studies.
        for name in ("mean", "std", "studies"):
            stored = state_dict.get(prefix + name)
            if stored is not None and stored.ndim < getattr(self, name).ndim:
                state_dict[prefix + name] = stored.expand_as(getattr(self, name)).clone()
        super()._load_from_state_dict(state_dict, prefix, *args)
