"""Batches of training images."""

from __future__ import annotations

import pytest
import torch

from custom.data.batches import BatchLoader
from custom.data.slices import SliceDataset
from custom.errors import NomalyError


def dataset(count: int) -> SliceDataset:
    """Slices (1, 2, 2) whose values are their numbers."""
    studies = [{"image": torch.arange(float(count)).expand(1, 2, 2, count)}]
    return SliceDataset(studies, lambda item: item, progress=False)


def numbers(loader: BatchLoader) -> list[list[int]]:
    return [batch["image"][:, 0, 0, 0].int().tolist() for batch in loader]


def test_pass_has_each_image_once_in_an_order_of_the_seed_without_the_rest() -> None:
    loader = BatchLoader(dataset(11), batch_size=3)
    torch.manual_seed(0)
    first, second = numbers(loader), numbers(loader)
    torch.manual_seed(0)
    assert numbers(loader) == first != second
    assert [len(batch) for batch in first] == [3, 3, 3] and len(loader) == 3
    flat = sum(first, [])
    assert len(set(flat)) == 9 and set(flat) <= set(range(11))


def test_processes_share_a_batch_that_is_as_many_times_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    whole = numbers(BatchLoader(dataset(11), batch_size=4))
    parts = []
    for rank in (0, 1):
        monkeypatch.setattr("custom.data.batches.world_and_rank", lambda rank=rank: (2, rank))
        torch.manual_seed(0)
        parts.append(numbers(BatchLoader(dataset(11), batch_size=2)))
    assert [sorted(a + b) for a, b in zip(*parts)] == [sorted(batch) for batch in whole]
    assert not set(sum(parts[0], [])) & set(sum(parts[1], []))


def test_images_stay_in_main_memory_on_a_cpu() -> None:
    assert BatchLoader(dataset(4), 2, "cpu").resident is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_images_are_kept_on_a_gpu_with_the_batches_of_a_cpu() -> None:
    torch.manual_seed(0)
    expected = numbers(BatchLoader(dataset(11), 3))
    loader = BatchLoader(dataset(11), 3, "cuda")
    torch.manual_seed(0)
    assert numbers(loader) == expected
    assert next(iter(loader))["image"].device.type == "cuda"


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, "batch_size must be at least 1, got 0"),
        (5, "training needs at least one whole batch of 5 images, got 4: add studies to the training section or lower"),
    ],
)
def test_batch_that_cannot_be_filled_is_refused(size: int, message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        BatchLoader(dataset(4), size)
