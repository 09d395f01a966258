"""Inference of a two-dimensional network on volumes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import SliceInferer


class SliceWiseInferer(SliceInferer):
    """Apply a 2-D network to each axial slice of (B, C, X, Y, Z), exactly once, and stack the results along Z.

    The window is the whole plane of the input, so that there is no overlap and no padding and the result equals a
    plain loop over the slices. A network may return one tensor (N, C', X, Y) or a tuple of them; the inferer then
    returns one tensor (B, C', X, Y, Z) or a tuple of them.

    Args:
        sw_batch_size: number of slices in one call of the network.
        kwargs: further options of monai.inferers.SlidingWindowInferer, such as `sw_device` and `device`.

    Raises:
        ValueError: if the input does not have five axes.
    """

    def __init__(self, sw_batch_size: int = 8, **kwargs: Any) -> None:
        super().__init__(spatial_dim=2, roi_size=(1, 1), sw_batch_size=sw_batch_size, overlap=0.0, **kwargs)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor | tuple[torch.Tensor, ...] | dict[Any, torch.Tensor]:
        if inputs.ndim != 5:
            raise ValueError(f"SliceWiseInferer needs (B, C, X, Y, Z), got shape {tuple(inputs.shape)}. Add a Z axis.")
        self.orig_roi_size = tuple(inputs.shape[2:4])
        return super().__call__(inputs, network, *args, **kwargs)
