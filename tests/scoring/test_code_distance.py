"""The distance of a code from those of healthy images."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis

from custom.errors import NomalyError
from custom.scoring.code_distance import CodeDistance


def codes(count: int = 200, size: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, size, generator=generator) @ torch.tensor([[1.0, 0.5, 0], [0, 2, 0], [0, 0, 0.1]])


def test_distance_is_that_of_scipy_over_the_root_of_the_dimensions() -> None:
    distance, healthy = CodeDistance(3, shrinkage=1e-3), codes()
    distance.fit(healthy)
    covariance = np.cov(healthy.double().numpy().T)
    covariance += 1e-3 * np.trace(covariance) / 3 * np.eye(3)
    new, mean, inverse = torch.tensor([[1.0, -2.0, 0.3]]), healthy.double().mean(0).numpy(), np.linalg.inv(covariance)
    assert distance(new).item() == pytest.approx(mahalanobis(new[0].numpy(), mean, inverse) / 3**0.5, rel=1e-5)


def test_healthy_codes_are_about_one_and_others_farther() -> None:
    distance, healthy = CodeDistance(3), codes()
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


def test_shrinkage_must_be_positive() -> None:
    with pytest.raises(NomalyError, match="shrinkage must be > 0, got 0"):
        CodeDistance(3, shrinkage=0)
