"""Normalisation layers by name."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Norm
from torch import nn
from torch.nn import functional as F

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
        return torch.addcmul(self.bias.view(shape), x, self.weight.view(shape))

    def convolve(self, conv: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """``self(conv(x))`` in one pass over the image: the scale goes into the kernel, the shift becomes the bias.

        It spares the forward and backward passes over images that a scale of its own costs, a sixth of a training step.
        """
        kernel = conv.weight * self.weight.view(-1, *(1,) * (conv.weight.ndim - 1))
        function = F.conv2d if kernel.ndim == 4 else F.conv3d
        return function(x, kernel, self.bias, padding=conv.padding)


def convolve_and_normalise(conv: nn.Module, norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """``norm(conv(x))`` for a convolution without bias, (B, C, *S) to (B, C', *S)."""
    return norm.convolve(conv, x) if isinstance(norm, FrozenNorm) else norm(conv(x))


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
