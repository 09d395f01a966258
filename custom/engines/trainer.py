"""What the trainers of both methods share."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from torch import nn

from custom.data.slices import check_loader


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
        amp: bfloat16 autocast on any device; losses are computed in float32.
        kwargs: further arguments of SupervisedTrainer.

    Raises:
        NomalyError: if the loader has no batch; MONAI would skip the training and continue.
    """

    def __init__(
        self,
        device: torch.device,
        max_epochs: int,
        train_data_loader: Any,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_function: nn.Module,
        amp: bool = False,
        **kwargs: Any,
    ) -> None:
        check_loader(train_data_loader)
        self.autocast = amp
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

    # MONAI declares a dictionary; its handlers accept a list as well.
    def _iteration(  # type: ignore[override]
        self, engine: Engine, batchdata: dict[str, torch.Tensor]
    ) -> list[dict[str, Any]]:
        x = torch.as_tensor(batchdata[Keys.IMAGE]).to(self.state.device, non_blocking=True)
        self.network.train()
        output = [self.step(x)]
        engine.state.output = output  # type: ignore[assignment]  # ignite declares int
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return output

    def step(self, x: torch.Tensor) -> dict[str, Any]:
        """Take one training step on images (B, C, *S) and return its detached results."""
        raise NotImplementedError
