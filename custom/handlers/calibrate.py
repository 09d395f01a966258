"""Calibration of a detector on healthy studies."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from ignite.engine import Engine, Events
from numpy.typing import NDArray

from custom.calibration.conformal import check_enough, check_groups
from custom.calibration.decision import DecisionRule
from custom.calibration.pixel_threshold import HealthyHistogram, pixel_threshold
from custom.calibration.regions import minimum_region
from custom.calibration.state import group_name
from custom.detector.anomaly_detector import AnomalyDetector
from custom.detector.calibration_file import write_calibration
from custom.detector.weights import model_hash, save_tensors
from custom.errors import NomalyError
from custom.handlers.engine_output import studies_of
from custom.input_check.descriptors import describe
from custom.input_check.geometry import measure
from custom.runs.notes import provenance_of
from custom.scoring.regions import label_regions
from custom.scoring.score import StudyScore
from custom.scoring.settings import scoring_settings
from custom.studies.items import StudyItem
from custom.studies.kinds import IMAGE, KINDS, PLURALS, kind_of
from custom.studies.privacy import write_key

logger = logging.getLogger(__name__)

OUTLIER = 6.0  # robust standard deviations above the median from which a healthy study is reported as an outlier


@dataclass
class HealthyStudy:
    """What is kept of a healthy study until the end of the run."""

    case: str
    subject: str
    kind: str
    group: str | None
    score: float
    anomaly_map: NDArray[np.float32]
    digest: bytes
    measures: NDArray[np.float64]
    descriptors: dict[str, NDArray[np.float64]]


class Calibrate:
    """Calibrate healthy scores, pixel threshold, minimum region size and input check, and write them to a file.

    2-D images and volumes are calibrated apart, each on the healthy studies of that kind; the calibration of a kind
    without studies is kept as it is in the weights, and is not in the file. The file is readable, and belongs to these
    weights, which are not changed. A study that cannot be read is skipped and logged. Memory: four bytes per pixel of
    all studies on the network's grid, and about 15 kB per study for the input check.

    Args:
        network: the detector; its calibrations are filled.
        path: file of its weights, which is only read.
        score: map to study score.
        rule: how p-values become decisions.
        pixel_false_positive_rate: share of healthy foreground pixels that may be above the pixel threshold.
        false_regions_per_study: allowed mean number of regions above it per healthy study; smaller regions are removed
            from masks.
        group_field: field of the datalist, such as "scanner"; p-values are calibrated separately for each of its
            values. None = all studies of a kind together. Pixel threshold and minimum region always use all of these.
        calibration_file: JSON file for the calibration.
        into_weights: a new file for a copy of the weights that contains the calibration; None = none is written.
        overwrite: whether existing files may be replaced; those at ``path`` never are.
        items: the studies; if they have pseudonyms, ``..._key.csv`` beside the calibration lists their files.

    Raises:
        NomalyError: at the start, if a file to write exists, or ``into_weights`` is ``path`` itself; at the end of the
            run, if there are too few healthy studies of a kind, two contain the same image, all have the same score, or
            one has no group. Nothing is written then.
    """

    def __init__(
        self,
        network: AnomalyDetector,
        path: str,
        calibration_file: str,
        score: StudyScore,
        rule: DecisionRule,
        pixel_false_positive_rate: float = 0.01,
        false_regions_per_study: float = 1.0,
        group_field: str | None = None,
        into_weights: str | None = None,
        overwrite: bool = False,
        items: Sequence[StudyItem] = (),
    ) -> None:
        self.items = items
        self.network = network
        self.path = Path(path)
        self.score = score
        self.rule = rule
        self.pixel_false_positive_rate = pixel_false_positive_rate
        self.false_regions_per_study = false_regions_per_study
        self.group_field = group_field
        self.file = Path(calibration_file)
        self.copy = None if into_weights is None else Path(into_weights)
        self.overwrite = overwrite
        self.studies: list[HealthyStudy] = []
        self.pixels: dict[str, HealthyHistogram] = {}

    def attach(self, engine: Engine) -> None:
        """Register on the evaluator."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.add)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: Engine) -> None:
        """Check what can be checked before the run, and begin without studies."""
        self._check_files()
        studies = getattr(engine.state.dataloader, "dataset", None)
        if self.group_field is None and studies is not None:
            check_enough(len(studies), self.rule.alpha, self.rule.confidence)
        write_key(self.file.with_name(f"{self.file.stem}_key.csv"), self.items)
        self.studies = []
        self.pixels = {kind: HealthyHistogram() for kind in KINDS}

    def add(self, engine: Engine) -> None:
        """Collect the healthy studies of an iteration."""
        for study in studies_of(engine):
            if "error" in study:
                continue
            image = np.ascontiguousarray(np.asarray(study["image"]))
            self.studies.append(
                HealthyStudy(
                    case=study["case"],
                    subject=study.get("subject", study["case"]),
                    kind=kind_of(study["image"].shape),
                    group=None if self.group_field is None else self._group(study, self.group_field),
                    score=study["score"],
                    anomaly_map=study["pred"].numpy(),
                    digest=hashlib.sha256(repr(image.shape).encode() + image.tobytes()).digest(),
                    measures=measure(study["image"]),
                    descriptors=describe(study["image"], self.network),
                )
            )
            self.pixels[self.studies[-1].kind].add(study["pred"][study["foreground"]].numpy())

    def finish(self, engine: Engine) -> None:
        """Fill the detector's calibrations, and save them."""
        kinds = {kind: [study for study in self.studies if study.kind == kind] for kind in KINDS}
        present = {kind: studies for kind, studies in kinds.items() if studies}
        check_studies(self.studies)
        for kind, studies in (present or {IMAGE: []}).items():  # without any study: the number needed
            check_kind(studies, self.rule, kind if len(present) > 1 else None)
        masses = {kind: self._fill(kind, studies) for kind, studies in present.items()}
        self.network.calibration.fill_rule(self.rule)
        precision = "bfloat16 (autocast)" if getattr(engine, "autocast", False) else "float32"
        self._save(present, masses, {"device": str(getattr(engine.state, "device", "cpu")), "precision": precision})

    def _fill(self, kind: str, studies: Sequence[HealthyStudy]) -> list[float]:
        """Fill the calibration of a kind; return the mass of each study's most massive region."""
        threshold = pixel_threshold(self.pixels[kind], self.pixel_false_positive_rate)
        found = [label_regions(study.anomaly_map, threshold) for study in studies]
        least = minimum_region([sizes for _, _, sizes in found], self.false_regions_per_study)
        masses = [float(masses[sizes >= least].max(initial=0.0)) for _, masses, sizes in found]
        shapes = [study.anomaly_map.shape[1:] for study in studies]
        planes, depths = [x * y for x, y, _ in shapes], [depth for *_, depth in shapes]
        calibration = self.network.calibration.of_kind(kind)
        groups = None if self.group_field is None else [str(study.group) for study in studies]
        calibration.fill_healthy([study.score for study in studies], masses, groups, self.group_field)
        calibration.fill(
            pixel_threshold=threshold,
            pixel_false_positive_rate=self.pixel_false_positive_rate,
            minimum_region=least,
            false_regions_per_study=self.false_regions_per_study,
            slices=(min(depths), max(depths)),
            plane=(min(planes), max(planes)),
        )
        calibration.fill_scoring(scoring_settings(self.score, self.network).stored())
        calibration.input_check.learn([s.measures for s in studies], [s.descriptors for s in studies])
        return masses

    @staticmethod
    def _group(study: Mapping[str, object], field: str) -> str:
        """Calibration group of a study, from this field."""
        if study.get(field) is None:
            raise NomalyError(
                f"healthy studies must have the field `{field}` for calibration by it, but {study['case']} does not: "
                "add it to the datalist, or calibrate all studies together (group_field null)."
            )
        return group_name(study[field])

    def _check_files(self) -> None:
        """Refuse to replace the weights, or unasked any other file."""
        if self.copy is not None and self.copy.resolve() == self.path.resolve():
            raise NomalyError(
                f"into_weights must be a new file, but {self.copy} holds the weights to calibrate, which are never "
                "changed: give another name."
            )
        for name, file in (("calibration_file", self.file), ("into_weights", self.copy)):
            if file is not None and file.exists() and not self.overwrite:
                raise NomalyError(f"{name} {file} already exists: give another name, or overwrite true to replace it.")

    def _save(
        self, present: Mapping[str, list[HealthyStudy]], masses: Mapping[str, list[float]], computed: dict[str, str]
    ) -> None:
        """Write the calibration file, with how it was computed, and on request a copy of the weights with it."""
        calibrations = self.network.calibration
        if self.copy is not None:
            self.network.configuration.add_origin(provenance_of(self.path))
            save_tensors(self.network.state_dict(), self.copy)
        rows = {
            kind: [
                {"study": study.case, "score": study.score, "mass": mass, "group": study.group}
                for study, mass in zip(studies, masses[kind])
            ]
            for kind, studies in present.items()
        }
        info = {"date": datetime.now(timezone.utc).isoformat(timespec="seconds"), **computed}
        write_calibration(self.file, calibrations, model_hash(self.network), rows, info)
        for kind, studies in present.items():
            state = calibrations.of_kind(kind)
            logger.info(
                "Calibrated on %d healthy %s%s: flag at p <= %.3g; pixel threshold %.4g (exceeded by %g of healthy "
                "pixels); minimum region %d pixels",
                len(studies),
                PLURALS[kind],
                "" if self.group_field is None else f" by {self.group_field} ({', '.join(state.group_names)})",
                self.rule.flag_level(min(group_counts(studies).values())),
                state.pixel_threshold.item(),
                self.pixel_false_positive_rate,
                state.minimum_region.item(),
            )
        for kind, state in calibrations.calibrated.items():
            if kind not in present:
                logger.info(
                    "%s keep the calibration of the weights (%d healthy studies).",
                    f"{PLURALS[kind][0].upper()}{PLURALS[kind][1:]}",
                    len(state.healthy_scores),
                )
        logger.info("Saved in %s", self.file if self.copy is None else f"{self.file} and {self.copy}")


