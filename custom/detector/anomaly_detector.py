"""The deployable module: reconstruction, anomaly map and calibration in one state_dict."""

from __future__ import annotations

import torch
from torch import nn

from custom.calibration.state import CalibrationState


class AnomalyDetector(nn.Module):
    """A reconstructor, the head that compares input and reconstruction, and what calibration learned from healthy
    studies.

    ``forward`` and ``reconstruct`` are deterministic. The state_dict is flat and holds tensors only: one file is the
    model with its calibration.

    Args:
        reconstructor: network with ``reconstruct(x)`` and, if it has them, ``embed(x)`` for the head and
            ``ensemble_statistics(x)``, mean and standard deviation of an ensemble's reconstructions.
        map_head: module called with (x, x_hat, embed) that returns the anomaly map (B, 1, *S), larger = more abnormal.
        normalisation: a HealthyNormalisation of that map; None = none.
    """

    def __init__(self, reconstructor: nn.Module, map_head: nn.Module, normalisation: nn.Module | None = None) -> None:
        super().__init__()
        self.reconstructor = reconstructor
        self.map_head = map_head
        self.normalisation = normalisation
        self.calibration = CalibrationState()

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        """Pseudo-healthy image of x, both (B, C, *S) in [0, 1]."""
        return self.reconstructor.reconstruct(x)

    def predict(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Anomaly map (B, 1, *S) and pseudo-healthy image (B, C, *S) of x in one pass, float32.

        Where the reconstructor is an ensemble the standard deviation of its members, (B, 1, *S), mean over the
        channels, comes third: how sure it is of each pixel.
        """
        anomaly_map, *others = self.compare(x)
        return anomaly_map if self.normalisation is None else self.normalisation(anomaly_map), *others

    def compare(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """As :meth:`explain`, with the map before its normalisation."""
        if hasattr(self.reconstructor, "ensemble_statistics"):
            mean, deviation = self.reconstructor.ensemble_statistics(x)
            x_hat, others = mean.float().clamp(0, 1), (deviation.float().mean(1, keepdim=True),)
        else:
            x_hat, others = self.reconstruct(x).float(), ()
        anomaly_map = self.map_head(x, x_hat, getattr(self.reconstructor, "embed", None)).float()
        return anomaly_map, x_hat, *others

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Anomaly map (B, 1, *S) of x (B, C, *S), float32, larger = more abnormal."""
        return self.predict(x)[0]
