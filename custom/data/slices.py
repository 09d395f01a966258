"""Training data of 2-D networks: every slice of every healthy study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
        progress: show a progress bar while studies are read.

    Raises:
        NomalyError: if ``data`` is empty.
    """

    def __init__(
        self,
        data: Sequence[dict[str, Any]],
        transform: Callable,
        augmentation: Callable | None = None,
        progress: bool = True,
    ) -> None:
        if not data:
            raise NomalyError("data must hold at least one study, got none: fill the section of datalist.json.")
        self.augmentation = augmentation
        with tqdm(data, desc="Reading studies", unit="study", mininterval=1.0, disable=not progress) as studies:
            slices = [part for item in studies for part in study_slices(transform(item)["image"])]
        super().__init__(slices)

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


def study_slices(image: torch.Tensor) -> list[torch.Tensor]:
    """Slices (C, X, Y) of a study (C, X, Y, Z), as plain tensors."""
    return list(torch.as_tensor(image).as_subclass(torch.Tensor).permute(3, 0, 1, 2).contiguous())


def load_slices(data: Sequence[dict[str, Any]], transform: Callable, progress: bool = True) -> torch.Tensor:
    """All slices (N, C, X, Y) of the studies in ``data``."""
    return SliceDataset(data, transform, progress=progress).images()
