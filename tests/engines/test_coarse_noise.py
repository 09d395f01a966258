"""Coarse noise of a denoising warm-up."""

from __future__ import annotations

import pytest
import torch

from custom.engines.coarse_noise import CoarseNoise
from custom.errors import NomalyError


def noisy(images: torch.Tensor, seed: int = 0, **settings) -> torch.Tensor:
    torch.manual_seed(seed)
    return CoarseNoise(**settings)(images)


def test_the_asked_share_of_images_changes_in_about_half_of_its_pixels() -> None:
    images = torch.full((400, 1, 64, 64), 0.5)
    changed = (noisy(images, share=0.75) != images).flatten(1).float().mean(1)
    assert (changed > 0).float().mean().item() == pytest.approx(0.75, abs=0.06)
    assert changed[changed > 0].mean().item() == pytest.approx(0.5, abs=0.03)


def test_noise_is_smooth_within_a_blob_and_of_the_asked_size() -> None:
    images = torch.full((200, 1, 64, 64), 0.5)
    difference = noisy(images, amplitude=0.1, share=1.0) - images
    steps = (difference[..., 1:, :] - difference[..., :-1, :]).abs()
    inside = (difference[..., 1:, :] != 0) & (difference[..., :-1, :] != 0)
    # neighbours differ by an eighth of the difference of two cells at most; the deviation between cells is smaller
    assert steps[inside].mean() < 0.25 * difference[difference != 0].abs().mean()
    assert 0.05 < difference[difference != 0].std().item() < 0.1


def test_result_stays_in_range_and_depends_on_the_seed_only() -> None:
    images = torch.rand(8, 3, 40, 24)
    once, again, other = noisy(images), noisy(images), noisy(images, seed=1)
    assert torch.equal(once, again) and not torch.equal(once, other)
    assert 0 <= once.min() and once.max() <= 1 and once.shape == images.shape
    assert noisy(torch.rand(4, 1, 16, 16, 8)).shape == (4, 1, 16, 16, 8)


@pytest.mark.parametrize("settings", [{"amplitude": 0.0}, {"share": 0.0}])
def test_without_noise_images_are_returned_as_they_are(settings: dict) -> None:
    images = torch.rand(2, 1, 16, 16)
    assert CoarseNoise(**settings)(images) is images


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"amplitude": -1.0}, "noise_amplitude must be >= 0, got -1.0: 0 trains without noise"),
        ({"share": 1.5}, r"noise_share must be a fraction in \[0, 1\], got 1.5"),
        ({"cell": 0}, "cell must be at least 1 pixel, got 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        CoarseNoise(**settings)
