"""Metrics and images of the validation in the log and in TensorBoard."""

from __future__ import annotations

import logging
from typing import Any

import torch
from ignite.engine import Engine, Events

from custom.baselines.fitting import reference_errors
from custom.data.slices import SliceDataset
from custom.errors import NomalyError
from custom.handlers.engine_output import studies_of
from custom.rendering.images import image_grid
from custom.studies.items import Study

logger = logging.getLogger(__name__)


class ValidationLog:
    """Log metrics after each validation, the healthy error with those of the mean image and of PCA.

    A network whose healthy error is not well below that of PCA with eight components has learned little, whatever its
    losses. If slices and training windows differ in size, the errors of mean image and PCA are scaled to the number of
    pixels per slice. TensorBoard gets a grid of input, pseudo-healthy image and map of the first studies.

    ``references`` has the errors of mean image and PCA by name, ``shown`` the first studies of the last validation.

    Args:
        training: training slices, from which mean image and PCA are computed.
        writer: TensorBoard ``SummaryWriter``; None = no TensorBoard.
        max_studies: maximum number of studies in the grid.

    Raises:
        NomalyError: at the first validation, if no healthy study can be read.
    """

    def __init__(self, training: SliceDataset, writer: Any = None, max_studies: int = 8) -> None:
        self.training = training
        self.writer = writer
        self.max_studies = max_studies
        self.references: dict[str, float] = {}
        self._healthy: list[torch.Tensor] = []
        self._slices = 0
        self._pixels = 0
        self.shown: list[Study] = []

    def attach(self, engine: Engine) -> None:
        """Register on the evaluator."""
        engine.add_event_handler(Events.STARTED, lambda: self.shown.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.keep)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.log)

    def keep(self, engine: Engine) -> None:
        """Keep the first studies for the grid, and in the first validation all healthy slices for the references."""
        for study in studies_of(engine):
            if "error" in study:
                continue
            plane = study["image"].shape[:3]
            # a grid needs images of one size
            if len(self.shown) < self.max_studies and all(shown["image"].shape[:3] == plane for shown in self.shown):
                self.shown.append(study)
            if not self.references and int(study["label"]) == 0:
                self._healthy += self.training.cut(study["image"])
                self._slices += study["image"].shape[-1]
                self._pixels += study["image"].numel()

    def log(self, engine: Engine) -> None:
        """Write metrics and images of one validation."""
        if not self.references:
            self._compute_references()
        references = ", ".join(f"{name} {error:.1f}" for name, error in self.references.items())
        auroc, error = (engine.state.metrics[name] for name in ("synthetic_auroc", "healthy_error"))
        message = "Epoch %d: validation synthetic-lesion AUROC %.3f, healthy error %.1f (%s)"
        logger.info(message, engine.state.epoch, auroc, error, references)
        if self.writer is not None:
            self._write(engine.state.epoch, engine.state.metrics)

    def _compute_references(self) -> None:
        """Errors of mean image and PCA on the healthy slices."""
        if not self._healthy:
            raise NomalyError(
                "validation needs at least one healthy study that can be read, but found none: fix the validation "
                "section of datalist.json; the reason for each study is given above."
            )
        windows_per_slice = self._pixels / self._slices / self._healthy[0].numel()
        errors = reference_errors(self.training.images(), torch.stack(self._healthy))
        self.references = {name: windows_per_slice * error for name, error in errors.items()}
        self._healthy.clear()

    def _write(self, epoch: int, metrics: dict[str, float]) -> None:
        """Write metrics and the grid to TensorBoard."""
        for name, value in metrics.items():
            self.writer.add_scalar(f"validation/{name}", value, epoch)
        for name, value in self.references.items():
            self.writer.add_scalar(f"validation/healthy_error_of_{name}", value, epoch)
        studies = [(study["image"], study["reconstruction"], study["pred"]) for study in self.shown]
        columns = [torch.stack([middle_slice(volume) for volume in column]) for column in zip(*studies)]
        self.writer.add_image("validation/input_healthy_map", image_grid(*columns), epoch, dataformats="HWC")
        self.writer.flush()


def middle_slice(volume: torch.Tensor) -> torch.Tensor:
    """Middle slice (C, X, Y) of a study (C, X, Y, Z)."""
    return torch.as_tensor(volume).as_subclass(torch.Tensor)[..., volume.shape[-1] // 2]
