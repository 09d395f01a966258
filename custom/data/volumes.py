"""Training data of 3-D networks: overlapping windows of every healthy volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.data.utils import dense_patch_slices
from monai.utils import ensure_tuple_rep

from custom.data.slices import SliceDataset
from custom.errors import NomalyError


class VolumeDataset(SliceDataset):
    """Windows (C, *window) of volumes, one a sample; prepared once and held in memory, augmented afresh at each access.

    They lie where the inference with the same overlap looks, so that the network learns the very views that it will
    be asked about. A window is a view of its volume: overlap costs no memory.

    Args:
        data: datalist items.
        transform: deterministic preprocessing to ``image`` (C, X, Y, Z).
        augmentation: random transforms of a window's dictionary; None for none.
        window: sides (X, Y, Z) in voxels of the network's input, one number for a cube.
        overlap: share of a window that its neighbour covers, too.
        progress: show a progress bar while studies are read.

    Raises:
        NomalyError: if ``data`` is empty, or a study smaller than the window.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Callable,
        augmentation: Callable | None = None,
        window: int | Sequence[int] = 64,
        overlap: float = 0.5,
        progress: bool = True,
    ) -> None:
        self.overlap = overlap
        super().__init__(data, transform, augmentation, ensure_tuple_rep(window, 3), progress)

    def cut(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Windows (C, *window) of a study (C, X, Y, Z)."""
        return study_windows(image, self.window, self.overlap)


def study_windows(image: torch.Tensor, window: Sequence[int], overlap: float) -> list[torch.Tensor]:
    """Windows (C, *window) that cover a study (C, X, Y, Z), as views; the last ones end with it.

    Raises:
        NomalyError: if the study is smaller than the window.
    """
    volume = torch.as_tensor(image).as_subclass(torch.Tensor)
    sides = volume.shape[1:]
    if any(side < least for side, least in zip(sides, window)):
        raise NomalyError(
            f"each side of a volume must have at least the window's {list(window)} voxels, got {list(sides)}: cut less "
            "off, bring the studies to a larger size, or lower image_size."
        )
    # MONAI's sliding windows step by as much
    steps = [max(int(side * (1 - overlap)), 1) for side in window]
    return [volume[(slice(None), *place)] for place in dense_patch_slices(sides, window, steps)]
