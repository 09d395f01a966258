"""The input check rejects studies that the detector was not made and calibrated for.

A detector marks whatever it has not seen in healthy studies, so an unsuitable image would look like one large finding.
The input check must not reject disease: it compares tags, geometry and coarse image statistics, with limits far outside
the range of the healthy calibration studies.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from custom.input_check.descriptors import describe_all
from custom.input_check.geometry import measure, spacing_reasons, tilt
from custom.input_check.poses import RATIOS, best_turn
from custom.input_check.state import InputCheckState
from custom.input_check.tags import tag_reason
from custom.studies.dicom_headers import PROJECTIONS
from custom.transforms.head import cut_reason

logger = logging.getLogger(__name__)

MAX_TILT = 30.0  # degrees; heads are tilted by 10 to 20 against the planes of a scanner
MOST_REASONS = 2
USUAL = "if such studies are usual at your site, calibrate on healthy ones (nomaly calibrate)"
CLEARLY = 1.25  # ratio from which a study is reported as rotated or inverted
UNLIKE = {
    "histogram": "the grey values differ from those of healthy studies: perhaps another sequence or contrast",
    "colours": "the colours differ from those of healthy studies: perhaps a grey image, or other colours",
    "edges": "the shapes differ from those of healthy studies: perhaps another body part or view",
    "detail": "the fine detail differs from that of healthy studies: perhaps noise, blur or another device",
    "latent": "the image as a whole differs from healthy studies: perhaps another kind of image",
}


class Calibration(Protocol):
    """The part of a CalibrationState that the input check uses."""

    @property
    def input_check(self) -> InputCheckState:
        """What the input check learned."""


class Calibrations(Protocol):
    """The parts of the Calibrations of a detector that the input check uses."""

    @property
    def calibrated(self) -> Mapping[str, Calibration]:
        """Those that are not empty, by kind of study."""

    def of(self, shape: Sequence[int]) -> Calibration:
        """That of studies of a shape."""


class Detector(Protocol):
    """The part of an AnomalyDetector that the input check uses."""

    @property
    def calibration(self) -> Calibrations:
        """Its calibrations."""


class InputCheck:
    """Reasons why a study should not be scored.

    Checks that depend on the calibration are skipped if the weights are not calibrated, or were calibrated before the
    input check existed.

    Args:
        network: AnomalyDetector with its calibrations.
        modalities: accepted values of the DICOM tag Modality; None = all. A file without the tag is accepted, as for
            the other tags.
        body_parts: accepted values of BodyPartExamined; None = all.
        views: accepted values of ViewPosition; None = all.
    """

    def __init__(
        self,
        network: Detector,
        modalities: Sequence[str] | None = None,
        body_parts: Sequence[str] | None = None,
        views: Sequence[str] | None = None,
    ) -> None:
        self.network = network
        self.accepted = {"modality": modalities, "body_part": body_parts, "view": views}
        self.has_plane = PROJECTIONS.isdisjoint(modalities or ())
        if not all(state.input_check.is_learned for state in network.calibration.calibrated.values()):
            logger.warning(
                "This calibration has no input check of images: only DICOM tags and orientation are checked. Calibrate "
                "again (nomaly calibrate)."
            )

    def state(self, image: Tensor) -> InputCheckState:
        """What the input check learned at the calibration on studies of this kind."""
        return self.network.calibration.of(image.shape).input_check

    def reasons(self, image: Tensor) -> list[str]:
        """Why a preprocessed study (C, X, Y, Z) with its metadata should not be scored; empty if it may be scored.

        The cheap checks come first: the image is checked only if its tags and geometry fit.
        """
        return self.reasons_of_file(image) or self.reasons_of_images(torch.as_tensor(image).unsqueeze(0))[0]

    def reasons_of_file(self, image: Tensor) -> list[str]:
        """The reasons that need no look at the pixels: tags, then a cut head, then geometry."""
        if reasons := self.tag_reasons(image) or [*filter(None, [cut_reason(image)])]:
            return reasons
        return with_advice(self.geometry_reasons(image))

    def reasons_of_images(self, images: Tensor, codes: Tensor | None = None) -> list[list[str]]:
        """The reasons that the pixels give, for each of several studies: the strongest differences from healthy ones.

        Args:
            images: preprocessed studies (B, C, X, Y, Z).
            codes: their latent codes (B, L), means over their slices; None = they are computed.
        """
        state = self.state(images[0])
        if not state.limits.any():
            return [[] for _ in images]
        found = describe_all(images, self.network, codes)
        distances = state.distances(found)
        limits = {name: state.limit(name) for name in distances}
        reasons = []
        for index, poses in enumerate(found["edges"]):
            own = {name: float(values[index]) for name, values in distances.items()}
            over = [name for name, value in own.items() if value > limits[name]]
            worst = sorted(over, key=lambda name: -own[name] / limits[name])[:MOST_REASONS]
            reasons.append(with_advice([self._words(name, own[name], poses, state) for name in worst]))
        return reasons

    def tag_reasons(self, image: Tensor) -> list[str]:
        """DICOM tags that do not fit."""
        meta = getattr(image, "meta", {})
        reasons = [tag_reason(name, str(meta.get(name, "")), words) for name, words in self.accepted.items()]
        return [reason for reason in reasons if reason is not None]

    def geometry_reasons(self, image: Tensor) -> list[str]:
        """Slice plane, spacing and size that do not fit."""
        reasons = spacing_reasons(measure(image), self.state(image).ranges.cpu().numpy())
        degrees = tilt(image) if self.has_plane else None
        if degrees is not None and degrees > MAX_TILT:
            subject = "slices are" if image.shape[3] > 1 else "slice is"
            reasons.insert(
                0,
                f"the {subject} tilted by {degrees:.0f} degrees from the required plane (limit {MAX_TILT:.0f}): "
                "reformat the study, or use one in that plane",
            )
        return reasons

    @staticmethod
    def _words(name: str, value: float, poses: np.ndarray, state: InputCheckState) -> str:
        """A reason, with its numbers."""
        numbers = f"({name} {value:.3g}, limit {state.limit(name):.3g})"
        if name not in RATIOS:
            words, guess = UNLIKE[name].split(":")
            return f"{words} {numbers}:{guess}"
        changed = best_turn(state.model("edges"), poses) if name == "pose" else "inverted"
        if value < CLEARLY:
            what = "orientation or anatomy" if name == "pose" else "grey scale or anatomy"
            return f"{what} does not match the calibration data {numbers}: perhaps {changed}, or another body part"
        return f"the image seems to be {changed} {numbers}: export it in its usual presentation"


def with_advice(reasons: list[str]) -> list[str]:
    """Reasons with what to do if they are usual."""
    return [*reasons, USUAL] if reasons else []
