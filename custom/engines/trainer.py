"""What the trainers of both methods share."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from torch import nn

from custom.data.augmentation import BatchAugmentation
from custom.engines.recorded_step import RecordedStep


class ReconstructionTrainer(SupervisedTrainer):
    """Trainer of a network that reconstructs healthy images; a subclass defines :meth:`step`.

    ``engine.state.output`` is a list of one dictionary for the whole batch, as MONAI's experiment tracking expects it.

    Args:
        device: to compute on.
        max_epochs: number of epochs.
        train_data_loader: batches with ``image`` (B, C, *S).
        network: moved to ``device``.
        optimizer: optimiser of its parameters.
        loss_function: the training objective.
        augmentation: random changes of the images; None = none.
        amp: bfloat16 autocast on any device; losses are computed in float32.
        record_step: on a GPU, record the step as a CUDA graph, see custom.engines.recorded_step.
        kwargs: further arguments of SupervisedTrainer.
    """

    def __init__(
        self,
        device: torch.device,
        max_epochs: int,
        train_data_loader: Any,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_function: nn.Module,
        augmentation: BatchAugmentation | None = None,
        amp: bool = False,
        record_step: bool = True,
        **kwargs: Any,
    ) -> None:
        self.autocast = amp
        self.augmentation = augmentation
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=network.to(device),
            optimizer=optimizer,
            loss_function=loss_function,
            decollate=False,
            **kwargs,
        )
        self.recorded_step = RecordedStep(self.augmented_step, self.optimizers, device, record_step)

    @property
    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """All optimisers of the step."""
        return [self.optimizer]

    @property
    def phase(self) -> Hashable:
        """The part of the training that the next step belongs to; steps of one part do the same."""
        return None

    # MONAI declares a dictionary; its handlers accept a list as well.
    def _iteration(  # type: ignore[override]
        self, engine: Engine, batchdata: dict[str, torch.Tensor]
    ) -> list[dict[str, Any]]:
        x = torch.as_tensor(batchdata[Keys.IMAGE]).to(self.state.device, non_blocking=True)
        self.network.train()
        output = [self.recorded_step(x, self.phase)]
        engine.state.output = output  # type: ignore[assignment]  # ignite declares int
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return output

    def augmented_step(self, images: torch.Tensor) -> dict[str, Any]:
        """Take one training step on changed copies of the images (B, C, *S)."""
        return self.step(images if self.augmentation is None else self.augmentation(images))

    def autocast_context(self) -> torch.autocast:
        """Autocast of the network; without its cache, whose copies of weights a recorded step must not share."""
        device = self.state.device.type
        return torch.autocast(device, dtype=torch.bfloat16, enabled=self.autocast, cache_enabled=device != "cuda")

    def step(self, x: torch.Tensor) -> dict[str, Any]:
        """Take one training step on images (B, C, *S) and return its detached results."""
        raise NotImplementedError
