"""Fits the normalisation of anomaly maps on healthy training images."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from ignite.engine import Engine, Events

from custom.data.slices import SliceDataset
from custom.detector.anomaly_detector import AnomalyDetector


class FitNormalisation:
    """Fit the detector's HealthyNormalisation at the start of each validation, so that it matches the current network.

    Args:
        network: detector whose normalisation is fitted; one without normalisation is not changed.
        training: healthy slices; used without augmentation.
        max_images: maximum number of images, spread evenly over the training slices.
        batch_size: images per forward pass.
        amp: bfloat16 autocast of the network, as in the validation.
    """

    def __init__(
        self,
        network: AnomalyDetector,
        training: SliceDataset,
        max_images: int = 512,
        batch_size: int = 16,
        amp: bool = False,
    ) -> None:
        self.network = network
        self.training = training
        self.max_images = max_images
        self.batch_size = batch_size
        self.amp = amp

    def attach(self, engine: Engine) -> None:
        """Register on the evaluator."""
        if self.network.normalisation is not None:
            engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine) -> None:
        assert self.network.normalisation is not None  # otherwise this handler is not attached
        self.network.eval()
        device: torch.device = getattr(engine.state, "device")  # set by MONAI, not declared by ignite
        with torch.no_grad():
            self.network.normalisation.fit(self.raw_maps(device))

    def raw_maps(self, device: torch.device) -> Iterator[torch.Tensor]:
        """Maps of healthy images before normalisation."""
        images = self.training.images()
        chosen = torch.linspace(0, len(images) - 1, min(len(images), self.max_images)).round().long()
        for batch in images[chosen].split(self.batch_size):
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.amp):
                yield self.network.compare(batch.to(device))[0]
