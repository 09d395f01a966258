"""The deployable module says what its parts say."""

from __future__ import annotations

import torch
from torch import nn

from custom.detector.anomaly_detector import AnomalyDetector
from custom.networks.memmc_mae import MemMCMaskedAutoencoder
from custom.networks.reversed_autoencoder import ReversedAutoencoder
from custom.scoring.code_distance import CodeDistance
from custom.scoring.expected_residual import ExpectedResidual
from custom.scoring.patch_distance import PatchDistance
from maps import ResidualMap
from tiny import TINY_AUTOENCODER


def images() -> torch.Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Grey(nn.Module):
    """Health is mid grey."""

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x, 0.5)


def test_map_compares_the_image_with_what_is_rebuilt() -> None:
    anomaly_map, x_hat = AnomalyDetector(Grey(), ResidualMap()).predict(images())
    assert torch.equal(x_hat, torch.full_like(images(), 0.5))
    torch.testing.assert_close(anomaly_map, (images() - 0.5).abs().mean(1, keepdim=True))


def test_ensemble_also_says_how_much_its_members_differ() -> None:
    torch.manual_seed(0)
    network = MemMCMaskedAutoencoder(2, 3, 16, 4, **TINY_AUTOENCODER, masks=4)
    detector = AnomalyDetector(network, ResidualMap()).eval()
    with torch.no_grad():
        anomaly_map, x_hat, deviation = detector.predict(images())
        mean, per_channel = network.ensemble_statistics(images())
        assert torch.equal(detector(images()), anomaly_map) and torch.equal(detector.reconstruct(images()), x_hat)
    assert torch.equal(x_hat, mean.clamp(0, 1)) and 0 <= x_hat.min() and x_hat.max() <= 1
    torch.testing.assert_close(deviation, per_channel.mean(1, keepdim=True))
    assert deviation.shape == (2, 1, 16, 16) and deviation.min() > 0


def test_reconstruction_and_code_come_from_one_pass_of_the_encoder() -> None:
    torch.manual_seed(0)
    network = ReversedAutoencoder(2, 3, 16, [4, 8], 6)
    detector = AnomalyDetector(network, ResidualMap(), code_distance=CodeDistance(6)).eval()
    passes: list[int] = []
    network.encoder.register_forward_hook(lambda *_: passes.append(1))
    with torch.no_grad():
        compared = detector.compare(images())
        assert len(passes) == 1 and compared.code is not None
        assert torch.equal(compared.reconstruction, network.reconstruct(images()))
        assert torch.equal(compared.code, network.latent(images()))


class Doubled(ExpectedResidual):
    """A residual of a half is usual everywhere."""

    def forward(self, anomaly_map: torch.Tensor, reconstruction: torch.Tensor) -> torch.Tensor:
        return anomaly_map * 2


class Three(PatchDistance):
    """Every patch is three deviations from what is usual."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x[:, :1], 3)


def test_map_is_the_mean_of_relative_residual_and_patches_once_both_are_fitted() -> None:
    detector = AnomalyDetector(Grey(), ResidualMap(), Doubled(3), patch_distance=Three()).eval()
    residual = (images() - 0.5).abs().mean(1, keepdim=True)
    assert detector.outputs == ("map", "reconstruction", "patch_distance")
    for fitted in ((0, 0), (24, 0), (0, 24)):
        detector.normalisation.images.fill_(fitted[0])
        detector.patch_distance.images.fill_(fitted[1])
        torch.testing.assert_close(detector(images()), 2 * residual)
    detector.normalisation.images.fill_(24)
    torch.testing.assert_close(detector(images()), (2 * residual + 3) / 2)


def test_map_that_is_not_relative_is_not_mixed_with_patches() -> None:
    detector = AnomalyDetector(Grey(), ResidualMap(), patch_distance=Three()).eval()
    detector.patch_distance.images.fill_(24)
    torch.testing.assert_close(detector(images()), (images() - 0.5).abs().mean(1, keepdim=True))
