"""Calibration of a detector on healthy studies."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from numpy.typing import NDArray
from torch import nn

from custom.calibration.conformal import check_enough, check_groups
from custom.calibration.decision import DecisionRule
from custom.calibration.pixel_threshold import HealthyHistogram, pixel_threshold
from custom.calibration.regions import minimum_region
from custom.calibration.state import group_name
from custom.detector.calibration_file import write_calibration
from custom.detector.weights import model_hash, save_tensors
from custom.errors import NomalyError
from custom.input_check.descriptors import describe
from custom.input_check.geometry import measure
from custom.scoring.regions import label_regions
from custom.scoring.score import StudyScore
from custom.scoring.settings import scoring_settings
from custom.studies.privacy import write_key

logger = logging.getLogger(__name__)

FAR_OUT = 6.0  # robust standard deviations from the median at which a healthy study is pointed out


@dataclass
class HealthyStudy:
    """What is kept of a healthy study until all are there."""

    case: str
    subject: str
    group: str | None
    score: float
    anomaly_map: NDArray[np.float32]
    digest: bytes
    measures: NDArray[np.float64]
    descriptors: dict[str, NDArray[np.float64]]


class Calibrate:
    """Learn healthy scores, the pixel threshold, the least region and the input check, and store them in the detector's
    file.

    Writes ``calibration.json`` beside it, for people to read and to carry to other copies of the same weights. A study
    that cannot be read is left out, with a line in the log. Memory: four bytes a pixel of all studies on the network's
    grid, and some 15 kB a study for the input check.

    Args:
        network: the detector; its calibration is filled.
        path: of its weights, which are written anew.
        score: map to study score.
        rule: how p-values shall become decisions.
        pixel_false_positive_rate: share of healthy foreground pixels that may lie above the pixel threshold.
        false_regions_per_study: mean number of regions over it that a healthy study may have; smaller regions are
            left out of masks.
        group_field: field of the datalist by which p-values are calibrated apart, such as "scanner"; None = together.
            Pixel threshold and least region are of all studies together.
        calibration_file: write the calibration here alone and leave the weights as they are; None = into the weights.
        overwrite: whether an existing ``calibration_file`` may be replaced.
        items: the studies; where their names are hidden, ``..._key.csv`` beside the calibration tells their files.

    Raises:
        NomalyError: at the start, if ``calibration_file`` exists; at the end of the run, if there are too few healthy
            studies, two hold the same image, all have one score, or one has no group. Nothing is written then.
    """

    def __init__(
        self,
        network: nn.Module,
        path: str,
        score: StudyScore,
        rule: DecisionRule,
        pixel_false_positive_rate: float = 0.01,
        false_regions_per_study: float = 1.0,
        group_field: str | None = None,
        calibration_file: str | None = None,
        overwrite: bool = False,
        items: Sequence[dict[str, Any]] = (),
    ) -> None:
        self.items = items
        self.network = network
        self.path = Path(path)
        self.score = score
        self.rule = rule
        self.pixel_false_positive_rate = pixel_false_positive_rate
        self.false_regions_per_study = false_regions_per_study
        self.group_field = group_field
        self.into_weights = calibration_file is None
        self.file = self.path.with_name("calibration.json") if calibration_file is None else Path(calibration_file)
        self.overwrite = overwrite
        self.studies: list[HealthyStudy] = []
        self.pixels = HealthyHistogram()

    def attach(self, engine: Engine) -> None:
        """Register on the evaluator."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        """Start with no study."""
        if not self.into_weights and self.file.exists() and not self.overwrite:
            raise NomalyError(
                f"calibration_file {self.file} must not exist yet: give another name, or overwrite true to replace it."
            )
        if self.group_field is None and engine.state.epoch_length is not None:  # told before the work where it can be
            check_enough(engine.state.epoch_length, self.rule.alpha, self.rule.confidence)
        write_key(self.file.with_name(f"{self.file.stem}_key.csv"), self.items)
        self.studies = []
        self.pixels = HealthyHistogram()

    def add(self, engine: Engine) -> None:
        """Take in one healthy study."""
        for study in engine.state.output:
            if "error" in study:
                continue
            image = np.ascontiguousarray(np.asarray(study["image"]))
            self.studies.append(
                HealthyStudy(
                    case=study["case"],
                    subject=study.get("subject", study["case"]),
                    group=None if self.group_field is None else self._group(study),
                    score=study["score"],
                    anomaly_map=study["pred"].numpy(),
                    digest=hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest(),
                    measures=measure(study["image"]),
                    descriptors=describe(study["image"], self.network),
                )
            )
            self.pixels.add(study["pred"][study["foreground"]].numpy())

    def finish(self, engine: Engine) -> None:
        """Fill the detector's calibration and save it."""
        check_studies(self.studies, self.rule)
        threshold = pixel_threshold(self.pixels, self.pixel_false_positive_rate)
        found = [label_regions(study.anomaly_map, threshold) for study in self.studies]
        least = minimum_region([sizes for _, _, sizes in found], self.false_regions_per_study)
        masses = [float(masses[sizes >= least].max(initial=0.0)) for _, masses, sizes in found]
        shapes = [study.anomaly_map.shape[1:] for study in self.studies]
        planes, depths = [x * y for x, y, _ in shapes], [depth for *_, depth in shapes]
        calibration = self.network.calibration
        groups = None if self.group_field is None else [study.group for study in self.studies]
        calibration.fill_healthy([study.score for study in self.studies], masses, groups, self.group_field)
        calibration.fill(
            decision=(self.rule.alpha, self.rule.confidence or 0.0, self.rule.likely_normal_p),
            pixel_threshold=threshold,
            pixel_false_positive_rate=self.pixel_false_positive_rate,
            minimum_region=least,
            false_regions_per_study=self.false_regions_per_study,
            slices=(min(depths), max(depths)),
            plane=(min(planes), max(planes)),
        )
        calibration.fill_scoring(scoring_settings(self.score, self.network).stored())
        calibration.input_check.learn([s.measures for s in self.studies], [s.descriptors for s in self.studies])
        self._save(masses)

    def _group(self, study: dict[str, Any]) -> str:
        """Group of a study."""
        if study.get(self.group_field) is None:
            raise NomalyError(
                f"healthy studies must have `{self.group_field}` to be calibrated by it, but {study['case']} has none: "
                "add it to the datalist, or calibrate all together (group_field null)."
            )
        return group_name(study[self.group_field])

    def _save(self, masses: list[float]) -> None:
        """Write the file of the calibration, and the weights where it belongs into them."""
        if self.into_weights:
            save_tensors(self.network.state_dict(), self.path)
        rows = [
            {"study": study.case, "score": study.score, "mass": mass, "group": study.group}
            for study, mass in zip(self.studies, masses)
        ]
        info = {"date": datetime.now(timezone.utc).isoformat(timespec="seconds")}
        write_calibration(self.file, self.network.calibration, model_hash(self.network), rows, info)
        state, n = self.network.calibration, len(self.studies)
        logger.info(
            "Calibrated on %d healthy studies%s: flag at p <= %.3g; pixel threshold %.4g (%g of healthy pixels above); "
            "regions of %d pixels at least: %s",
            n,
            "" if self.group_field is None else f" by {self.group_field} ({', '.join(state.group_names)})",
            self.rule.flag_level(min(group_counts(self.studies).values())),
            state.pixel_threshold.item(),
            self.pixel_false_positive_rate,
            state.minimum_region.item(),
            self.path if self.into_weights else self.file,
        )


