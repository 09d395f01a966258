"""Anomaly maps against hand-derived values."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from custom.errors import NomalyError
from custom.scoring.anomaly_map import (
    AdaptiveHistogramPerceptualMap,
    EmbeddingDistance,
    GaussianBlur,
    LpipsDistance,
    SmoothResidualMap,
)
from custom.scoring.clahe import equalize_adapthist
from maps import ResidualMap

PAIR = torch.rand(2, 1, 1, 32, 32, generator=torch.Generator().manual_seed(0))


def two_levels(image: Tensor) -> list[Tensor]:
    """A fixed embedding: the four pixels of every 2 x 2 window as channels, and their sines at half the resolution."""
    features = F.conv2d(image, torch.eye(4).reshape(4, 1, 2, 2))
    return [features, F.avg_pool2d(features.sin(), 2)]


def test_plain_residual_is_the_mean_absolute_difference_over_channels() -> None:
    image = torch.tensor([0.2, 0.6]).reshape(1, 2, 1, 1)
    plain = AdaptiveHistogramPerceptualMap("plain", perceptual_raw=False, perceptual_clahe=False)
    result = plain(image, torch.tensor([0.5, 0.5]).reshape(1, 2, 1, 1))
    assert result.shape == (1, 1, 1, 1)
    assert result.item() == pytest.approx((0.3 + 0.1) / 2)


def test_embedding_distance_sums_one_minus_cosine_over_levels() -> None:
    right, up, left = (torch.tensor(v).reshape(1, 2, 1, 1) for v in ([1.0, 0.0], [0.0, 3.0], [-2.0, 0.0]))
    levels = [torch.cat([right, up]), torch.cat([right, left])]  # 1 - cos = 1 and 2
    pairs = torch.zeros(2, 1, 4, 4)
    assert torch.allclose(EmbeddingDistance()(pairs, lambda _: levels), torch.full((1, 1, 4, 4), 3.0))
    assert torch.allclose(EmbeddingDistance(levels=[1])(pairs, lambda _: levels), torch.full((1, 1, 4, 4), 2.0))


def test_blur_equals_scipy_gaussian_with_the_nearest_border() -> None:
    image = torch.rand(1, 1, 24, 20, generator=torch.Generator().manual_seed(1))
    expected = torch.from_numpy(gaussian_filter(image[0, 0].numpy(), 2.0, mode="nearest"))
    # MONAI integrates the Gaussian over each pixel, scipy samples it at the centre: kernels differ by under 1 %
    assert torch.allclose(GaussianBlur(2.0)(image)[0, 0], expected, atol=5e-3)
    assert torch.allclose(GaussianBlur(2.0)(torch.full((1, 1, 9, 9), 0.7)), torch.full((1, 1, 9, 9), 0.7))
    assert torch.equal(GaussianBlur(0.0)(image), image)


def test_default_map_is_the_product_of_its_three_factors() -> None:
    image, reconstruction = PAIR
    equalised, equalised_hat = equalize_adapthist(image), equalize_adapthist(reconstruction)
    blur, distance = GaussianBlur(2.0), EmbeddingDistance()
    expected = (equalised - equalised_hat).abs()
    expected = expected * blur(distance(torch.cat([image, reconstruction]), two_levels))
    expected = expected * blur(distance(torch.cat([equalised, equalised_hat]), two_levels))
    assert torch.allclose(AdaptiveHistogramPerceptualMap()(image, reconstruction, two_levels), expected, atol=1e-7)


def test_each_factor_can_be_left_out_by_name() -> None:
    image, reconstruction = PAIR
    off = {"perceptual_raw": False, "perceptual_clahe": False}
    plain = AdaptiveHistogramPerceptualMap(residual="plain", **off)(image, reconstruction)
    assert torch.equal(plain, ResidualMap()(image, reconstruction))
    clahe = AdaptiveHistogramPerceptualMap(residual="clahe", **off)(image, reconstruction)
    raw = AdaptiveHistogramPerceptualMap(residual="none", perceptual_clahe=False)(image, reconstruction, two_levels)
    both = AdaptiveHistogramPerceptualMap(perceptual_clahe=False)(image, reconstruction, two_levels)
    assert torch.allclose(both, clahe * raw)


def test_perfect_reconstruction_gives_a_map_of_zeros() -> None:
    result = AdaptiveHistogramPerceptualMap()(PAIR[0], PAIR[0], two_levels)
    assert torch.equal(result, torch.zeros(1, 1, 32, 32))


def test_map_is_largest_inside_an_added_lesion() -> None:
    healthy = torch.linspace(0.2, 0.6, 64).reshape(1, 1, 1, 64).repeat(1, 1, 64, 1)
    ill = healthy.clone()
    ill[..., 20:30, 30:40] += 0.35
    result = AdaptiveHistogramPerceptualMap()(ill, healthy, two_levels)[0, 0]
    row, column = divmod(int(result.argmax()), 64)
    assert 20 <= row < 30 and 30 <= column < 40


def test_three_dimensional_map_has_the_shape_of_its_image_and_finite_values() -> None:
    image, reconstruction = torch.rand(2, 2, 1, 16, 16, 3, generator=torch.Generator().manual_seed(2))
    result = AdaptiveHistogramPerceptualMap()(image, reconstruction, lambda x: [x.repeat(1, 2, 1, 1, 1), x.cos()])
    assert result.shape == (2, 1, 16, 16, 3)
    assert torch.isfinite(result).all() and (result >= 0).all()


def test_flat_images_give_a_finite_map() -> None:
    black = torch.zeros(1, 1, 32, 32)
    assert torch.isfinite(AdaptiveHistogramPerceptualMap()(black, PAIR[1], two_levels)).all()


def test_half_precision_images_give_a_single_precision_map() -> None:
    result = AdaptiveHistogramPerceptualMap()(PAIR[0].half(), PAIR[1].half(), two_levels)
    assert result.dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"residual": "ssim"}, "residual must be 'clahe', 'smooth', 'plain' or 'none', got 'ssim'"),
        ({"perceptual": "vgg"}, "perceptual must be 'embedding' or 'lpips', got 'vgg'"),
        ({"residual": "none", "perceptual_raw": False, "perceptual_clahe": False}, "at least one of residual"),
        ({"sigma": -1.0}, "sigma must be >= 0 pixels, got -1.0"),
    ],
)
def test_unknown_options_are_rejected_by_name(settings: dict, message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        AdaptiveHistogramPerceptualMap(**settings)


def test_level_that_the_embedding_lacks_is_rejected() -> None:
    with pytest.raises(NomalyError, match=r"levels must be within 0 to 1 for this detector, got \[0, 2\]"):
        AdaptiveHistogramPerceptualMap(levels=[0, 2])(PAIR[0], PAIR[1], two_levels)


def test_missing_embedding_is_rejected_with_its_name() -> None:
    with pytest.raises(NomalyError, match="perceptual='embedding' needs `embed`"):
        AdaptiveHistogramPerceptualMap()(PAIR[0], PAIR[1])


def test_lpips_without_its_package_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(NomalyError, match=r"run `pip install .\[lpips\]`"):
        AdaptiveHistogramPerceptualMap(perceptual="lpips")


class FakeLpips(nn.Module):
    """Stands in for lpips.LPIPS: the same constructor, a backbone of two slices, |a - b| over the channels as
    distance."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.options = options
        self.net = nn.ModuleDict(
            {
                "slice1": nn.ModuleDict({"0": nn.Conv2d(3, 2, 1)}),
                "slice2": nn.ModuleDict({"3": nn.Conv2d(2, 2, 1)}),
            }
        )

    def forward(self, first: Tensor, second: Tensor, normalize: bool) -> Tensor:
        assert normalize and first.shape[1] == 3
        return (first - second).abs().mean(1, keepdim=True)


