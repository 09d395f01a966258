"""MemMC-MAE at tiny sizes: against a plain composition of its parts, what it may and may not see, its ensemble."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
import torch
from torch import nn

from custom.errors import NomalyError
from custom.losses.masked_autoencoder import MaskedPatchLoss
from custom.networks.memmc_mae import MemMCMaskedAutoencoder, sincos_positions
from custom.networks.patches import is_masked, patchify, unpatchify

SETTINGS = {
    "spatial_dims": 2,
    "in_channels": 1,
    "image_size": 16,
    "patch_size": 4,
    "hidden_size": 8,
    "depth": 3,
    "num_heads": 2,
    "decoder_hidden_size": 12,
    "decoder_depth": 2,
    "decoder_num_heads": 3,
    "memory_slots": 3,
}
VOLUME = {"spatial_dims": 3, "image_size": (4, 8, 12), "patch_size": (2, 4, 3), "hidden_size": 12}


def tiny(**settings) -> MemMCMaskedAutoencoder:
    torch.manual_seed(0)
    return MemMCMaskedAutoencoder(**SETTINGS | settings)


def images(count: int = 2, seed: int = 1) -> torch.Tensor:
    return torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


def shape_of(network: MemMCMaskedAutoencoder, batch: int) -> tuple[int, ...]:
    return (batch, network.in_channels, *network.image_size)


# (1) The network ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"in_channels": 3},
        {"image_size": (8, 24), "patch_size": (2, 6)},
        VOLUME,
        VOLUME | {"in_channels": 2, "mask_ratio": 0.5},
    ],
)
def test_shapes_hold_in_2d_and_3d_for_any_channels_and_sides(settings: dict) -> None:
    network = tiny(**settings)
    x = torch.rand(shape_of(network, 2))
    visible = network.draw_visible(2)
    assert visible.shape == (2, network.num_patches * (1 - network.mask_ratio))
    assert network(x, visible).shape == patchify(x, network.patch_size).shape
    mean, deviation = network.ensemble_statistics(x)
    assert mean.shape == deviation.shape == network.reconstruct(x).shape == x.shape


def plain_forward(network: MemMCMaskedAutoencoder, image: torch.Tensor, seen: list[int]) -> torch.Tensor:
    """Patches (N, P) of one image, of which the patches ``seen`` are shown, token by token."""
    patches = patchify(image.unsqueeze(0), network.patch_size)[0]
    shown = [network.patch_embedding(patches[place]) + network.positions[0, place] for place in seen]
    tokens, outputs = torch.stack(shown).unsqueeze(0), []
    for block in network.encoder:
        tokens = block(tokens)
        outputs.append(tokens)
    codes = dict(zip(seen, network.decoder_embedding(network.encoder_norm(tokens))[0]))
    everywhere = [codes.get(place, network.mask_token[0, 0]) for place in range(len(patches))]
    y = (torch.stack(everywhere) + network.decoder_positions[0]).unsqueeze(0)
    last = outputs[::-1][: network.levels][::-1]
    context = torch.stack([norm(x) for norm, x in zip(network.level_norms, last, strict=True)]) if last else None
    for block in network.decoder:
        y = block(y, context)
    return network.head(network.decoder_norm(y))[0]


@pytest.mark.parametrize("settings", [{}, {"levels": 2}, {"levels": 1}, {"levels": 0}, {"memory_slots": 0}, VOLUME])
def test_forward_is_the_plain_composition_of_its_parts(settings: dict) -> None:
    network = tiny(**settings).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    x = torch.rand(shape_of(network, 3), dtype=torch.float64)
    visible = network.draw_visible(3)
    expected = torch.stack([plain_forward(network, image, seen.tolist()) for image, seen in zip(x, visible)])
    expected = expected.where(is_masked(visible, network.num_patches).unsqueeze(-1), 0)  # only what is hidden
    torch.testing.assert_close(network(x, visible), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("grid", "size"), [((3, 5), 8), ((2, 4, 3), 12)])
def test_positions_are_sines_and_cosines_of_each_axis_in_the_order_of_the_patches(grid: tuple, size: int) -> None:
    frequencies = size // (2 * len(grid))
    omega = [10_000 ** (-k / frequencies) for k in range(frequencies)]
    axes = [1, 0, 2][: len(grid)]  # the second axis comes first, as in MAE
    expected = []
    for place in itertools.product(*map(range, grid)):
        angles = [[place[axis] * w for w in omega] for axis in axes]
        expected.append([f(angle) for of_axis in angles for f in (math.sin, math.cos) for angle in of_axis])
    torch.testing.assert_close(sincos_positions(grid, size)[0], torch.tensor(expected), rtol=0, atol=1e-6)


def test_levels_default_to_all_encoder_blocks() -> None:
    assert [tiny(levels=levels).levels for levels in (None, 3, 1, 0)] == [3, 3, 1, 0]


def test_order_of_the_visible_patches_does_not_matter() -> None:
    network, x = tiny(), images()
    visible = network.draw_visible(2)
    torch.testing.assert_close(network(x, visible.flip(1)), network(x, visible), rtol=0, atol=1e-5)


@pytest.mark.parametrize("settings", [{}, {"levels": 1}, {"levels": 0}, {"memory_slots": 0}])
def test_every_parameter_gets_a_gradient(settings: dict) -> None:
    network, x = tiny(**settings), images()
    visible = network.draw_visible(2)
    MaskedPatchLoss()(network(x, visible), patchify(x, network.patch_size), visible)[0].backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []


# (2) Visible and hidden -----------------------------------------------------------------------------------------------


def with_new_patches(x: torch.Tensor, network: MemMCMaskedAutoencoder, changed: torch.Tensor) -> torch.Tensor:
    """Images whose patches are replaced where ``changed`` (N) is True."""
    patches = patchify(x, network.patch_size)
    patches = patches.where(~changed[None, :, None], torch.rand_like(patches))
    return unpatchify(patches, network.patch_size, network.grid)


@pytest.mark.parametrize("settings", [{}, VOLUME])
def test_hidden_patches_are_never_seen(settings: dict) -> None:
    network = tiny(**settings)
    x = torch.rand(shape_of(network, 2))
    visible = network.draw_visible(1).expand(2, -1)
    hidden = torch.ones(network.num_patches, dtype=torch.bool)
    hidden[visible[0]] = False
    before = network(x, visible)
    assert torch.equal(network(with_new_patches(x, network, hidden), visible), before)
    for place in visible[0]:  # and every visible one is
        one = torch.arange(network.num_patches) == place
        assert not torch.allclose(network(with_new_patches(x, network, one), visible), before)


def test_visible_patches_replay_a_run() -> None:
    network, x = tiny(), images()
    visible = network.draw_visible(2)
    before = network(x, visible)
    torch.manual_seed(99)
    assert torch.equal(network(x, visible.clone()), before)


def test_draw_visible_depends_only_on_the_generator() -> None:
    network = tiny()
    torch.manual_seed(3)
    first, second = network.draw_visible(4), network.draw_visible(4)
    torch.manual_seed(3)
    assert torch.equal(network.draw_visible(4), first)
    assert not torch.equal(first, second)


# (3) Ensemble ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"masks": 8}, {"masks": 4, "in_channels": 2}, {"masks": 4, "mask_ratio": 0.5}])
def test_ensemble_statistics_equal_a_loop_over_the_masks(settings: dict) -> None:
    network = tiny(**settings).double()
    x = torch.rand(shape_of(network, 2), dtype=torch.float64)
    runs = []
    for visible in network.ensemble:
        patches = network(x, visible.repeat(2, 1)).detach()
        patches[:, visible] = torch.nan  # what was seen does not count
        runs.append(unpatchify(patches, network.patch_size, network.grid).numpy())
    mean, deviation = network.ensemble_statistics(x)
    # The ensemble keeps its runs in float32.
    np.testing.assert_allclose(mean.detach().numpy(), np.nanmean(runs, axis=0), rtol=0, atol=1e-6)
    np.testing.assert_allclose(deviation.detach().numpy(), np.nanstd(runs, axis=0), rtol=0, atol=1e-6)
    assert deviation.min() > 0
    assert mean.min() < 0 and mean.max() > 1  # or the next line would prove little
    assert torch.equal(network.reconstruct(x), mean.clamp(0, 1))


@pytest.mark.parametrize("masks", [4, 8])
def test_reconstruction_of_a_patch_does_not_depend_on_the_patch(masks: int) -> None:
    network, x = tiny(masks=masks), images()
    before = patchify(network.ensemble_statistics(x)[0], network.patch_size)  # not clamped
    for place in range(network.num_patches):
        one = torch.arange(network.num_patches) == place
        after = patchify(network.ensemble_statistics(with_new_patches(x, network, one))[0], network.patch_size)
        assert torch.equal(after[:, one], before[:, one])
        assert not torch.allclose(after, before)  # its neighbours' reconstructions do


def test_reconstruct_is_deterministic() -> None:
    network, x = tiny(), images()
    before = network.reconstruct(x)
    torch.manual_seed(99)
    assert torch.equal(network.train().reconstruct(x), before)
    assert torch.equal(network.eval().reconstruct(x), before)


def test_reconstruct_does_not_depend_on_the_batch() -> None:
    network, x = tiny(), images(5)
    alone = torch.cat([network.ensemble_statistics(image.unsqueeze(0))[0] for image in x])
    torch.testing.assert_close(network.ensemble_statistics(x)[0], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("masks_per_pass", [1, 3, 8, 100])
def test_masks_in_several_passes_give_the_same(masks_per_pass: int) -> None:
    x = images()
    for ours, expected in zip(
        tiny(masks_per_pass=masks_per_pass).ensemble_statistics(x), tiny().ensemble_statistics(x), strict=True
    ):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


def test_masks_per_pass_bounds_the_images_in_the_encoder() -> None:
    network, sizes = tiny(masks_per_pass=3), []
    network.encoder[0].register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    network.reconstruct(images(2))
    assert sizes == [2 * 3, 2 * 3, 2 * 2]


def test_mask_seed_sets_the_ensemble_and_nothing_else() -> None:
    first, same, other = tiny(), tiny(), tiny(mask_seed=1)
    assert torch.equal(first.ensemble, same.ensemble)
    assert not torch.equal(first.ensemble, other.ensemble)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


# (4) State, precision, export -----------------------------------------------------------------------------------------


def test_state_dict_holds_only_the_parameters() -> None:
    network = tiny()
    state = network.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    assert set(state) == {name for name, _ in network.named_parameters()}


def test_weights_load_strictly_into_a_network_with_another_ensemble() -> None:
    network, x = tiny().eval(), images()
    torch.manual_seed(5)
    twin = MemMCMaskedAutoencoder(**SETTINGS | {"masks": 4, "mask_seed": 3})
    visible = network.draw_visible(2)
    assert not torch.equal(twin(x, visible), network(x, visible))
    twin.load_state_dict(network.state_dict(), strict=True)
    assert torch.equal(twin(x, visible), network(x, visible))


def test_bfloat16_stays_near_float32() -> None:
    network, x = tiny(), images()
    visible = network.draw_visible(2)
    expected, (mean, _) = network(x, visible), network.ensemble_statistics(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predicted, (low_mean, deviation) = network(x, visible), network.ensemble_statistics(x)
    assert predicted.dtype == torch.bfloat16
    assert low_mean.dtype == deviation.dtype == torch.float32
    for low, full in ((predicted, expected), (low_mean, mean)):
        assert 0 < (low - full).abs().max() < 0.05 * full.std()


class Reconstruction(nn.Module):
    """``reconstruct`` as ``forward``."""

    def __init__(self, network: MemMCMaskedAutoencoder) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network.reconstruct(x)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
@torch.no_grad()
def test_traced_reconstruction_holds_for_any_batch() -> None:
    module = Reconstruction(tiny(masks_per_pass=4).eval())
    traced, x = torch.jit.trace(module, images(2)), images(5, seed=2)
    torch.testing.assert_close(traced(x), module(x), rtol=0, atol=1e-6)


@pytest.mark.slow
@torch.no_grad()
def test_exported_reconstruction_holds_for_any_batch() -> None:
    module = Reconstruction(tiny(masks_per_pass=4).eval())
    batch = {"x": {0: torch.export.Dim("batch")}}
    exported, x = torch.export.export(module, (images(2),), dynamic_shapes=batch), images(5, seed=2)
    torch.testing.assert_close(exported.module()(x), module(x), rtol=0, atol=1e-6)


# (5) Errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"spatial_dims": 1}, "spatial_dims must be 2 or 3, got 1"),
        (
            {"patch_size": (4, 3)},
            "patch_size must divide image_size along each axis, got [4, 3] for [16, 16]: choose an ",
        ),
        ({"patch_size": 0}, "patch_size must divide image_size along each axis, got [0, 0] for [16, 16]"),
        ({"patch_size": 16}, "patch_size must divide the image into at least 2 patches, got [16, 16]"),
        ({"hidden_size": 6}, "hidden sizes must be multiples of 4 for a grid of 2 axes, got 6"),
        ({"decoder_hidden_size": 9}, "hidden sizes must be multiples of 4 for a grid of 2 axes, got 9"),
        (VOLUME | {"hidden_size": 8}, "hidden sizes must be multiples of 6 for a grid of 3 axes, got 8"),
        ({"num_heads": 3}, "num_heads must be a divisor of the 8 token channels, got 3"),
        ({"decoder_num_heads": 5}, "num_heads must be a divisor of the 12 token channels, got 5"),
        ({"memory_slots": -1}, "memory_slots must be >= 0, got -1"),
        ({"levels": 4}, "levels must be from 0 to the encoder's depth 3, or null for all, got 4"),
        ({"levels": -1}, "levels must be from 0 to the encoder's depth 3, or null for all, got -1"),
        ({"level_normalisation": "softmax"}, "level_normalisation must be one of sqrt, mean, sum, got 'softmax'"),
        ({"mask_ratio": 1.0}, "mask_ratio must be in (0, 1), got 1.0"),
        ({"masks": 6}, "masks must be a multiple of 4, so that each of 16 patches is masked equally often"),
        ({"masks_per_pass": 0}, "masks_per_pass must be >= 1, or null for all masks at once, got 0"),
    ],
)
def test_wrong_settings_are_rejected_by_name(settings: dict, message: str) -> None:
    with pytest.raises(NomalyError, match=re.escape(message)):
        tiny(**settings)


@pytest.mark.parametrize("shape", [(2, 3, 16, 16), (2, 1, 16, 20), (2, 1, 16, 16, 1), (1, 16, 16)])
def test_images_of_another_shape_are_rejected(shape: tuple[int, ...]) -> None:
    network, x = tiny(), torch.rand(shape)
    message = re.escape(
        f"image must have the shape (B, 1, 16, 16), got {shape}: resize it, or set image_size and in_channels"
    )
    with pytest.raises(NomalyError, match=message):
        network.reconstruct(x)
    with pytest.raises(NomalyError, match=message):
        network(x, network.draw_visible(len(x)))


@pytest.mark.parametrize(
    ("visible", "got"),
    [
        (torch.zeros(2, 4), "torch.float32 of (2, 4)"),
        (torch.zeros(3, 4, dtype=torch.long), "torch.int64 of (3, 4)"),
        (torch.zeros(4, dtype=torch.long), "torch.int64 of (4,)"),
        (torch.zeros(2, 0, dtype=torch.long), "torch.int64 of (2, 0)"),
        (torch.zeros(2, 16, dtype=torch.long), "torch.int64 of (2, 16)"),
        (torch.ones(2, 16, dtype=torch.bool), "torch.bool of (2, 16)"),
    ],
)
def test_visible_patches_of_another_kind_are_rejected(visible: torch.Tensor, got: str) -> None:
    message = (
        "visible must be indices of visible patches, int64 of the shape (2, V) with V from 1 to 15, got "
        f"{got}: use draw_visible"
    )
    with pytest.raises(NomalyError, match=re.escape(message)):
        tiny()(images(), visible)
