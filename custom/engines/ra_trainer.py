"""Training of RA: a VAE warm-up, then the adversarial (introspective) phase of encoder and decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from monai.utils.enums import CommonKeys as Keys
from torch import nn

from custom.engines.coarse_noise import CoarseNoise
from custom.engines.trainer import ReconstructionTrainer
from custom.losses.reversed_autoencoder import IntrospectiveObjective, Posterior
from custom.networks.reversed_autoencoder import ReversedAutoencoder, reparameterise
from custom.processes import world_and_rank


class ReversedAutoencoderTrainer(ReconstructionTrainer):
    """Trainer with one optimiser each for RA's encoder and decoder.

    One introspective step takes four decoder and five encoder forwards (the official loop eight and six): the decoder
    does not change between the two updates, so the decoder's update reuses the images of the encoder's update and their
    graph. No step waits for the device. Under ``torch.distributed`` gradients are averaged here, and every process
    draws the noise of the whole batch and takes its own part, so that N processes do what one does with an N times
    larger batch (exactly so without batch statistics: frozen or group normalisation).

    ``engine.state.output`` is a list of one dictionary for the whole batch: ``image``, ``pred`` (the reconstruction),
    ``loss`` and ``terms`` (name to detached scalar).

    Args:
        network: a detector whose ``reconstructor`` is a ReversedAutoencoder.
        encoder_optimizer: optimiser of the reconstructor's encoder.
        decoder_optimizer: optimiser of the reconstructor's decoder.
        objective: the losses.
        warmup_epochs: epochs of plain VAE training before the introspective phase.
        input_noise: noise that is added to the encoder's input in the warm-up; None = none.
        kwargs: further arguments of :class:`ReconstructionTrainer`.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        encoder_optimizer: torch.optim.Optimizer,
        decoder_optimizer: torch.optim.Optimizer,
        objective: IntrospectiveObjective,
        warmup_epochs: int = 0,
        input_noise: CoarseNoise | None = None,
        **kwargs: Any,
    ) -> None:
        self.encoder_optimizer = encoder_optimizer
        self.decoder_optimizer = decoder_optimizer
        self.objective = objective
        self.warmup_epochs = warmup_epochs
        self.input_noise = input_noise
        if is_2d(learned := cast(nn.Module, network.reconstructor)):
            learned.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's types lack this call
        super().__init__(network=network, optimizer=encoder_optimizer, loss_function=objective, **kwargs)

    @property
    def model(self) -> ReversedAutoencoder:
        """The network in training."""
        return cast(ReversedAutoencoder, self.network.reconstructor)

    @property
    def optimizers(self) -> Sequence[torch.optim.Optimizer]:
        """Those of encoder and decoder."""
        return [self.encoder_optimizer, self.decoder_optimizer]

    @property
    def phase(self) -> str:
        """Warm-up or introspective, by the epoch."""
        return "warm-up" if self.state.epoch <= self.warmup_epochs else "introspective"

    def step(self, x: torch.Tensor) -> dict[str, Any]:
        """Take a warm-up or an introspective step on the images x (B, C, *S)."""
        x = x.contiguous(memory_format=torch.channels_last) if x.ndim == 4 else x
        noise = self.draw_noise(len(x))
        with self.autocast_context():
            step = self.warmup_step if self.phase == "warm-up" else self.introspective_step
            x_hat, loss, terms = step(x, noise)
        return {
            Keys.IMAGE: x,
            Keys.PRED: x_hat.detach(),
            Keys.LOSS: loss,
            "terms": {name: term.detach() for name, term in terms.items()},
        }

    def draw_noise(self, batch_size: int) -> torch.Tensor:
        """Standard normal noise (6, batch_size, latent): for x, the prior, and x_hat and x_fake in each of the two
        updates.
        """
        world, rank = world_and_rank()
        noise = torch.randn(6, batch_size * world, self.model.latent_size, device=self.state.device)
        return noise[:, rank::world]

    def warmup_step(self, x: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, dict]:
        """One step of VAE training of both networks; returns x_hat, loss and terms.

        With ``input_noise`` the encoder sees noisy images, and the decoder must return the clean ones.
        """
        posterior, _ = self._encode(x if self.input_noise is None else self.input_noise(x))
        x_hat = self.model.decoder(reparameterise(*posterior, noise[0]))
        loss, terms = self.objective.warmup(x, x_hat, posterior)
        self._update(loss, self.encoder_optimizer, self.decoder_optimizer)
        return x_hat, loss.detach(), terms

    def introspective_step(self, x: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, dict]:
        """One introspective step on x (B, C, *S) with ``noise`` (6, B, latent); returns x_hat, summed loss, terms."""
        decoder, objective = self.model.decoder, self.objective

        # 1. Reconstructions of the images and decoded prior samples, used by both updates (decoder forwards 1, 2;
        # encoder 1).
        posterior, embeddings = self._encode(x)
        x_hat = decoder(reparameterise(*posterior, noise[0]))
        x_fake = decoder(noise[1])

        # 2. Encoder: a high ELBO for real images, a low one for generated images (encoder forwards 2, 3; decoder 3, 4).
        y_posterior, hat_embeddings = self._encode(x_hat.detach())
        generated = [(x_hat, decoder(reparameterise(*y_posterior, noise[2])), y_posterior)]
        y_posterior, _ = self._encode(x_fake.detach())
        generated.append((x_fake.detach(), decoder(reparameterise(*y_posterior, noise[3])), y_posterior))
        encoder_loss, encoder_terms = objective.encoder(x, x_hat, posterior, generated, (embeddings, hat_embeddings))
        # The graph is kept: the decoder's update propagates back through x_hat and x_fake.
        self._update(encoder_loss, self.encoder_optimizer, retain_graph=True)

        # 3. Decoder: generate images that the updated encoder takes for real (encoder forwards 4, 5).
        decoded: list[tuple[torch.Tensor, torch.Tensor | None, Posterior]] = []
        for image, eps in ((x_hat, noise[4]), (x_fake, noise[5])):
            y_posterior, _ = self._encode(image)
            y_hat = decoder(reparameterise(*y_posterior, eps).detach()) if objective.gamma_r else None
            decoded.append((image, y_hat, y_posterior))
        decoder_loss, decoder_terms = objective.decoder(x, x_hat, decoded)
        self._update(decoder_loss, self.decoder_optimizer)

        terms = encoder_terms | decoder_terms | {"encoder": encoder_loss, "decoder": decoder_loss}
        return x_hat, (encoder_loss + decoder_loss).detach(), terms

    def _encode(self, image: torch.Tensor) -> tuple[Posterior, list[torch.Tensor]]:
        """Posterior (mu, logvar) and embeddings of an image."""
        mu, logvar, embeddings = self.model.encoder(image)
        return (mu, logvar), embeddings

    def _update(self, loss: torch.Tensor, *optimizers: torch.optim.Optimizer, retain_graph: bool = False) -> None:
        """One step of the optimisers; gradients go only to their parameters."""
        parameters = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
        torch.autograd.backward(loss, inputs=parameters, retain_graph=retain_graph)
        average_over_processes([parameter.grad for parameter in parameters])
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        # Autocast keeps bfloat16 copies of the weights until its context ends: the next update must not see the
        # old ones.
        torch.clear_autocast_cache()


def average_over_processes(gradients: Sequence[torch.Tensor]) -> None:
    """Average gradients in place over all processes, in one message.

    DistributedDataParallel cannot: encoder and decoder are called separately, and its hooks see only ``forward``.
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