@pytest.fixture
def fake_lpips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lpips", SimpleNamespace(LPIPS=FakeLpips))


def test_lpips_without_local_weights_asks_for_their_path(fake_lpips: None) -> None:
    with pytest.raises(NomalyError, match="lpips_weights must be the path of torchvision's squeezenet1_1 weights"):
        AdaptiveHistogramPerceptualMap(perceptual="lpips", lpips_weights="absent.pth")


def test_lpips_loads_torchvision_names_and_repeats_grey(fake_lpips: None, tmp_path: Path) -> None:
    weights = {"features.0": nn.Conv2d(3, 2, 1), "features.3": nn.Conv2d(2, 2, 1), "classifier.1": nn.Conv2d(2, 5, 1)}
    state = {f"{name}.{key}": value for name, layer in weights.items() for key, value in layer.state_dict().items()}
    torch.save(state, tmp_path / "squeezenet.pth")

    distance = LpipsDistance(str(tmp_path / "squeezenet.pth"))

    assert torch.equal(distance.network.net["slice2"]["3"].weight, state["features.3.weight"])
    assert distance.network.options["net"] == "squeeze" and distance.network.options["spatial"] is True
    assert torch.allclose(distance(torch.cat(list(PAIR))), (PAIR[0] - PAIR[1]).abs())
    with pytest.raises(NomalyError, match="perceptual='lpips' takes 2-D images of 1 or 3 channels"):
        distance(torch.zeros(2, 1, 4, 4, 4))


