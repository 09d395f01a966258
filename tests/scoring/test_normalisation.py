"""Maps in standard deviations above healthy ones."""

from __future__ import annotations

import pytest
import torch

from custom.errors import NomalyError
from custom.scoring.normalisation import HealthyNormalisation


def test_value_is_deviations_above_the_healthy_mean_of_its_pixel() -> None:
    # by hand: pixel 0 has healthy values 1 and 3 (mean 2, deviation 1), pixel 1 has 5 and 5 (mean 5, deviation 0)
    normalisation = HealthyNormalisation((2, 1), sigma=0, floor=0.5)
    normalisation.fit([torch.tensor([[[[1.0], [5.0]]]]), torch.tensor([[[[3.0], [5.0]]]])])
    assert normalisation.mean.flatten().tolist() == [2, 5] and normalisation.std.flatten().tolist() == [1, 0]
    # floor: half of the mean deviation (1 + 0) / 2 = 0.25 is added to each
    z = normalisation(torch.tensor([[[[4.5], [6.0]]]]))
    assert z.flatten().tolist() == pytest.approx([2.5 / 1.25, 1 / 0.25])


def test_less_than_usual_is_negative_so_that_no_two_maps_are_tied() -> None:
    normalisation = HealthyNormalisation(4, sigma=0)
    normalisation.fit([torch.rand(8, 1, 4, 4, generator=torch.Generator().manual_seed(0))])
    nothing, little = normalisation(torch.zeros(1, 1, 4, 4)), normalisation(torch.full((1, 1, 4, 4), 0.01))
    assert (nothing < 0).all() and (little > nothing).all()


def test_map_passes_unchanged_until_it_is_fitted() -> None:
    raw = torch.rand(2, 1, 4, 4)
    assert torch.equal(HealthyNormalisation(4)(raw), raw)


def test_batches_make_no_difference_to_the_fit() -> None:
    maps = torch.rand(7, 1, 6, 6, 6, generator=torch.Generator().manual_seed(1))
    whole, parts = HealthyNormalisation(6, spatial_dims=3), HealthyNormalisation(6, spatial_dims=3)
    whole.fit([maps])
    parts.fit(maps.split(3))
    torch.testing.assert_close(parts.mean, whole.mean)
    torch.testing.assert_close(parts.std, whole.std)
    torch.testing.assert_close(whole.mean[0], whole.blur(maps).mean(0)[0])
    assert int(parts.images) == 7


def test_fit_travels_with_the_weights() -> None:
    fitted, other = HealthyNormalisation(4), HealthyNormalisation(4)
    fitted.fit([torch.rand(5, 1, 4, 4)])
    other.load_state_dict(fitted.state_dict())
    raw = torch.rand(1, 1, 4, 4)
    assert torch.equal(other(raw), fitted(raw)) and not torch.equal(other(raw), raw)


def test_air_where_healthy_images_agree_is_not_infinitely_unusual() -> None:
    maps = torch.zeros(6, 1, 8, 8)
    maps[..., 4:] = torch.rand(6, 1, 8, 4, generator=torch.Generator().manual_seed(2))
    normalisation = HealthyNormalisation(8, sigma=0, floor=0.1)
    normalisation.fit([maps])
    speck = torch.full((1, 1, 8, 8), 0.1)
    # by hand: in air z = 0.1 / (0 + 0.1 * mean deviation)
    assert normalisation(speck)[0, 0, 0, 0].item() == pytest.approx(0.1 / (0.1 * normalisation.std.mean().item()))


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_healthy_images_are_rejected(count: int) -> None:
    with pytest.raises(NomalyError, match=f"normalisation needs at least 2 healthy images, got {count}"):
        HealthyNormalisation(4).fit([torch.zeros(count, 1, 4, 4)])


def test_floor_of_zero_is_rejected() -> None:
    with pytest.raises(NomalyError, match="floor must be > 0, a share of the mean deviation, got 0"):
        HealthyNormalisation(4, floor=0)


@pytest.mark.parametrize("size", [(8, 8, 3), (4, 4, 4), (8, 8)])
def test_map_of_another_size_is_rejected(size: tuple[int, ...]) -> None:
    normalisation = HealthyNormalisation((8, 8, 4), spatial_dims=3)
    message = (
        r"anomaly_map must have the size \[8, 8, 4\] of this normalisation, got \[.*\]: set image_size and spatial"
    )
    with pytest.raises(NomalyError, match=message):
        normalisation(torch.zeros(1, 1, *size))
    with pytest.raises(NomalyError, match=message):
        normalisation.fit([torch.zeros(2, 1, *size)])


def test_sides_of_other_axes_are_rejected() -> None:
    with pytest.raises(NomalyError, match=r"image_size must be one number or 3 of them, got \[8, 8\]"):
        HealthyNormalisation((8, 8), spatial_dims=3)
