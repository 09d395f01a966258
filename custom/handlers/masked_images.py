"""Inputs and reconstructions of a masked autoencoder in TensorBoard."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events

from custom.engines.mae_trainer import MaskedAutoencoderTrainer
from custom.handlers.engine_output import step_of
from custom.networks.patches import is_masked, patchify, unpatchify
from custom.rendering.images import image_grid


class MaskedImages:
    """Write a grid of training images: masked input, reconstruction of the hidden patches, and their difference.

    Args:
        writer: TensorBoard ``SummaryWriter``; None = no TensorBoard.
        interval: number of epochs between two grids.
        max_images: maximum number of images in a grid.
    """

    def __init__(self, writer: Any = None, interval: int = 10, max_images: int = 8) -> None:
        self.writer = writer
        self.interval = interval
        self.max_images = max_images

    def attach(self, engine: Engine) -> None:
        """Register on a MaskedAutoencoderTrainer."""
        if self.writer is not None:
            engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self)

    def __call__(self, engine: MaskedAutoencoderTrainer) -> None:
        model, output = engine.model, step_of(engine)
        image, visible, predicted = (output[key][: self.max_images].detach() for key in ("image", "visible", "pred"))
        patches = patchify(image, model.patch_size)
        hidden = is_masked(visible, model.num_patches).unsqueeze(-1)
        masked, filled = (
            unpatchify(patches.where(~hidden, other), model.patch_size, model.grid).clamp(0, 1)
            for other in (patches.new_zeros(()), predicted.float())
        )
        grid = image_grid(masked, filled, (image - filled).abs().mean(1, keepdim=True), max_cases=self.max_images)
        self.writer.add_image("training/masked_filled_difference", grid, engine.state.epoch, dataformats="HWC")
