"""Anomaly maps: how much each pixel of an image deviates from its pseudo-healthy reconstruction.

Every map is a module with ``forward(image, reconstruction, embed) -> (B, 1, *S)``, float32, never negative, larger =
more abnormal, deterministic, for 2-D and 3-D images with values in [0, 1], and with ``settings()``, see
custom.scoring.settings. `embed` turns images into a list of feature maps (B, C_l, *S_l), in any order of resolution, of
a network in evaluation mode; it is passed at each call, so no map owns that network.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.layers import gaussian_1d, separable_filtering
from torch import Tensor, nn

from custom.errors import NomalyError
from custom.scoring.clahe import equalize_adapthist

Embed = Callable[[Tensor], Sequence[Tensor]]


class SmoothResidualMap(nn.Module):
    """Size of the blurred difference between image and reconstruction, mean over the channels: A = mean |G(x - x_hat)|.

    The difference is blurred before its absolute value is taken, so that errors of fine texture, whose signs alternate,
    cancel, while an anomaly of several pixels remains. Values in [0, 1]. (Not part of either published method.)

    Args:
        sigma: standard deviation of the blur G in pixels; 0 = no blur.
    """

    def __init__(self, sigma: float = 2.0) -> None:
        super().__init__()
        self.blur = GaussianBlur(sigma)

    def forward(self, image: Tensor, reconstruction: Tensor, embed: Embed | None = None) -> Tensor:
        """Map of (B, C, *S) images against their reconstructions, both clamped to [0, 1] first; `embed` is not used."""
        difference = image.float().clamp(0, 1) - reconstruction.float().clamp(0, 1)
        return self.blur(difference).abs().mean(1, keepdim=True)

    def settings(self) -> dict[str, Any]:
        """The settings that scores of this map depend on, see custom.scoring.settings."""
        return {"kind": "smooth_residual", "sigma": self.blur.sigma}


class AdaptiveHistogramPerceptualMap(nn.Module):
    """Product of a residual and of blurred perceptual distances (RA, Bercea et al., arXiv 2401.10637, anomaly score).

    A = |C(x_hat) - C(x)| * G[P(x, x_hat)] * G[P(C(x), C(x_hat))], with C adaptive histogram equalisation, G a Gaussian
    blur and P a perceptual distance. Each factor can be left out by name. The published P is LPIPS; here the default is
    the distance between the detector's own embeddings, the sum over levels of (1 - cosine similarity over the channels)
    interpolated to the image's size, which needs no weights from another source and works in 3-D.

    Values: the residual is in [0, 1], each embedding distance in [0, 2 * levels], and the map is their product; typical
    values are far below 1.

    Args:
        residual: "clahe" (both images equalised first; published), "smooth" (ours), "plain" or "none".
        perceptual: the distance P: "embedding" or "lpips".
        perceptual_raw: multiply by P of the original images.
        perceptual_clahe: multiply by P of the equalised images.
        perceptual_power: exponent > 0 of each perceptual factor; below 1 the residual has more weight (published: 1).
        sigma: standard deviation of the blur G in pixels; 0 = no blur.
        levels: which levels of the embedding to use; None = all.
        lpips_weights: path of torchvision's SqueezeNet 1.1 weights; only for perceptual = "lpips".
        kernel_size: side of an equalisation tile in pixels; None = an eighth of the image's side.
        clip_limit: clip limit of the equalisation.

    Raises:
        NomalyError: an unknown name, no factor left, or LPIPS without its package or weights.
    """

    def __init__(
        self,
        residual: str = "clahe",
        perceptual: str = "embedding",
        perceptual_raw: bool = True,
        perceptual_clahe: bool = True,
        perceptual_power: float = 1.0,
        sigma: float = 2.0,
        levels: Sequence[int] | None = None,
        lpips_weights: str | None = None,
        kernel_size: int | None = None,
        clip_limit: float = 0.01,
    ) -> None:
        super().__init__()
        if residual not in ("clahe", "smooth", "plain", "none"):
            raise NomalyError(f"residual must be 'clahe', 'smooth', 'plain' or 'none', got {residual!r}.")
        if perceptual not in ("embedding", "lpips"):
            raise NomalyError(f"perceptual must be 'embedding' or 'lpips', got {perceptual!r}.")
        if perceptual_power <= 0:
            raise NomalyError(
                f"perceptual_power must be > 0, got {perceptual_power}: to leave a factor out, set perceptual_raw or "
                "perceptual_clahe to false."
            )
        if residual == "none" and not (perceptual_raw or perceptual_clahe):
            raise NomalyError(
                "at least one of residual, perceptual_raw and perceptual_clahe must be enabled, got none."
            )
        self.residual = residual
        self.perceptual_power = perceptual_power
        self.perceptual_raw = perceptual_raw
        self.perceptual_clahe = perceptual_clahe
        self.kernel_size = kernel_size
        self.clip_limit = clip_limit
        needs_lpips = perceptual == "lpips" and (perceptual_raw or perceptual_clahe)
        self.distance: LpipsDistance | EmbeddingDistance
        self.distance = LpipsDistance(lpips_weights) if needs_lpips else EmbeddingDistance(levels)
        self.blur = GaussianBlur(sigma)

    def forward(self, image: Tensor, reconstruction: Tensor, embed: Embed | None = None) -> Tensor:
        """Map of (B, C, *S) images against their reconstructions, both clamped to [0, 1] first."""
        raw = torch.cat([image, reconstruction]).float().clamp(0, 1)
        equalised = self._equalise(raw) if self.residual == "clahe" or self.perceptual_clahe else raw

        factors = []
        if self.residual != "none":
            x, x_hat = (equalised if self.residual == "clahe" else raw).unflatten(0, (2, -1))
            difference = self.blur(x - x_hat) if self.residual == "smooth" else x - x_hat
            factors.append(difference.abs().mean(1, keepdim=True))
        if self.perceptual_raw:
            factors.append(self.blur(self.distance(raw, embed)) ** self.perceptual_power)
        if self.perceptual_clahe:
            factors.append(self.blur(self.distance(equalised, embed)) ** self.perceptual_power)
        return torch.stack(factors).prod(0)

    def settings(self) -> dict[str, Any]:
        """The settings that scores of this map depend on, see custom.scoring.settings."""
        return {
            "kind": "ahe_perceptual",
            "residual": self.residual,
            "perceptual": "lpips" if isinstance(self.distance, LpipsDistance) else "embedding",
            "perceptual_raw": self.perceptual_raw,
            "perceptual_clahe": self.perceptual_clahe,
            "perceptual_power": self.perceptual_power,
            "sigma": self.blur.sigma,
            "levels": getattr(self.distance, "levels", None),
            "kernel_size": self.kernel_size,
            "clip_limit": self.clip_limit,
        }

    def _equalise(self, images: Tensor) -> Tensor:
        return equalize_adapthist(images, kernel_size=self.kernel_size, clip_limit=self.clip_limit)


class EmbeddingDistance(nn.Module):
    """Sum over the levels of an embedding of (1 - cosine similarity over the channels), each level interpolated (bi- or
    trilinear) to the image's size.

    Args:
        levels: indices into the list that `embed` returns; None = all.
    """

    def __init__(self, levels: Sequence[int] | None = None) -> None:
        super().__init__()
        self.levels = None if levels is None else tuple(levels)

    def forward(self, pairs: Tensor, embed: Embed | None) -> Tensor:
        """Distance in [0, 2 * levels] between the first and the second half of (2B, C, *S) -> (B, 1, *S)."""
        if embed is None:
            raise NomalyError("perceptual='embedding' needs `embed`, a callable that returns feature maps, got None.")
        features = embed(pairs)
        levels = range(len(features)) if self.levels is None else self.levels
        if not set(levels) <= set(range(len(features))):
            raise NomalyError(f"levels must be within 0 to {len(features) - 1} for this detector, got {list(levels)}.")
        total = pairs.new_zeros(pairs.shape[0] // 2, 1, *pairs.shape[2:])
        mode = "bilinear" if pairs.ndim == 4 else "trilinear"
        for level in levels:
            first, second = features[level].float().unflatten(0, (2, -1))
            distance = (1 - F.cosine_similarity(first, second, dim=1)).clamp(min=0).unsqueeze(1)
            total += F.interpolate(distance, size=pairs.shape[2:], mode=mode, align_corners=False)
        return total


class LpipsDistance(nn.Module):
    """LPIPS (Zhang et al., CVPR 2018) with SqueezeNet as a map, for 2-D images of 1 (repeated) or 3 channels.

    Args:
        weights: path of torchvision's ``squeezenet1_1`` state dict. Nothing is downloaded.
    """

    def __init__(self, weights: str | None) -> None:
        super().__init__()
        try:
            lpips = importlib.import_module("lpips")
        except ImportError as error:
            raise NomalyError(
                "perceptual='lpips' needs the package lpips, which is not installed: run `pip install .[lpips]`, "
                "or choose perceptual='embedding'."
            ) from error
        if weights is None or not Path(weights).is_file():
            raise NomalyError(
                "lpips_weights must be the path of torchvision's squeezenet1_1 weights (squeezenet1_1-b8a52dc0.pth), "
                f"got {weights}: nothing is downloaded at run time; download the file once and give its path."
            )
        self.network = lpips.LPIPS(net="squeeze", spatial=True, pnet_rand=True, verbose=False)
        self._load_backbone(weights)
        self.network.eval().requires_grad_(False)

    def _load_backbone(self, weights: str) -> None:
        """torchvision names a layer "features.3.x", lpips "slice2.3.x": match them by what follows the first dot."""
        backbone = self.network.net
        names = {name.split(".", 1)[1]: name for name in backbone.state_dict()}
        state = torch.load(weights, map_location="cpu", weights_only=True)
        features = {key.removeprefix("features."): value for key, value in state.items() if key.startswith("features.")}
        if not names.keys() <= features.keys():
            raise NomalyError(
                f"lpips_weights must be torchvision's squeezenet1_1 state dict, but {weights} has other keys."
            )
        backbone.load_state_dict({name: features[key] for key, name in names.items()})

    def forward(self, pairs: Tensor, embed: Embed | None = None) -> Tensor:
        """Distance >= 0 between the first and second half of (2B, C, H, W) -> (B, 1, H, W); `embed` is not used."""
        if pairs.ndim != 4 or pairs.shape[1] not in (1, 3):
            raise NomalyError(
                f"perceptual='lpips' takes 2-D images of 1 or 3 channels, got the shape {tuple(pairs.shape)}: choose "
                "perceptual='embedding'."
            )
        first, second = pairs.expand(-1, 3, -1, -1).chunk(2)
        return self.network(first, second, normalize=True)


class GaussianBlur(nn.Module):
    """Separable Gaussian, truncated at 4 standard deviations, with replicated borders: a constant stays a constant.

    Args:
        sigma: standard deviation in pixels; 0 = no blur.
    """

    kernel: Tensor | None

    def __init__(self, sigma: float) -> None:
        super().__init__()
        if sigma < 0:
            raise NomalyError(f"sigma must be >= 0 pixels, got {sigma}.")
        self.sigma = sigma
        kernel = gaussian_1d(torch.tensor(float(sigma))) if sigma > 0 else None
        self.register_buffer("kernel", None if kernel is None else kernel / kernel.sum(), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, *S) -> (B, C, *S), in the image's own type even under autocast, which is meant for the network."""
        if self.kernel is None:
            return image
        with torch.autocast(image.device.type, enabled=False):
            return separable_filtering(image, [self.kernel] * (image.ndim - 2), mode="replicate")
