"""Calibration of a detector on healthy studies."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events
from torch import nn

from custom.calibration.conformal import check_enough
from custom.calibration.pixel_threshold import HealthyHistogram, pixel_threshold
from custom.calibration.state import scoring_rule
from custom.errors import NomalyError
from custom.networks.weights import save_tensors
from custom.reporting.files import atomic_write
from custom.reporting.results import weight_hash
from custom.scoring.score import StudyScore

logger = logging.getLogger(__name__)


class Calibrate:
    """Learn healthy scores and the pixel threshold, and store them in the detector's file.

    Writes ``calibration.json`` beside it: the scores by study, for people to read. A study that cannot be read is left
    out, with a line in the log.

    Args:
        network: the detector; its calibration is filled.
        path: of its weights, which are written anew.
        score: map to study score.
        alpha: false-alarm rate that the decisions shall have.
        pixel_false_positive_rate: share of healthy foreground pixels that may lie above the pixel threshold.

    Raises:
        NomalyError: at the end of the run, if there are too few healthy studies for ``alpha``; nothing is written then.
    """

    def __init__(
        self,
        network: nn.Module,
        path: str,
        score: StudyScore,
        alpha: float = 0.05,
        pixel_false_positive_rate: float = 0.01,
    ) -> None:
        self.network = network
        self.path = Path(path)
        self.score = score
        self.alpha = alpha
        self.pixel_false_positive_rate = pixel_false_positive_rate
        self._forget()

    def attach(self, engine: Engine) -> None:
        """Register on the evaluator."""
        engine.add_event_handler(Events.STARTED, self._forget)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def add(self, engine: Engine) -> None:
        """Take in one healthy study."""
        for study in engine.state.output:
            if "error" not in study:
                self.scores[study["case"]] = study["score"]
                self.subjects.add(study.get("subject", study["case"]))
                width, height, depth = study["pred"].shape[1:]
                self.slices.append(depth)
                self.planes.append(width * height)
                self.pixels.add(study["pred"][study["foreground"]].numpy())

    def finish(self, engine: Engine) -> None:
        """Fill the detector's calibration and save it."""
        if min(self.slices, default=1) == 1 < max(self.slices, default=1):
            raise NomalyError(
                "healthy studies must be all pictures or all volumes, got both: their scores cannot be compared; "
                "calibrate on the kind that will be examined."
            )
        check_enough(len(self.scores), self.alpha)
        if len(self.subjects) < len(self.scores):
            logger.warning(
                "%d healthy studies are of %d subjects only: the false-alarm rate is promised for one study a subject.",
                len(self.scores),
                len(self.subjects),
            )
        threshold = pixel_threshold(self.pixels, self.pixel_false_positive_rate)
        self.network.calibration.fill(
            healthy_scores=sorted(self.scores.values()),
            pixel_threshold=threshold,
            pixel_false_positive_rate=self.pixel_false_positive_rate,
            slices=(min(self.slices), max(self.slices)),
            plane=(min(self.planes), max(self.planes)),
            score_rule=scoring_rule(self.score, self.network),
        )
        save_tensors(self.network.state_dict(), self.path)
        with atomic_write(self.path.with_name("calibration.json")) as file:
            json.dump(self._summary(threshold), file, indent=2)
        message = (
            "Calibrated on %d healthy studies: flag at p <= %g; pixel threshold %.4g (%g of healthy pixels above): %s"
        )
        logger.info(message, len(self.scores), self.alpha, threshold, self.pixel_false_positive_rate, self.path)

    def _forget(self) -> None:
        """Start with no study."""
        self.scores: dict[str, float] = {}
        self.subjects: set[str] = set()
        self.slices: list[int] = []
        self.planes: list[int] = []
        self.pixels = HealthyHistogram()

    def _summary(self, threshold: float) -> dict[str, Any]:
        """Content of ``calibration.json``."""
        return {
            "healthy_studies": len(self.scores),
            "alpha": self.alpha,
            "pixel_threshold": threshold,
            "pixel_false_positive_rate": self.pixel_false_positive_rate,
            "slices": [min(self.slices), max(self.slices)],
            "plane": [min(self.planes), max(self.planes)],
            "weight_hash": weight_hash(self.network.state_dict()),
            "scores": dict(sorted(self.scores.items(), key=lambda entry: entry[1])),
        }
