"""Metrics of a labelled run, beside those of the baselines."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from custom.baselines.fitting import Baseline, fit_baselines
from custom.calibration.state import CalibrationState
from custom.data.slices import load_slices
from custom.metrics.evaluation import evaluate_scores
from custom.metrics.lesion_level import LesionEvaluation
from custom.metrics.pixel_evaluation import PixelEvaluation
from custom.metrics.ra_detection import BoxDetection
from custom.metrics.reconstruction_quality import ReconstructionQuality
from custom.metrics.study_level import StudyTable
from custom.scoring.regions import label_regions
from custom.scoring.score import StudyScore

logger = logging.getLogger(__name__)

COLUMNS = ("case", "label", "score", "p_value", "decision", "subject", "group")


class StudyEvaluation:
    """Accumulate scores and maps of labelled studies, for the method and for the baselines that it must beat.

    Args:
        training: healthy datalist items that the baselines are fitted on; empty for no baselines.
        transform: preprocessing.
        window: side in pixels of the windows that the baselines, as the network, learn from; None = whole slices.
        score: map to study score, the same for method and baselines.
        calibration: of the detector; gives the pixel threshold, the least size of a region and the decision rule.
        alpha: false-alarm rate of this run's decisions; None = as calibrated.
        synthetic: whether any image or lesion was made.
        seed: of the bootstrap and of the autoencoder baseline.
        baseline_epochs: epochs of the autoencoder baseline.
    """

    def __init__(
        self,
        training: Sequence[dict[str, Any]],
        transform: Callable,
        window: int | None,
        score: StudyScore,
        calibration: CalibrationState,
        alpha: float | None,
        synthetic: bool,
        seed: int = 0,
        baseline_epochs: int = 20,
    ) -> None:
        self.training = training
        self.transform = transform
        self.window = window
        self.score = score
        self.calibration = calibration
        self.alpha = alpha
        self.synthetic = synthetic
        self.seed = seed
        self.baseline_epochs = baseline_epochs

    def start(self) -> None:
        """Fit the baselines and forget all studies."""
        self.baselines: dict[str, Baseline] = {}
        if self.training:
            slices = load_slices(self.training, self.transform, self.window)
            self.baselines = fit_baselines(slices, self.baseline_epochs, self.seed, self.score)
        else:
            logger.warning("No healthy training studies: the baselines are left out.")
        self.studies: list[dict[str, Any]] = []
        self.refused: list[bool] = []
        self.failed = {"healthy": 0, "abnormal": 0}
        self.baseline_scores: dict[str, list[float]] = {name: [] for name in self.baselines}
        threshold, rate = float(self.calibration.pixel_threshold), float(self.calibration.pixel_false_positive_rate)
        self.pixels = PixelEvaluation(threshold, rate)
        self.baseline_pixels = {name: PixelEvaluation(threshold, rate, with_aupro=False) for name in self.baselines}
        self.lesions = LesionEvaluation(threshold, int(self.calibration.minimum_region))
        self.boxes = BoxDetection(threshold)
        self.quality = ReconstructionQuality()

    def add(self, study: dict[str, Any]) -> None:
        """Take in what the evaluator says of one study, as a whole: an error leaves nothing of it."""
        image = torch.as_tensor(study["image"]).as_subclass(torch.Tensor)
        row = {"subject": study["case"], **{key: study.get(key) for key in COLUMNS if study.get(key) is not None}}
        scores = {name: baseline.score(image) for name, baseline in self.baselines.items()}
        # An abnormal study without a mask has lesions somewhere: its pixels cannot be judged.
        known = not study["label"] or study["mask"].any()
        truth = np.asarray(study["mask"]) > 0.5 if study["label"] else None
        measured = self._measured(row["subject"], image, study, truth) if known else []
        self.studies.append(row)
        if "refusals" in study:
            self.refused.append(bool(study["refusals"]))
        for name, score in scores.items():
            self.baseline_scores[name].append(score)
        for part, numbers in measured:
            part.take(numbers)

    def fail(self, study: dict[str, Any]) -> None:
        """Count a study that could not be scored."""
        self.failed["abnormal" if study.get("label") else "healthy"] += 1

    def _measured(
        self, subject: str, image: torch.Tensor, study: dict[str, Any], truth: NDArray[np.bool_] | None
    ) -> list[tuple[Any, Any]]:
        """What each part of the evaluation keeps of the maps of a study whose truth is known."""
        case, anomaly_map, body = study["case"], study["pred"], study["foreground"]
        regions = study.get("regions")
        if regions is None:
            regions, _, _ = label_regions(anomaly_map, self.lesions.threshold, self.lesions.minimum_size)
        measured = [
            (self.pixels, self.pixels.measure(case, subject, anomaly_map, body, truth)),
            (self.lesions, self.lesions.measure(subject, anomaly_map, regions, truth)),
            (self.boxes, self.boxes.measure(subject, anomaly_map, regions, truth)),
            (self.quality, self.quality.measure(subject, image, study["reconstruction"], body, truth)),
        ]
        for name, baseline in self.baselines.items():
            baseline_map, part = baseline.map(image), self.baseline_pixels[name]
            if baseline_map is not None:
                measured.append((part, part.measure(case, subject, baseline_map, body, truth)))
        return measured

    def result(self) -> dict[str, Any]:
        """The evaluation, as custom.metrics.evaluation.evaluate_scores gives it."""
        self._warn_of_missing_masks()
        columns = {key: [study.get(key) for study in self.studies] for key in COLUMNS}
        studies = StudyTable(
            cases=columns["case"],
            labels=columns["label"],
            scores=columns["score"],
            subjects=columns["subject"],
            groups=columns["group"],
            p_values=columns["p_value"],
            decisions=columns["decision"],
            seed=self.seed,
        )
        return evaluate_scores(
            studies,
            self.calibration.decision_rule.at(self.alpha),
            self.synthetic,
            flag_level=self._flag_level(),
            baselines={name: self._baseline(name) for name in self.baselines},
            pixel=self.pixels,
            lesions=self.lesions,
            ra_detection=self.boxes,
            reconstruction=self.quality,
            failed=self.failed,
            refused=self.refused or None,
        )

    def _flag_level(self) -> float | None:
        """p-value at or below which a study is flagged; of several calibration groups the largest."""
        if not self.calibration.is_calibrated:
            return None
        rule = self.calibration.decision_rule.at(self.alpha)
        return max(map(rule.flag_level, self.calibration.healthy_counts.values()))

    def _baseline(self, name: str) -> dict[str, Any]:
        """What evaluate_scores takes of a baseline; one without a map has no pixels."""
        pixel = self.baseline_pixels[name]
        return {"scores": self.baseline_scores[name], "pixel": pixel if pixel.subjects else None}

    def _warn_of_missing_masks(self) -> None:
        """Name the abnormal studies whose lesions are not known: no mask, or one that the network's grid loses."""
        cases = [row["case"] for row in self.studies if row["label"] and row["case"] not in self.pixels.subjects]
        if cases:
            logger.warning(
                "Abnormal studies without a lesion mask, or with none left on the network's grid, are left out of "
                "pixels, lesions and boxes; there are %d: %s%s.",
                len(cases),
                ", ".join(map(str, cases[:10])),
                "" if len(cases) <= 10 else " and others",
            )
