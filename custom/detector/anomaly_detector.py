"""The deployable module: reconstruction, anomaly map, healthy statistics and calibration in one state_dict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import torch
from torch import nn

from custom.calibration.by_kind import Calibrations
from custom.detector.configuration import Configuration
from custom.scoring.code_distance import CodeDistance
from custom.scoring.expected_residual import ExpectedResidual
from custom.scoring.part_statistics import PartStatistics
from custom.scoring.patch_distance import PatchDistance

STATISTICS = ("normalisation", "code_distance", "patch_distance", "part_statistics")  # fitted to healthy studies


class Reconstructor(Protocol):
    """A network that makes pseudo-healthy images."""

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        """Pseudo-healthy image of x, both (B, C, *S) in [0, 1]."""

    def latent(self, x: torch.Tensor) -> torch.Tensor:
        """Code (B, L) of x (B, C, *S); only needed for the distance of codes."""


class Comparison(NamedTuple):
    """An image beside its reconstruction, float32, before anything is related to healthy images.

    Attributes:
        anomaly_map: (B, 1, *S), larger = more abnormal.
        reconstruction: pseudo-healthy image (B, C, *S).
        code: latent code (B, L); None if the detector does not compare codes.
        deviation: of an ensemble, the standard deviation of its members (B, 1, *S), mean over the channels; else None.
    """

    anomaly_map: torch.Tensor
    reconstruction: torch.Tensor
    code: torch.Tensor | None
    deviation: torch.Tensor | None


class AnomalyDetector(nn.Module):
    """A reconstructor, the head that compares input and reconstruction, and what both usually give on healthy studies.

    ``forward`` and ``reconstruct`` are deterministic. The state_dict is flat and contains only tensors: one file stores
    the model with its healthy statistics and its calibration.

    Args:
        reconstructor: network with ``reconstruct(x)`` and optionally ``embed(x)`` for the head, ``latent(x)`` for the
            distance of codes, ``reconstruct_with_code(x)`` if both cost less together, and ``ensemble_statistics(x)``,
            mean and standard deviation of an ensemble's reconstructions.
        map_head: module called with (x, x_hat, embed) that returns the anomaly map (B, 1, *S), larger = more abnormal.
        normalisation: makes that map relative to the expected residual; None = the map as it is.
        code_distance: distance of the latent code from those of healthy images; None = not computed.
        patch_distance: distance of each patch from those of healthy images, a second view of the same place; None = not
            computed.
        configuration: the parameters that all of this was made with, see custom.detector.configuration; None = unknown.
    """

    reconstructor: Reconstructor
    normalisation: ExpectedResidual | None
    code_distance: CodeDistance | None
    patch_distance: PatchDistance | None

    def __init__(
        self,
        reconstructor: Reconstructor,
        map_head: nn.Module,
        normalisation: ExpectedResidual | None = None,
        code_distance: CodeDistance | None = None,
        patch_distance: PatchDistance | None = None,
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.reconstructor = reconstructor
        self.map_head = map_head
        self.normalisation = normalisation
        self.code_distance = code_distance
        self.patch_distance = patch_distance
        self.part_statistics = PartStatistics()
        self.calibration = Calibrations()
        self.configuration = Configuration(configuration)
        self.register_load_state_dict_pre_hook(complete_statistics)

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        """Pseudo-healthy image of x, both (B, C, *S) in [0, 1]."""
        return self.reconstructor.reconstruct(x)

    def predict(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Results for x (B, C, *S) in one pass, float32, in the order of :attr:`outputs`.

        - map: anomaly map (B, 1, *S), larger = more abnormal; with normalisation and patches, once both are fitted, the
          mean of the relative map of the head and the relative distance of the patches;
        - reconstruction: pseudo-healthy image (B, C, *S);
        - code_distance: distance of the latent code, the same at every pixel (B, 1, *S), so that windows and slices of
          a study can be merged;
        - patch_distance: distance of each patch from those of healthy images (B, 1, *S);
        - deviation: if the reconstructor is an ensemble, the standard deviation of its members (B, 1, *S), mean over
          the channels: the uncertainty of each pixel.
        """
        return self.predict_with_code(x)[: len(self.outputs)]

    def predict_with_code(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The results of :meth:`predict` and, if codes are compared, the code (B, L) of x (B, C, *S)."""
        anomaly_map, x_hat, code, deviation = self.compare(x)
        if self.normalisation is not None:
            anomaly_map = self.normalisation(anomaly_map, x_hat)
        patches: torch.Tensor | None = None
        if self.patch_distance is not None:
            patches = self.patch_distance(x)
            if self.normalisation is not None:
                # once both are relative to what is usual; no branch on the buffers, for exported graphs
                fitted = (self.normalisation.images > 0) & (self.patch_distance.images > 0)
                anomaly_map = torch.where(fitted, (anomaly_map + patches) / 2, anomaly_map)
        results = [anomaly_map, x_hat]
        if self.code_distance is not None:
            distance = self.code_distance(code)
            results.append(distance.view(-1, *[1] * (x.ndim - 1)).expand_as(anomaly_map))
        if patches is not None:
            results.append(patches)
        if deviation is not None:
            results.append(deviation)
        return (*results,) if code is None else (*results, code)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the results of :meth:`predict`."""
        distance = () if self.code_distance is None else ("code_distance",)
        deviation = ("deviation",) if hasattr(self.reconstructor, "ensemble_statistics") else ()
        patches = () if self.patch_distance is None else ("patch_distance",)
        return "map", "reconstruction", *distance, *patches, *deviation

    def latent(self, x: torch.Tensor) -> torch.Tensor:
        """Code (B, L) of x (B, C, *S), float32."""
        return self.reconstructor.latent(x).float()

    def compare(self, x: torch.Tensor) -> Comparison:
        """What :meth:`predict` relates to healthy images: x (B, C, *S), its reconstruction and its code."""
        code: torch.Tensor | None = None
        deviation: torch.Tensor | None = None
        if hasattr(self.reconstructor, "ensemble_statistics"):
            mean, spread = self.reconstructor.ensemble_statistics(x)
            x_hat, deviation = mean.float().clamp(0, 1), spread.float().mean(1, keepdim=True)
        elif self.code_distance is not None and hasattr(self.reconstructor, "reconstruct_with_code"):
            x_hat, code = (result.float() for result in self.reconstructor.reconstruct_with_code(x))
        else:
            x_hat = self.reconstruct(x).float()
        if self.code_distance is not None and code is None:
            code = self.latent(x)
        anomaly_map = self.map_head(x, x_hat, getattr(self.reconstructor, "embed", None)).float()
        return Comparison(anomaly_map, x_hat, code, deviation)

    @property
    def fitted_parts(self) -> list[ExpectedResidual | CodeDistance | PatchDistance]:
        """The parts that are fitted to healthy training images."""
        return [part for part in (self.normalisation, self.code_distance, self.patch_distance) if part is not None]

    @property
    def has_statistics(self) -> bool:
        """Whether any healthy statistics were fitted."""
        fitted = [part.images for part in self.fitted_parts]
        return any(int(count) > 0 for count in [*fitted, self.part_statistics.studies.sum()])

    def reset_statistics(self) -> None:
        """Return to the state before the fit of healthy statistics."""
        for part in self.fitted_parts:
            part.images.zero_()
        self.part_statistics.reset()

    def reset_calibration(self) -> None:
        """Remove the calibration, whose scores are no longer comparable."""
        self.calibration = Calibrations().to(self.part_statistics.mean.device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Anomaly map (B, 1, *S) of x (B, C, *S), float32, larger = more abnormal."""
        return self.predict(x)[0]


def complete_statistics(detector: AnomalyDetector, state: dict, prefix: str, *others: object) -> None:
    """Make weights load that have other healthy statistics than the detector, such as those of earlier releases.

    Statistics that the detector does not use are dropped; those that the weights lack remain without a fit.
    """
    own = {f"{prefix}{name}": value for name, value in detector.state_dict().items()}
    parts = tuple(f"{prefix}{name}." for name in STATISTICS)
    for part in parts:
        names = {name for name in own if name.startswith(part)}
        if names != {name for name in state if name.startswith(part)}:
            for name in [name for name in state if name.startswith(part)]:
                del state[name]
            state.update({name: own[name] for name in names})
