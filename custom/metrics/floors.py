"""Floors: simple detectors that any learned method must beat, fitted on the same healthy training slices.

Each floor has ``score(study (C, X, Y, Z)) -> float`` and ``map(study) -> (1, X, Y, Z) or None``, larger = more
abnormal. Studies are stacks of slices along Z, values in [0, 1], on the training slices' grid or larger: a larger slice
is reconstructed in overlapping windows, as the method's own network does it.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from sklearn.covariance import LedoitWolf
from torch import Tensor, nn

from custom.errors import NomalyError
from custom.inferers.slices import SliceWiseInferer
from custom.scoring.score import StudyScore, foreground

logger = logging.getLogger(__name__)
ScoreRule = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def fit_floors(train: Tensor, epochs: int = 20, seed: int = 0, score: ScoreRule | None = None) -> dict[str, Floor]:
    """All floors, fitted.

    Args:
        train: (N, C, H, W) healthy slices in [0, 1].
        epochs: passes over `train` for the autoencoder.
        seed: seed of the autoencoder's weights and batches; the other floors draw nothing.
        score: rule (map (1, *S), foreground (1, *S), study, reconstruction (C, *S)) -> score of the floors that
            reconstruct: give the method's own; None = ``StudyScore("top_q")``.

    Returns:
        "brightness", "histogram", "mean_image", "pca", "autoencoder" -> floor.
    """
    if train.ndim != 4 or len(train) < 2:
        raise NomalyError(f"train must be at least 2 slices (N, C, H, W), got the shape {tuple(train.shape)}.")
    score = score or StudyScore("top_q")
    floors: dict[str, Floor] = {
        "brightness": BrightnessFloor(),
        "histogram": HistogramFloor(),
        "mean_image": PcaFloor(0, score),
        "pca": PcaFloor(32, score),
        "autoencoder": AutoencoderFloor(epochs, seed, score),
    }
    for name, floor in floors.items():
        floor.fit(train.float())
        logger.info("Fitted the floor %s on %d slices.", name, len(train))
    return floors


def reference_errors(train: Tensor, validation: Tensor, components: tuple[int, ...] = (8, 32)) -> dict[str, float]:
    """Summed squared error an image of the mean image and of PCA reconstructions of healthy validation slices.

    A method whose healthy error does not come below them has learned no more than a linear model.

    Args:
        train: (N, C, H, W) slices on which mean and components are fitted.
        validation: (M, C, H, W) slices whose error is told, averaged over the M images.
        components: numbers of principal components.

    Returns:
        {"mean_image": ..., "pca_8": ..., "pca_32": ...}, in squared intensity.
    """
    mean, basis = principal_components(train.float().flatten(1), max(components))
    centred = validation.float().flatten(1) - mean
    coordinates = centred @ basis.T
    energy = centred.square().sum(1)
    # the basis is orthonormal: what k components explain is the sum of k squared coordinates
    errors = {f"pca_{k}": (energy - coordinates[:, :k].square().sum(1)).mean().item() for k in components}
    return {"mean_image": energy.mean().item(), **errors}


def principal_components(rows: Tensor, count: int, max_rows: int = 4000) -> tuple[Tensor, Tensor]:
    """Mean (D,) and orthonormal basis (k, D), k <= count, largest variance first, by the rows' Gram matrix.

    Args:
        rows: (N, D) vectors, N usually far below D; beyond `max_rows`, evenly spaced ones are used for the basis.
        count: number of components; fewer come back where the rows span fewer.
        max_rows: bound on the side of the Gram matrix.
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


class Floor(ABC):
    """A simple detector of unusual studies."""

    shape: tuple[int, ...] = ()

    def fit(self, train: Tensor) -> None:
        """Learn from healthy slices (N, C, H, W)."""
        self.shape = tuple(train.shape[1:])
        self._fit(train)

    @abstractmethod
    def _fit(self, train: Tensor) -> None:
        """Learn from healthy slices, float32 (N, C, H, W)."""

    @abstractmethod
    def score(self, study: Tensor) -> float:
        """Score of a study (C, X, Y, Z), larger = more abnormal."""

    def map(self, study: Tensor) -> Tensor | None:
        """Anomaly map (1, X, Y, Z) of a study, or None for a floor that has none."""
        return None

    def slices(self, study: Tensor) -> Tensor:
        """(C, X, Y, Z) -> (Z, C, X, Y), after a check against the training slices."""
        fits = study.ndim == 4 and study.shape[0] == self.shape[0]
        if not fits or study.shape[1] < self.shape[1] or study.shape[2] < self.shape[2]:
            raise NomalyError(
                f"study must be (C, X, Y, Z) = {(*self.shape, 'Z')} as the training slices, or larger, got "
                f"{tuple(study.shape)}: bring it to the network's grid first."
            )
        return study.float().permute(3, 0, 1, 2)


class FeatureFloor(Floor):
    """A floor that scores slices by a number each; a study has the mean over its slices that show a body."""

    @abstractmethod
    def slice_scores(self, slices: Tensor) -> Tensor:
        """(B, C, H, W), each with some foreground -> (B,)."""

    def score(self, study: Tensor) -> float:
        """Mean over the slices that show a body."""
        slices = with_body(self.slices(study))
        if len(slices) == 0:
            raise NomalyError("foreground must hold at least one pixel, got an empty mask: the study shows no body.")
        return self.slice_scores(slices).mean().item()


