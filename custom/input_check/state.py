"""What the input check learned from the healthy studies of the calibration, as buffers of the detector."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from custom.input_check.geometry import MEASURES, ranges
from custom.input_check.healthy_model import HealthyModel, fit, held_out
from custom.input_check.poses import RATIOS, ratio, ratio_limit

logger = logging.getLogger(__name__)

MINIMUM = 19  # healthy studies; fewer do not show how much healthy images differ
ENOUGH = 50  # from which the most extreme one shows it well; with fewer, limits are wider, by 50 / n
FEW_RATIO = 1.25  # with fewer, only what fits clearly better turned, or inverted, is refused for that
# The largest distance of a healthy study that was held out, times this, is the limit: about the most generous choice
# at which foreign images were still refused, far beyond what synthetic lesions did to healthy validation studies.
MARGINS = {"histogram": 2.0, "colours": 1.4, "edges": 2.0, "detail": 1.5, "latent": 2.0}
CHECKS = (*MARGINS, *RATIOS)
GAUSSIANS = ("edges", "detail", "latent")
PARTS = ("mean", "axes", "variances")


class InputCheckState(nn.Module):
    """Ranges, models and limits of the healthy studies; empty until calibrated.

    Buffers:
        studies: () int64, number of healthy studies; 0 = nothing is learned.
        ranges: (3, 2) float64, least and greatest of each of custom.input_check.geometry.MEASURES; 0 = not known.
        limits: (7,) float64, of the CHECKS; 0 = that check is not made.
        histogram_mean, colours_mean: (D,) float32, the mean of the quantiles, which is the healthy distribution's
            Wasserstein barycentre.
        edges_*, detail_*, latent_*: float32, the parts of a HealthyModel.
    """

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
        """Limit of a check; 0 = it is not made."""
        return float(self.limits[CHECKS.index(check)])

    def array(self, name: str) -> np.ndarray:
        """A buffer as float64."""
        return getattr(self, name).double().cpu().numpy()

    def model(self, name: str) -> HealthyModel:
        """Gaussian of a descriptor."""
        return HealthyModel(*(self.array(f"{name}_{part}") for part in PARTS))

    def distances(self, descriptors: dict[str, np.ndarray]) -> dict[str, float]:
        """How far a study lies from the healthy ones in each check that was learned; larger = less alike."""
        found = {}
        for name in MARGINS:
            if self.limit(name) and name in descriptors:
                values = descriptors[name][0] if name == "edges" else descriptors[name]
                near = self.model(name).distance if name in GAUSSIANS else wasserstein_to(self.array(f"{name}_mean"))
                found[name] = float(near(values))
        for name in RATIOS:
            if self.limit(name):
                found[name] = float(ratio(self.model("edges"), descriptors["edges"], name))
        return found

    def learn(self, measures: Sequence[np.ndarray], descriptors: Sequence[dict[str, np.ndarray]]) -> None:
        """Learn from healthy studies.

        No limit refuses a study that it was learned from, nor would it have been refused had it been left out.

        Args:
            measures: of each study, by custom.input_check.geometry.measure.
            descriptors: of each study, by custom.input_check.descriptors.describe.
        """
        self.clear()
        self.studies.fill_(len(descriptors))
        self.ranges.copy_(torch.from_numpy(ranges(measures)))
        if len(descriptors) < MINIMUM:
            logger.warning(
                "The input check knows spacing and size alone: to learn how healthy images look it needs %d healthy "
                "studies at least, got %d.",
                MINIMUM,
                len(descriptors),
            )
            return
        for name in MARGINS:
            if all(name in study for study in descriptors):
                self._learn_descriptor(name, np.stack([study[name] for study in descriptors]))

    def clear(self) -> None:
        """Forget what was learned."""
        for buffer in (self.studies, self.ranges, self.limits):
            buffer.zero_()
        for name in self.ARRAYS:
            setattr(self, name, getattr(self, name).new_zeros(0))

    def _learn_descriptor(self, name: str, values: np.ndarray) -> None:
        """Model and limit of one descriptor, (n, D), or (n, poses, D) of the edges."""
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
            self._set_limit(check, ratio_limit(np.maximum(outside, ratio(model, values, check))))

    def set_arrays(self, values: dict[str, Any]) -> None:
        """Set arrays by name."""
        for name, value in values.items():
            buffer = getattr(self, name)
            setattr(self, name, torch.as_tensor(np.asarray(value), dtype=buffer.dtype, device=buffer.device))

    def _set_limit(self, check: str, value: float) -> None:
        """Set the limit of a check, wider where there are few studies; 0 stays 0."""
        if value and int(self.studies) < ENOUGH:
            value = max(value, FEW_RATIO) if check in RATIOS else value * ENOUGH / int(self.studies)
        self.limits[CHECKS.index(check)] = float(value)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        if not any(key.startswith(prefix) for key in state_dict):
            return self.clear()  # weights that were calibrated before there was an input check
        for name in self.ARRAYS:  # their sizes are part of what is loaded
            if (stored := state_dict.get(prefix + name)) is not None:
                setattr(self, name, getattr(self, name).new_zeros(stored.shape))
        super()._load_from_state_dict(state_dict, prefix, *args)


def wasserstein_to(centre: np.ndarray) -> Any:
    """Distance of quantiles (..., D) to a distribution's: the area between two quantile functions, which is the
    Wasserstein-1 (earth mover's) distance of the grey values, in units of their range.
    """
    return lambda values: np.abs(values - centre).mean(-1)
