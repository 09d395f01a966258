"""Training data of 2-D networks: every slice of every healthy study, larger ones cut into windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from itertools import product
from typing import Any, cast

import torch
from monai.data import Dataset
from monai.transforms import Randomizable
from tqdm import tqdm

from custom.errors import NomalyError
from custom.studies.items import StudyItem


class SliceDataset(Randomizable, Dataset):
    """Slices (C, X, Y) of studies, prepared once and kept in memory, augmented again at each access.

    Args:
        data: datalist items.
        transform: deterministic preprocessing to ``image`` (C, X, Y, Z).
        augmentation: random transforms of a slice's dictionary; None = no augmentation.
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
        augmentation: Callable | None = None,
        window: int | None = None,
        progress: bool = True,
    ) -> None:
        if not data:
            raise NomalyError(
                "data must contain at least one study, got none: add studies to the section of datalist.json."
            )
        self.augmentation = augmentation
        self.window = window
        with tqdm(data, desc="Reading studies", unit="study", mininterval=1.0, disable=not progress) as studies:
            parts = [part for item in studies for part in self.cut(transform(item)["image"])]
        super().__init__(parts)

    def cut(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Training samples of a study (C, X, Y, Z)."""
        return study_slices(image, self.window)

    def set_random_state(self, seed: int | None = None, state: Any = None) -> SliceDataset:
        """Seed the augmentation."""
        if isinstance(self.augmentation, Randomizable):
            self.augmentation.set_random_state(seed, state)
        return self

    def images(self) -> torch.Tensor:
        """All slices without augmentation, (N, C, X, Y)."""
        return torch.stack(cast(list[torch.Tensor], self.data))

    def _transform(self, index: int) -> dict[str, torch.Tensor]:
        item = {"image": self.data[index]}
        return item if self.augmentation is None else self.augmentation(item)


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


def check_loader(loader: object) -> None:
    """Refuse a training loader without a batch.

    Raises:
        NomalyError: if it has none; MONAI would skip the training and continue.
    """
    if isinstance(loader, Sized) and len(loader) == 0:
        raise NomalyError(
            "training needs at least one whole batch of slices, got none: add studies to the training section or "
            "lower batch_size."
        )