def check_studies(studies: Sequence[HealthyStudy]) -> None:
    """Refuse an image that is there twice.

    Raises:
        NomalyError: one image twice.
    """
    first: dict[bytes, str] = {}
    for study in studies:
        twin = first.setdefault(study.digest, study.case)
        if twin != study.case:
            raise NomalyError(
                f"healthy studies must differ, but {twin} and {study.case} contain the same image: remove one of them."
            )


def check_kind(studies: list[HealthyStudy], rule: DecisionRule, kind: str | None = None) -> None:
    """Refuse healthy studies of a kind that cannot be used for calibration, and warn of suspicious ones.

    Args:
        studies: of one kind.
        rule: how p-values become decisions.
        kind: the kind, for the messages, if there are studies of both; else None.

    Raises:
        NomalyError: too few studies; the same score for all.
    """
    try:
        check_groups(group_counts(studies), rule.alpha, rule.confidence)
    except NomalyError as error:
        if kind is None:
            raise
        raise NomalyError(f"{PLURALS[kind]}: {error} Or leave the {PLURALS[kind]} out.") from None
    scores = {study.score for study in studies}
    if len(scores) == 1:
        raise NomalyError(
            f"healthy studies must have different scores, but all {len(studies)} have {scores.pop():g}: the detector "
            "does not distinguish images. Check the weights and the settings of the map."
        )
    warn_of_doubts(studies)


def group_counts(studies: list[HealthyStudy]) -> dict[str | None, int]:
    """Number of studies of each group; under the key None without groups, also for no studies at all."""
    groups = [study.group for study in studies]
    return {group: groups.count(group) for group in dict.fromkeys(groups or [None])}


def warn_of_doubts(studies: list[HealthyStudy]) -> None:
    """Log repeated subjects, and studies that may not be healthy because their scores are outliers in their group."""
    subjects = {study.subject for study in studies}
    if len(subjects) < len(studies):
        logger.warning(
            "%d healthy studies are from only %d subjects: the target false-alarm rate requires one study per subject.",
            len(studies),
            len(subjects),
        )
    for study in studies:
        peers = np.array([other.score for other in studies if other.group == study.group])
        middle = float(np.median(peers))
        spread = 1.4826 * float(np.median(np.abs(peers - middle)))
        if study.score > middle + OUTLIER * spread > middle:
            logger.warning(
                "Study %s is an outlier (score %.4g, median %.4g); please check that it is healthy. If it is not, the "
                "detector will miss similar ones.",
                study.case,
                study.score,
                middle,
            )
