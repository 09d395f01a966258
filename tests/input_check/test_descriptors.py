"""What the input check measures of an image, on images whose answer is known."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from custom.input_check.descriptors import describe, describe_all, detail, edges, latent, on_grid, quantiles
from custom.input_check.poses import of_negative
from custom.networks.memmc_mae import MemMCMaskedAutoencoder
from custom.networks.reversed_autoencoder import ReversedAutoencoder
from tiny import TINY_AUTOENCODER


class Network(nn.Module):
    """A detector that has a reconstructor and nothing else."""

    def __init__(self, reconstructor: nn.Module) -> None:
        super().__init__()
        self.reconstructor = reconstructor.eval()


def picture(side: int = 64, channels: int = 1, depth: int = 1) -> torch.Tensor:
    return torch.rand(channels, side, side, depth, generator=torch.Generator().manual_seed(0))


def test_quantiles_shift_and_scale_with_the_grey_values() -> None:
    ramp = torch.linspace(0, 1, 6401)[:, None, None].reshape(1, -1, 1, 1)
    assert np.allclose(quantiles(ramp), (np.arange(64) + 0.5) / 64, atol=1e-6)
    assert np.allclose(quantiles(0.5 * ramp + 0.2), 0.5 * quantiles(ramp) + 0.2, atol=1e-6)


def test_edges_of_a_step_along_x_point_that_way_in_its_cells_alone() -> None:
    step = torch.zeros(1, 1, 1, 64, 64)
    step[:, :, :, 24:] = 1.0  # within the second of four cells along x
    cells = edges(step).reshape(8, 4, 4)
    assert np.allclose(cells[0, 1], 0.5) and np.count_nonzero(cells) == 4  # a quarter of all in each, before the root


def test_edges_do_not_change_with_brightness_and_contrast() -> None:
    slices = on_grid(picture().unsqueeze(0))
    assert np.allclose(edges(slices), edges(0.3 * slices + 0.4), atol=1e-4)


def test_edges_of_the_negative_are_those_turned_about() -> None:
    slices = on_grid(picture().unsqueeze(0))
    assert np.allclose(of_negative(edges(slices)), edges(1 - slices), atol=1e-3)


def test_noise_has_more_fine_detail_than_its_blurred_self() -> None:
    slices = on_grid(picture().unsqueeze(0))
    blurred = nn.functional.avg_pool2d(slices[0], 5, 1, 2).unsqueeze(0)
    assert detail(slices).shape == (1, 10) and detail(slices)[0, 0] > detail(blurred)[0, 0] + 2


def test_descriptors_of_several_studies_are_those_of_each() -> None:
    network = Network(ReversedAutoencoder(2, 3, 16, (4, 8), 6))
    studies = torch.rand(3, 3, 16, 16, 2, generator=torch.Generator().manual_seed(0))
    together = describe_all(studies, network)
    for index, study in enumerate(studies):
        alone = describe(study, network)
        assert set(alone) == set(together) == {"histogram", "colours", "edges", "detail", "latent"}
        assert all(np.allclose(together[name][index], values, atol=1e-6) for name, values in alone.items())


def test_study_of_any_size_has_descriptors_of_one_size() -> None:
    network = Network(ReversedAutoencoder(2, 1, 16, (4, 8), 6))
    found = [describe(picture(side, 1, depth), network) for side, depth in ((16, 1), (40, 3), (90, 1))]
    shapes = {"histogram": (64,), "edges": (8, 128), "detail": (10,), "latent": (6,)}
    assert all({name: values.shape for name, values in each.items()} == shapes for each in found)
    assert describe(picture(64, 3), nn.Module())["colours"].shape == (128,)


def test_latent_is_the_mean_over_slices_and_windows_and_the_same_every_time() -> None:
    network = Network(ReversedAutoencoder(2, 1, 16, (4, 8), 6))
    tall = picture(32, 1, 2)
    parts = [tall[:, x : x + 16, y : y + 16, z : z + 1] for z in (0, 1) for x in (0, 16) for y in (0, 16)]
    mean = np.mean([latent(part, network) for part in parts], axis=0)
    assert np.allclose(latent(tall, network), mean, atol=1e-5)
    assert np.array_equal(latent(tall, network), latent(tall, network))


def test_latent_of_three_dimensions_goes_by_windows_of_the_volume() -> None:
    network = Network(ReversedAutoencoder(3, 1, (16, 16, 8), (4, 8), 6))
    assert latent(picture(16, 1, 12), network).shape == (6,)


def test_latent_of_the_masked_autoencoder_sees_all_patches() -> None:
    network = Network(MemMCMaskedAutoencoder(2, 1, 16, 4, **TINY_AUTOENCODER, masks=4))
    x = picture(16)
    other = x.clone()
    other[0, 15, 15, 0] += 0.5
    assert latent(x, network).shape == (8,) and not np.allclose(latent(x, network), latent(other, network))
    assert latent(x, nn.Module()) is None
