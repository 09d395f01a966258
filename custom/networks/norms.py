"""Normalisation layers by name."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Norm
from torch import nn

from custom.errors import NomalyError


class FrozenNorm(nn.Module):
    """BatchNorm whose statistics stay at mean 0 and variance 1: a learned scale and shift for each channel.

    It is what RA's official code trains with, since its networks are in evaluation mode throughout.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale and shift x (B, C, *S)."""
        shape = (1, -1) + (1,) * (x.ndim - 2)
        # In the input's type: under autocast it would else go up to float32, and the memory with it.
        return torch.addcmul(self.bias.to(x.dtype).view(shape), x, self.weight.to(x.dtype).view(shape))


def make_norm(name: str, spatial_dims: int, channels: int) -> nn.Module:
    """The normalisation called ``name`` for (B, channels, *S): "batch", "frozen" or "group" (groups of eight channels
    or fewer).

    Raises:
        NomalyError: if the name is not known.
    """
    if name == "batch":
        return Norm[Norm.BATCH, spatial_dims](channels)
    if name == "frozen":
        return FrozenNorm(channels)
    if name == "group":
        return nn.GroupNorm(max(1, channels // 8), channels)
    raise NomalyError(f'norm must be "batch", "frozen" or "group", got "{name}".')
