"""Distance of patches from those of healthy images."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom.errors import NomalyError
from custom.scoring import patch_distance
from custom.scoring.patch_distance import PatchDistance


class Brightness(nn.Module):
    """Mean and square mean of patches in a grid of 4 x 4, instead of a network."""

    channels, grid = 2, 4

    def forward(self, images: Tensor) -> Tensor:
        patches = F.adaptive_avg_pool2d(images.float().mean(1, keepdim=True), self.grid)
        return torch.cat([patches, patches**2], 1)

    def load_pretrained(self) -> None:
        """There is nothing to load."""


@pytest.fixture(autouse=True)
def _small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch_distance, "NaturalImageFeatures", Brightness)


def healthy(count: int = 40, seed: int = 0, depth: int | None = None) -> Tensor:
    """Images with a dark and a bright half, which vary little."""
    shape = (count, 1, 16, 16) if depth is None else (count, 1, 16, 16, depth)
    images = torch.full(shape, 0.2)
    images[:, :, 8:] = 0.7
    brightness = 0.02 * torch.randn(count, *[1] * (len(shape) - 1), generator=torch.Generator().manual_seed(seed))
    return images + brightness


def fitted(**settings) -> PatchDistance:
    distance = PatchDistance(**{"memory": 200, "dimensions": 2, **settings})
    distance.fit(healthy())
    return distance


def test_patch_that_no_healthy_image_has_is_far_and_others_are_usual() -> None:
    distance, images = fitted(), healthy(20, seed=1)
    usual = distance(images)
    assert usual.shape == (20, 1, 16, 16) and 0.7 < usual.mean() < 1.6
    images[:, :, 4:8, 4:8] = 0.45  # between the two brightnesses: unusual anywhere
    changed = distance(images)
    assert changed[:, :, 5:7, 5:7].min() > 10 * usual.mean()
    torch.testing.assert_close(changed[:, :, 12:], usual[:, :, 12:])


def test_distance_is_that_to_the_nearest_patch_in_units_of_the_usual_deviation() -> None:
    distance = PatchDistance(memory=2, dimensions=2)
    distance.memory.copy_(torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    patches = torch.tensor([[3.0, 0.0], [3.0, 3.0]]).view(1, 1, 2, 2)
    assert distance.nearest(patches).flatten().tolist() == pytest.approx([3, 1])  # by hand
    excluded = torch.tensor([[False, True]])
    assert distance.nearest(patches, excluded).flatten().tolist() == pytest.approx([3, math.sqrt(18)])


def test_value_is_one_where_the_distance_is_usual_and_grows_by_the_number_of_deviations() -> None:
    distance = fitted(dimensions=2)
    distance.memory.zero_()
    distance.mean.fill_(2)
    distance.deviation.fill_(0.5)
    distance.centre.zero_()
    distance.basis.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))  # the brightness alone
    for brightness, expected in ((2.0, 1.0), (7.0, math.log2(1 + 2**10)), (0.0, math.log2(1 + 2**-4))):
        found = distance(torch.full((1, 1, 16, 16), brightness))
        torch.testing.assert_close(found, torch.full_like(found, expected))


def test_healthy_image_is_compared_with_others_only() -> None:
    # one image differs from all others: had it been compared with itself, its distance would be 0
    images = healthy()
    images[0, :, :4, :4] = 2
    alone, without = (PatchDistance(memory=4000, dimensions=2) for _ in range(2))
    alone.fit(images)
    without.fit(healthy())
    assert alone.mean[0, 0, 0, 0] > 2 * without.mean[0, 0, 0, 0]


def test_volume_is_compared_slice_by_slice() -> None:
    distance, volume = fitted(), healthy(2, seed=3, depth=3)
    expected = torch.stack([distance(volume[..., index]) for index in range(3)], -1)
    torch.testing.assert_close(distance(volume), expected)
    of_volumes = PatchDistance(memory=200, dimensions=2)
    images = healthy(40)
    of_volumes.fit(torch.stack([images[:20], images[20:]], -1))
    assert int(of_volumes.images) == 40  # slices


def test_fit_depends_on_images_and_seed_only_and_replaces_an_earlier_one() -> None:
    first, again, other = fitted(), PatchDistance(memory=200, dimensions=2), PatchDistance(memory=200, dimensions=2)
    again.fit(healthy(seed=5))
    again.fit(healthy())
    other.fit(healthy(), seed=1)
    state = first.state_dict()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in state.items())
    assert not torch.equal(first.memory, other.memory)


def test_state_is_enough_to_compute_the_same_distances() -> None:
    distance, other, images = fitted(), PatchDistance(memory=200, dimensions=2), healthy(3, seed=1)
    other.load_state_dict(distance.state_dict())
    assert torch.equal(other(images), distance(images))


def test_distance_is_one_before_the_fit() -> None:
    assert torch.equal(PatchDistance(dimensions=2)(healthy(2)), torch.ones(2, 1, 16, 16))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (healthy(5), "distance of patches needs at least 20 healthy training images, got 5: add healthy studies"),
        (torch.full((30, 1, 16, 16), torch.nan), "patches of healthy images must be finite and differ"),
        (torch.zeros(30, 1, 16, 16), "must be finite and differ, got distances with a mean deviation of 0: check"),
    ],
)
def test_images_that_do_not_suffice_are_refused(images: Tensor, message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        PatchDistance(dimensions=2).fit(images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"memory": 0}, "memory must be at least 1 and dimensions within 1 to 2, got 0 and 2"),
        ({"dimensions": 3}, "dimensions within 1 to 2, got 8192 and 3"),
        ({"floor": 0.0}, "floor must be > 0, a share of the mean deviation, got 0.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        PatchDistance(**{"dimensions": 2, **settings})


def test_settings_name_what_distances_depend_on() -> None:
    assert PatchDistance(dimensions=2).settings() == {
        "kind": "patch_distance",
        "memory": 8192,
        "dimensions": 2,
        "floor": 0.2,
    }
