"""Standardisation of the parts of a study score by healthy studies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from custom.errors import NomalyError
from custom.studies.kinds import KINDS

PARTS = ("map", "structure", "code", "patches")
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

    def forward(self, parts: Mapping[str, Tensor], kind: int | Tensor) -> dict[str, Tensor]:
        """Parts () by name, in standard deviations above the mean of healthy studies, float64.

        Args:
            parts: of one study, names of PARTS.
            kind: index of its kind in KINDS; a tensor (), int64, in a graph that is exported.
        """
        columns = {name: PARTS.index(name) for name in parts}
        mean, std = self.mean[kind], self.std[kind]
        return {
            name: (value.double() - mean[columns[name]].to(value.device)) / std[columns[name]].to(value.device)
            for name, value in parts.items()
        }

    def reset(self) -> None:
        """Return to mean 0 and deviation 1."""
        self.mean.zero_()
        self.std.fill_(1)
        self.studies.zero_()

    def fit(self, parts: Sequence[Mapping[str, float]], kind: str) -> None:
        """Estimate mean and deviation from the parts of healthy studies of one kind, the same ones of each.

        A kind that has not been fitted takes them over, so that its scores are of the same size.

        Raises:
            NomalyError: too few studies.
        """
        if len(parts) < MINIMUM:
            raise NomalyError(
                f"the score needs at least {MINIMUM} healthy validation studies to standardise its parts, got "
                f"{len(parts)}: add healthy studies to the section validation."
            )
        used = [PARTS.index(name) for name in parts[0]]
        rows = torch.as_tensor([list(study.values()) for study in parts], dtype=torch.float64)
        mean, std = rows.mean(0), rows.std(0)
        std = torch.where(std > 1e-9, std, 1.0)  # a part that never differs has no weight
        self.studies[KINDS.index(kind)] = len(rows)
        for index, name in enumerate(KINDS):
            if name == kind or int(self.studies[index]) == 0:
                self.mean[index, used] = mean.to(self.mean.device)
                self.std[index, used] = std.to(self.std.device)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        # Weights of earlier releases have one row for all studies, and no statistics of parts that were added later.
        for name in ("mean", "std", "studies"):
            own, stored = getattr(self, name), state_dict.get(prefix + name)
            if stored is None:
                continue
            if stored.ndim < own.ndim:
                stored = stored.expand(len(KINDS), *stored.shape)
            if own.ndim == 2 and stored.shape[1] < len(PARTS):
                neutral = torch.full((len(KINDS), len(PARTS) - stored.shape[1]), float(name == "std"))
                stored = torch.cat([stored, neutral.to(stored)], 1)
            state_dict[prefix + name] = stored.clone()
        super()._load_from_state_dict(state_dict, prefix, *args)
