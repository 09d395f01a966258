"""Maps relative to what is usual at the same place."""

from __future__ import annotations

import pytest
import torch

from custom.errors import NomalyError
from custom.scoring.expected_residual import ExpectedResidual


def healthy(count: int = 64, size: tuple[int, ...] = (32, 32)) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps and reconstructions: bright pixels of the reconstruction are three times as hard as dark ones."""
    generator = torch.Generator().manual_seed(0)
    places = (torch.rand(count, 1, *[side // 8 for side in size], generator=generator) > 0.5).float()
    reconstructions = torch.nn.functional.interpolate(places, size=size, mode="nearest") * 0.8
    noise = torch.empty(count, 1, *size).exponential_(generator=generator)
    return noise * torch.where(reconstructions > 0.4, 0.03, 0.01), reconstructions


def fitted(**settings) -> ExpectedResidual:
    residual = ExpectedResidual()
    residual.fit(*healthy(), **{"steps": 60, **settings})
    return residual.eval()


def test_expected_residual_follows_what_healthy_images_have_at_such_places() -> None:
    residual = fitted()
    maps, reconstructions = healthy()
    with torch.no_grad():
        expected = residual.expected(reconstructions) * residual.scale
    # by hand: exponential noise of mean 0.03 in bright places and 0.01 in dark ones; edges are blurred by the grid
    assert 0.02 < expected[reconstructions > 0.4].mean().item() < 0.035
    assert 0.008 < expected[reconstructions < 0.4].mean().item() < 0.017


def test_same_difference_weighs_more_where_healthy_images_agree() -> None:
    residual, reconstruction = fitted(), torch.zeros(1, 1, 32, 32)
    reconstruction[..., 16:] = 0.8
    with torch.no_grad():
        relative = residual(torch.full_like(reconstruction, 0.02), reconstruction)
    assert relative[..., :12].mean() > 1.5 * relative[..., 20:].mean()


def test_anomaly_in_the_image_cannot_raise_its_own_expectation() -> None:
    residual, (maps, reconstructions) = fitted(), healthy(2)
    louder = maps.clone()
    louder[..., 8:16, 8:16] += 1  # the image differs, the pseudo-healthy image does not
    with torch.no_grad():
        before, after = residual(maps, reconstructions), residual(louder, reconstructions)
    assert torch.equal(after[..., :8, :], before[..., :8, :])  # nothing changes elsewhere
    torch.testing.assert_close(after - before, (louder - maps) / (residual.scale * residual.expected(reconstructions)))


def test_fit_depends_on_data_and_seed_only() -> None:
    torch.manual_seed(1)
    first = fitted(steps=3)
    torch.manual_seed(2)
    again, other = fitted(steps=3), fitted(steps=3, seed=1)
    state = first.state_dict()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in state.items())
    assert any(not torch.equal(value, other.state_dict()[name]) for name, value in state.items())


def test_second_fit_replaces_the_first() -> None:
    residual = ExpectedResidual()
    maps, reconstructions = healthy()
    residual.fit(maps * 5, reconstructions, steps=5)
    residual.fit(maps, reconstructions, steps=5)
    once = ExpectedResidual()
    once.fit(maps, reconstructions, steps=5)
    assert all(torch.equal(value, once.state_dict()[name]) for name, value in residual.state_dict().items())


def test_map_is_unchanged_before_the_fit() -> None:
    maps, reconstructions = healthy(2)
    assert torch.equal(ExpectedResidual()(maps, reconstructions), maps)


def test_relative_map_does_not_depend_on_the_unit_of_the_map() -> None:
    maps, reconstructions = healthy()
    first, second = ExpectedResidual(), ExpectedResidual()
    first.fit(maps, reconstructions, steps=5)
    second.fit(maps * 4, reconstructions, steps=5)
    with torch.no_grad():
        torch.testing.assert_close(first(maps, reconstructions), second(maps * 4, reconstructions))


def test_each_image_of_a_batch_has_the_map_that_it_has_alone() -> None:
    residual, (maps, reconstructions) = fitted(steps=3), healthy(3)
    with torch.no_grad():
        alone = torch.cat([residual(maps[[i]], reconstructions[[i]]) for i in range(3)])
        torch.testing.assert_close(residual(maps, reconstructions), alone)


@pytest.mark.parametrize("size", [(16, 24), (20, 36), (48, 48), (16, 16, 8)])
def test_any_size_and_volumes_are_accepted(size: tuple[int, ...]) -> None:
    residual = ExpectedResidual(in_channels=3, spatial_dims=len(size))
    maps, reconstructions = torch.rand(20, 1, *size), torch.rand(20, 3, *size)
    assert len(residual.fit(maps, reconstructions, steps=2)) == 2
    relative = residual(maps[:2], reconstructions[:2])
    assert relative.shape == (2, 1, *size) and torch.isfinite(relative).all()


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        (torch.rand(19, 1, 16, 16), "the expected residual needs at least 20 healthy training images, got 19: add"),
        (torch.zeros(20, 1, 16, 16), "maps of healthy images must be finite with a mean > 0, got a mean of 0"),
        (torch.full((20, 1, 16, 16), torch.nan), "maps of healthy images must be finite .* got a mean of nan"),
    ],
)
def test_maps_that_allow_no_fit_are_refused(maps: torch.Tensor, message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        ExpectedResidual().fit(maps, torch.zeros(len(maps), 1, 16, 16))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"floor": 0.0}, "residual_floor must be > 0, a share of the mean residual, got 0.0"),
        ({"width": 12}, "width must be a multiple of 8, got 12"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        ExpectedResidual(**settings)
