"""Inference on studies: map, pseudo-healthy image, score, p-value; one study an iteration."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from ignite.engine import Engine
from monai.data import Dataset
from monai.engines import SupervisedEvaluator
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from torch import nn
from torch.utils.data import DataLoader

from custom.calibration.conformal import check_groups
from custom.calibration.decision import DecisionRule
from custom.calibration.state import group_name, scoring_rule
from custom.errors import NomalyError, find_mistake
from custom.losses.reversed_autoencoder import squared_error
from custom.scoring.regions import label_regions
from custom.scoring.score import StudyScore, foreground

logger = logging.getLogger(__name__)


class StudyDataset(Dataset):
    """Studies, preprocessed one at a time; one that cannot be is handed on with its reason instead of ending the run.

    Args:
        data: items with at least ``image`` and ``case``.
        transform: preprocessing to ``image`` (C, X, Y, Z).
        cache: keep prepared studies in memory, for data that are gone through many times.
    """

    def __init__(self, data: Sequence[dict[str, Any]], transform: Callable, cache: bool = False) -> None:
        super().__init__(data, transform)
        self._cache: dict[int, dict[str, Any]] | None = {} if cache else None

    def _transform(self, index: int) -> dict[str, Any]:
        if self._cache is None:
            return self._prepare(self.data[index])
        if index not in self._cache:
            self._cache[index] = self._prepare(self.data[index])
        return self._cache[index]

    def _prepare(self, item: dict[str, Any]) -> dict[str, Any]:
        started = time.perf_counter()
        try:
            prepared = dict(self.transform(item))
        except Exception as error:  # whatever a reader raises is this study's failure, not the batch's
            prepared = {**item, "error": root_cause(error)}
        return {**prepared, "source": str(item["image"]), "seconds": time.perf_counter() - started}


class StudyLoader(DataLoader):
    """Loader of one study a batch, as the item itself: studies differ in their number of slices.

    Args:
        dataset: of studies.
        num_workers: processes that prepare studies ahead.
    """

    def __init__(self, dataset: Dataset, num_workers: int = 0) -> None:
        super().__init__(dataset, batch_size=1, num_workers=num_workers, collate_fn=only_item)


class DetectionEvaluator(SupervisedEvaluator):
    """Run a detector on studies.

    ``engine.state.output`` is a list of one dictionary: the item's own entries and ``pred`` (map, (1, X, Y, Z), larger
    = more abnormal, 0 off the foreground), ``reconstruction`` (C, X, Y, Z), ``deviation`` (1, X, Y, Z; of ensembles
    alone), ``foreground`` (1, X, Y, Z) bool, ``score``, ``squared_error`` (summed over a slice, mean over slices),
    ``seconds``; of a calibrated detector ``p_value``, ``decision`` and ``calibration_group``, None with the reason in
    ``note`` where there can be none, and ``regions`` (1, X, Y, Z) int32, the regions over the pixel threshold, 1 = the
    most massive, with ``region_masses`` and ``region_p_values`` (None as p_value); or ``error`` alone.

    Args:
        device: to compute on.
        val_data_loader: a StudyLoader.
        network: an AnomalyDetector.
        inferer: called with (image (1, C, X, Y, Z), network.explain).
        score: map to study score.
        foreground_threshold: share of the range that counts as air.
        alpha: false-alarm rate of the decision; None = as calibrated.
        study_group: calibration group of studies that do not tell theirs.
        amp: bfloat16 autocast of the network.
        kwargs: of SupervisedEvaluator.

    Raises:
        NomalyError: if the calibration, or a group of it, has too few healthy studies for ``alpha``.
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
        amp: bool = False,
        **kwargs: Any,
    ) -> None:
        self.score = score
        self.foreground_threshold = foreground_threshold
        self.alpha = alpha
        self.study_group = study_group
        self.autocast = amp
        super().__init__(
            device=device, val_data_loader=val_data_loader, network=network, inferer=inferer, decollate=False, **kwargs
        )
        if network.calibration.is_calibrated:
            rule = self.decision_rule
            check_groups(network.calibration.healthy_counts, rule.alpha, rule.confidence)

    def _iteration(self, engine: Engine, batchdata: dict[str, Any]) -> list[dict[str, Any]]:
        item = dict(batchdata)
        if "error" not in item:
            started = time.perf_counter()
            try:
                item |= self.detect(item[Keys.IMAGE], self.group_of(item))
                item["seconds"] += time.perf_counter() - started
            except NomalyError as error:
                item["error"] = str(error)
        if "error" in item:
            logger.error("Study %s failed: %s", item["case"], item["error"])
        engine.state.output = [item]
        engine.fire_event(IterationEvents.FORWARD_COMPLETED)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def detect(self, image: torch.Tensor, group: str | None = None) -> dict[str, Any]:
        """What the detector says of one study (C, X, Y, Z) of a calibration group."""
        x = torch.as_tensor(image).as_subclass(torch.Tensor)[None].to(self.state.device)
        self.network.eval()
        with torch.no_grad(), torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            anomaly_map, reconstruction, *deviation = (part[0] for part in self.inferer(x, self.network.explain))
        mask = foreground(x[0], self.foreground_threshold, reconstruction)
        score = float(self.score(anomaly_map, mask, x[0], reconstruction))
        # what is black in both images is air or the border of a view: nothing there can be compared
        anomaly_map = anomaly_map.where(mask, 0).cpu()
        return {
            Keys.PRED: anomaly_map,
            "reconstruction": reconstruction.cpu(),
            **({"deviation": deviation[0].cpu()} if deviation else {}),
            "foreground": mask.cpu(),
            "score": score,
            "squared_error": float(squared_error(x[0].movedim(-1, 0), reconstruction.movedim(-1, 0)).mean()),
            **self.judge(score, anomaly_map, group),
        }

    @cached_property
    def rule(self) -> tuple[float, float]:
        """What the scores of this run are; its settings do not change from study to study."""
        return scoring_rule(self.score, self.network)

    @cached_property
    def decision_rule(self) -> DecisionRule:
        """How p-values become decisions: as calibrated, at this run's alpha."""
        return self.network.calibration.decision_rule.at(self.alpha)

    def group_of(self, item: dict[str, Any]) -> str | None:
        """Calibration group of a study."""
        field = self.network.calibration.group_field
        value = self.study_group if field is None or item.get(field) is None else item[field]
        return None if value is None else group_name(value)

    def judge(self, score: float, anomaly_map: torch.Tensor, group: str | None) -> dict[str, Any]:
        """p-value, decision and regions of a study with this score and map (1, X, Y, Z)."""
        calibration = self.network.calibration
        if not calibration.is_calibrated:
            return {"p_value": None, "decision": None, "calibration_group": None, "regions": None, "note": ""}
        least = int(calibration.minimum_region)
        labels, masses, _ = label_regions(anomaly_map, float(calibration.pixel_threshold), least)
        found = {"regions": torch.from_numpy(labels), "region_masses": masses.tolist()}
        refusal = calibration.refusal(anomaly_map.shape[1:], self.rule, group)
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


def only_item(batch: list[Any]) -> Any:
    """The one item of a batch of one."""
    return batch[0]


def root_cause(error: BaseException) -> str:
    """Text of the user's mistake behind an exception if there is one, else of the innermost exception."""
    mistake = find_mistake(error)
    if mistake is not None:
        return str(mistake)
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return f"{type(error).__name__}: {error}"
