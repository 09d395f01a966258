"""Training data of 3-D networks: overlapping windows of every healthy volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.data.utils import dense_patch_slices
from monai.utils import ensure_tuple_rep

from custom.data.slices import SliceDataset
from custom.errors import NomalyError
from custom.studies.items import StudyItem


class VolumeDataset(SliceDataset):
    """Windows (C, *window) of volumes, prepared once and kept in memory.

    Their positions are those of inference with the same overlap, so that the network is trained on the windows that it
    will be applied to. A window is a view of its volume: overlap costs no memory.

    Args:
        data: datalist items.
        transform: deterministic preprocessing to ``image`` (C, X, Y, Z).
        window: sides (X, Y, Z) in voxels of the network's input, one number for a cube.
        overlap: fraction of a window that its neighbour also covers.
        progress: show a progress bar while studies are read.

    Raises:
        NomalyError: if ``data`` is empty, or a study is smaller than the window.
    """

    def __init__(
        self,
        data: Sequence[StudyItem],
        transform: Callable,
        window: int | Sequence[int] = 64,
        overlap: float = 0.5,
        progress: bool = True,
    ) -> None:
        self.sides = ensure_tuple_rep(window, 3)
        self.overlap = overlap
        super().__init__(data, transform, progress=progress)

    def cut(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Windows (C, *window) of a study (C, X, Y, Z)."""
        return study_windows(image, self.sides, self.overlap)


def study_windows(image: torch.Tensor, window: Sequence[int], overlap: float) -> list[torch.Tensor]:
    """Windows (C, *window) that cover a study (C, X, Y, Z), as views; the last ones are flush with its end.

    Raises:
        NomalyError: if the study is smaller than the window.
    """
    volume = torch.as_tensor(image).as_subclass(torch.Tensor)
    sides = volume.shape[1:]
    if any(side < least for side, least in zip(sides, window)):
        raise NomalyError(
            f"each side of a volume must have at least the window's {list(window)} voxels, got {list(sides)}: crop "
            "less, resize the studies to a larger size, or lower image_size."
        )
    # the step of MONAI's sliding windows
    steps = [max(int(side * (1 - overlap)), 1) for side in window]
    return [volume[(slice(None),) + place] for place in dense_patch_slices(sides, window, steps)]
