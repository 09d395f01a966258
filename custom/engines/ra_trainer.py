"""Training of RA: a plain VAE warm-up, then the introspective game of encoder and decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys as Keys
from torch import nn

from custom.data.slices import check_loader
from custom.losses.reversed_autoencoder import IntrospectiveObjective
from custom.networks.reversed_autoencoder import ReversedAutoencoder, reparameterise
from custom.processes import world_and_rank


class ReversedAutoencoderTrainer(SupervisedTrainer):
    """Trainer with one optimiser each for RA's encoder and decoder.

    One introspective step takes four decoder and five encoder forwards (the official loop eight and six): the decoder
    does not change between the two phases, so the decoder's phase uses the encoder phase's images and their graph
    again. Nothing in a step waits for the device. Under ``torch.distributed`` gradients are averaged here, and every
    process draws the noise of the whole batch and takes its own part, so that N processes do what one does with the
    N-fold batch (exactly so without batch statistics: frozen or group normalisation).

    ``engine.state.output`` is a list of one dictionary, of the whole batch, as MONAI's experiment tracking takes it:
    ``image``, ``pred`` (the reconstruction), ``loss`` and ``terms`` (name to detached scalar).

    Args:
        network: a detector whose ``reconstructor`` is a ReversedAutoencoder.
        encoder_optimizer: of the reconstructor's encoder.
        decoder_optimizer: of the reconstructor's decoder.
        objective: the losses.
        warmup_epochs: epochs of plain VAE training before the game.
        amp: bfloat16 autocast on any device; losses are computed in float32.
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
        encoder_optimizer: torch.optim.Optimizer,
        decoder_optimizer: torch.optim.Optimizer,
        objective: IntrospectiveObjective,
        warmup_epochs: int = 0,
        amp: bool = False,
        **kwargs: Any,
    ) -> None:
        check_loader(train_data_loader)
        self.encoder_optimizer = encoder_optimizer
        self.decoder_optimizer = decoder_optimizer
        self.objective = objective
        self.warmup_epochs = warmup_epochs
        self.autocast = amp
        super().__init__(
            device=device,
            max_epochs=max_epochs,
            train_data_loader=train_data_loader,
            network=(
                network.to(device=device, memory_format=torch.channels_last) if is_2d(network) else network.to(device)
            ),
            optimizer=encoder_optimizer,
            loss_function=objective,
            decollate=False,
            **kwargs,
        )

    @property
    def model(self) -> ReversedAutoencoder:
        """The network in training."""
        return self.network.reconstructor

    def _iteration(self, engine: Engine, batchdata: dict[str, Any]) -> list[dict[str, Any]]:
        x = torch.as_tensor(batchdata[Keys.IMAGE]).to(self.state.device, non_blocking=True)
        x = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
        self.network.train()
        noise = self.draw_noise(len(x))
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            step = self.warmup_step if self.state.epoch <= self.warmup_epochs else self.introspective_step
            x_hat, loss, terms = step(x, noise)
        output = {
            Keys.IMAGE: x,
            Keys.PRED: x_hat.detach(),
            Keys.LOSS: loss,
            "terms": {name: term.detach() for name, term in terms.items()},
        }
        engine.state.output = [output]
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return engine.state.output

    def draw_noise(self, batch_size: int) -> torch.Tensor:
        """Standard normal noise (6, batch_size, latent): for x, the prior, and x_hat and x_fake in each of the two
        phases.
        """
        world, rank = world_and_rank()
        noise = torch.randn(6, batch_size * world, self.model.latent_size, device=self.state.device)
        return noise[:, rank::world]

    def warmup_step(self, x: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, dict]:
        """One step of plain VAE training of both networks; returns x_hat, loss and terms."""
        *posterior, _ = self.model.encoder(x)
        x_hat = self.model.decoder(reparameterise(*posterior, noise[0]))
        loss, terms = self.objective.warmup(x, x_hat, posterior)
        self._update(loss, self.encoder_optimizer, self.decoder_optimizer)
        return x_hat, loss.detach(), terms

    def introspective_step(self, x: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, dict]:
        """One step of the game on x (B, C, *S) with ``noise`` (6, B, latent); returns x_hat, summed loss and terms."""
        encoder, decoder, objective = self.model.encoder, self.model.decoder, self.objective

        # 1. Reconstructions of the images and decoded prior samples, used by both phases (decoder forwards 1, 2;
        # encoder 1).
        *posterior, embeddings = encoder(x)
        x_hat = decoder(reparameterise(*posterior, noise[0]))
        x_fake = decoder(noise[1])

        # 2. Encoder: explain real images well and generated ones badly (encoder forwards 2, 3; decoder 3, 4).
        generated = []
        for image, attached, eps in ((x_hat, x_hat, noise[2]), (x_fake, x_fake.detach(), noise[3])):
            *y_posterior, y_embeddings = encoder(image.detach())
            generated.append((attached, decoder(reparameterise(*y_posterior, eps)), y_posterior, y_embeddings))
        hat_embeddings = generated[0][-1]
        encoder_loss, encoder_terms = objective.encoder(
            x, x_hat, posterior, [entry[:3] for entry in generated], (embeddings, hat_embeddings)
        )
        # The graph is kept: the decoder's phase goes back through x_hat and x_fake.
        self._update(encoder_loss, self.encoder_optimizer, retain_graph=True)

        # 3. Decoder: make images that the updated encoder takes for real (encoder forwards 4, 5).
        generated = []
        for image, eps in ((x_hat, noise[4]), (x_fake, noise[5])):
            *y_posterior, _ = encoder(image)
            y_hat = decoder(reparameterise(*y_posterior, eps).detach()) if objective.gamma_r else None
            generated.append((image, y_hat, y_posterior))
        decoder_loss, decoder_terms = objective.decoder(x, x_hat, generated)
        self._update(decoder_loss, self.decoder_optimizer)

        terms = encoder_terms | decoder_terms | {"encoder": encoder_loss, "decoder": decoder_loss}
        return x_hat, (encoder_loss + decoder_loss).detach(), terms

    def _update(self, loss: torch.Tensor, *optimizers: torch.optim.Optimizer, retain_graph: bool = False) -> None:
        """One step of the optimisers; only their own parameters get gradients."""
        parameters = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
        gradients = torch.autograd.grad(loss, parameters, retain_graph=retain_graph)
        average_over_processes(gradients)
        for parameter, gradient in zip(parameters, gradients):
            parameter.grad = gradient
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        # Autocast keeps bfloat16 copies of the weights until its context ends: the next phase must not see the old
        # ones.
        torch.clear_autocast_cache()


def average_over_processes(gradients: Sequence[torch.Tensor]) -> None:
    """Average gradients in place over all processes, in one message.

    DistributedDataParallel cannot do it here: encoder and decoder are called apart, and its hooks see only ``forward``.
    """
    world, _ = world_and_rank()
    if world == 1:
        return
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world
    for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients])):
        gradient.copy_(part.view_as(gradient))


def is_2d(network: nn.Module) -> bool:
    """Whether the network has 2-D convolutions, for which channels_last is the faster memory format."""
    return any(isinstance(module, nn.Conv2d) for module in network.modules())
