"""Normalisation layers by name."""

from __future__ import annotations

import torch
from monai.networks.layers.factories import Norm
from torch import nn
from torch.nn import functional as F

from custom.errors import NomalyError


class FrozenNorm(nn.Module):
    """BatchNorm whose statistics stay at mean 0 and variance 1: a learned scale and shift for each channel.

    RA's official code trains in this way, since its networks are always in evaluation mode.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale and shift x (B, C, *S)."""
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return torch.addcmul(self.bias.view(shape), x, self.weight.view(shape))

    def convolve(self, conv: nn.Conv2d | nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
        """``self(conv(x))`` in one pass: the scale is multiplied into the kernel, the shift becomes the bias.

        This saves a separate forward and backward pass for the scale, a sixth of the time of a training step.
        """
        kernel = conv.weight * self.weight.view(-1, *(1,) * (conv.weight.ndim - 1))
        if isinstance(conv, nn.Conv2d):
            return F.conv2d(x, kernel, self.bias, padding=conv.padding)
        return F.conv3d(x, kernel, self.bias, padding=conv.padding)


def convolve_and_normalise(conv: nn.Module, norm: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """``norm(conv(x))`` for a convolution without bias, (B, C, *S) to (B, C', *S)."""
    if isinstance(norm, FrozenNorm) and isinstance(conv, (nn.Conv2d, nn.Conv3d)):
        return norm.convolve(conv, x)
    return norm(conv(x))


def make_norm(name: str, spatial_dims: int, channels: int) -> nn.Module:
    """Normalisation layer for (B, channels, *S) by name: "batch", "frozen" or "group" (groups of eight channels or
    fewer).

    Raises:
        NomalyError: unknown name.
    """
    if name == "batch":
        return Norm[Norm.BATCH, spatial_dims](channels)
    if name == "frozen":
        return FrozenNorm(channels)
    if name == "group":
        return nn.GroupNorm(max(1, channels // 8), channels)
    raise NomalyError(f'norm must be "batch", "frozen" or "group", got "{name}".')
