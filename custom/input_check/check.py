"""The input check: a study that is not of the kind that a detector was made and calibrated for is not assessed.

A detector marks whatever it has not seen in healthy studies, so that a foreign image would come out as one large
finding. The input check must not refuse disease: it looks at tags, geometry and coarse likeness, with limits far
outside of what the healthy studies of the calibration show.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from custom.input_check.descriptors import describe
from custom.input_check.geometry import measure, spacing_reasons, tilt
from custom.input_check.poses import RATIOS, best_turn
from custom.input_check.state import InputCheckState
from custom.input_check.tags import tag_reason
from custom.studies.dicom_headers import PROJECTIONS

logger = logging.getLogger(__name__)

MAX_TILT = 30.0  # degrees; heads are tilted by 10 to 20 against the planes of a scanner
MOST_REASONS = 2
USUAL = "if such studies are usual here, calibrate on healthy ones of them (nomaly calibrate)"
CLEARLY = 1.25  # ratio from which a study is said to be turned, or a negative
UNLIKE = {
    "histogram": "the grey values are spread unlike those of healthy studies: perhaps another sequence or contrast",
    "colours": "the colours are unlike those of healthy studies: perhaps a grey image, or other colours",
    "edges": "the shapes are unlike those of healthy studies: perhaps another part of the body, or another view",
    "detail": "the fine detail is unlike that of healthy studies: perhaps noise, blur, or another device",
    "latent": "the network finds the image unlike healthy studies: perhaps another kind of image",
}


class InputCheck:
    """Reasons why a study should not be scored.

    Checks that need what calibration learned are left out where there is none: of weights that are not calibrated, or
    were before there was an input check.

    Args:
        network: detector with its calibration.
        modalities: words of DICOM's Modality that are accepted; None = all. A file that tells none is accepted, here
            as below.
        body_parts: words of BodyPartExamined that are accepted; None = all.
        views: words of ViewPosition that are accepted; None = all.
    """

    def __init__(
        self,
        network: nn.Module,
        modalities: Sequence[str] | None = None,
        body_parts: Sequence[str] | None = None,
        views: Sequence[str] | None = None,
    ) -> None:
        self.network = network
        self.accepted = {"modality": modalities, "body_part": body_parts, "view": views}
        self.has_plane = PROJECTIONS.isdisjoint(modalities or ())
        if network.calibration.is_calibrated and not self.state.is_learned:
            logger.warning(
                "The calibration is older than the input check, which can check DICOM tags and orientation alone: "
                "calibrate again (nomaly calibrate)."
            )

    @property
    def state(self) -> InputCheckState:
        """What calibration learned."""
        return self.network.calibration.input_check

    def __call__(self, image: torch.Tensor) -> list[str]:
        return self.reasons(image)

    def reasons(self, image: torch.Tensor) -> list[str]:
        """Why a study (C, X, Y, Z), preprocessed, with its meta data, should not be scored; empty if it may be.

        What is cheap to tell comes first, and is enough: the image is looked at only where its tags and geometry fit.
        """
        if reasons := self.tag_reasons(image):
            return reasons
        reasons = self.geometry_reasons(image) or self.image_reasons(image)
        return [*reasons, USUAL] if reasons else []

    def tag_reasons(self, image: torch.Tensor) -> list[str]:
        """Tags of DICOM that do not fit."""
        meta = getattr(image, "meta", {})
        reasons = [tag_reason(name, str(meta.get(name, "")), words) for name, words in self.accepted.items()]
        return [reason for reason in reasons if reason is not None]

    def geometry_reasons(self, image: torch.Tensor) -> list[str]:
        """Planes, spacing and size that do not fit."""
        reasons = spacing_reasons(measure(image), self.state.ranges.cpu().numpy())
        degrees = tilt(image) if self.has_plane else None
        if degrees is not None and degrees > MAX_TILT:
            whose = "slices are" if image.shape[3] > 1 else "slice is"
            reasons.insert(
                0,
                f"the {whose} tilted by {degrees:.0f} degrees against the plane that is assessed, at most "
                f"{MAX_TILT:.0f} are allowed: reformat the study, or give one in that plane",
            )
        return reasons

    def image_reasons(self, image: torch.Tensor) -> list[str]:
        """What makes the image unlike the healthy ones, the clearest first; more would only be more words."""
        if not self.state.limits.any():
            return []
        found = describe(image, self.network)
        distances = self.state.distances(found)
        over = [name for name, value in distances.items() if value > self.state.limit(name)]
        worst = sorted(over, key=lambda name: -distances[name] / self.state.limit(name))[:MOST_REASONS]
        return [self._words(name, distances[name], found["edges"]) for name in worst]

    def _words(self, name: str, value: float, poses: np.ndarray) -> str:
        """A reason, with its numbers."""
        numbers = f"({name} {value:.3g}, limit {self.state.limit(name):.3g})"
        if name not in RATIOS:
            words, guess = UNLIKE[name].split(":")
            return f"{words} {numbers}:{guess}"
        changed = best_turn(self.state.model("edges"), poses) if name == "pose" else "inverted"
        if value < CLEARLY:
            as_like = f"the image looks as much like healthy studies {changed} as it does as it is"
            return f"{as_like} {numbers}: perhaps another part of the body"
        return f"the image seems to be {changed} {numbers}: export it as it is usually shown"
