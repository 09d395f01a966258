"""CLAHE in batches against scikit-image, image by image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.exposure import equalize_adapthist as reference

from custom.errors import NomalyError
from custom.scoring.clahe import equalize_adapthist


def textured_image(shape: tuple[int, ...], kind: str, seed: int = 0) -> np.ndarray:
    """Noise, a smooth field, blobs on a black background, a dim image or one of five grey values."""
    noise = np.random.default_rng(seed).random(shape, dtype=np.float32)
    smooth = gaussian_filter(noise, 2)
    return {
        "noise": noise,
        "smooth": (smooth - smooth.min()) / (smooth.max() - smooth.min()),
        "blobs": np.clip((smooth - smooth.mean()) * 5, 0, 1),
        "dim": noise * 0.01,
        "steps": np.round(noise * 4) / 8,
    }[kind].astype(np.float32)


def equalised(image: np.ndarray, *args: object) -> np.ndarray:
    return equalize_adapthist(torch.from_numpy(image)[None, None], *args)[0, 0].numpy()


@pytest.mark.parametrize("kind", ["noise", "smooth", "blobs", "dim", "steps"])
@pytest.mark.parametrize("shape", [(128, 128), (64, 64), (100, 77), (37, 53), (9, 16), (7, 5), (1, 12)])
def test_two_dimensional_result_equals_scikit_image(shape: tuple[int, ...], kind: str) -> None:
    image = textured_image(shape, kind)
    np.testing.assert_allclose(equalised(image), reference(image), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(32, 32, 32), (20, 33, 17), (9, 9, 9), (40, 24, 1)])
def test_three_dimensional_result_equals_scikit_image(shape: tuple[int, ...]) -> None:
    image = textured_image(shape, "blobs")
    np.testing.assert_allclose(equalised(image), reference(image), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kernel_size", [5, (8, 20), 50, 200])
@pytest.mark.parametrize("clip_limit", [0.0, 0.001, 0.03, 1.0])
@pytest.mark.parametrize("nbins", [16, 100, 256])
def test_every_setting_means_what_it_means_in_scikit_image(
    kernel_size: int | tuple[int, int], clip_limit: float, nbins: int
) -> None:
    image = textured_image((61, 64), "blobs")
    expected = reference(image, kernel_size, clip_limit, nbins)
    np.testing.assert_allclose(equalised(image, kernel_size, clip_limit, nbins), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_constant_image_gives_scikit_image_ones_and_no_nan(value: float) -> None:
    image = np.full((32, 40), value, np.float32)
    assert np.array_equal(reference(image), np.ones((32, 40)))
    assert np.array_equal(equalised(image), np.ones((32, 40)))


def test_each_image_and_channel_is_equalised_separately() -> None:
    images = np.stack(
        [textured_image((48, 48), kind, seed) for seed, kind in enumerate(["noise", "dim", "blobs", "steps"])]
    )
    batch = equalize_adapthist(torch.from_numpy(images).reshape(2, 2, 48, 48)).reshape(4, 48, 48).numpy()
    assert np.array_equal(batch, np.stack([equalised(image) for image in images]))


def test_half_precision_is_computed_in_single_precision() -> None:
    image = torch.from_numpy(textured_image((32, 32), "smooth"))[None, None].half()
    result = equalize_adapthist(image)
    assert result.dtype == torch.float32
    assert torch.equal(result, equalize_adapthist(image.float()))


def test_values_outside_zero_to_one_are_clamped_first() -> None:
    image = torch.from_numpy(textured_image((32, 32), "noise"))[None, None] * 2 - 0.5
    assert torch.equal(equalize_adapthist(image), equalize_adapthist(image.clamp(0, 1)))


@pytest.mark.parametrize(
    ("image", "settings", "message"),
    [
        (torch.zeros(4, 4), {}, r"image must be \(B, C, H, W\)"),
        (torch.full((1, 1, 4, 4), torch.nan), {}, "image must have finite values"),
        (torch.zeros(1, 1, 4, 4), {"nbins": 1}, r"nbins must be in \[2, 16384\], got 1"),
        (torch.zeros(1, 1, 4, 4), {"clip_limit": 2}, r"clip_limit must be in \[0, 1\], got 2"),
        (torch.zeros(1, 1, 4, 4), {"kernel_size": (2, 2, 2)}, "kernel_size must be one positive number or 2 of them"),
    ],
)
def test_refusals_name_the_parameter_and_its_rule(image: torch.Tensor, settings: dict, message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        equalize_adapthist(image, **settings)
