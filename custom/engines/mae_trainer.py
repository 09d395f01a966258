"""Training of masked autoencoders."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from torch import nn
from torch.nn.utils import clip_grad_norm_

from custom.data.slices import check_loader
from custom.networks.memmc_mae import MemMCMaskedAutoencoder
from custom.networks.patches import patchify
from custom.processes import world_and_rank


class MaskedAutoencoderTrainer(SupervisedTrainer):
    """Trainer that hides random patches and learns to rebuild them.

    Nothing in a step waits for the device. Under ``torch.distributed`` give the network wrapped in
    DistributedDataParallel: every process draws the masks of the whole batch and takes its own part, so that N
    processes do what one does with the N-fold batch.

    ``engine.state.output`` is a list of one dictionary, of the whole batch, as MONAI's experiment tracking takes it:
    ``image``, ``visible`` (indices), ``pred`` (reconstructed patches), ``loss``, ``terms`` (name to detached scalar).

    Args:
        network: a MemMCMaskedAutoencoder, bare or wrapped for several processes.
        optimizer: of its parameters.
        loss_function: called with (predicted patches, patches, visible), returns total and terms.
        max_gradient_norm: gradients are scaled down to this norm where theirs is larger; None = never.
        amp: bfloat16 autocast on any device; the loss is computed in float32.
        kwargs: of SupervisedTrainer.

    Raises:
        NomalyError: if the loader has no batch; MONAI would skip the training and go on.
    """

    def __init__(
        self,
        device: torch.device,
        max_epochs: int,
        train_data_loader: Any,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_function: nn.Module,
        max_gradient_norm: float | None = 1.0,
        amp: bool = False,
        **kwargs: Any,
    ) -> None:
        check_loader(train_data_loader)
        self.max_gradient_norm = max_gradient_norm
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

    @property
    def model(self) -> MemMCMaskedAutoencoder:
        """The network without its wrapper."""
        return getattr(self.network, "module", self.network)

    def _iteration(self, engine: Engine, batchdata: dict[str, Any]) -> list[dict[str, Any]]:
        x = torch.as_tensor(batchdata[Keys.IMAGE]).to(self.state.device, non_blocking=True)
        visible = self.draw_visible(len(x))
        self.network.train()
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            predicted = self.network(x, visible)
        loss, terms = self.loss_function(predicted, patchify(x, self.model.patch_size), visible)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.max_gradient_norm is not None:
            clip_grad_norm_(self.network.parameters(), self.max_gradient_norm)
        self.optimizer.step()
        output = {
            Keys.IMAGE: x,
            "visible": visible,
            Keys.PRED: predicted.detach(),
            Keys.LOSS: loss.detach(),
            "terms": {name: term.detach() for name, term in terms.items()},
        }
        engine.state.output = [output]
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def draw_visible(self, batch_size: int) -> torch.Tensor:
        """Visible patches (batch_size, V) of this process's part of the whole batch."""
        world, rank = world_and_rank()
        return self.model.draw_visible(batch_size * world)[rank::world]
