"""The validation's figures and pictures in the log and in TensorBoard."""

from __future__ import annotations

import logging
from typing import Any

import torch
from ignite.engine import Engine, Events

from custom.baselines.fitting import reference_errors
from custom.data.slices import SliceDataset
from custom.errors import NomalyError
from custom.rendering.images import image_grid

logger = logging.getLogger(__name__)


class ValidationLog:
    """Log metrics after each validation, the healthy error beside those of the mean image and of PCA.

    A network whose healthy error is not well below that of PCA with eight components has learned little, whatever its
    losses say. Where slices differ from the training's windows in size, the errors of mean image and PCA are those of
    as many pixels as a slice has. TensorBoard gets a grid of input, pseudo-healthy image and map of the first studies.

    Args:
        training: training slices, from which mean image and PCA are computed.
        writer: TensorBoard ``SummaryWriter``; None for none.
        pictures: number of studies in the grid.

    Raises:
        NomalyError: at the first validation, if no healthy study can be read.
    """

    def __init__(self, training: SliceDataset, writer: Any = None, pictures: int = 8) -> None:
        self.training = training
        self.writer = writer
        self.pictures = pictures
        self._references: dict[str, float] | None = None
        self._healthy: list[torch.Tensor] = []
        self._slices = 0
        self._pixels = 0
        self._shown: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Register on the evaluator."""
        engine.add_event_handler(Events.STARTED, lambda: self._shown.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.keep)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.log)

    def keep(self, engine: Engine) -> None:
        """Keep the first studies for the picture, and once all healthy slices for the references."""
        for study in engine.state.output:
            if "error" in study:
                continue
            plane = study["image"].shape[:3]
            # pictures of one size make a grid
            if len(self._shown) < self.pictures and all(shown["image"].shape[:3] == plane for shown in self._shown):
                self._shown.append(study)
            if self._references is None and int(study["label"]) == 0:
                self._healthy += self.training.cut(study["image"])
                self._slices += study["image"].shape[-1]
                self._pixels += study["image"].numel()

    def log(self, engine: Engine) -> None:
        """Write figures and pictures of one validation."""
        if self._references is None:
            if not self._healthy:
                raise NomalyError(
                    "validation needs at least one healthy study that can be read, got none: mend the validation "
                    "section of datalist.json, each study's reason is above."
                )
            windows = self._pixels / self._slices / self._healthy[0].numel()  # of a slice
            errors = reference_errors(self.training.images(), torch.stack(self._healthy))
            self._references = {name: windows * error for name, error in errors.items()}
            self._healthy.clear()
        references = ", ".join(f"{name} {error:.1f}" for name, error in self._references.items())
        auroc, error = (engine.state.metrics[name] for name in ("synthetic_auroc", "healthy_error"))
        message = "Epoch %d: validation synthetic-lesion AUROC %.3f, healthy error %.1f (%s)"
        logger.info(message, engine.state.epoch, auroc, error, references)
        if self.writer is not None:
            self._write(engine.state.epoch, engine.state.metrics)

    def _write(self, epoch: int, metrics: dict[str, float]) -> None:
        for name, value in metrics.items():
            self.writer.add_scalar(f"validation/{name}", value, epoch)
        for name, value in self._references.items():
            self.writer.add_scalar(f"validation/healthy_error_of_{name}", value, epoch)
        keys = ("image", "reconstruction", "pred")
        columns = [torch.stack([middle_slice(study[key]) for study in self._shown]) for key in keys]
        self.writer.add_image("validation/input_healthy_map", image_grid(*columns), epoch, dataformats="HWC")
        self.writer.flush()


def middle_slice(volume: torch.Tensor) -> torch.Tensor:
    """Middle slice (C, X, Y) of a study (C, X, Y, Z)."""
    return torch.as_tensor(volume).as_subclass(torch.Tensor)[..., volume.shape[-1] // 2]
