"""The normalisation of a validation is fitted on healthy training images by the network as it is."""

from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine
from torch import nn

from custom.data.slices import SliceDataset
from custom.data.volumes import VolumeDataset
from custom.detector.anomaly_detector import AnomalyDetector
from custom.handlers.normalise import FitNormalisation
from custom.scoring.normalisation import HealthyNormalisation
from maps import ResidualMap


class Grey(nn.Module):
    """Health is mid grey."""

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        return torch.full_like(x, 0.5)


def run(network: AnomalyDetector, **settings) -> None:
    """One validation without studies; slices of grey 0, 0.1, ..., 0.9."""
    data = [{"image": torch.full((1, 4, 4, 1), number / 10)} for number in range(10)]
    training = SliceDataset(data, lambda item: item, progress=False)
    engine = Engine(lambda engine, batch: None)
    engine.state.device = torch.device("cpu")
    FitNormalisation(network, training, **settings).attach(engine)
    engine.run([0])


def test_mean_of_healthy_maps_is_that_of_all_training_images() -> None:
    network = AnomalyDetector(Grey(), ResidualMap(), HealthyNormalisation(4, sigma=0))
    run(network, batch_size=3)
    # by hand: |grey - 0.5| is 0.5 0.4 0.3 0.2 0.1 0 0.1 0.2 0.3 0.4, mean 0.25
    assert network.normalisation.mean.unique().tolist() == pytest.approx([0.25])
    assert int(network.normalisation.images) == 10
    anomaly_map, _ = network.predict(torch.ones(1, 1, 4, 4))
    deviation = (torch.tensor([0.5, 0.4, 0.3, 0.2, 0.1, 0, 0.1, 0.2, 0.3, 0.4]).square().mean() - 0.25**2).sqrt()
    assert anomaly_map.mean().item() == pytest.approx((0.25 / (1.1 * deviation)).item())


def test_no_more_than_the_asked_images_are_taken_evenly() -> None:
    network = AnomalyDetector(Grey(), ResidualMap(), HealthyNormalisation(4, sigma=0))
    run(network, max_images=2)
    # the first and the last: |0 - 0.5| and |0.9 - 0.5|
    assert network.normalisation.mean.unique().tolist() == pytest.approx([0.45])


def test_detector_without_normalisation_is_left_alone() -> None:
    network = AnomalyDetector(Grey(), ResidualMap())
    run(network)
    assert torch.equal(network(torch.ones(1, 1, 4, 4)), torch.full((1, 1, 4, 4), 0.5))


def test_windows_of_volumes_are_fitted_at_their_own_voxels() -> None:
    studies = [{"image": torch.full((1, 4, 4, 8), grey)} for grey in (0.5, 0.7)]
    network = AnomalyDetector(Grey(), ResidualMap(), HealthyNormalisation((4, 4, 4), spatial_dims=3, sigma=0))
    training = VolumeDataset(studies, lambda item: item, window=4, overlap=0.5, progress=False)
    engine = Engine(lambda engine, batch: None)
    engine.state.device = torch.device("cpu")
    FitNormalisation(network, training).attach(engine)
    engine.run([0])
    assert int(network.normalisation.images) == 2 * 3
    # by hand: three windows of each study; 0 and 0.2 from grey have the mean 0.1 and the deviation 0.1
    torch.testing.assert_close(network.normalisation.mean, torch.full((1, 4, 4, 4), 0.1))
    torch.testing.assert_close(network.normalisation.std, torch.full((1, 4, 4, 4), 0.1))
