"""The deployable module: reconstruction, anomaly map and calibration in one state_dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import nn

from custom.calibration.state import CalibrationState
from custom.detector.configuration import Configuration
from custom.scoring.normalisation import HealthyNormalisation


class Reconstructor(Protocol):
    """A network that makes pseudo-healthy images."""

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        """Pseudo-healthy image of x, both (B, C, *S) in [0, 1]."""


class AnomalyDetector(nn.Module):
    """A reconstructor, the head that compares input and reconstruction, and the calibration on healthy studies.

    ``forward`` and ``reconstruct`` are deterministic. The state_dict is flat and contains only tensors: one file stores
    the model with its calibration.

    Args:
        reconstructor: network with ``reconstruct(x)`` and optionally ``embed(x)`` for the head and
            ``ensemble_statistics(x)``, mean and standard deviation of an ensemble's reconstructions.
        map_head: module called with (x, x_hat, embed) that returns the anomaly map (B, 1, *S), larger = more abnormal.
        normalisation: normalisation of that map; None = none.
        configuration: the parameters that all of this was made with, see custom.detector.configuration; None = unknown.
    """

    reconstructor: Reconstructor
    normalisation: HealthyNormalisation | None

    def __init__(
        self,
        reconstructor: Reconstructor,
        map_head: nn.Module,
        normalisation: HealthyNormalisation | None = None,
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.reconstructor = reconstructor
        self.map_head = map_head
        self.normalisation = normalisation
        self.calibration = CalibrationState()
        self.configuration = Configuration(configuration)

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        """Pseudo-healthy image of x, both (B, C, *S) in [0, 1]."""
        return self.reconstructor.reconstruct(x)

    def predict(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Anomaly map (B, 1, *S) and pseudo-healthy image (B, C, *S) of x in one pass, float32.

        If the reconstructor is an ensemble, the third output is the standard deviation of its members (B, 1, *S), mean
        over the channels: the uncertainty of each pixel.
        """
        anomaly_map, *others = self.compare(x)
        return anomaly_map if self.normalisation is None else self.normalisation(anomaly_map), *others

    def compare(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Results of :meth:`predict` with the anomaly map (B, 1, *S) before its normalisation, to fit the latter."""
        others: tuple[torch.Tensor, ...] = ()
        if hasattr(self.reconstructor, "ensemble_statistics"):
            mean, deviation = self.reconstructor.ensemble_statistics(x)
            x_hat, others = mean.float().clamp(0, 1), (deviation.float().mean(1, keepdim=True),)
        else:
            x_hat = self.reconstruct(x).float()
        anomaly_map = self.map_head(x, x_hat, getattr(self.reconstructor, "embed", None)).float()
        return anomaly_map, x_hat, *others

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Anomaly map (B, 1, *S) of x (B, C, *S), float32, larger = more abnormal."""
        return self.predict(x)[0]
