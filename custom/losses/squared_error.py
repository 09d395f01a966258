"""Squared error of images: the reconstruction term of the losses and a measure of reconstruction quality."""

from __future__ import annotations

import torch


def squared_error(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Squared error summed over all axes except the batch, in squared intensity; (B, C, *S) to (B,)."""
    return (x.float() - y.float()).square().flatten(1).sum(1)
