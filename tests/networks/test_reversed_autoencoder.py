"""The reversed autoencoder at tiny sizes, and its number of parameters at the paper's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from custom.errors import NomalyError
from custom.networks.norms import FrozenNorm, convolve_and_normalise
from custom.networks.reversed_autoencoder import ReversedAutoencoder, reparameterise


def tiny(**settings) -> ReversedAutoencoder:
    torch.manual_seed(0)
    return ReversedAutoencoder(**{"image_size": 16, "channels": (4, 8), "latent_size": 8} | settings)


def test_the_papers_sizes_give_29430785_parameters() -> None:
    with torch.device("meta"):
        network = ReversedAutoencoder()
    assert sum(parameter.numel() for parameter in network.parameters()) == 29_430_785


def test_parameters_of_a_tiny_network_add_up_by_hand() -> None:
    # Encoder: stem 25*4 + 2*4; block 4->8: 9*4*8 + 9*8*8 + 4*8 + 4*8; bottom 2*9*8*8 + 4*8; linear 8*4*4 -> 16.
    encoder = 108 + (288 + 576 + 32 + 32) + (1152 + 32) + (128 * 16 + 16)
    # Decoder: linear 8 -> 128; block 8->8; block 8->4: 9*8*4 + 9*4*4 + 8*4 + 4*4; top 2*9*4*4 + 4*4; 25*4 + 1.
    decoder = (8 * 128 + 128) + (1152 + 32) + (288 + 144 + 32 + 16) + (288 + 16) + 101
    assert sum(parameter.numel() for parameter in tiny().parameters()) == encoder + decoder


@pytest.mark.parametrize("norm", ["batch", "frozen", "group"])
@pytest.mark.parametrize(
    ("spatial_dims", "in_channels", "image_size"), [(2, 1, (16, 16)), (2, 3, (16, 24)), (3, 2, (8, 16, 8))]
)
def test_shapes_hold_in_2d_and_3d_for_any_channels(spatial_dims, in_channels, image_size, norm) -> None:
    network = tiny(spatial_dims=spatial_dims, in_channels=in_channels, image_size=image_size, norm=norm)
    x = torch.rand(2, in_channels, *image_size)
    mu, logvar = network.encode(x)
    assert mu.shape == logvar.shape == (2, 8)
    x_hat = network.decode(mu)
    assert x_hat.shape == x.shape
    assert 0 <= x_hat.min() and x_hat.max() <= 1
    expected = [(2, width, *(side // 2**level for side in image_size)) for level, width in ((1, 4), (2, 8))]
    assert [tuple(embedding.shape) for embedding in network.embed(x)] == expected


def test_encoder_returns_the_same_embeddings_as_embed() -> None:
    network, x = tiny().eval(), torch.rand(2, 1, 16, 16)
    assert all(torch.equal(a, b) for a, b in zip(network.encoder(x)[2], network.embed(x), strict=True))


def test_reconstruct_is_deterministic_and_sample_is_not() -> None:
    network, x = tiny().eval(), torch.rand(2, 1, 16, 16)
    assert torch.equal(network.reconstruct(x), network.reconstruct(x))
    assert torch.equal(network(x), network.reconstruct(x))
    assert not torch.equal(network.sample(x), network.sample(x))


def test_sample_decodes_the_draw_of_the_posterior() -> None:
    network, x = tiny().eval(), torch.rand(2, 1, 16, 16)
    torch.manual_seed(3)
    sampled = network.sample(x)
    torch.manual_seed(3)
    assert torch.equal(sampled, network.decode(reparameterise(*network.encode(x), torch.randn(2, 8))))


def test_reparameterise_scales_noise_by_the_standard_deviation() -> None:
    mu, logvar, noise = torch.tensor([[1.0]]), torch.tensor([[4.0]]).log(), torch.tensor([[-3.0]])
    assert reparameterise(mu, logvar, noise).item() == pytest.approx(1 - 2 * 3)


def test_frozen_norm_does_the_same_in_train_and_eval() -> None:
    network, x = tiny(norm="frozen"), torch.rand(4, 1, 16, 16)
    trained = network.train().reconstruct(x)
    assert torch.equal(network.eval().reconstruct(x), trained)
    batch = tiny(norm="batch")
    assert not torch.allclose(batch.train().reconstruct(x), batch.eval().reconstruct(x))


def test_frozen_norm_is_scale_and_shift_of_each_channel() -> None:
    norm = FrozenNorm(2)
    norm.load_state_dict({"weight": torch.tensor([2.0, 3.0]), "bias": torch.tensor([0.5, -1.0])})
    x = torch.arange(8.0).reshape(1, 2, 2, 2)
    assert torch.equal(norm(x), torch.stack([2 * x[:, 0] + 0.5, 3 * x[:, 1] - 1], dim=1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 18}, r"image_size must be divisible by 2 \*\* len\(channels\) = 4, got \(18, 18\)"),
        ({"image_size": 0}, r"image_size must be divisible .* got \(0, 0\): choose multiples of 4 or fewer channels"),
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
        ({"norm": "layer"}, 'norm must be "batch", "frozen" or "group", got "layer"'),
    ],
)
def test_wrong_settings_are_rejected_by_name(settings: dict, message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        tiny(**settings)


def test_weights_load_strictly_into_a_new_network() -> None:
    network, x = tiny().eval(), torch.rand(1, 1, 16, 16)
    twin = ReversedAutoencoder(image_size=16, channels=(4, 8), latent_size=8).eval()
    assert not torch.equal(twin(x), network(x))
    twin.load_state_dict(network.state_dict(), strict=True)
    assert torch.equal(twin(x), network(x))


def test_weights_of_a_wider_network_do_not_load() -> None:
    with pytest.raises(RuntimeError, match="size mismatch for encoder"):
        tiny().load_state_dict(tiny(channels=(4, 16)).state_dict())


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_folded_frozen_norm_equals_convolution_then_scale_and_shift(spatial_dims: int) -> None:
    torch.manual_seed(0)
    conv = {2: nn.Conv2d, 3: nn.Conv3d}[spatial_dims](2, 3, 3, padding=1, bias=False).double()
    norm = FrozenNorm(3).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 2, *(5,) * spatial_dims, dtype=torch.float64)
    folded, plain = convolve_and_normalise(conv, norm, x), norm(conv(x))
    torch.testing.assert_close(folded, plain)
    parameters = [conv.weight, norm.weight, norm.bias]
    for ours, expected in zip(*(torch.autograd.grad(y.square().sum(), parameters) for y in (folded, plain))):
        torch.testing.assert_close(ours, expected)
