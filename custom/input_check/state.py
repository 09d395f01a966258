"""What the input check learned from the healthy calibration studies, as buffers of the detector."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from custom.input_check.geometry import MEASURES, ranges
from custom.input_check.healthy_model import HealthyModel, fit, held_out
from custom.input_check.poses import RATIOS, ratio, ratio_limit

logger = logging.getLogger(__name__)

MINIMUM = 19  # healthy studies; fewer do not show how much healthy images vary
ENOUGH = 50  # healthy studies whose extremes show it well; with fewer, limits are wider by 50 / n
FEW_RATIO = 1.25  # with fewer, a study is rejected only if it fits clearly better rotated or inverted
# The limit is the largest distance of a held-out healthy study times this factor: about the most generous choice that
# still rejected unsuitable images, far beyond the effect of synthetic lesions on healthy validation studies.
MARGINS = {"histogram": 2.0, "colours": 1.4, "edges": 2.0, "detail": 1.5, "latent": 2.0}
CHECKS = (*MARGINS, *RATIOS)
GAUSSIANS = ("edges", "detail", "latent")
PARTS = ("mean", "axes", "variances")


class InputCheckState(nn.Module):
    """Ranges, models and limits of the healthy studies; empty until calibrated.

    Buffers:
        studies: () int64, number of healthy studies; 0 = not calibrated.
        ranges: (3, 2) float64, minimum and maximum of each of custom.input_check.geometry.MEASURES; 0 = unknown.
        limits: (7,) float64, limits of the CHECKS; 0 = the check is skipped.
        histogram_mean, colours_mean: (D,) float32, the mean of the quantiles, which is the Wasserstein barycentre of
            the healthy distributions.
        edges_*, detail_*, latent_*: float32, the parts of a HealthyModel.
    """

    studies: Tensor
    ranges: Tensor
    limits: Tensor
    ARRAYS = (
        "histogram_mean",
        "colours_mean",
        *(f"{name}_{part}" for name in GAUSSIANS for part in PARTS),
    )

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("studies", torch.zeros((), dtype=torch.int64))
        self.register_buffer("ranges", torch.zeros(len(MEASURES), 2, dtype=torch.float64))
        self.register_buffer("limits", torch.zeros(len(CHECKS), dtype=torch.float64))
        for name in self.ARRAYS:
            self.register_buffer(name, torch.zeros(0))

    @property
    def is_learned(self) -> bool:
        """Whether it was calibrated."""
        return int(self.studies) > 0

    def limit(self, check: str) -> float:
        """Limit of a check; 0 = the check is skipped."""
        return float(self.limits[CHECKS.index(check)])

    def array(self, name: str) -> np.ndarray:
        """A buffer as float64."""
        return getattr(self, name).double().cpu().numpy()

    def model(self, name: str) -> HealthyModel:
        """Gaussian of a descriptor."""
        return HealthyModel(*(self.array(f"{name}_{part}") for part in PARTS))

    def distances(self, descriptors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Distances (...) of studies from the healthy ones in each check that was learned; larger = less similar.

        Args:
            descriptors: of one study (custom.input_check.descriptors.describe) or of several (describe_all).
        """
        found = {}
        learned = [name for name, limit in zip(CHECKS, self.limits.tolist()) if limit]
        models = {name: self.model(name) for name in GAUSSIANS if name in descriptors}
        for name in learned:
            if name in RATIOS:
                found[name] = ratio(models["edges"], descriptors["edges"], name)
            elif name in descriptors:
                values = descriptors[name][..., 0, :] if name == "edges" else descriptors[name]
                near = models[name].distance if name in models else wasserstein_to(self.array(f"{name}_mean"))
                found[name] = near(values)
        return found

    def learn(self, measures: Sequence[np.ndarray], descriptors: Sequence[dict[str, np.ndarray]]) -> None:
        """Learn from healthy studies.

        No limit rejects a study that it was learned from, even if that study had been held out.

        Args:
            measures: output of custom.input_check.geometry.measure for each study.
            descriptors: output of custom.input_check.descriptors.describe for each study.
        """
        self.clear()
        self.studies.fill_(len(descriptors))
        self.ranges.copy_(torch.from_numpy(ranges(measures)))
        if len(descriptors) < MINIMUM:
            logger.warning(
                "The input check is limited to spacing and size: to check images, it needs at least %d healthy "
                "calibration studies, got %d.",
                MINIMUM,
                len(descriptors),
            )
            return
        for name in MARGINS:
            if all(name in study for study in descriptors):
                self._learn_descriptor(name, np.stack([study[name] for study in descriptors]))

    def clear(self) -> None:
        """Reset to the state before calibration."""
        for buffer in (self.studies, self.ranges, self.limits):
            buffer.zero_()
        for name in self.ARRAYS:
            setattr(self, name, getattr(self, name).new_zeros(0))

    def _learn_descriptor(self, name: str, values: np.ndarray) -> None:
        """Model and limit of one descriptor, (n, D), or (n, poses, D) for the edges."""
        shown = values[:, 0] if name == "edges" else values
        if name in GAUSSIANS:
            model = fit(shown)
            self.set_arrays({f"{name}_{part}": getattr(model, part) for part in PARTS})
            outside = held_out(shown, lambda others, left: fit(others).distance(left))
            self._set_limit(name, MARGINS[name] * max(outside.max(), model.distance(shown).max()))
        else:
            centre = shown.mean(0).astype(np.float32)
            self.set_arrays({f"{name}_mean": centre})
            outside = held_out(shown, lambda others, left: wasserstein_to(others.mean(0))(left))
            self._set_limit(name, MARGINS[name] * max(outside.max(), wasserstein_to(centre)(shown).max()))
        for check in RATIOS if name == "edges" else ():
            outside = held_out(values, lambda others, left: ratio(fit(others[:, 0]), left, check))
            self._set_limit(check, ratio_limit(np.maximum(outside, ratio(self.model(name), values, check))))

    def set_arrays(self, values: dict[str, Any]) -> None:
        """Set arrays by name."""
        for name, value in values.items():
            buffer = getattr(self, name)
            setattr(self, name, torch.as_tensor(np.asarray(value), dtype=buffer.dtype, device=buffer.device))

    def _set_limit(self, check: str, value: float) -> None:
        """Set the limit of a check, wider with few studies; 0 stays 0."""
        if value and int(self.studies) < ENOUGH:
            value = max(value, FEW_RATIO) if check in RATIOS else value * ENOUGH / int(self.studies)
        self.limits[CHECKS.index(check)] = float(value)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        if not any(key.startswith(prefix) for key in state_dict):
            self.clear()  # the weights were calibrated before the input check existed
            return
        for name in self.ARRAYS:  # their sizes are not known before loading
            if (stored := state_dict.get(prefix + name)) is not None:
                setattr(self, name, getattr(self, name).new_zeros(stored.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


def wasserstein_to(centre: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Function of quantiles (..., D): the area between their quantile function and that of the centre, which is the
    Wasserstein-1 (earth mover's) distance of the grey values, in units of their range.
    """
    return lambda values: np.abs(values - centre).mean(-1)
