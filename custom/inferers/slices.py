"""Inference of a 2-D network on volumes and on 2-D images larger than its window."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from custom.inferers.windows import WindowInferer


class SliceWiseInferer(WindowInferer):
    """Apply a 2-D network to the axial slices of (B, C, X, Y, Z) and stack the results along Z.

    Without `window`, or if a slice has the size of the window, each whole slice passes through the network once, so
    that the result equals a plain loop over the slices. A larger slice is covered by overlapping windows whose
    results are blended. A network may return one tensor (N, C', X, Y) or a tuple of them. Besides the study and its
    results, memory holds `sw_batch_size` slices, however many there are.

    Args:
        window: sides (X, Y) of the network's input in pixels, one number for a square; None = any size.
        overlap: fraction of a window that its neighbour also covers.
        sw_batch_size: number of windows in one call of the network.
        kwargs: see WindowInferer.

    Raises:
        NomalyError: if a slice is smaller than the window, or not even one window fits into memory.
        ValueError: if the input does not have five axes.
    """

    def __init__(
        self,
        window: int | Sequence[int] | None = None,
        overlap: float | Sequence[float] = 0.5,
        sw_batch_size: int = 8,
        **kwargs: Any,
    ) -> None:
        super().__init__(2, window, overlap, sw_batch_size, **kwargs)

    def stitch(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Results of all slices, `sw_batch_size` slices at a time; studies that need several passes come one by one."""
        if len(inputs) > 1 and inputs.shape[-1] > self.sw_batch_size:
            return torch.cat([self.stitch(study, network, *args, **kwargs) for study in inputs.split(1)])
        batch, depth, step, result = len(inputs), inputs.shape[-1], self.sw_batch_size, None
        for first in range(0, depth, step):
            # one copy of neighbouring slices: copied one by one, each would touch the whole volume
            slices = inputs[..., first : first + step].movedim(-1, 1).flatten(0, 1)
            part = super().stitch(slices, network, *args, **kwargs).unflatten(0, (batch, -1)).movedim(1, -1)
            if result is None:
                result = part.new_empty(*part.shape[:-1], depth)
            result[..., first : first + step] = part
        return result
