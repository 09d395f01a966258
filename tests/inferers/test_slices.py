from __future__ import annotations

import pytest
import torch
from monai.inferers import sliding_window_inference
from torch import nn

from custom.errors import NomalyError
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


def test_image_without_a_slice_axis_is_refused():
    with pytest.raises(ValueError, match=r"SliceWiseInferer needs \(B, C, X, Y, Z\), got shape \(1, 2, 9, 12\)"):
        SliceWiseInferer()(torch.zeros(1, 2, 9, 12), Counting())


# Slices larger than the network's window

SLOPE = torch.arange(48.0).reshape(1, 1, 6, 8)


def sloping(x: torch.Tensor) -> torch.Tensor:
    """A network whose answer depends on the place in its window."""
    return x * 0.3 + SLOPE


@pytest.mark.parametrize("size", [(12, 16), (13, 9), (6, 21)])
def test_windows_are_blended_as_monai_does_it_in_two_dimensions(size: tuple[int, int]) -> None:
    volume = torch.rand(2, 1, *size, 3, generator=torch.Generator().manual_seed(0))
    result = SliceWiseInferer(window=(6, 8), overlap=0.25, sw_batch_size=5)(volume, sloping)
    slices = [
        sliding_window_inference(part, (6, 8), 4, sloping, overlap=0.25, mode="gaussian") for part in volume.unbind(-1)
    ]
    torch.testing.assert_close(result, torch.stack(slices, -1), rtol=1e-5, atol=1e-5)


def test_constant_answer_stays_constant_under_overlapping_windows() -> None:
    result = SliceWiseInferer(window=8)(torch.rand(1, 3, 19, 30, 2), lambda x: torch.full_like(x[:, :1], 0.7))
    torch.testing.assert_close(result, torch.full((1, 1, 19, 30, 2), 0.7))


def test_slice_of_the_windows_size_comes_out_bit_for_bit() -> None:
    volume = torch.rand(1, 1, 6, 8, 5, generator=torch.Generator().manual_seed(0))
    loop = torch.stack([sloping(part) for part in volume.unbind(-1)], -1)
    assert torch.equal(SliceWiseInferer(window=(6, 8))(volume, sloping), loop)
    assert torch.equal(SliceWiseInferer()(volume, sloping), loop)


def test_one_window_after_a_larger_slice_is_not_blended() -> None:
    inferer, volume = SliceWiseInferer(window=(6, 8)), torch.rand(1, 1, 6, 8, 1)
    inferer(torch.rand(1, 1, 12, 8, 1), sloping)
    assert torch.equal(inferer(volume, sloping)[..., 0], sloping(volume[..., 0]))


@pytest.mark.parametrize("size", [(5, 8), (6, 7), (40, 7)])
def test_slice_smaller_than_the_window_is_refused(size: tuple[int, int]) -> None:
    message = rf"must have at least the window's \[6, 8\] pixels, got \[{size[0]}, {size[1]}\]: crop less"
    with pytest.raises(NomalyError, match=message):
        SliceWiseInferer(window=(6, 8))(torch.zeros(1, 1, *size, 1), sloping)
