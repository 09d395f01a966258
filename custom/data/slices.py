"""Training data of 2-D networks: every slice of every healthy study, larger ones cut into windows."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from itertools import product
from typing import Any

import torch
from monai.data import Dataset
from monai.transforms import Randomizable
from tqdm import tqdm

from custom.errors import NomalyError


class SliceDataset(Randomizable, Dataset):
    """Slices (C, X, Y) of studies, prepared once and held in memory, augmented afresh at each access.

    Args:
        data: datalist items.
        transform: deterministic preprocessing to ``image`` (C, X, Y, Z).
        augmentation: random transforms of a slice's dictionary; None for none.
        window: side in pixels of the network's input; larger slices are cut into windows that lie side by side, the
            last ones flush with the edge. None = slices stay whole.
        progress: show a progress bar while studies are read.

    Raises:
        NomalyError: if ``data`` is empty.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Callable,
        augmentation: Callable | None = None,
        window: int | None = None,
        progress: bool = True,
    ) -> None:
        if not data:
            raise NomalyError("data must hold at least one study, got none: fill the section of datalist.json.")
        self.augmentation = augmentation
        self.window = window
        with tqdm(data, desc="Reading studies", unit="study", mininterval=1.0, disable=not progress) as studies:
            parts = [part for item in studies for part in self.cut(transform(item)["image"])]
        super().__init__(parts)

    def cut(self, image: torch.Tensor) -> list[torch.Tensor]:
        """What of a study (C, X, Y, Z) becomes samples."""
        return study_slices(image, self.window)

    def set_random_state(self, seed: int | None = None, state: Any = None) -> SliceDataset:
        """Seed the augmentation."""
        if isinstance(self.augmentation, Randomizable):
            self.augmentation.set_random_state(seed, state)
        return self

    def images(self) -> torch.Tensor:
        """All slices without augmentation, (N, C, X, Y)."""
        return torch.stack(self.data)

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
    """Where windows begin that cover an axis side by side, the last one flush with its end.

    Raises:
        NomalyError: if not even one fits.
    """
    if length < window:
        raise NomalyError(
            f"each side of a slice must have at least the window's {window} pixels, got {length}: cut less off, bring "
            "the studies to a larger size, or lower image_size."
        )
    return [min(number * window, length - window) for number in range(-(-length // window))]


def load_slices(
    data: Sequence[dict[str, Any]], transform: Callable, window: int | None = None, progress: bool = True
) -> torch.Tensor:
    """All slices, or their windows, (N, C, X, Y) of the studies in ``data``."""
    return SliceDataset(data, transform, window=window, progress=progress).images()


def check_loader(loader: object) -> None:
    """Refuse a training loader without a batch.

    Raises:
        NomalyError: if it has none; MONAI would skip the training and go on.
    """
    if isinstance(loader, Sized) and len(loader) == 0:
        raise NomalyError(
            "training needs at least one whole batch of slices, got none: add studies to the training section or "
            "lower batch_size."
        )
