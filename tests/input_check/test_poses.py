"""The study as its own control: turned and inverted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from custom.input_check.descriptors import edges
from custom.input_check.healthy_model import HealthyModel
from custom.input_check.poses import POSES, best_turn, in_all_poses, ratio, ratio_limit


def edges_of(slices: torch.Tensor) -> np.ndarray:
    """Edges (128,) of a study of slices (Z, C, X, Y)."""
    return edges(slices.unsqueeze(0))[0]


def poses_of(picture: torch.Tensor) -> np.ndarray:
    return in_all_poses(edges_of(picture))


def turned(slices: torch.Tensor, pose: tuple[bool, int]) -> torch.Tensor:
    """Slices (Z, C, X, Y) mirrored and rotated."""
    mirrored, turns = pose
    return torch.rot90(slices.flip(2) if mirrored else slices, turns, (2, 3))


def tower() -> torch.Tensor:
    """A bright block that stands at the bottom (high y), the same mirrored."""
    picture = torch.zeros(1, 1, 64, 64)
    picture[:, :, 20:44, 40:60] = 1.0
    return picture


MODEL = HealthyModel(edges_of(tower()), np.zeros((0, 128)), np.array([0.01]))


def test_edges_in_all_poses_are_those_of_the_turned_images() -> None:
    slices = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    found = poses_of(slices)
    assert len({pose.tobytes() for pose in found}) == 8
    for own, pose in zip(found, POSES, strict=True):
        assert np.allclose(own, edges_of(turned(slices, pose)), atol=1e-6)


@pytest.mark.parametrize(
    ("pose", "words"),
    [((False, 2), "upside down"), ((True, 2), "upside down"), ((False, 1), "rotated by 90 degrees")],
)
def test_turned_study_fits_better_turned_back(pose: tuple[bool, int], words: str) -> None:
    poses = poses_of(turned(tower(), pose))
    assert ratio(MODEL, poses, "pose") > 100 and best_turn(MODEL, poses) == words


def test_study_as_usual_and_its_mirror_image_fit_best_as_they_are() -> None:
    assert ratio(MODEL, poses_of(tower()), "pose") < 0.01 and ratio(MODEL, poses_of(tower().flip(2)), "pose") < 0.01


def test_negative_fits_better_inverted() -> None:
    assert ratio(MODEL, poses_of(tower()), "polarity") < 0.01 < 100 < ratio(MODEL, poses_of(1 - tower()), "polarity")


def test_noise_is_as_strange_one_way_as_the_other() -> None:
    noise = poses_of(torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0)))
    assert ratio(MODEL, noise, "pose") == pytest.approx(1, abs=0.1)
    assert ratio(MODEL, noise, "polarity") == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    ("healthy", "limit"),
    [
        ([0.1, 0.125], 0.5),  # the cube root of the largest
        ([0.5, 0.95], 1.045),  # a tenth above it
        ([0.3, 1.5], 1.65),
        ([0.91, 0.95, 0.8], 0.0),  # no usual pose
    ],
)
def test_limit_lies_between_the_healthy_and_one(healthy: list[float], limit: float) -> None:
    assert ratio_limit(np.array(healthy)) == pytest.approx(limit)
