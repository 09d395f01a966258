"""The distance of a code from those of healthy images."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis

from custom.errors import NomalyError
from custom.scoring.code_distance import CodeDistance


def codes(count: int = 200, size: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, size, generator=generator) @ torch.tensor([[1.0, 0.5, 0], [0, 2, 0], [0, 0, 0.1]])


def test_one_component_gives_the_distance_of_scipy_over_the_root_of_the_dimensions() -> None:
    distance, healthy = CodeDistance(3, components=1, ridge=1e-3), codes()
    distance.fit(healthy)
    covariance = np.cov(healthy.double().numpy().T, bias=True)
    covariance += 1e-3 * healthy.double().var(0).mean().item() * np.eye(3)
    new, mean, inverse = torch.tensor([[1.0, -2.0, 0.3]]), healthy.double().mean(0).numpy(), np.linalg.inv(covariance)
    assert distance(new).item() == pytest.approx(mahalanobis(new[0].numpy(), mean, inverse) / 3**0.5, rel=1e-4)


def test_distance_follows_the_density_of_a_mixture_by_hand() -> None:
    """Two unit circles of Gaussians, with weights 0.25 and 0.75, their centres 20 apart."""
    noise = torch.randn(40000, 2, generator=torch.Generator().manual_seed(0))
    places = torch.tensor([[0.0, 0.0], [20.0, 0.0]])[(torch.arange(40000) % 4 > 0).long()]
    distance = CodeDistance(2, components=2, ridge=1e-6)
    distance.fit(noise + places)
    found = distance(torch.tensor([[20.0, 0.0], [20.0, 2.0], [0.0, 0.0], [0.0, 3.0]]))
    # the peak is that of the heavier one: 2 (log p_max - log p) / 2 = |x - centre|^2 / 2 + log(0.75 / weight)
    assert found.square().tolist() == pytest.approx([0, 2, math.log(3), math.log(3) + 4.5], abs=0.15)


def test_point_between_groups_is_far_though_it_is_the_mean() -> None:
    groups = torch.cat([codes(200) / 4 - 10, codes(200) / 4 + 10])
    one, two = CodeDistance(3, components=1), CodeDistance(3, components=2)
    for distance in (one, two):
        distance.fit(groups)
    between = torch.zeros(1, 3)
    assert one(between) < 0.1 and two(between) > 5


def test_few_images_take_fewer_components() -> None:
    distance = CodeDistance(3)
    for count, components in ((26, 2), (27, 3), (36, 4), (200, 4)):
        distance.fit(codes(count))
        assert (distance.offsets > -1e29).sum() == components


def test_healthy_codes_are_about_one_and_others_farther() -> None:
    distance, healthy = CodeDistance(3, components=1, ridge=1e-4), codes()
    distance.fit(healthy)
    assert distance(healthy).square().mean().item() == pytest.approx(1, abs=0.1)
    assert distance(healthy.mean(0, keepdim=True)).item() == pytest.approx(0, abs=1e-5)
    assert distance(healthy.mean(0, keepdim=True) + torch.tensor([[0, 0, 1.0]])).item() > 3


def test_more_dimensions_than_images_give_finite_distances() -> None:
    distance = CodeDistance(64)
    distance.fit(torch.randn(20, 64, generator=torch.Generator().manual_seed(0)))
    assert torch.isfinite(distance(torch.randn(5, 64))).all()


def test_distance_is_one_before_the_fit_and_survives_saving() -> None:
    distance, other = CodeDistance(3), CodeDistance(3)
    assert torch.equal(distance(codes(4)), torch.ones(4))
    distance.fit(codes())
    other.load_state_dict(distance.state_dict())
    assert torch.equal(distance(codes(4)), other(codes(4)))


@pytest.mark.parametrize(
    ("healthy", "message"),
    [
        (torch.zeros(19, 3), "the distance of latent codes needs at least 20 healthy training images, got 19"),
        (torch.zeros(20, 3), "latent codes of healthy images must be finite and differ, got a mean variance of 0"),
        (torch.full((20, 3), torch.nan), "latent codes of healthy images must be finite and differ, got .* of nan"),
    ],
)
def test_codes_that_allow_no_estimate_are_refused(healthy: torch.Tensor, message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        CodeDistance(3).fit(healthy)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ridge": 0}, "ridge must be > 0, got 0"),
        ({"components": 0}, "components and dimensions must be at least 1, got 0 and 32"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        CodeDistance(3, **settings)
