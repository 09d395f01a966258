"""Fits what a trained detector compares new studies with: residual, codes, patches and parts of the score."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from ignite.engine import Events
from tqdm import tqdm

from custom.data.slices import SliceDataset
from custom.detector.anomaly_detector import AnomalyDetector
from custom.detector.weights import read_tensors, save_tensors
from custom.engines.detection_evaluator import DetectionEvaluator
from custom.errors import NomalyError
from custom.handlers.engine_output import studies_of
from custom.processes import is_main_process
from custom.scoring.expected_residual import spread_evenly
from custom.scoring.part_statistics import MINIMUM
from custom.studies.kinds import KINDS, PLURALS, kind_of

logger = logging.getLogger(__name__)


class FitStatistics:
    """Fit the statistics of healthy studies to the trained network, and store them in its weights.

    At the start of a run of the evaluator, the expected residual and the distances of codes and patches are fitted on
    the healthy training images, without augmentation. During the run the parts of the score of its healthy studies are
    collected, which the network was not trained on; at the end their mean and deviation are fitted, apart for 2-D
    images and volumes, and the weights written.
    An earlier calibration is removed, since its scores are no longer comparable.

    The result depends only on weights, data and settings. The network itself is not changed.

    Args:
        network: the detector.
        weights: file of its weights, which is loaded first.
        training: healthy slices.
        output: file for the weights with statistics; None = ``weights``, which is replaced.
        max_images: maximum number of training images, spread evenly.
        steps: training steps of the expected residual.
        batch_size: images per forward pass.
        required: whether data that do not suffice are an error; false: a warning, and that part is not fitted, so that
            a finished training is not lost.

    Raises:
        NomalyError: too few healthy images or studies, if ``required``.
    """

    def __init__(
        self,
        network: AnomalyDetector,
        weights: str,
        training: SliceDataset,
        output: str | None = None,
        max_images: int = 2048,
        steps: int = 250,
        batch_size: int = 16,
        required: bool = True,
    ) -> None:
        self.network = network
        self.weights = Path(weights)
        self.training = training
        self.output = self.weights if output is None else Path(output)
        self.max_images = max_images
        self.steps = steps
        self.batch_size = batch_size
        self.required = required
        self.parts: dict[str, list[dict[str, float]]] = {}
        self.fitted = False
        self.missing: list[str] = []  # why a statistic was not fitted

    def attach(self, engine: DetectionEvaluator) -> None:
        """Register on the evaluator."""
        engine.add_event_handler(Events.STARTED, self.start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)
        engine.add_event_handler(Events.COMPLETED, self.finish)

    def start(self, engine: DetectionEvaluator) -> None:
        """Load the weights, and fit what is fitted on training images."""
        network, device = self.network, engine.state.device
        network.load_state_dict(read_tensors(self.weights, device))
        network.to(device).eval()
        self.parts, self.fitted = {kind: [] for kind in KINDS}, False
        self.missing = []
        if not self.required and network.has_statistics:  # this training had nothing to do
            engine.terminate()
            return
        network.reset_statistics()
        if not network.fitted_parts:
            return
        images = self.chosen()
        maps, reconstructions, codes = self.results(images, device)
        with self.enough():
            if network.normalisation is not None:
                network.normalisation.fit(maps, reconstructions, self.steps)
            if network.code_distance is not None:
                network.code_distance.fit(codes)
            if network.patch_distance is not None:
                network.patch_distance.fit(images, batch_size=self.batch_size)
            logger.info("Fitted the comparison with healthy images to %d training images.", len(images))

    def chosen(self) -> torch.Tensor:
        """Training images (N, C, *S), spread evenly."""
        images = self.training.images()
        return images[spread_evenly(len(images), self.max_images)]

    @torch.no_grad()
    def results(self, images: torch.Tensor, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Maps before normalisation, reconstructions and codes of images."""
        batches = images.split(self.batch_size)
        maps, reconstructions, codes = [], [], []
        hidden = not is_main_process()
        for batch in tqdm(batches, desc="Healthy statistics", unit="batch", mininterval=1.0, disable=hidden):
            x = batch.to(device)
            compared = self.network.compare(x)
            maps.append(compared.anomaly_map)
            reconstructions.append(compared.reconstruction)
            codes.append(x.new_zeros(len(x), 0) if compared.code is None else compared.code)
        return torch.cat(maps), torch.cat(reconstructions), torch.cat(codes)

    def collect(self, engine: DetectionEvaluator) -> None:
        """Keep the parts of the score of this iteration's healthy studies."""
        for study in studies_of(engine):
            if "score_parts" in study and not study.get("label") and "synthetic" not in study:
                self.parts[kind_of(study["image"].shape)].append(dict(study["score_parts"]))

    def finish(self, engine: DetectionEvaluator) -> None:
        """Fit the statistics of the parts, and write the weights."""
        if engine.score.mode == "fused" and any(self.parts.values()):
            if engine.score.statistics is not self.network.part_statistics:
                raise NomalyError(
                    "statistics of the score must be part_statistics of the network, got others: correct the config."
                )
            for kind, parts in self.parts.items():
                if parts:
                    self.fit_parts(kind, parts)
        if self.fitted and is_main_process():
            self.network.reset_calibration()
            save_tensors(self.network.state_dict(), self.output)
            logger.info("Saved the weights with statistics of healthy studies: %s", self.output)

    def fit_parts(self, kind: str, parts: list[dict[str, float]]) -> None:
        """Fit the parts of the score of one kind of study; with too few it keeps the statistics of the other kind."""
        if len(parts) < MINIMUM <= max(len(rows) for rows in self.parts.values()):
            logger.warning(
                "The parts of the score of %s are standardised as those of the other kind of study: at least %d "
                "healthy validation studies are needed, got %d.",
                PLURALS[kind],
                MINIMUM,
                len(parts),
            )
            return
        with self.enough():
            self.network.part_statistics.fit(parts, kind)
            logger.info("Standardised the parts of the score of %s by %d healthy studies.", PLURALS[kind], len(parts))

    @contextmanager
    def enough(self) -> Iterator[None]:
        """Turn data that do not suffice for a fit into a warning, unless it is required."""
        try:
            yield
            self.fitted = True
        except NomalyError as error:
            if self.required:
                raise
            self.missing.append(str(error))
            logger.warning("Not fitted: %s Then run nomaly adapt.", error)