def test_lpips_weights_of_another_network_are_rejected(fake_lpips: None, tmp_path: Path) -> None:
    torch.save({"layer1.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
    with pytest.raises(NomalyError, match="lpips_weights must be torchvision's squeezenet1_1 state dict"):
        LpipsDistance(str(tmp_path / "resnet.pth"))


def test_smooth_residual_cancels_a_chequerboard_and_keeps_a_patch() -> None:
    rows, columns = torch.meshgrid(torch.arange(32), torch.arange(32), indexing="ij")
    fine = 0.1 * (1 - 2 * ((rows + columns) % 2)).float()  # +-0.1, mean 0 in every neighbourhood
    patch = torch.zeros(32, 32)
    patch[8:24, 8:24] = 0.1
    image = 0.5 + torch.stack([fine, patch])[:, None]
    settings = {"perceptual_raw": False, "perceptual_clahe": False}
    smooth = AdaptiveHistogramPerceptualMap("smooth", **settings)(image, torch.full_like(image, 0.5))
    assert smooth[0, 0, 8:24, 8:24].max() < 1e-3
    assert smooth[1, 0, 16, 16].item() == pytest.approx(0.1, rel=1e-2)


def test_perceptual_power_is_the_exponent_of_only_the_perceptual_factor() -> None:
    image, reconstruction = PAIR
    plain = {"residual": "plain", "perceptual_clahe": False}
    residual = ResidualMap()(image, reconstruction)
    whole = AdaptiveHistogramPerceptualMap(**plain)(image, reconstruction, two_levels)
    root = AdaptiveHistogramPerceptualMap(**plain, perceptual_power=0.5)(image, reconstruction, two_levels)
    assert torch.allclose(root.square(), whole * residual, atol=1e-7)
    with pytest.raises(NomalyError, match="perceptual_power must be > 0, got 0"):
        AdaptiveHistogramPerceptualMap(perceptual_power=0)


def test_autocast_of_the_network_does_not_coarsen_the_blur() -> None:
    image = PAIR[0]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        blurred = GaussianBlur(2.0)(image)
    assert blurred.dtype == torch.float32
    assert torch.equal(blurred, GaussianBlur(2.0)(image))


# Smooth residual


def test_smooth_residual_is_the_size_of_the_blurred_difference() -> None:
    image = torch.full((2, 3, 16, 16), 0.75)
    reconstruction = torch.full((2, 3, 16, 16), 0.25)
    reconstruction[:, 0] = 0.75  # one of three channels agrees
    assert torch.allclose(SmoothResidualMap(2.0)(image, reconstruction), torch.full((2, 1, 16, 16), 1 / 3))


def test_errors_of_alternating_sign_cancel_in_the_smooth_residual_and_an_equal_patch_stays() -> None:
    board = (torch.arange(32)[:, None] + torch.arange(32)) % 2 * 0.4 - 0.2  # a checkerboard of +0.2 and -0.2
    reconstruction = torch.full((1, 1, 32, 32), 0.5)
    texture = SmoothResidualMap(2.0)(reconstruction + board, reconstruction)
    patch = torch.zeros(32, 32)
    patch[12:20, 12:20] = 0.2
    anomaly = SmoothResidualMap(2.0)(reconstruction + patch, reconstruction)
    assert texture[..., 8:24, 8:24].max() < 0.001 and anomaly[0, 0, 16, 16] > 0.15


def test_smooth_residual_of_volumes_and_equal_images() -> None:
    image = torch.rand(1, 1, 8, 9, 10)
    assert SmoothResidualMap(1.0)(image, 1 - image).shape == (1, 1, 8, 9, 10)
    assert SmoothResidualMap(1.0)(image, image).max() == 0
