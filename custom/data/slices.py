"""Training data of 2-D networks: every slice of every healthy study, larger ones cut into windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product

import torch
from torch.utils.data import Dataset
from tqdm import tqdm

from custom.errors import NomalyError
from custom.studies.items import StudyItem


class SliceDataset(Dataset[torch.Tensor]):
    """Slices (C, X, Y) of studies, prepared once and kept in memory.

    Args:
        data: datalist items.
        transform: deterministic preprocessing to ``image`` (C, X, Y, Z).
        window: side of the network's input in pixels; larger slices are cut into adjacent windows, the last ones
            flush with the edge. None = whole slices.
        progress: show a progress bar while studies are read.

    Raises:
        NomalyError: if ``data`` is empty.
    """

    def __init__(
        self,
        data: Sequence[StudyItem],
        transform: Callable,
        window: int | None = None,
        progress: bool = True,
    ) -> None:
        if not data:
            raise NomalyError(
                "data must contain at least one study, got none: add studies to the section of datalist.json."
            )
        self.window = window
        with tqdm(data, desc="Reading studies", unit="study", mininterval=1.0, disable=not progress) as studies:
            self.parts = [part for item in studies for part in self.cut(transform(item)["image"])]

    def __len__(self) -> int:
        """Number of slices or windows."""
        return len(self.parts)

    def __getitem__(self, index: int) -> torch.Tensor:
        """Slice (C, X, Y)."""
        return self.parts[index]

    def cut(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Training samples of a study (C, X, Y, Z)."""
        return study_slices(image, self.window)

    def images(self) -> torch.Tensor:
        """All slices, (N, C, X, Y)."""
        return torch.stack(self.parts)


def study_slices(image: torch.Tensor, window: int | None = None) -> list[torch.Tensor]:
    """Slices (C, X, Y) of a study (C, X, Y, Z), or their windows (C, window, window), as plain tensors.

    Raises:
        NomalyError: if a slice is smaller than the window.
    """
    slices = torch.as_tensor(image).as_subclass(torch.Tensor).permute(3, 0, 1, 2)
    side = window or 0
    starts = [window_starts(length, side or length) for length in slices.shape[2:]]
    return [
        part[:, x : x + (side or part.shape[1]), y : y + (side or part.shape[2])].contiguous()
        for part in slices
        for x, y in product(*starts)
    ]


def window_starts(length: int, window: int) -> list[int]:
    """Start positions of adjacent windows that cover an axis, the last one flush with its end.

    Raises:
        NomalyError: if the axis is shorter than one window.
    """
    if length < window:
        raise NomalyError(
            f"each side of a slice must have at least the window's {window} pixels, got {length}: crop less, "
            "resize the studies to a larger size, or lower image_size."
        )
    return [min(number * window, length - window) for number in range(-(-length // window))]


def load_slices(
    data: Sequence[StudyItem], transform: Callable, window: int | None = None, progress: bool = True
) -> torch.Tensor:
    """All slices, or their windows, (N, C, X, Y) of the studies in ``data``."""
    return SliceDataset(data, transform, window=window, progress=progress).images()
