"""Inference on studies: map, pseudo-healthy image, score, p-value; a few studies an iteration."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from torch import nn

from custom.calibration.conformal import check_groups
from custom.calibration.decision import DecisionRule
from custom.calibration.state import group_name
from custom.errors import NomalyError
from custom.losses.squared_error import squared_error
from custom.scoring.regions import label_regions
from custom.scoring.score import StudyScore, foreground
from custom.scoring.settings import ScoringSettings, scoring_settings
from custom.studies.privacy import failure

logger = logging.getLogger(__name__)


class DetectionEvaluator(SupervisedEvaluator):
    """Run a detector on studies.

    ``engine.state.output`` is a list of a dictionary a study: the item's own entries and ``pred`` (map, (1, X, Y, Z),
    larger = more abnormal, 0 off the foreground), ``reconstruction`` (C, X, Y, Z), ``deviation`` (1, X, Y, Z; of
    ensembles alone), ``foreground`` (1, X, Y, Z) bool, ``score``, ``squared_error`` (summed over a slice, mean over
    slices), ``seconds``; of a calibrated detector ``p_value``, ``decision`` and ``calibration_group``, None with the
    reason in ``note`` where there can be none, and ``regions`` (1, X, Y, Z) int32, the regions over the pixel
    threshold, 1 = the most massive, with ``region_masses`` and ``region_p_values`` (None as p_value); or ``error``
    alone. With an ``input_check`` there is ``refusals``, why the study is none that the detector was made for; it is
    then not scored unless ``score_all``.

    Args:
        device: to compute on.
        val_data_loader: a StudyLoader.
        network: an AnomalyDetector.
        inferer: called with (images (B, C, X, Y, Z), network.predict); studies of one shape go together.
        score: map to study score.
        foreground_threshold: share of the range that counts as air.
        alpha: false-alarm rate of the decision; None = as calibrated.
        study_group: calibration group of studies that do not tell theirs.
        input_check: called with a study's preprocessed image; gives the reasons why it should not be scored. None = no
            check.
        score_all: score what the input check refuses, too.
        amp: bfloat16 autocast of the network.
        kwargs: of SupervisedEvaluator.

    Raises:
        NomalyError: if the calibration, or a group of it, has too few healthy studies for ``alpha``, or there are no
            groups and ``study_group`` names one.
    """

    def __init__(
        self,
        device: torch.device,
        val_data_loader: Any,
        network: nn.Module,
        inferer: Callable,
        score: StudyScore,
        foreground_threshold: float = 0.05,
        alpha: float | None = None,
        study_group: str | None = None,
        input_check: Callable[[torch.Tensor], list[str]] | None = None,
        score_all: bool = False,
        amp: bool = False,
        **kwargs: Any,
    ) -> None:
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
        if study_group is not None and network.calibration.is_calibrated and not network.calibration.group_names:
            raise NomalyError(
                f"study_group must be left out where there are no calibration groups, got {study_group!r}: calibrate "
                "with group_field, or leave it out."
            )
        if network.calibration.is_calibrated:
            rule = self.decision_rule
            check_groups(network.calibration.healthy_counts, rule.alpha, rule.confidence)

    def run(self, global_epoch: int = 1) -> None:
        """Run over all studies; without any the handlers still learn of start and end, which MONAI would leave out."""
        if self.state.epoch_length == 0:
            self.fire_event(Events.STARTED)
            self.fire_event(Events.COMPLETED)
        else:
            super().run(global_epoch)

    def _iteration(self, engine: Engine, batchdata: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        items = [dict(item) for item in batchdata]
        self.network.eval()
        for item in items:
            if self.input_check is not None and "error" not in item:
                with attempt(item), torch.no_grad():
                    item["refusals"] = self.input_check(item[Keys.IMAGE])
        due = [item for item in items if "error" not in item and (self.score_all or not item.get("refusals"))]
        for together in of_one_shape(due):
            self.detect(together)
        for item in items:
            if "error" in item:
                logger.error("Study %s failed: %s", item["case"], item["error"])
            elif item.get("refusals") and not self.score_all:
                logger.warning("Study %s is not assessable: %s", item["case"], "; ".join(item["refusals"]))
        engine.state.output = items
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def detect(self, items: Sequence[dict[str, Any]]) -> None:
        """Add to studies of one shape what the detector says of them, or why it can say nothing."""
        started = time.perf_counter()
        images = [torch.as_tensor(item[Keys.IMAGE]).as_subclass(torch.Tensor) for item in items]
        x = torch.stack(images)  # in main memory, which is larger: the inferer takes window by window to the device
        with torch.no_grad(), torch.autocast(self.state.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            try:
                parts = self.inferer(x, self.network.predict)
            except NomalyError as error:  # of their common shape
                parts = None
                for item in items:
                    item["error"] = failure(error, item)
            for index, item in enumerate(items if parts is not None else ()):
                with attempt(item):
                    item |= self.score_study(x[index], [part[index] for part in parts], self.group_of(item))
        for item in items:
            item["seconds"] += (time.perf_counter() - started) / len(items)

    def score_study(self, x: torch.Tensor, parts: Sequence[torch.Tensor], group: str | None) -> dict[str, Any]:
        """What is said of a study (C, X, Y, Z) of a calibration group by its map, reconstruction and deviation."""
        anomaly_map, reconstruction, *deviation = parts
        mask = foreground(x, self.foreground_threshold, reconstruction)
        score = float(self.score(anomaly_map, mask, x, reconstruction))
        # what is black in both images is air or the border of a view: nothing there can be compared
        anomaly_map = anomaly_map.where(mask, 0).cpu()
        return {
            Keys.PRED: anomaly_map,
            "reconstruction": reconstruction.cpu(),
            **({"deviation": deviation[0].cpu()} if deviation else {}),
            "foreground": mask.cpu(),
            "score": score,
            "squared_error": float(squared_error(x.movedim(-1, 0), reconstruction.movedim(-1, 0)).mean()),
            **self.decide(score, anomaly_map, group),
        }

    @cached_property
    def scoring(self) -> ScoringSettings:
        """The settings of this run's scores; they do not change from study to study."""
        return scoring_settings(self.score, self.network)

    @cached_property
    def decision_rule(self) -> DecisionRule:
        """How p-values become decisions: as calibrated, at this run's alpha."""
        return self.network.calibration.decision_rule.at(self.alpha)

    def group_of(self, item: dict[str, Any]) -> str | None:
        """Calibration group of a study."""
        field = self.network.calibration.group_field
        value = self.study_group if field is None or item.get(field) is None else item[field]
        return None if value is None else group_name(value)

    def decide(self, score: float, anomaly_map: torch.Tensor, group: str | None) -> dict[str, Any]:
        """p-value, decision and regions of a study with this score and map (1, X, Y, Z)."""
        calibration = self.network.calibration
        if not calibration.is_calibrated:
            return {"p_value": None, "decision": None, "calibration_group": None, "regions": None, "note": ""}
        least = int(calibration.minimum_region)
        labels, masses, _ = label_regions(anomaly_map, float(calibration.pixel_threshold), least)
        found = {"regions": torch.from_numpy(labels), "region_masses": masses.tolist()}
        refusal = calibration.refusal(anomaly_map.shape[1:], self.scoring, group)
        if refusal is not None:
            none = {"p_value": None, "decision": None, "calibration_group": None, "region_p_values": None}
            return {**found, **none, "note": f"No p-value: {refusal}."}
        p_value = calibration.p_value(score, group)
        return {
            **found,
            "p_value": p_value,
            "decision": self.decision_rule.decide(p_value, calibration.healthy_count(group)),
            "calibration_group": group if calibration.group_names else None,
            "region_p_values": calibration.region_p_values(masses, group).tolist(),
            "note": "",
        }


@contextmanager
def attempt(item: dict[str, Any]) -> Iterator[None]:
    """Turn what goes wrong into the failure of this study."""
    try:
        yield
    except Exception as error:
        item["error"] = failure(error, item)


def of_one_shape(items: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The studies in lists of equal shape."""
    lists: dict[tuple[int, ...], list[dict[str, Any]]] = {}
    for item in items:
        lists.setdefault(tuple(item[Keys.IMAGE].shape), []).append(item)
    return list(lists.values())
