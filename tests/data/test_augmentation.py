"""Augmentation of batches, against MONAI's transforms of single images."""

from __future__ import annotations

import math

import pytest
import torch
from monai.transforms import AdjustContrast, Affine

from custom.data.augmentation import BatchAugmentation, plane_matrices
from custom.errors import NomalyError

STILL = {"rotate_degrees": 0, "shift_share": 0, "scale_share": 0, "flip_probability": (0, 0), "gamma": (1, 1)}


def smooth(*shape: int) -> torch.Tensor:
    """Smooth images (B, C, *S) in [0, 1], other in each channel."""
    axes = torch.meshgrid(*(torch.linspace(0, 3, side) for side in shape[2:]), indexing="ij")
    wave = sum(torch.sin((number + 1) * axis) for number, axis in enumerate(axes))
    phases = torch.arange(math.prod(shape[:2])).view(*shape[:2], *[1] * len(axes)) / 7
    return torch.sin(wave + phases) / 2 + 0.5


@pytest.mark.parametrize("size", [(24, 24), (20, 32), (24, 20, 6)])
@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_movement_is_that_of_monais_affine(size: tuple[int, ...], padding: str) -> None:
    images = smooth(3, 2, *size)
    augmentation = BatchAugmentation(20, 0.2, 0.1, (0, 0), padding=padding)
    drawn = torch.rand(3, 7, generator=torch.Generator().manual_seed(1))
    moved = augmentation.move(images, drawn)
    for image, result, u in zip(images, moved, (2 * drawn - 1).tolist()):
        rest = [0] * (len(size) - 2)
        reference = Affine(
            rotate_params=[0, 0, math.radians(20) * u[0]] if rest else math.radians(20) * u[0],
            translate_params=[0.2 * u[1] * size[0], 0.2 * u[2] * size[1], *rest],
            scale_params=[1 + 0.1 * u[3], 1 + 0.1 * u[4], *(1 for _ in rest)],
            padding_mode=padding,
            image_only=True,
        )(image)
        torch.testing.assert_close(result, torch.as_tensor(reference).as_subclass(torch.Tensor), atol=2e-4, rtol=0)


@pytest.mark.parametrize("size", [(8, 10), (8, 10, 3)])
def test_flip_mirrors_the_axis_that_it_names(size: tuple[int, ...]) -> None:
    images = smooth(2, 1, *size)
    for axis in (0, 1):
        probability = [float(axis == 0), float(axis == 1)]
        flipped = BatchAugmentation(**STILL | {"flip_probability": probability})(images)
        torch.testing.assert_close(flipped, images.flip(2 + axis), atol=1e-5, rtol=0)


def test_contrast_is_that_of_monai_and_changes_half_of_the_images() -> None:
    images = smooth(200, 1, 6, 6)
    torch.manual_seed(0)
    changed = BatchAugmentation(**STILL | {"gamma": (2, 2)})(images)
    by_hand = torch.stack([torch.as_tensor(AdjustContrast(2.0)(image)).as_subclass(torch.Tensor) for image in images])
    powered = (changed - by_hand).abs().flatten(1).amax(1) < 1e-4
    same = (changed - images).abs().flatten(1).amax(1) < 1e-4
    assert (powered ^ same).all() and 70 < powered.sum() < 130


def test_amounts_are_uniform_in_their_ranges_and_differ_between_axes_and_images() -> None:
    spot = torch.zeros(400, 1, 33, 33)
    spot[:, :, 15:18, 15:18] = 1
    torch.manual_seed(0)
    moved = BatchAugmentation(**STILL | {"shift_share": 0.2})(spot)
    places = torch.arange(33.0)
    shifts = torch.stack([(moved.sum(other) * places).sum(-1).squeeze(1) / 9 - 16 for other in (3, 2)], 1)
    reach = 0.2 * 33
    assert shifts.abs().max() <= reach + 1e-3 and shifts.abs().max() > 0.95 * reach
    # a uniform distribution on [-a, a] has mean 0 and standard deviation a / sqrt(3)
    assert shifts.mean(0).abs().max() < 0.1 * reach
    assert shifts.std(0).tolist() == pytest.approx([reach / math.sqrt(3)] * 2, rel=0.06)
    assert torch.corrcoef(shifts.T)[0, 1].abs() < 0.15


def test_nothing_changes_without_amounts_and_the_seed_decides_with_them() -> None:
    images = smooth(4, 3, 16, 16)
    torch.testing.assert_close(BatchAugmentation(**STILL)(images), images, atol=1e-5, rtol=0)
    results = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        results.append(BatchAugmentation()(images))
    assert torch.equal(results[0], results[1]) and not torch.equal(results[0], results[2])
    assert results[0].shape == images.shape and not results[0].requires_grad


def test_third_axis_of_a_volume_stays() -> None:
    ramp = torch.linspace(0, 1, 6).expand(2, 1, 12, 12, 6).contiguous()
    moved = BatchAugmentation(**STILL | {"rotate_degrees": 10, "shift_share": 0.1}, padding="border")(ramp)
    torch.testing.assert_close(moved, ramp, atol=1e-5, rtol=0)


def test_matrix_of_a_quarter_turn_by_hand() -> None:
    theta = plane_matrices(torch.tensor([math.pi / 2]), torch.zeros(1, 2), torch.ones(1, 2), (4, 8))
    # result (i, j) comes from (-j, i): in half sides, of 2 and 4 pixels, first axis last
    assert theta[0].flatten().tolist() == pytest.approx([0, 0.5, 0, -2, 0, 0], abs=1e-6)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"shift_share": -0.1}, "must be >= 0, and scale_share < 1, got 5.0, -0.1 and 0.05: 0 omits one"),
        ({"flip_probability": [0.5]}, r"flip_probability must be two numbers in \[0, 1\], got \[0.5\]"),
        ({"gamma": [1.2, 0.8]}, r"gamma must be two numbers with 0 < first <= second, got \[1.2, 0.8\]"),
        ({"padding": "mirror"}, "padding must be one of zeros, border, reflection, got 'mirror'"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        BatchAugmentation(**settings)
