"""Metrics of a labelled run, beside those of the floors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch

from custom.calibration.state import CalibrationState
from custom.data.slices import load_slices
from custom.metrics.evaluation import evaluate_scores
from custom.metrics.floors import Floor, fit_floors
from custom.metrics.pixel_level import PixelEvaluation
from custom.scoring.score import StudyScore

logger = logging.getLogger(__name__)

COLUMNS = ("case", "label", "score", "p_value", "subject", "group")


class StudyEvaluation:
    """Accumulate scores and maps of labelled studies, for the method and for the floors that it must beat.

    Args:
        training: healthy datalist items that the floors are fitted on; empty for no floors.
        transform: preprocessing.
        window: side in pixels of the windows that the floors, as the network, learn from; None = whole slices.
        score: map to study score, the same for method and floors.
        calibration: of the detector; gives the pixel threshold.
        alpha: promised false-alarm rate.
        synthetic: whether any image or lesion was made.
        seed: of the bootstrap and of the autoencoder floor.
        floor_epochs: epochs of the autoencoder floor.
    """

    def __init__(
        self,
        training: Sequence[dict[str, Any]],
        transform: Callable,
        window: int | None,
        score: StudyScore,
        calibration: CalibrationState,
        alpha: float,
        synthetic: bool,
        seed: int = 0,
        floor_epochs: int = 20,
    ) -> None:
        self.training = training
        self.transform = transform
        self.window = window
        self.score = score
        self.calibration = calibration
        self.alpha = alpha
        self.synthetic = synthetic
        self.seed = seed
        self.floor_epochs = floor_epochs

    def start(self) -> None:
        """Fit the floors and forget all studies."""
        self.floors: dict[str, Floor] = {}
        if self.training:
            slices = load_slices(self.training, self.transform, self.window)
            self.floors = fit_floors(slices, self.floor_epochs, self.seed, self.score)
        else:
            logger.warning("No healthy training studies: the floors are left out.")
        self.studies: list[dict[str, Any]] = []
        self.floor_scores: dict[str, list[float]] = {name: [] for name in self.floors}
        threshold, rate = float(self.calibration.pixel_threshold), float(self.calibration.pixel_false_positive_rate)
        self.pixels = {name: PixelEvaluation(threshold, rate) for name in ("method", *self.floors)}

    def add(self, study: dict[str, Any]) -> None:
        """Take in what the evaluator says of one study."""
        image = torch.as_tensor(study["image"]).as_subclass(torch.Tensor)
        self.studies.append(
            {"subject": study["case"], **{key: study.get(key) for key in COLUMNS if study.get(key) is not None}}
        )
        self._add_pixels("method", study, study["pred"])
        for name, floor in self.floors.items():
            self.floor_scores[name].append(floor.score(image))
            self._add_pixels(name, study, floor.map(image))

    def result(self) -> dict[str, Any]:
        """The evaluation, as custom.metrics.evaluation.evaluate_scores gives it."""
        columns = {key: [study.get(key) for study in self.studies] for key in COLUMNS}
        p_values = columns["p_value"]
        evaluation = evaluate_scores(
            cases=columns["case"],
            labels=columns["label"],
            scores=columns["score"],
            subjects=columns["subject"],
            groups=columns["group"],
            p_values=None if None in p_values else p_values,
            alpha=self.alpha,
            synthetic=self.synthetic,
            seed=self.seed,
            pixel=self.pixels["method"],
            floors={name: self._floor(name) for name in self.floors},
        )
        if evaluation["pixel"] is not None and not self.calibration.is_calibrated:
            evaluation["pixel"]["dice"] = None  # there was no threshold
        return evaluation

    def _add_pixels(self, name: str, study: dict[str, Any], anomaly_map: torch.Tensor | None) -> None:
        """Pool the pixels of the latest study for the method or a floor."""
        # An abnormal study without a mask has lesions somewhere: its pixels cannot be judged.
        if anomaly_map is None or (study["label"] and not study["mask"].any()):
            return
        truth = study["mask"] if study["label"] else None
        self.pixels[name].add(study["case"], self.studies[-1]["subject"], anomaly_map, study["foreground"], truth)

    def _floor(self, name: str) -> dict[str, Any]:
        """What evaluate_scores takes of a floor. Its pixel interval is not shown, so two resamplings are enough."""
        pixel = self.pixels[name].result(resamplings=2, seed=self.seed)
        return {"scores": self.floor_scores[name], "pixel_ap": None if pixel is None else pixel["ap"]["value"]}
