"""Inference on studies: map, pseudo-healthy image, score, p-value; a few studies per iteration."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.inferers import Inferer

from custom.calibration.conformal import check_groups
from custom.calibration.decision import DecisionRule
from custom.calibration.state import group_name
from custom.detector.anomaly_detector import AnomalyDetector
from custom.engines.input_checks import InputChecker, add_reasons, attempt, chosen
from custom.errors import NomalyError
from custom.losses.squared_error import squared_error
from custom.scoring.precision import full_float32
from custom.scoring.regions import label_regions
from custom.scoring.score import StudyScore, foreground, total
from custom.scoring.settings import ScoringSettings, scoring_settings
from custom.studies.items import Decision, Study
from custom.studies.kinds import KINDS, kind_of
from custom.studies.privacy import failure

logger = logging.getLogger(__name__)


class DetectionEvaluator(SupervisedEvaluator):
    """Run a detector on studies.

    ``engine.state.output`` is a list of :class:`custom.studies.items.Study`. Studies that failed have ``error`` instead
    of results. Studies that ``input_check`` rejects have the reasons in ``refusals`` and are not scored unless
    ``score_all`` is set.

    Args:
        device: to compute on.
        val_data_loader: a StudyLoader.
        network: the detector.
        inferer: called with (images (B, C, X, Y, Z), network.predict); studies of one shape are processed together.
        score: map to study score.
        foreground_threshold: intensity in [0, 1] up to which a pixel counts as air.
        alpha: false-alarm rate of the decision; None = as calibrated.
        study_group: calibration group of studies without the group field.
        input_check: reasons not to score a study; those of its file are asked for before the network sees it, those of
            its image afterwards, with the network's code of it. None = no check.
        score_all: also score studies that the input check rejects.
        amp: bfloat16 autocast of the network.
        kwargs: further arguments of SupervisedEvaluator.

    Raises:
        NomalyError: if the calibration, or a group of it, has too few healthy studies for ``alpha`` (calibrated on both
            2-D images and volumes: if both have), or ``study_group`` is given for a calibration without groups.
    """

    def __init__(
        self,
        device: torch.device,
        val_data_loader: Any,
        network: AnomalyDetector,
        inferer: Inferer,
        score: StudyScore,
        foreground_threshold: float = 0.05,
        alpha: float | None = None,
        study_group: str | None = None,
        input_check: InputChecker | None = None,
        score_all: bool = False,
        amp: bool = False,
        **kwargs: Any,
    ) -> None:
        self.detector = network
        self.input_check = input_check
        self.score_all = score_all
        self.score = score
        self.foreground_threshold = foreground_threshold
        self.alpha = alpha
        self.study_group = study_group
        self.autocast = amp
        super().__init__(
            device=device, val_data_loader=val_data_loader, network=network, inferer=inferer, decollate=False, **kwargs
        )
        calibrated = network.calibration.calibrated
        if study_group is not None and calibrated and not any(state.group_names for state in calibrated.values()):
            raise NomalyError(
                f"study_group requires calibration groups, but this calibration has none, got {study_group!r}: "
                "calibrate with group_field, or omit study_group."
            )
        self.too_few: dict[str, NomalyError] = {}
        for kind, state in calibrated.items():
            try:
                check_groups(state.healthy_counts, self.decision_rule.alpha, self.decision_rule.confidence)
            except NomalyError as error:
                self.too_few[kind] = error
        if calibrated and len(self.too_few) == len(calibrated):
            raise next(iter(self.too_few.values()))

    # MONAI's evaluators replace ignite's run in the same way.
    def run(self, global_epoch: int = 1) -> None:  # type: ignore[override]
        """Run over all studies in full float32.

        Without any study, the start and end events are still fired, which MONAI would omit.
        """
        with full_float32():
            if self.state.epoch_length == 0:
                self.fire_event(Events.STARTED)
                self.fire_event(Events.COMPLETED)
            else:
                super().run(global_epoch)

    # MONAI declares one dictionary of tensors; its handlers accept a list of dictionaries as well.
    def _iteration(self, engine: Engine, batchdata: Sequence[Study]) -> list[Study]:  # type: ignore[override]
        studies = [study.copy() for study in batchdata]
        self.network.eval()
        for study in studies:
            if self.input_check is not None and "error" not in study:
                with attempt(study), torch.no_grad():
                    study["refusals"] = self.input_check.reasons_of_file(study["image"])
        pending = [study for study in studies if "error" not in study and (self.score_all or not study.get("refusals"))]
        for together in of_one_shape(pending):
            self.detect(together)
        for study in studies:
            if "error" in study:
                logger.error("Study %s failed: %s", study["case"], study["error"])
            elif study.get("refusals") and not self.score_all:
                logger.warning("Study %s is not assessable: %s", study["case"], "; ".join(study["refusals"]))
        engine.state.output = studies  # type: ignore[assignment]  # ignite declares int
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return studies

    def detect(self, studies: Sequence[Study]) -> None:
        """Add the detector's results, or the reason of a failure, to studies of one shape."""
        started = time.perf_counter()
        images = [torch.as_tensor(study["image"]).as_subclass(torch.Tensor) for study in studies]
        x = torch.stack(images)  # in main memory, which is larger: the inferer moves window by window to the device
        with torch.no_grad(), torch.autocast(self.state.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            try:
                parts = self.inferer(
                    x, self.detector.predict_with_code if self.shares_code(x) else self.detector.predict
                )
            except NomalyError as error:  # about their common shape
                parts = None
                for study in studies:
                    study["error"] = failure(error, study)
            if parts is not None:
                names = self.detector.outputs
                if self.input_check is not None:
                    add_reasons(self.input_check, studies, x, *parts[len(names) :])
                self.score_studies(studies, x, dict(zip(names, parts)))
        for study in studies:
            study["seconds"] += (time.perf_counter() - started) / len(studies)

    def shares_code(self, x: torch.Tensor) -> bool:
        """Whether the input check can use the codes that the network computes: those of whole slices."""
        if self.input_check is None or self.detector.code_distance is None:
            return False
        return tuple(getattr(self.detector.reconstructor, "image_size", ())) == tuple(x.shape[2:4])

    def score_studies(self, studies: Sequence[Study], x: torch.Tensor, parts: Mapping[str, torch.Tensor]) -> None:
        """Add the results of those studies with images x (B, C, X, Y, Z) that may be scored."""
        places = [
            index
            for index, study in enumerate(studies)
            if "error" not in study and (self.score_all or not study.get("refusals"))
        ]
        if not places:
            return
        x, parts = chosen(x, places), {name: chosen(part, places) for name, part in parts.items()}
        try:
            if self.score.uses_structure:
                parts["dissimilarity"] = self.score.dissimilarities(x, parts["reconstruction"])
        except NomalyError as error:  # about their common shape
            for index in places:
                studies[index]["error"] = failure(error, studies[index])
            return
        for place, index in enumerate(places):
            with attempt(studies[index]):
                named = {name: part[place] for name, part in parts.items()}
                studies[index].update(self.score_study(studies[index], x[place], named))

    def score_study(self, study: Study, x: torch.Tensor, named: Mapping[str, torch.Tensor]) -> Study:
        """Return the study with the results of its image x (C, X, Y, Z): map, reconstruction and others as named."""
        anomaly_map, reconstruction = named["map"], named["reconstruction"]
        mask = foreground(x, self.foreground_threshold, reconstruction)
        score, standardised = self.score_parts(named, mask, x)
        # black in both images is air or the border of a view: there is nothing to compare
        anomaly_map = anomaly_map.where(mask, 0).cpu()
        scored: Study = {
            **study,
            "pred": anomaly_map,
            "reconstruction": reconstruction.cpu(),
            "foreground": mask.cpu(),
            "score": score,
            "squared_error": float(squared_error(x.movedim(-1, 0), reconstruction.movedim(-1, 0)).mean()),
            **self.decide(score, anomaly_map, self.group_of(study)),
        }
        if standardised:
            scored["score_parts"] = standardised
        if "deviation" in named:
            scored["deviation"] = named["deviation"].cpu()
        return scored

    def score_parts(
        self, named: Mapping[str, torch.Tensor], mask: torch.Tensor, x: torch.Tensor
    ) -> tuple[float, dict[str, float]]:
        """Score of a study, and its standardised parts by name if the score is fused."""
        code = named.get("code_distance")
        code = None if code is None else code.mean()
        compared = named["map"], mask, x, named["reconstruction"]
        arguments = (*compared, code, named.get("patch_distance"), named.get("dissimilarity"))
        if self.score.mode != "fused":
            return float(self.score(*arguments)), {}
        parts = self.score.standardised(self.score.parts(*arguments), KINDS.index(kind_of(x.shape)))
        return float(total(parts)), {name: float(value) for name, value in parts.items()}

    @cached_property
    def scoring(self) -> ScoringSettings:
        """The scoring settings of this run, the same for every study."""
        return scoring_settings(self.score, self.detector)

    @cached_property
    def decision_rule(self) -> DecisionRule:
        """The calibrated decision rule, at this run's alpha."""
        return self.detector.calibration.decision_rule.at(self.alpha)

    def group_of(self, study: Study) -> str | None:
        """Calibration group of a study: its own where it has the group field, else ``study_group``."""
        fields: Mapping[str, object] = study
        field = self.detector.calibration.of(study["image"].shape).group_field
        own = None if field is None else fields.get(field)
        value = self.study_group if own is None else own
        return None if value is None else group_name(value)

    def decide(self, score: float, anomaly_map: torch.Tensor, group: str | None) -> Decision:
        """Return p-value, decision and regions of a study with this score and map (1, X, Y, Z)."""
        calibration = self.detector.calibration.of(anomaly_map.shape)
        undecided: Decision = {
            "p_value": None,
            "decision": None,
            "calibration_group": None,
            "healthy_studies": None,
            "pixel_threshold": None,
            "regions": None,
            "region_p_values": None,
            "note": "",
        }
        refusal = self.refusal(anomaly_map.shape[1:], group)
        if not calibration.is_calibrated:
            calibrated = self.detector.calibration.is_calibrated  # on the other kind
            return {**undecided, "note": f"No p-value: {refusal}." if calibrated else ""}
        threshold, least = float(calibration.pixel_threshold), int(calibration.minimum_region)
        labels, masses, _ = label_regions(anomaly_map, threshold, least)
        found: Decision = {
            **undecided,
            "pixel_threshold": threshold,
            "regions": torch.from_numpy(labels),
            "region_masses": masses.tolist(),
        }
        if refusal is not None:
            return {**found, "note": f"No p-value: {refusal}."}
        p_value, n = calibration.p_value(score, group), calibration.healthy_count(group)
        return {
            **found,
            "p_value": p_value,
            "decision": self.decision_rule.decide(p_value, n),
            "calibration_group": group if calibration.group_names else None,
            "healthy_studies": n,
            "region_p_values": calibration.region_p_values(masses, group).tolist(),
        }

    def refusal(self, shape: Sequence[int], group: str | None) -> str | None:
        """Why a study of this shape (X, Y, Z) and calibration group gets no p-value; None if it does."""
        refusal = self.detector.calibration.refusal(shape, self.scoring, group)
        few = self.too_few.get(kind_of(shape))
        return refusal if refusal is not None or few is None else str(few).rstrip(".")


def of_one_shape(studies: Sequence[Study]) -> list[list[Study]]:
    """Group the studies by the shape of their image."""
    lists: dict[tuple[int, ...], list[Study]] = {}
    for study in studies:
        lists.setdefault(tuple(study["image"].shape), []).append(study)
    return list(lists.values())
