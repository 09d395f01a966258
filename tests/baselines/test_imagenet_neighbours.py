"""Nearest neighbours of features, with a network whose features are known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from custom.baselines.imagenet_neighbours import ImagenetNeighbours


def brightness(images: Tensor, size: Sequence[int]) -> Tensor:
    """Mean intensity in patches of 8 pixels of the enlarged images, and in their surroundings."""
    enlarged = F.interpolate(images.mean(1, keepdim=True), size=tuple(size))
    patches = F.avg_pool2d(enlarged, 8)
    return torch.cat([patches, F.avg_pool2d(patches, 3, stride=1, padding=1)], 1)


def discs(n: int, seed: int) -> Tensor:
    """(n, 1, 64, 64) noisy discs."""
    x = torch.linspace(-1, 1, 64)
    noise = 0.02 * torch.randn(n, 1, 64, 64, generator=torch.Generator().manual_seed(seed))
    return (x[:, None] ** 2 + x**2 < 0.8) * (0.4 + noise)


def test_lesion_is_far_from_all_healthy_patches_where_it_is() -> None:
    peer = ImagenetNeighbours(memory=2000, network=brightness)
    peer.fit(discs(20, 0))
    healthy = discs(1, 1).permute(1, 2, 3, 0)
    ill = healthy.clone()
    ill[:, 28:40, 20:32] += 0.5
    found = peer.map(ill)
    assert found.shape == (1, 64, 64, 1) and peer.peer
    assert 28 <= int(found.argmax()) // 64 < 40 and 20 <= int(found.argmax()) % 64 < 32
    assert peer.score(ill) > 3 * peer.score(healthy)


def test_memory_is_of_the_asked_size_and_the_same_for_the_same_seed() -> None:
    first, second, other = (ImagenetNeighbours(seed, memory=100, network=brightness) for seed in (0, 0, 1))
    for peer in (first, second, other):
        peer.fit(discs(20, 0))
    assert first.memory.shape == (100, 2) and torch.equal(first.memory, second.memory)
    assert not torch.equal(first.memory, other.memory)


def test_shipped_network_sees_slices_of_any_size_enlarged_twice() -> None:
    assert ImagenetNeighbours()._features(torch.zeros(1, 1, 64, 96)).shape == (1, 152, 16, 24)
