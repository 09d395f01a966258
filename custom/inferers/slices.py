"""Inference of a two-dimensional network on volumes and on pictures larger than its window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import SliceInferer
from monai.utils import BlendMode, ensure_tuple_rep

from custom.errors import NomalyError


class SliceWiseInferer(SliceInferer):
    """Apply a 2-D network to the axial slices of (B, C, X, Y, Z) and stack the results along Z.

    Without `window`, or where a slice is as large as it, each slice goes through the network whole, exactly once, so
    that the result equals a plain loop over the slices. A larger slice is covered by overlapping windows whose results
    are blended with Gaussian weights. A network may return one tensor (N, C', X, Y) or a tuple of them; the inferer
    then returns one tensor (B, C', X, Y, Z) or a tuple of them.

    Args:
        window: sides (X, Y) of the network's input in pixels, one number for a square; None = any.
        overlap: share of a window that its neighbour covers, too.
        sw_batch_size: number of windows in one call of the network.
        kwargs: further options of monai.inferers.SlidingWindowInferer, such as `sw_device` and `device`.

    Raises:
        NomalyError: if a slice is smaller than the window.
        ValueError: if the input does not have five axes.
    """

    def __init__(
        self,
        window: int | Sequence[int] | None = None,
        overlap: float = 0.5,
        sw_batch_size: int = 8,
        **kwargs: Any,
    ) -> None:
        super().__init__(spatial_dim=2, roi_size=(1, 1), sw_batch_size=sw_batch_size, overlap=overlap, **kwargs)
        self.window = None if window is None else ensure_tuple_rep(window, 2)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor | tuple[torch.Tensor, ...] | dict[Any, torch.Tensor]:
        if inputs.ndim != 5:
            raise ValueError(f"SliceWiseInferer needs (B, C, X, Y, Z), got shape {tuple(inputs.shape)}. Add a Z axis.")
        plane = tuple(inputs.shape[2:4])
        self.orig_roi_size = self.window or plane
        if any(side < window for side, window in zip(plane, self.orig_roi_size)):
            raise NomalyError(
                f"each side of a slice must have at least the window's {list(self.orig_roi_size)} pixels, got "
                f"{list(plane)}: cut less off, bring the study to a larger size, or lower image_size."
            )
        # one window needs no blending: its values come out bit for bit
        self.mode = BlendMode.CONSTANT if self.orig_roi_size == plane else BlendMode.GAUSSIAN
        return super().__call__(inputs, network, *args, **kwargs)
