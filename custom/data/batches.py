"""Batches of training images from memory."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from custom.data.slices import SliceDataset
from custom.errors import NomalyError
from custom.processes import world_and_rank


class BatchLoader:
    """Batches of training images in a new random order in each pass; an incomplete last batch is omitted.

    The images of a data set that takes at most a quarter of a GPU's free memory are kept there, so that no step waits
    for a transfer. The order comes from torch's random numbers. Under ``torch.distributed``, where all processes must
    have the same seed, each takes its part of a batch that is N times larger.

    Args:
        dataset: training images.
        batch_size: images of a batch, in each process.
        device: on which the images are used; None = the CPU.

    Raises:
        NomalyError: if ``batch_size`` is below 1, or the data set has fewer images than a batch.
    """

    def __init__(self, dataset: SliceDataset, batch_size: int = 32, device: torch.device | str | None = None) -> None:
        if batch_size < 1:
            raise NomalyError(f"batch_size must be at least 1, got {batch_size}.")
        self.dataset = dataset
        self.batch_size = batch_size
        self.device = torch.device("cpu" if device is None else device)
        if len(self) == 0:
            raise NomalyError(
                f"training needs at least one whole batch of {batch_size * world_and_rank()[0]} images, got "
                f"{len(dataset)}: add studies to the training section or lower batch_size."
            )
        self.resident = self.dataset.images().to(self.device) if self.fits() else None

    def __len__(self) -> int:
        """Number of batches."""
        return len(self.dataset) // (self.batch_size * world_and_rank()[0])

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Batches with ``image`` (B, C, *S)."""
        world, rank = world_and_rank()
        order = torch.randperm(len(self.dataset))[: len(self) * self.batch_size * world]
        batches = order.view(len(self), -1)[:, rank::world]
        if self.resident is not None:
            yield from ({"image": self.resident[chosen]} for chosen in batches.to(self.device))
        else:
            yield from ({"image": torch.stack([self.dataset[i] for i in chosen])} for chosen in batches.tolist())

    def fits(self) -> bool:
        """Whether the images can be kept on the device, which is a GPU."""
        if self.device.type != "cuda":
            return False
        free, _ = torch.cuda.mem_get_info(self.device)
        return sum(image.numel() * image.element_size() for image in self.dataset.parts) <= free / 4
