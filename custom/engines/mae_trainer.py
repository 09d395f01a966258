"""Training of masked autoencoders."""

from __future__ import annotations

from typing import Any, cast

import torch
from monai.utils.enums import CommonKeys as Keys
from torch.nn.utils import clip_grad_norm_

from custom.engines.trainer import ReconstructionTrainer
from custom.networks.memmc_mae import MemMCMaskedAutoencoder
from custom.networks.patches import patchify
from custom.processes import world_and_rank


class MaskedAutoencoderTrainer(ReconstructionTrainer):
    """Trainer that hides random patches and learns to rebuild them.

    No step waits for the device. Under ``torch.distributed`` wrap the network in DistributedDataParallel: every process
    draws the masks of the whole batch and takes its own part, so that N processes do what one does with an N times
    larger batch.

    ``engine.state.output`` is a list of one dictionary for the whole batch: ``image``, ``visible`` (indices), ``pred``
    (reconstructed patches), ``loss``, ``terms`` (name to detached scalar).

    Args:
        max_gradient_norm: larger gradients are scaled down to this norm; None = never.
        kwargs: arguments of :class:`ReconstructionTrainer`. ``network`` is a MemMCMaskedAutoencoder, plain or wrapped
            for several processes; ``loss_function`` is called with (predicted patches, patches, visible) and returns
            total and terms.
    """

    def __init__(self, *, max_gradient_norm: float | None = 1.0, **kwargs: Any) -> None:
        self.max_gradient_norm = max_gradient_norm
        super().__init__(**kwargs)

    @property
    def model(self) -> MemMCMaskedAutoencoder:
        """The network without its wrapper."""
        return cast(MemMCMaskedAutoencoder, getattr(self.network, "module", self.network))

    def step(self, x: torch.Tensor) -> dict[str, Any]:
        """Hide patches of the images x (B, C, *S), rebuild them and update the network."""
        visible = self.draw_visible(len(x))
        with self.autocast_context():
            predicted = self.network(x, visible)
        loss, terms = self.loss_function(predicted, patchify(x, self.model.patch_size), visible)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.max_gradient_norm is not None:
            clip_grad_norm_(self.network.parameters(), self.max_gradient_norm)
        self.optimizer.step()
        return {
            Keys.IMAGE: x,
            "visible": visible,
            Keys.PRED: predicted.detach(),
            Keys.LOSS: loss.detach(),
            "terms": {name: term.detach() for name, term in terms.items()},
        }

    def draw_visible(self, batch_size: int) -> torch.Tensor:
        """Visible patches (batch_size, V) of this process's share of the whole batch."""
        world, rank = world_and_rank()
        return self.model.draw_visible(batch_size * world)[rank::world]