def check_studies(studies: list[HealthyStudy], rule: DecisionRule) -> None:
    """Refuse healthy studies that no calibration can rest on, and point out what looks wrong.

    Raises:
        NomalyError: too few; pictures and volumes together; one image twice; all of one score.
    """
    depths = {study.anomaly_map.shape[-1] for study in studies}
    if 1 in depths and len(depths) > 1:
        raise NomalyError(
            "healthy studies must be all pictures or all volumes, got both: their scores cannot be compared; "
            "calibrate on the kind that will be examined."
        )
    first: dict[bytes, str] = {}
    for study in studies:
        twin = first.setdefault(study.digest, study.case)
        if twin != study.case:
            raise NomalyError(
                f"healthy studies must differ, but {twin} and {study.case} hold the same image: remove one of them."
            )
    check_groups(group_counts(studies), rule.alpha, rule.confidence)
    scores = {study.score for study in studies}
    if len(scores) == 1:
        raise NomalyError(
            f"healthy studies must have different scores, but all {len(studies)} have {scores.pop():g}: the detector "
            "does not tell images apart. Check the weights and the map's settings."
        )
    warn_of_doubts(studies)


def group_counts(studies: list[HealthyStudy]) -> dict[str | None, int]:
    """Number of studies of each group; of None without groups, also where there is no study."""
    groups = [study.group for study in studies] or [None]
    return {group: groups.count(group) if studies else 0 for group in dict.fromkeys(groups)}


def warn_of_doubts(studies: list[HealthyStudy]) -> None:
    """Log repeated subjects, and studies whose scores lie so far out of their group that they may not be healthy."""
    subjects = {study.subject for study in studies}
    if len(subjects) < len(studies):
        logger.warning(
            "%d healthy studies are of %d subjects only: the false-alarm rate is promised for one study a subject.",
            len(studies),
            len(subjects),
        )
    for study in studies:
        peers = np.array([other.score for other in studies if other.group == study.group])
        middle = float(np.median(peers))
        spread = 1.4826 * float(np.median(np.abs(peers - middle)))
        if study.score > middle + FAR_OUT * spread > middle:
            logger.warning(
                "Study %s stands far out of the healthy ones (score %.4g, median %.4g): look whether it is healthy; "
                "one that is not makes the detector miss others like it.",
                study.case,
                study.score,
                middle,
            )