class BrightnessFloor(FeatureFloor):
    """Distance of a slice's mean foreground intensity from its mean over the training slices."""

    def _fit(self, train: Tensor) -> None:
        self.mean = self._brightness(with_body(train)).mean()

    def slice_scores(self, slices: Tensor) -> Tensor:
        return (self._brightness(slices) - self.mean).abs()

    @staticmethod
    def _brightness(slices: Tensor) -> Tensor:
        mask = body(slices)
        return (slices.mean(1, keepdim=True) * mask).flatten(1).sum(1) / mask.flatten(1).sum(1)


class HistogramFloor(FeatureFloor):
    """Mahalanobis distance of a slice's foreground histogram, with the shrunk covariance of Ledoit and Wolf (2004).

    Args:
        bins: number of bins over [0, 1].
    """

    def __init__(self, bins: int = 64) -> None:
        self.bins = bins

    def _fit(self, train: Tensor) -> None:
        self.law = LedoitWolf().fit(self._histograms(with_body(train)).cpu().numpy())

    def slice_scores(self, slices: Tensor) -> Tensor:
        return torch.from_numpy(self.law.mahalanobis(self._histograms(slices).cpu().numpy())).sqrt()

    def _histograms(self, slices: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, bins), shares of the foreground."""
        index = (slices.mean(1) * self.bins).long().clamp(0, self.bins - 1).flatten(1)
        mask = body(slices).flatten(1).double()
        counts = torch.zeros(len(slices), self.bins, dtype=torch.float64, device=slices.device)
        return counts.scatter_add_(1, index, mask) / mask.sum(1, keepdim=True)


class ReconstructionFloor(Floor):
    """A floor that reconstructs slices; its map is the mean over channels of |x - x_hat|, its score the given rule."""

    def __init__(self, rule: ScoreRule) -> None:
        self.rule = rule

    @abstractmethod
    def reconstruct(self, slices: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""

    def map(self, study: Tensor) -> Tensor:
        """Mean over channels of |x - x_hat|, (1, X, Y, Z)."""
        return self._compare(study)[0]

    def score(self, study: Tensor) -> float:
        """The rule's score of the map over the foreground of the study and of its reconstruction."""
        return self.rule(*self._compare(study)).item()

    @torch.no_grad()
    def _compare(self, study: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Map, foreground, study and reconstruction."""
        slices = self.slices(study)
        inferer = SliceWiseInferer(window=self.shape[1:], sw_batch_size=max(len(slices), 16))
        reconstruction = inferer(study.float()[None], self.reconstruct)[0]
        residual = (study.float() - reconstruction).abs().mean(0, keepdim=True)
        return residual, foreground(study, reconstruction=reconstruction), study.float(), reconstruction


class PcaFloor(ReconstructionFloor):
    """Reconstruction from the principal components of the training slices.

    Args:
        components: their number; 0 = the mean image.
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
        centred = slices.flatten(1) - self.mean
        return (self.mean + centred @ self.basis.T @ self.basis).reshape(slices.shape)


class AutoencoderFloor(ReconstructionFloor):
    """Small convolutional autoencoder, mean squared error, Adam 1e-3.

    Args:
        epochs: passes over the training slices.
        seed: seed of weights and batches; the global generators are left as they were.
        rule: score of a map over a foreground.
        latent: size of the bottleneck.
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
        return self.network(slices)


class ConvolutionalAutoencoder(nn.Module):
    """Four strided convolutions to a vector and four back; (B, C, H, W) -> (B, C, H, W) in [0, 1], any H and W.

    Args:
        shape: (C, H, W) of the images.
        latent: size of the vector.
    """

    def __init__(self, shape: tuple[int, int, int], latent: int, widths: tuple[int, ...] = (16, 32, 64, 64)) -> None:
        super().__init__()
        channels = (shape[0], *widths)
        self.size = shape[1:]
        self.inner = (widths[-1], *(-(-side // 2 ** len(widths)) for side in self.size))
        features = self.inner[0] * self.inner[1] * self.inner[2]
        down, up = [], []
        for wide, narrow in zip(channels, channels[1:]):
            down += [nn.Conv2d(wide, narrow, 3, stride=2, padding=1), nn.LeakyReLU(0.2)]
            up = [nn.ConvTranspose2d(narrow, wide, 4, stride=2, padding=1), nn.LeakyReLU(0.2), *up]
        up[-1] = nn.Sigmoid()
        self.encoder = nn.Sequential(*down, nn.Flatten(), nn.Linear(features, latent))
        self.decoder = nn.Sequential(nn.Linear(latent, features), nn.Unflatten(1, self.inner), nn.LeakyReLU(0.2), *up)

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruction; the decoder's sides are multiples of 16, what is too much is cut off."""
        return self.decoder(self.encoder(x))[..., : self.size[0], : self.size[1]]


def body(slices: Tensor) -> Tensor:
    """Foreground (B, 1, H, W) of slices (B, C, H, W), as :func:`custom.scoring.score.foreground` draws it."""
    return foreground(slices.transpose(0, 1)).transpose(0, 1)


def with_body(slices: Tensor) -> Tensor:
    """The slices (B, C, H, W) that have some foreground."""
    return slices[body(slices).flatten(1).any(1)]
