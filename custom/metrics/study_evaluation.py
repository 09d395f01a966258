"""Metrics of a labelled run, next to those of the baselines."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from custom.baselines.fitting import fit_baselines
from custom.calibration.by_kind import Calibrations
from custom.calibration.conformal import minimum_n
from custom.data.slices import load_slices
from custom.errors import NomalyError
from custom.metrics.baseline_evaluation import BaselineEvaluation
from custom.metrics.evaluation import evaluate_scores
from custom.metrics.lesion_level import LesionEvaluation
from custom.metrics.pixel_evaluation import PixelEvaluation
from custom.metrics.ra_detection import BoxDetection
from custom.metrics.reconstruction_quality import ReconstructionQuality
from custom.metrics.records import ClassCounts, Evaluation, StudyRow
from custom.metrics.study_level import StudyTable
from custom.scoring.regions import label_regions
from custom.scoring.score import StudyScore
from custom.studies.items import Study, StudyItem

logger = logging.getLogger(__name__)

CHOICES = ("simple", "all", "none")


class StudyEvaluation:
    """Accumulate scores and maps of labelled studies, for the method and for the baselines.

    2-D images and volumes have pixel thresholds of their own. In a test set of both, the maps of volumes are scaled so
    that their threshold is that of the 2-D images.

    Args:
        training: healthy datalist items that the baselines are fitted on; empty = no baselines.
        healthy: other healthy datalist items that the baselines are calibrated on; empty = baselines decide nothing.
        transform: preprocessing.
        window: side in pixels of the windows that the baselines, like the network, learn from; None = whole slices.
        score: computes the study score from a map; the same for method and baselines.
        calibration: of the detector; provides pixel threshold and least size of a region for each kind of study, and
            the decision rule.
        alpha: target false-alarm rate of this run's decisions; None = as calibrated.
        synthetic: whether any image or lesion is synthetic.
        seed: of the bootstrap and of the autoencoder baseline.
        baseline_epochs: epochs of the autoencoder baseline.
        baselines: "simple", "all" (also the nearest neighbours of ImageNet features) or "none".

    Raises:
        NomalyError: another value of baselines.
    """

    def __init__(
        self,
        training: Sequence[StudyItem],
        transform: Callable[..., Mapping[str, Any]],
        window: int | None,
        score: StudyScore,
        calibration: Calibrations,
        alpha: float | None,
        synthetic: bool,
        seed: int = 0,
        baseline_epochs: int = 20,
        healthy: Sequence[StudyItem] = (),
        baselines: str = "simple",
    ) -> None:
        if baselines not in CHOICES:
            raise NomalyError(f"baselines must be one of {', '.join(CHOICES)}, got {baselines!r}.")
        self.training = training
        self.healthy = healthy
        self.chosen = baselines
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
        first = next(iter(self.calibration.calibrated.values()), self.calibration.image)
        threshold, rate = float(first.pixel_threshold), float(first.pixel_false_positive_rate)
        least = int(first.minimum_region)
        self.baselines = self._fitted(rate, least)
        self.studies: list[StudyRow] = []
        self.rejected: list[bool] = []
        self.failed: ClassCounts = {"healthy": 0, "abnormal": 0}
        self.pixels = PixelEvaluation(threshold, rate)
        self.lesions = LesionEvaluation(threshold, least)
        self.boxes = BoxDetection(threshold)
        self.quality = ReconstructionQuality()

    def _fitted(self, rate: float, least: int) -> dict[str, BaselineEvaluation]:
        """The baselines, fitted on the training studies and calibrated on the other healthy ones."""
        if self.chosen == "none":
            return {}
        if not self.training:
            logger.warning("No healthy training studies: the baselines are left out.")
            return {}
        slices = load_slices(self.training, self.transform, self.window)
        score = self.score.for_baselines()
        fitted = fit_baselines(slices, self.baseline_epochs, self.seed, score, peers=self.chosen == "all")
        images = [torch.as_tensor(self.transform(item)["image"]).as_subclass(torch.Tensor) for item in self.healthy]
        return {name: BaselineEvaluation(baseline, images, rate, least) for name, baseline in fitted.items()}

    def add(self, study: Study) -> None:
        """Add a scored study as a whole: after an error nothing of it is added."""
        image = torch.as_tensor(study["image"]).as_subclass(torch.Tensor)
        row = _row(study)
        scores = {name: baseline.baseline.score(image) for name, baseline in self.baselines.items()}
        # An abnormal study without a mask has lesions of unknown place: its pixels have no truth.
        known = not study["label"] or study["mask"].any()
        truth = np.asarray(study["mask"]) > 0.5 if study["label"] else None
        measured = self._measured(row["subject"], image, study, truth) if known else []
        self.studies.append(row)
        if "refusals" in study:
            self.rejected.append(bool(study["refusals"]))
        for name, score in scores.items():
            self.baselines[name].scores.append(score)
        for take in measured:
            take()

    def fail(self, study: Study) -> None:
        """Count a study that could not be scored."""
        self.failed["abnormal" if study.get("label") else "healthy"] += 1

    def _measured(
        self, subject: str, image: torch.Tensor, study: Study, truth: NDArray[np.bool_] | None
    ) -> list[Callable[[], None]]:
        """Measure the maps of a study whose truth is known; each call then adds the study to one part."""
        state = self.calibration.of(study["pred"].shape)
        common, own = self.lesions.threshold, float(state.pixel_threshold)
        scale = common / own if state.is_calibrated and own not in (0, common) else 1.0
        least = int(state.minimum_region) if state.is_calibrated else None
        case, anomaly_map, body = study["case"], study["pred"] * scale, study["foreground"]
        regions = study.get("regions")
        labels: torch.Tensor | NDArray[np.int32]
        if regions is None:
            labels, _, _ = label_regions(anomaly_map, self.lesions.threshold, self.lesions.minimum_size)
        else:
            labels = regions
        measured: list[Callable[[], None]] = [
            partial(self.pixels.take, self.pixels.measure(case, subject, anomaly_map, body, truth)),
            partial(self.lesions.take, self.lesions.measure(subject, anomaly_map, labels, truth, least)),
            partial(self.boxes.take, self.boxes.measure(subject, anomaly_map, labels, truth)),
            partial(self.quality.take, self.quality.measure(subject, image, study["reconstruction"], body, truth)),
        ]
        for baseline in self.baselines.values():
            measured += baseline.measured(case, subject, image, body, truth)
        return measured

    def result(self) -> Evaluation:
        """The evaluation of all studies so far."""
        self._warn_of_missing_masks()
        rows = self.studies
        studies = StudyTable(
            cases=[row["case"] for row in rows],
            labels=[row["label"] for row in rows],
            scores=[row["score"] for row in rows],
            subjects=[row["subject"] for row in rows],
            groups=[row["group"] for row in rows],
            p_values=[row["p_value"] for row in rows],
            decisions=[row["decision"] for row in rows],
            seed=self.seed,
        )
        rule = self.calibration.decision_rule.at(self.alpha)
        return evaluate_scores(
            studies,
            rule,
            self.synthetic,
            flag_level=self._flag_level(),
            baselines={name: baseline.result(rule) for name, baseline in self.baselines.items()},
            pixel=self.pixels,
            lesions=self.lesions,
            ra_detection=self.boxes,
            reconstruction=self.quality,
            failed=self.failed,
            rejected=self.rejected or None,
        )

    def _flag_level(self) -> float | None:
        """p-value at or below which a study is flagged; with several kinds or calibration groups the largest."""
        counts = [n for state in self.calibration.calibrated.values() for n in state.healthy_counts.values()]
        rule = self.calibration.decision_rule.at(self.alpha)
        enough = [n for n in counts if n >= minimum_n(rule.alpha, rule.confidence)]
        return max(map(rule.flag_level, enough), default=None)

    def _warn_of_missing_masks(self) -> None:
        """Name the abnormal studies without a known lesion: no mask, or one that is empty on the network's grid."""
        cases = [row["case"] for row in self.studies if row["label"] and row["case"] not in self.pixels.subjects]
        if cases:
            logger.warning(
                "Abnormal studies left out of pixel, lesion and box metrics, as they have no lesion mask or an empty "
                "one on the network's grid (%d): %s%s.",
                len(cases),
                ", ".join(map(str, cases[:10])),
                "" if len(cases) <= 10 else " and others",
            )


def _row(study: Study) -> StudyRow:
    """The study's row; without a subject it counts as a patient of its own."""
    subject = study.get("subject")
    return {
        "case": study["case"],
        "subject": study["case"] if subject is None else subject,
        "label": study["label"],
        "group": study.get("group"),
        "score": study["score"],
        "p_value": study.get("p_value"),
        "decision": study.get("decision"),
    }
