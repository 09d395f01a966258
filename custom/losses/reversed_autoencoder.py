"""Losses of RA: the reversed multi-scale embedding loss and the soft-introspective objectives of encoder and decoder.

Source: Bercea et al., MIDL 2023 and arXiv 2401.10637; the adversarial (introspective) training is that of
Soft-IntroVAE (Daniel and Tamar, CVPR 2021). Each objective returns its total and its named terms, which are unweighted
means over the batch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F

from custom.losses.squared_error import squared_error

Terms = dict[str, torch.Tensor]
Posterior = tuple[torch.Tensor, torch.Tensor]


def kl_to_standard_normal(posterior: Posterior) -> torch.Tensor:
    """KL(N(mu, exp(logvar)) || N(0, I)) summed over the latent dimensions; two (B, L) to (B,)."""
    mu, logvar = (part.float() for part in posterior)
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar).sum(1)


def embedding_loss(real: Sequence[torch.Tensor], reconstructed: Sequence[torch.Tensor]) -> torch.Tensor:
    """Reversed multi-scale embedding loss, >= 0: sum over levels of half the mean squared difference plus 1 - cosine.

    "Reversed", since the embeddings of the input should agree with those of its reconstruction: the encoder learns to
    embed a pathological image like its pseudo-healthy counterpart.

    Args:
        real: embeddings of the images, each (B, C_l, *S_l).
        reconstructed: embeddings of their reconstructions, in the same order.
    """
    total = torch.zeros((), device=real[0].device)
    for a, b in zip(real, reconstructed):
        a, b = a.float().flatten(1), b.float().flatten(1)
        total = total + 0.5 * F.mse_loss(a, b) + (1 - F.cosine_similarity(a, b)).mean()
    return total


class IntrospectiveObjective(nn.Module):
    """Objectives of RA's encoder and decoder, with x_hat the reconstruction and x_fake a decoded prior sample.

    With s = 1 / number of values of an image, R the summed squared error and KL the divergence from the standard
    normal:

    - encoder: s [beta_rec R(x, x_hat) + beta_kl KL(x)]
      + 1/4 sum over y in {x_hat, x_fake} of E exp(-2 s [beta_rec R(y, D(E(y))) + beta_neg KL(y)]) + beta_emb L_emb
    - decoder: s [beta_rec R(x, x_hat) + beta_kl / 2 (KL(x_hat) + KL(x_fake))
      + gamma_r beta_rec / 2 (R(x_hat, D(E(x_hat))) + R(x_fake, D(E(x_fake))))]
    - warm-up (ours; both networks, a plain VAE): s [beta_rec R(x, x_hat) + warmup_beta_kl KL(x)]

    Args:
        beta_rec: weight of the reconstruction error (paper 0.5).
        beta_kl: weight of the divergence of real images (paper 1).
        beta_neg: weight of the divergence of generated images within the exponential (paper 128).
        beta_emb: weight of the embedding loss (paper 0.005).
        gamma_r: weight of the decoder's error on its own images (official code 1e-8). 0 drops the term and two decoder
            passes, since its weight is too small to affect the result.
        warmup_beta_kl: weight of the divergence in the warm-up.
    """

    def __init__(
        self,
        beta_rec: float = 0.5,
        beta_kl: float = 1.0,
        beta_neg: float = 128.0,
        beta_emb: float = 0.005,
        gamma_r: float = 0.0,
        warmup_beta_kl: float = 0.1,
    ) -> None:
        super().__init__()
        self.beta_rec = beta_rec
        self.beta_kl = beta_kl
        self.beta_neg = beta_neg
        self.beta_emb = beta_emb
        self.gamma_r = gamma_r
        self.warmup_beta_kl = warmup_beta_kl

    def warmup(self, x: torch.Tensor, x_hat: torch.Tensor, posterior: Posterior) -> tuple[torch.Tensor, Terms]:
        """Plain VAE objective of images x (B, C, *S), their reconstructions and posterior."""
        reconstruction = squared_error(x, x_hat).mean()
        kl = kl_to_standard_normal(posterior).mean()
        total = (self.beta_rec * reconstruction + self.warmup_beta_kl * kl) / x[0].numel()
        return total, {"reconstruction": reconstruction, "kl_real": kl}

    def encoder(
        self,
        x: torch.Tensor,
        x_hat: torch.Tensor,
        posterior: Posterior,
        generated: Sequence[tuple[torch.Tensor, torch.Tensor, Posterior]],
        embeddings: tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]],
    ) -> tuple[torch.Tensor, Terms]:
        """Objective of the encoder.

        Args:
            x: images (B, C, *S).
            x_hat: their reconstructions.
            posterior: of x.
            generated: for x_hat and for x_fake: (image, its reconstruction, its posterior).
            embeddings: of x and of x_hat.
        """
        s = 1 / x[0].numel()
        reconstruction = squared_error(x, x_hat).mean()
        kl = kl_to_standard_normal(posterior).mean()
        exp_elbo = [
            torch.exp(
                -2 * s * (self.beta_rec * squared_error(y, y_hat) + self.beta_neg * kl_to_standard_normal(y_posterior))
            ).mean()
            for y, y_hat, y_posterior in generated
        ]
        emb = embedding_loss(*embeddings)
        total = s * (self.beta_rec * reconstruction + self.beta_kl * kl) + 0.25 * sum(exp_elbo) + self.beta_emb * emb
        terms = {"reconstruction": reconstruction, "kl_real": kl, "embedding": emb}
        return total, terms | {"exp_elbo_reconstructed": exp_elbo[0], "exp_elbo_fake": exp_elbo[1]}

    def decoder(
        self,
        x: torch.Tensor,
        x_hat: torch.Tensor,
        generated: Sequence[tuple[torch.Tensor, torch.Tensor | None, Posterior]],
    ) -> tuple[torch.Tensor, Terms]:
        """Objective of the decoder; arguments as :meth:`encoder`, reconstructions of ``generated`` are None if gamma_r
        is 0.
        """
        s = 1 / x[0].numel()
        kl_reconstructed, kl_fake = (kl_to_standard_normal(posterior).mean() for _, _, posterior in generated)
        total = self.beta_rec * squared_error(x, x_hat).mean() + 0.5 * self.beta_kl * (kl_reconstructed + kl_fake)
        for y, y_hat, _ in generated:
            if y_hat is not None:
                total = total + 0.5 * self.gamma_r * self.beta_rec * squared_error(y.detach(), y_hat).mean()
        return s * total, {"kl_reconstructed": kl_reconstructed, "kl_fake": kl_fake}
