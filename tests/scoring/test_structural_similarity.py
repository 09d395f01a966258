"""Structural similarity against scikit-image, MONAI, plain float64 numpy and hand-derived values."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.metrics.regression import MultiScaleSSIMMetric
from scipy.ndimage import correlate1d
from skimage.metrics import structural_similarity
from torch import Tensor

from custom.errors import NomalyError
from custom.scoring.structural_similarity import WEIGHTS, StructuralSimilarityMap, multi_scale_ssim, ssim_components


def image_pair(*shape: int, seed: int = 0, noise: float = 0.1) -> tuple[Tensor, Tensor]:
    """A coarse random pattern in [0, 1] and the same with noise, float64: related, but far from equal."""
    generator = np.random.default_rng(seed)
    x = generator.random(shape)
    for axis in range(2, len(shape)):
        x = correlate1d(x, np.ones(5) / 5, axis=axis)
    x = (x - x.min()) / (x.max() - x.min())
    y = np.clip(x + noise * generator.standard_normal(shape), 0, 1)
    return torch.from_numpy(x), torch.from_numpy(y)


def reference_components(x: np.ndarray, y: np.ndarray, window: int, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """SSIM and contrast-structure of two arrays without batch and channels, as Wang et al. 2004 write them."""
    kernel = np.exp(-((np.arange(window) - window // 2) ** 2) / (2 * sigma**2))
    kernel /= kernel.sum()

    def mean(values: np.ndarray) -> np.ndarray:
        for axis in range(values.ndim):
            values = correlate1d(values, kernel, axis=axis, mode="reflect")
        return values

    mean_x, mean_y = mean(x), mean(y)
    variances = mean(x * x) - mean_x**2 + mean(y * y) - mean_y**2
    structure = (2 * (mean(x * y) - mean_x * mean_y) + 0.03**2) / (variances + 0.03**2)
    return (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2) * structure, structure


def halved(image: np.ndarray) -> np.ndarray:
    """Means of blocks of 2 per axis, an odd last row repeated."""
    for axis, size in enumerate(image.shape):
        padding = [(0, size % 2 if a == axis else 0) for a in range(image.ndim)]
        padded = np.pad(image, padding, mode="edge")
        even, odd = (np.take(padded, np.arange(start, padded.shape[axis], 2), axis) for start in (0, 1))
        image = (even + odd) / 2
    return image


def reference_score(x: np.ndarray, y: np.ndarray, weights: list[float], window: int, sigma: float) -> float:
    """MS-SSIM of two arrays without batch and channels: every mean over whole windows only."""
    inside = (slice(window // 2, -(window // 2)),) * x.ndim
    result = 1.0
    for scale, weight in enumerate(weights):
        ssim, structure = reference_components(x, y, window, sigma)
        kept = ssim if scale == len(weights) - 1 else structure
        result *= max(kept[inside].mean(), 0) ** weight
        x, y = halved(x), halved(y)
    return result


def drawn_up(coarse: np.ndarray, scale: int, size: tuple[int, ...]) -> np.ndarray:
    """Linear interpolation between the centres of the coarse pixels, each 2^scale fine pixels wide."""
    for axis, length in enumerate(size):
        centres = (np.arange(coarse.shape[axis]) + 0.5) * 2**scale - 0.5
        coarse = np.apply_along_axis(lambda line: np.interp(np.arange(length), centres, line), axis, coarse)
    return coarse


@pytest.mark.parametrize("shape", [(64, 64), (37, 50), (11, 32), (20, 24, 17)])
def test_one_scale_equals_scikit_image_at_every_pixel_and_in_the_mean(shape: tuple[int, ...]) -> None:
    x, y = image_pair(1, 1, *shape)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0, "full": True}
    mean, expected = structural_similarity(x[0, 0].numpy(), y[0, 0].numpy(), **options)
    np.testing.assert_allclose(ssim_components(x, y)[0][0, 0].numpy(), expected, rtol=0, atol=1e-12)
    valid = ssim_components(x, y, valid=True)[0]
    assert valid.shape[2:] == tuple(size - 10 for size in shape)
    assert valid.mean().item() == pytest.approx(mean, abs=1e-12)


@pytest.mark.parametrize(("window", "sigma"), [(11, 1.5), (3, 0.8), (7, 4.0)])
def test_window_and_sigma_shape_both_components_as_in_the_published_formula(window: int, sigma: float) -> None:
    x, y = image_pair(1, 1, 33, 40, noise=0.3)
    expected = reference_components(x[0, 0].numpy(), y[0, 0].numpy(), window, sigma)
    for result, reference in zip(ssim_components(x, y, window, sigma), expected):
        np.testing.assert_allclose(result[0, 0].numpy(), reference, rtol=0, atol=1e-12)


def test_data_range_scales_the_constants_with_the_images() -> None:
    x, y = image_pair(1, 1, 32, 32)
    for expected, result in zip(ssim_components(x, y), ssim_components(255 * x, 255 * y, data_range=255)):
        assert torch.allclose(result, expected, rtol=0, atol=1e-10)


def test_ssim_of_two_constants_is_their_luminance() -> None:
    a, b = 0.2, 0.7
    ssim, contrast_structure = ssim_components(torch.full((1, 1, 32, 32), a), torch.full((1, 1, 32, 32), b))
    assert torch.allclose(ssim, torch.full_like(ssim, (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)), atol=1e-4)
    assert torch.allclose(contrast_structure, torch.ones_like(ssim), atol=1e-4)


def test_multi_scale_ssim_equals_the_published_product_in_float64() -> None:
    x, y = image_pair(2, 3, 91, 89)
    weights = np.array(WEIGHTS[:4]) / sum(WEIGHTS[:4])  # 89, 45, 23, 12; the fifth would have 6 < 11 pixels
    pairs = zip(x.flatten(0, 1).numpy(), y.flatten(0, 1).numpy())
    expected = np.array([reference_score(*pair, weights, 11, 1.5) for pair in pairs]).reshape(2, 3).mean(1)
    np.testing.assert_allclose(multi_scale_ssim(x, y).numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "weights", "window"),
    [
        ((192, 176), [w / sum(WEIGHTS) for w in WEIGHTS], 11),
        ((32, 48), [0.25, 0.25, 0.25, 0.25], 3),
        ((32, 40, 48), [0.5, 0.3, 0.2], 5),
    ],
)
def test_multi_scale_ssim_equals_monai(shape: tuple[int, ...], weights: list[float], window: int) -> None:
    x, y = (image.float() for image in image_pair(2, 1, *shape))
    metric = MultiScaleSSIMMetric(len(shape), kernel_size=window, kernel_sigma=1.5, weights=weights)
    expected = metric._compute_metric(x, y).flatten()
    assert torch.allclose(multi_scale_ssim(x, y, weights, window), expected, rtol=0, atol=1e-5)


def test_weights_count_by_their_share_of_the_sum() -> None:
    x, y = image_pair(1, 1, 48, 48)
    assert torch.allclose(multi_scale_ssim(x, y, [3, 1]), multi_scale_ssim(x, y, [0.75, 0.25]), rtol=0, atol=1e-12)
    maps = [StructuralSimilarityMap(weights=weights)(x, y) for weights in ([3, 1], [0.75, 0.25])]
    assert torch.allclose(*maps, rtol=0, atol=1e-6)


def test_map_is_the_published_sum_over_scales_of_an_image_with_odd_sides() -> None:
    x, y = image_pair(1, 2, 45, 52)
    expected = 0.0
    for image, other in zip(x[0].numpy(), y[0].numpy()):
        for scale, weight in enumerate([0.2, 0.3, 0.5]):  # 45, 23, 12 pixels
            dissimilarity = 1 - reference_components(image, other, 11, 1.5)[0]
            expected += 0.5 * weight * drawn_up(dissimilarity, scale, (45, 52))
            image, other = halved(image), halved(other)
    difference = (x - y).abs().mean(1)[0].numpy()
    result = StructuralSimilarityMap(weights=[0.2, 0.3, 0.5], l1_weight=0.3)(x, y)
    assert result.shape == (1, 1, 45, 52) and result.dtype == torch.float32
    np.testing.assert_allclose(result[0, 0].numpy(), 0.7 * expected + 0.3 * difference, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 64, 48), (1, 1, 32, 33, 40)])
def test_perfect_reconstruction_gives_exactly_zero(shape: tuple[int, ...]) -> None:
    image = image_pair(*shape)[0].float()
    head = StructuralSimilarityMap()
    assert torch.equal(head(image, image), torch.zeros(shape[0], 1, *shape[2:]))
    assert torch.equal(head.blended_score(image, image), torch.zeros(shape[0]))


def test_rounding_gives_no_negative_score() -> None:
    image = torch.full((1, 1, 32, 32), 0.9)
    head = StructuralSimilarityMap(weights=[1, 0], l1_weight=0)  # no luminance: variances of about 1e-8 for 0 remain
    for shift in (0.1, 0.3, 0.5, 0.7):
        assert head.blended_score(image, image - shift).item() >= 0


def test_meta_tensors_give_plain_tensors() -> None:
    x, y = (MetaTensor(image.float()) for image in image_pair(1, 1, 32, 32))
    head = StructuralSimilarityMap()
    assert type(head(x, y)) is Tensor and type(head.blended_score(x, y)) is Tensor


def test_image_and_reconstruction_can_be_exchanged() -> None:
    x, y = (image.float() for image in image_pair(2, 3, 64, 40))
    head = StructuralSimilarityMap()
    assert torch.equal(head(x, y), head(y, x))
    assert torch.equal(head.blended_score(x, y), head.blended_score(y, x))


@pytest.mark.parametrize("l1_weight", [0.0, 0.15, 1.0])
def test_constant_images_give_map_and_score_derived_by_hand(l1_weight: float) -> None:
    a, b = torch.full((1, 3, 64, 64), 0.2), torch.full((1, 3, 64, 64), 0.7)
    ssim = (2 * 0.2 * 0.7 + 1e-4) / (0.2**2 + 0.7**2 + 1e-4)
    head = StructuralSimilarityMap(l1_weight=l1_weight)
    map_value = (1 - l1_weight) * (1 - ssim) + l1_weight * 0.5
    assert torch.allclose(head(a, b), torch.full((1, 1, 64, 64), map_value), atol=1e-4)
    coarsest = 0.3001 / (0.0448 + 0.2856 + 0.3001)  # 64 pixels have three scales, luminance counts at the last alone
    score = (1 - l1_weight) * (1 - ssim**coarsest) + l1_weight * 0.5
    assert head.blended_score(a, b).item() == pytest.approx(score, abs=1e-4)


def test_volume_constant_along_one_axis_gives_the_map_and_score_of_its_slice() -> None:
    x, y = image_pair(2, 1, 32, 35)
    volumes = [image.unsqueeze(-1).expand(-1, -1, -1, -1, 33) for image in (x, y)]
    head = StructuralSimilarityMap()
    assert torch.allclose(head(*volumes), head(x, y).unsqueeze(-1).expand(-1, -1, -1, -1, 33), rtol=0, atol=1e-5)
    assert torch.allclose(multi_scale_ssim(*volumes), multi_scale_ssim(x, y), rtol=0, atol=1e-12)


def test_map_is_largest_inside_an_added_lesion_and_zero_far_from_it() -> None:
    healthy = torch.linspace(0.2, 0.6, 64).reshape(1, 1, 1, 64).repeat(1, 1, 64, 1)
    ill = healthy.clone()
    ill[..., 8:16, 40:48] += 0.35
    result = StructuralSimilarityMap(window=5)(ill, healthy)[0, 0]
    row, column = divmod(int(result.argmax()), 64)
    assert 8 <= row < 16 and 40 <= column < 48
    assert torch.allclose(result[-8:, :8], torch.zeros(8, 8), atol=1e-6)


def test_values_outside_zero_to_one_are_clamped_first() -> None:
    x, y = (image.float() * 2 - 0.5 for image in image_pair(1, 1, 32, 32))
    head = StructuralSimilarityMap()
    assert torch.equal(head(x, y), head(x.clamp(0, 1), y.clamp(0, 1)))
    assert torch.equal(head.blended_score(x, y), head.blended_score(x.clamp(0, 1), y.clamp(0, 1)))


def test_gradients_are_those_of_finite_differences() -> None:
    x, y = image_pair(1, 2, 12, 13)
    inputs = (x.requires_grad_(), y.requires_grad_())
    assert torch.autograd.gradcheck(lambda *pair: ssim_components(*pair, window=5), inputs, fast_mode=True)
    x, y = image_pair(2, 2, 32, 33)
    assert torch.autograd.gradcheck(multi_scale_ssim, (x.requires_grad_(), y.requires_grad_()), fast_mode=True)


def test_opposite_images_give_similarity_zero_and_a_finite_gradient() -> None:
    x, _ = image_pair(1, 1, 64, 64)
    y = (1 - x).requires_grad_()
    similarity = multi_scale_ssim(x, y)
    similarity.sum().backward()
    assert similarity.item() == 0
    assert torch.isfinite(y.grad).all()


def test_bfloat16_autocast_changes_nothing() -> None:
    x, y = (image.float() for image in image_pair(2, 3, 40, 40))
    head = StructuralSimilarityMap()
    with torch.autocast("cpu", torch.bfloat16):
        results = head(x, y), head.blended_score(x, y)
    assert all(result.dtype == torch.float32 for result in results)
    assert torch.equal(results[0], head(x, y)) and torch.equal(results[1], head.blended_score(x, y))


def test_half_precision_images_are_computed_in_single_precision() -> None:
    x, y = (image.half() for image in image_pair(1, 1, 32, 32))
    assert torch.equal(multi_scale_ssim(x, y), multi_scale_ssim(x.float(), y.float()))
    assert torch.equal(StructuralSimilarityMap()(x, y), StructuralSimilarityMap()(x.float(), y.float()))


def test_fewer_scales_are_used_and_logged_once_where_the_image_is_small(caplog: pytest.LogCaptureFixture) -> None:
    x, y = image_pair(1, 1, 32, 47)
    first_two = [WEIGHTS[0] / sum(WEIGHTS[:2]), WEIGHTS[1] / sum(WEIGHTS[:2])]  # 32 and 16, but not 8, hold 11 pixels
    with caplog.at_level(logging.INFO, "custom.scoring.structural_similarity"):
        for _ in range(2):
            assert torch.equal(multi_scale_ssim(x, y), multi_scale_ssim(x, y, first_two))
    assert caplog.messages == [
        "MS-SSIM of 32 x 47 pixels uses 2 of 5 scales: at the others the image is smaller than the window of 11."
    ]


def test_images_below_32_pixels_are_rejected_with_the_rule() -> None:
    images = torch.zeros(1, 1, 31, 40)
    message = "image must have at least 32 pixels along each axis for MS-SSIM, got 31 x 40: choose a larger image_size"
    for compare in (StructuralSimilarityMap(), StructuralSimilarityMap().blended_score, multi_scale_ssim):
        with pytest.raises(NomalyError, match=message):
            compare(images, images)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 4}, "window must be an odd number of pixels >= 3, got 4: the published one is 11"),
        ({"window": 1}, "window must be an odd number of pixels >= 3, got 1"),
        ({"sigma": 0.0}, "sigma must be > 0 pixels, got 0.0: the published one is 1.5"),
        ({"weights": []}, r"weights must be one number >= 0 per scale with a sum > 0, got \[\]: the published ones"),
        ({"weights": [1.0, -0.1]}, r"weights must be one number >= 0 per scale with a sum > 0, got \[1.0, -0.1\]"),
        ({"weights": [0.0, 0.0]}, r"weights must be one number >= 0 per scale with a sum > 0, got \[0.0, 0.0\]"),
    ],
)
def test_settings_out_of_range_are_rejected_by_name(settings: dict, message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        StructuralSimilarityMap(**settings)
    with pytest.raises(NomalyError, match=message):
        multi_scale_ssim(torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32), **settings)


@pytest.mark.parametrize("l1_weight", [-0.1, 1.5, float("nan")])
def test_l1_weight_outside_zero_to_one_is_rejected(l1_weight: float) -> None:
    with pytest.raises(NomalyError, match=rf"l1_weight must be in \[0, 1\], got {l1_weight}: 0 = only the structure"):
        StructuralSimilarityMap(l1_weight=l1_weight)


def test_images_that_cannot_be_compared_are_rejected_with_their_shapes() -> None:
    x, y = torch.zeros(1, 1, 40, 40), torch.zeros(1, 1, 40, 41)
    message = r"x and y must have the same shape .* got \(1, 1, 40, 40\) and \(1, 1, 40, 41\): compare each image"
    for compare in (StructuralSimilarityMap(), StructuralSimilarityMap().blended_score, multi_scale_ssim):
        with pytest.raises(NomalyError, match=message):
            compare(x, y)
    with pytest.raises(NomalyError, match=r"got \(40, 40\) and \(40, 40\)"):
        ssim_components(x[0, 0], x[0, 0])


def test_settings_that_do_not_fit_the_images_are_rejected_with_a_next_step() -> None:
    x = torch.zeros(1, 1, 32, 32)
    message = "window must fit into the image, got 33 for 32 x 32 pixels: choose a smaller window or larger images"
    with pytest.raises(NomalyError, match=message):
        StructuralSimilarityMap(window=33)(x, x)
    with pytest.raises(NomalyError, match=message):
        ssim_components(x, x, window=33, valid=True)
    with pytest.raises(
        NomalyError, match="weights must be > 0 for at least one of the 2 scales that fit an image of 32 x 32 pixels"
    ):
        StructuralSimilarityMap(weights=[0, 0, 1])(x, x)
    with pytest.raises(NomalyError, match="data_range must be > 0, got 0: it is 1 for images in"):
        ssim_components(x, x, data_range=0)
