"""The residual introspective variational autoencoder of RA (Bercea et al., MIDL 2023; arXiv 2401.10637), in 2-D and
3-D.

The architecture is that of the residual Soft-IntroVAE (Daniel and Tamar, CVPR 2021), with a sigmoid after the decoder.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.layers.factories import Conv, Pool
from monai.utils import ensure_tuple_rep
from torch import nn

from custom.errors import NomalyError
from custom.networks.norms import convolve_and_normalise, make_norm


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, which is a 1x1 convolution if the number of channels changes.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the input (B, in_channels, *S).
        out_channels: channels of the output (B, out_channels, *S).
        norm: normalisation, see :func:`custom.networks.norms.make_norm`.
    """

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, norm: str) -> None:
        super().__init__()
        conv = Conv[Conv.CONV, spatial_dims]
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else conv(in_channels, out_channels, 1, bias=False)
        self.conv1 = conv(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm1 = make_norm(norm, spatial_dims, out_channels)
        self.conv2 = conv(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = make_norm(norm, spatial_dims, out_channels)
        self.activation = nn.LeakyReLU(0.2, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Features (B, out_channels, *S) of x (B, in_channels, *S)."""
        out = self.activation(convolve_and_normalise(self.conv1, self.norm1, x))
        return self.activation(convolve_and_normalise(self.conv2, self.norm2, out) + self.shortcut(x))


class Encoder(nn.Module):
    """Image to the posterior N(mu, exp(logvar)) and intermediate embeddings, one for each halving of the size.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        image_size: side lengths of the image, each divisible by ``2 ** len(channels)``.
        channels: width of each level; each level halves the size.
        latent_size: number of latent dimensions.
        norm: normalisation, see :func:`custom.networks.norms.make_norm`.
    """

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        image_size: Sequence[int],
        channels: Sequence[int],
        latent_size: int,
        norm: str,
    ) -> None:
        super().__init__()
        self.pool = Pool[Pool.AVG, spatial_dims](2)
        self.stem = nn.Sequential(
            Conv[Conv.CONV, spatial_dims](in_channels, channels[0], 5, padding=2, bias=False),
            make_norm(norm, spatial_dims, channels[0]),
            nn.LeakyReLU(0.2, inplace=True),
        )
        self.blocks = nn.ModuleList(
            ResidualBlock(spatial_dims, width, next_width, norm) for width, next_width in zip(channels, channels[1:])
        )
        self.bottom = ResidualBlock(spatial_dims, channels[-1], channels[-1], norm)
        self.posterior = nn.Linear(bottom_features(image_size, channels), 2 * latent_size)

    def embed(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The pooled output of every level, finest first: (B, channels[l], *S / 2 ** (l + 1))."""
        conv, norm, activation = self.stem
        features = [self.pool(activation(convolve_and_normalise(conv, norm, x)))]
        for block in self.blocks:
            features.append(self.pool(block(features[-1])))
        return features

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        """mu (B, latent_size), logvar (B, latent_size) and the embeddings of :meth:`embed`."""
        features = self.embed(x)
        mu, logvar = self.posterior(self.bottom(features[-1]).flatten(1)).chunk(2, dim=1)
        return mu, logvar, features


class Decoder(nn.Module):
    """Latent code (B, latent_size) to an image (B, out_channels, *S) in [0, 1]. Arguments as :class:`Encoder`."""

    def __init__(
        self,
        spatial_dims: int,
        out_channels: int,
        image_size: Sequence[int],
        channels: Sequence[int],
        latent_size: int,
        norm: str,
    ) -> None:
        super().__init__()
        self.bottom_shape = (channels[-1], *bottom_size(image_size, channels))
        self.project = nn.Sequential(nn.Linear(latent_size, bottom_features(image_size, channels)), nn.ReLU())
        widths = [channels[-1], *reversed(channels)]
        self.blocks = nn.ModuleList(
            ResidualBlock(spatial_dims, width, next_width, norm) for width, next_width in zip(widths, widths[1:])
        )
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.top = ResidualBlock(spatial_dims, channels[0], channels[0], norm)
        self.predict = Conv[Conv.CONV, spatial_dims](channels[0], out_channels, 5, padding=2)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Image (B, out_channels, *S) in [0, 1] from the code z (B, latent_size)."""
        x = self.project(z).unflatten(1, self.bottom_shape)
        for block in self.blocks:
            x = self.upsample(block(x))
        return torch.sigmoid(self.predict(self.top(x)))


class ReversedAutoencoder(nn.Module):
    """Encoder and decoder of RA: from an image to its pseudo-healthy reconstruction.

    ``reconstruct`` (and ``forward``) decode the posterior's mean, so that scores are reproducible; ``sample`` draws
    from the posterior, as the official code does even at test time. If two neighbouring levels have the same width, the
    shortcut is the identity (29,430,785 parameters for the paper's sizes); the official code adds a 1x1 convolution
    there if its sizes are read from a file.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        image_size: side length, or one for each dimension; divisible by ``2 ** len(channels)``.
        channels: width of each level, finest first.
        latent_size: number of latent dimensions.
        norm: "batch", "frozen" (BatchNorm never in training mode: what the official code does) or "group".

    Raises:
        NomalyError: ``spatial_dims`` or ``norm`` unknown, or an ``image_size`` that is not divisible.
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 128,
        channels: Sequence[int] = (64, 128, 256, 512, 512),
        latent_size: int = 128,
        norm: str = "batch",
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise NomalyError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
        self.in_channels = in_channels
        self.image_size = tuple(ensure_tuple_rep(image_size, spatial_dims))
        self.latent_size = latent_size
        step = 2 ** len(channels)
        if any(side % step or side < step for side in self.image_size):
            raise NomalyError(
                f"image_size must be divisible by 2 ** len(channels) = {step}, got {self.image_size}: "
                f"choose multiples of {step} or fewer channels."
            )
        plan = (spatial_dims, in_channels, self.image_size, channels, latent_size, norm)
        self.encoder = Encoder(*plan)
        self.decoder = Decoder(*plan)

    def encode(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Posterior of x (B, C, *S): mu and logvar, each (B, latent_size)."""
        mu, logvar, _ = self.encoder(x)
        return mu, logvar

    def latent(self, x: torch.Tensor) -> torch.Tensor:
        """Code (B, latent_size) of x (B, C, *S): the posterior's mean, deterministic."""
        return self.encode(x)[0]

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Image (B, C, *S) in [0, 1] from the code z (B, latent_size)."""
        return self.decoder(z)

    def embed(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Multi-scale embeddings of x (B, C, *S), finest first."""
        return self.encoder.embed(x)

    def reconstruct(self, x: torch.Tensor) -> torch.Tensor:
        """Pseudo-healthy image of x (B, C, *S), from the posterior's mean: deterministic."""
        return self.reconstruct_with_code(x)[0]

    def reconstruct_with_code(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The results of :meth:`reconstruct` and :meth:`latent` for x (B, C, *S), from one pass of the encoder."""
        code = self.latent(x)
        return self.decode(code), code

    def sample(self, x: torch.Tensor) -> torch.Tensor:
        """Pseudo-healthy image of x (B, C, *S), from a sample of the posterior: random."""
        mu, logvar = self.encode(x)
        return self.decode(reparameterise(mu, logvar, torch.randn_like(mu)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As :meth:`reconstruct`."""
        return self.reconstruct(x)


def reparameterise(mu: torch.Tensor, logvar: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Sample of N(mu, exp(logvar)) from standard normal ``noise``; all (B, latent_size)."""
    return mu + torch.exp(0.5 * logvar) * noise


def bottom_size(image_size: Sequence[int], channels: Sequence[int]) -> tuple[int, ...]:
    """Side lengths after one halving for each level."""
    return tuple(side // 2 ** len(channels) for side in image_size)


def bottom_features(image_size: Sequence[int], channels: Sequence[int]) -> int:
    """Number of values of the coarsest feature map."""
    return channels[-1] * torch.Size(bottom_size(image_size, channels)).numel()
