"""Baselines that reconstruct: the mean image, principal components, and a small autoencoder."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from custom.baselines.intensity import Baseline, ScoreRule, or_all
from custom.inferers.slices import SliceWiseInferer
from custom.scoring.score import foreground


class ReconstructionBaseline(Baseline):
    """A baseline that reconstructs slices; its map is the mean over channels of |x - x_hat|, scored by the given rule.

    If neither the study nor its reconstruction shows a body, all pixels are scored.
    """

    def __init__(self, rule: ScoreRule) -> None:
        self.rule = rule

    @abstractmethod
    def reconstruct(self, slices: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""

    def map(self, study: Tensor) -> Tensor:
        """Mean over channels of |x - x_hat|, (1, X, Y, Z)."""
        return self._compare(study)[0]

    def score(self, study: Tensor) -> float:
        """Score of the map over the foreground of the study and of its reconstruction."""
        return self.rule(*self._compare(study)).item()

    @torch.no_grad()
    def _compare(self, study: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Map, foreground, study and reconstruction."""
        slices = self.slices(study)
        inferer = SliceWiseInferer(window=self.shape[1:], sw_batch_size=max(len(slices), 16))
        reconstruction = inferer(study.float()[None], self.reconstruct)[0]
        residual = (study.float() - reconstruction).abs().mean(0, keepdim=True)
        mask = or_all(foreground(study, reconstruction=reconstruction)[None])[0]
        return residual, mask, study.float(), reconstruction


class PcaBaseline(ReconstructionBaseline):
    """Reconstruction from the principal components of the training slices.

    Args:
        components: number of components; 0 = the mean image.
        rule: score of a map over a foreground.
    """

    def __init__(self, components: int, rule: ScoreRule) -> None:
        super().__init__(rule)
        self.components = components

    def _fit(self, train: Tensor) -> None:
        rows = train.flatten(1)
        no_basis = rows.new_zeros(0, rows.shape[1])
        self.mean, self.basis = (
            principal_components(rows, self.components) if self.components else (rows.mean(0), no_basis)
        )

    def reconstruct(self, slices: Tensor) -> Tensor:
        """Projection of slices (B, C, H, W) on the components."""
        centred = slices.flatten(1) - self.mean
        return (self.mean + centred @ self.basis.T @ self.basis).reshape(slices.shape)


class AutoencoderBaseline(ReconstructionBaseline):
    """Small convolutional autoencoder, trained with mean squared error and Adam at 1e-3.

    Args:
        epochs: passes over the training slices.
        seed: seed of weights and batches; the global generators are not changed.
        rule: score of a map over a foreground.
        latent: dimension of the bottleneck.
    """

    def __init__(self, epochs: int, seed: int, rule: ScoreRule, latent: int = 32) -> None:
        super().__init__(rule)
        self.epochs = epochs
        self.seed = seed
        self.latent = latent

    def _fit(self, train: Tensor) -> None:
        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            self.network = ConvolutionalAutoencoder(self.shape, self.latent).to(train.device)
            optimizer = torch.optim.Adam(self.network.parameters(), lr=1e-3)
            for _ in range(self.epochs):
                for batch in torch.randperm(len(train)).to(train.device).split(32):
                    loss = F.mse_loss(self.network(train[batch]), train[batch])
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
        self.network.eval().requires_grad_(False)

    def reconstruct(self, slices: Tensor) -> Tensor:
        """Output of the autoencoder for slices (B, C, H, W), in [0, 1]."""
        return self.network(slices)


class ConvolutionalAutoencoder(nn.Module):
    """Four strided convolutions to a vector and four back; (B, C, H, W) -> (B, C, H, W) in [0, 1], any H and W.

    Args:
        shape: (C, H, W) of the images.
        latent: dimension of the vector.
        widths: channels of the convolutions.
    """

    def __init__(self, shape: Sequence[int], latent: int, widths: tuple[int, ...] = (16, 32, 64, 64)) -> None:
        super().__init__()
        channels = (shape[0], *widths)
        self.size = shape[1:]
        self.inner = (widths[-1], *(-(-side // 2 ** len(widths)) for side in self.size))
        features = self.inner[0] * self.inner[1] * self.inner[2]
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for wide, narrow in zip(channels, channels[1:]):
            down += [nn.Conv2d(wide, narrow, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
            up = [nn.ConvTranspose2d(narrow, wide, 4, stride=2, padding=1), nn.LeakyReLU(0.2), *up]
        up[-1] = nn.Sigmoid()
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(features, latent))
        self.decoder = nn.Sequential(nn.Linear(latent, features), nn.Unflatten(1, self.inner), nn.LeakyReLU(0.2), *up)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction; the decoder's sides are multiples of 16 and are cropped."""
        return self.decoder(self.encoder(x))[..., : self.size[0], : self.size[1]]


def principal_components(rows: Tensor, count: int, max_rows: int = 4000) -> tuple[Tensor, Tensor]:
    """Mean (D,) and orthonormal basis (k, D), k <= count, largest variance first, from the Gram matrix of the rows.

    Args:
        rows: (N, D) vectors, usually N << D; of more than `max_rows`, evenly spaced ones are used for the basis.
        count: number of components; fewer are returned if the rows span fewer.
        max_rows: largest side of the Gram matrix.
    """
    mean = rows.mean(0)
    if len(rows) > max_rows:
        rows = rows[torch.linspace(0, len(rows) - 1, max_rows, device=rows.device).long()]
    centred = rows - mean
    values, vectors = torch.linalg.eigh((centred @ centred.T).double())
    values, vectors = values.flip(0)[:count], vectors.flip(1)[:, :count]
    kept = values > values[0].clamp(min=1e-12) * 1e-6
    basis = (vectors[:, kept] / values[kept].sqrt()).T.to(rows.dtype) @ centred
    return mean, F.normalize(basis, dim=1)
