from __future__ import annotations

import pytest
import torch
from torch import nn

from custom.inferers.slices import SliceWiseInferer


class Counting(nn.Module):
    """A convolution that counts the slices it sees and may return a pair."""

    def __init__(self, pair: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution = nn.Conv2d(2, 1, 3, padding=1)
        self.pair = pair
        self.slices = 0

    def forward(self, x):
        self.slices += len(x)
        y = self.convolution(x)
        return (y, 2 * x) if self.pair else y


@pytest.mark.parametrize("depth", [1, 7])
def test_result_equals_a_plain_loop_over_slices(depth):
    volume = torch.randn(2, 2, 9, 12, depth, generator=torch.Generator().manual_seed(1))
    network = Counting()
    with torch.no_grad():
        loop = torch.stack([network.convolution(volume[..., z]) for z in range(depth)], dim=-1)
        result = SliceWiseInferer(sw_batch_size=4)(volume, network)
    torch.testing.assert_close(result, loop)


def test_every_slice_is_evaluated_exactly_once():
    network = Counting()
    with torch.no_grad():
        SliceWiseInferer(sw_batch_size=3)(torch.zeros(2, 2, 9, 12, 5), network)
    assert network.slices == 2 * 5


def test_pair_of_map_and_reconstruction_comes_back_as_pair():
    volume = torch.randn(1, 2, 9, 12, 3)
    network = Counting(pair=True)
    with torch.no_grad():
        anomaly_map, reconstruction = SliceWiseInferer()(volume, network)
    assert anomaly_map.shape == (1, 1, 9, 12, 3)
    torch.testing.assert_close(reconstruction, 2 * volume)


def test_one_inferer_serves_studies_of_different_sizes():
    inferer, network = SliceWiseInferer(), Counting()
    with torch.no_grad():
        shapes = [inferer(torch.zeros(1, 2, *size), network).shape for size in [(9, 12, 2), (16, 8, 1)]]
    assert shapes == [(1, 1, 9, 12, 2), (1, 1, 16, 8, 1)]


def test_picture_without_a_slice_axis_is_refused():
    with pytest.raises(ValueError, match=r"SliceWiseInferer needs \(B, C, X, Y, Z\), got shape \(1, 2, 9, 12\)"):
        SliceWiseInferer()(torch.zeros(1, 2, 9, 12), Counting())
