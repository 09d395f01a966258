"""Windows of a 3-D network over a volume."""

from __future__ import annotations

import pytest
import torch
from monai.inferers import sliding_window_inference

from custom.errors import NomalyError
from custom.inferers.volumes import VolumeInferer

SLOPE = torch.arange(6 * 8 * 4.0).reshape(1, 1, 6, 8, 4)


def sloping(x: torch.Tensor) -> torch.Tensor:
    """A network whose answer depends on the place in its window."""
    return x * 0.3 + SLOPE


@pytest.mark.parametrize("size", [(12, 16, 6), (13, 9, 4), (6, 8, 11)])
def test_windows_are_blended_as_monai_does_it(size: tuple[int, int, int]) -> None:
    volume = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))
    found = VolumeInferer((6, 8, 4), overlap=0.25, sw_batch_size=5)(volume, lambda x: (sloping(x), x))
    wanted = sliding_window_inference(volume, (6, 8, 4), 4, sloping, overlap=0.25, mode="gaussian")
    torch.testing.assert_close(found[0], wanted, rtol=1e-5, atol=1e-5)


def test_volume_of_the_windows_size_comes_out_bit_for_bit() -> None:
    inferer, volume = VolumeInferer((6, 8, 4)), torch.rand(1, 1, 6, 8, 4)
    inferer(torch.rand(1, 1, 12, 8, 4), sloping)  # a larger one before does not matter
    assert torch.equal(inferer(volume, sloping), sloping(volume))


def test_windows_of_half_overlap_see_each_middle_slice_twice() -> None:
    seen = torch.zeros(12)

    def network(x: torch.Tensor) -> torch.Tensor:
        for window in x:
            seen[window[0, 0, 0].long()] += 1
        return x

    VolumeInferer((6, 6, 8))(torch.arange(12.0).expand(1, 1, 6, 6, 12), network)
    assert seen.tolist() == 4 * [1] + 4 * [2] + 4 * [1]


def test_map_is_nearer_to_the_window_in_whose_middle_it_lies() -> None:
    answers = iter([0.0, 1.0])
    network = lambda x: torch.full_like(x, next(answers))  # noqa: E731
    found = VolumeInferer((4, 4, 8), sw_batch_size=1)(torch.zeros(1, 1, 4, 4, 12), network)[0, 0, 2, 2]
    assert found[:4].tolist() == 4 * [0] and found[8:].tolist() == pytest.approx(4 * [1])
    assert (found[4:8].diff() > 0).all() and found[4] + found[7] == pytest.approx(1)


def test_buffered_stitching_keeps_every_part() -> None:
    volume = torch.rand(1, 1, 12, 16, 9, generator=torch.Generator().manual_seed(0))
    network = lambda x: (sloping(x), 2 * x)  # noqa: E731
    plain, buffered = (VolumeInferer((6, 8, 4), **more)(volume, network) for more in ({}, {"buffer_steps": 1}))
    for one, other in zip(plain, buffered):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("size", [(5, 8, 4), (6, 8, 3), (40, 40, 1)])
def test_volume_smaller_than_the_window_is_refused(size: tuple[int, int, int]) -> None:
    message = rf"each side of a volume must have at least the window's \[6, 8, 4\] voxels, got \[{size[0]}, {size[1]}, "
    with pytest.raises(NomalyError, match=message):
        VolumeInferer((6, 8, 4))(torch.zeros(1, 1, *size), sloping)


def test_image_without_a_slice_axis_is_refused() -> None:
    with pytest.raises(ValueError, match=r"VolumeInferer needs \(B, C, X, Y, Z\), got shape \(1, 2, 9, 12\)"):
        VolumeInferer(4)(torch.zeros(1, 2, 9, 12), sloping)
