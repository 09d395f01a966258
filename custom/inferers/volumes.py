"""Inference of a 3-D network on volumes larger than its window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from custom.inferers.windows import WindowInferer


class VolumeInferer(WindowInferer):
    """Apply a 3-D network to overlapping windows of (B, C, X, Y, Z) and blend the results.

    Args:
        window: sides (X, Y, Z) of the network's input in voxels, one number for a cube.
        overlap: fraction of a window that its neighbour also covers; one number, or one per axis.
        sw_batch_size: number of windows in one call of the network.
        kwargs: see WindowInferer.

    Raises:
        NomalyError: if the study is smaller than the window, or not even one window fits into memory.
        ValueError: if the input does not have five axes.
    """

    def __init__(
        self,
        window: int | Sequence[int],
        overlap: float | Sequence[float] = 0.5,
        sw_batch_size: int = 4,
        **kwargs: Any,
    ) -> None:
        super().__init__(3, window, overlap, sw_batch_size, **kwargs)
