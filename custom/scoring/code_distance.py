"""How far the latent code of an image is from those of healthy images."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from custom.errors import NomalyError
from custom.scoring.expected_residual import check_images

NOTHING = -1e30  # logarithm of the weight of a component that is not used


class CodeDistance(nn.Module):
    """Distance of a latent code from the codes of healthy images: sqrt(2 (log p_max - log p(code)) / D).

    A large or diffuse anomaly, such as a polyp that fills the image, is partly reconstructed and thus missing from the
    map, but it moves the code. The density p is a mixture of Gaussians with full covariances in the first D principal
    components of the healthy codes; with one component, the distance is that of Mahalanobis over the root of D. About 1
    for healthy images, larger = more abnormal. (A density of codes as in Lee et al., NeurIPS 2018, and Zong et al.,
    ICLR 2018; not part of either published method.)

    Before it is fitted, the distance is 1. The mixture is stored with the detector's weights, as buffers.

    Args:
        size: dimensions of the code.
        components: largest number of Gaussians; fewer if there are not three images per dimension for each.
        ridge: share of the mean variance that is added to each variance, > 0.
        dimensions: largest number of principal components.

    Raises:
        NomalyError: a setting out of range.
    """

    centre: Tensor
    basis: Tensor
    means: Tensor
    whitening: Tensor
    offsets: Tensor
    peak: Tensor
    images: Tensor

    def __init__(self, size: int, components: int = 4, ridge: float = 1e-2, dimensions: int = 32) -> None:
        super().__init__()
        if components < 1 or dimensions < 1:
            raise NomalyError(f"components and dimensions must be at least 1, got {components} and {dimensions}.")
        if ridge <= 0:
            raise NomalyError(f"ridge must be > 0, got {ridge}.")
        self.components = components
        self.ridge = ridge
        self.dimensions = min(size, dimensions)
        self.register_buffer("centre", torch.zeros(size))
        self.register_buffer("basis", torch.zeros(size, self.dimensions))
        self.register_buffer("means", torch.zeros(components, self.dimensions))
        self.register_buffer("whitening", torch.zeros(components, self.dimensions, self.dimensions))
        self.register_buffer("offsets", torch.zeros(components))
        self.register_buffer("peak", torch.zeros(()))
        self.register_buffer("images", torch.zeros((), dtype=torch.int64))

    def forward(self, codes: Tensor) -> Tensor:
        """Distances (B,) >= 0 of codes (B, L)."""
        reduced = (codes.float() - self.centre) @ self.basis
        density = log_densities(reduced, self.means, self.whitening, self.offsets).logsumexp(1)
        distance = (2 * (self.peak - density) / self.dimensions).clamp(min=0).sqrt()
        return torch.where(self.images > 0, distance, torch.ones_like(distance))

    def fit(self, codes: Tensor, seed: int = 0) -> None:
        """Estimate the mixture from codes (N, L) of healthy images.

        The result depends on the codes, the settings and ``seed`` only.

        Raises:
            NomalyError: too few images, or codes that are all equal or not finite.
        """
        check_images(len(codes), "distance of latent codes")
        from sklearn.mixture import GaussianMixture  # only here: its import takes a second

        codes = codes.detach().double().cpu()
        variance = codes.var(0).mean().item()
        if not (math.isfinite(variance) and variance > 0):
            raise NomalyError(
                "latent codes of healthy images must be finite and differ, got a mean variance of "
                f"{variance:g}: check the weights and the training images."
            )
        centred = codes - codes.mean(0)
        axes = torch.linalg.svd(centred, full_matrices=False)[2][: self.dimensions]
        used, count = len(axes), min(max(len(codes) // (3 * len(axes)), 1), self.components)
        mixture = GaussianMixture(count, reg_covar=self.ridge * variance, random_state=seed)
        mixture.fit((centred @ axes.T).numpy())
        means, whitening = torch.from_numpy(mixture.means_), torch.from_numpy(mixture.precisions_cholesky_).mT
        offsets = torch.from_numpy(mixture.weights_).log() + whitening.diagonal(dim1=1, dim2=2).log().sum(1)
        for buffer in (self.basis, self.means, self.whitening):
            buffer.zero_()
        self.centre.copy_(codes.mean(0))
        self.basis[:, :used] = axes.T
        self.means[:count, :used] = means
        self.whitening[:count, :used, :used] = whitening
        self.offsets.fill_(NOTHING)
        self.offsets[:count] = offsets
        self.peak.copy_(log_densities(means, means, whitening, offsets).logsumexp(1).max())
        self.images.fill_(len(codes))

    def settings(self) -> dict[str, Any]:
        """The settings that distances depend on, see custom.scoring.settings."""
        return {
            "kind": "gaussian_mixture",
            "components": self.components,
            "ridge": self.ridge,
            "dimensions": self.dimensions,
        }


def log_densities(x: Tensor, means: Tensor, whitening: Tensor, offsets: Tensor) -> Tensor:
    """Logarithms (B, K) of weight times density of x (B, D) in K Gaussians, but for a constant.

    Args:
        x: points.
        means: (K, D).
        whitening: matrices (K, D, D) that turn deviations from the mean into independent standard normal numbers.
        offsets: logarithms (K,) of weight times determinant of ``whitening``.
    """
    deviations = (x.unsqueeze(0) - means.unsqueeze(1)) @ whitening.transpose(1, 2)
    return (offsets.unsqueeze(1) - 0.5 * deviations.square().sum(2)).T
