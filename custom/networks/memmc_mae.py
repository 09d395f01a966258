"""MemMC-MAE: memory-augmented multi-level cross-attentional masked autoencoder.

Source: Tian et al., arXiv 2203.11725 (MLMI 2023), which publishes no code and few settings: widths, depths, number of
slots and masks are our choices, each an argument. See :mod:`custom.networks.attention` for the operators.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.blocks.pos_embed_utils import build_sincos_position_embedding
from monai.utils import ensure_tuple_rep
from torch import Tensor, nn

from custom.errors import NomalyError
from custom.networks.attention import DecoderBlock, EncoderBlock, linear
from custom.networks.patches import (
    complementary_visible,
    hidden_patches,
    patchify,
    random_visible,
    take,
    unpatchify,
    visible_count,
)


class MemMCMaskedAutoencoder(nn.Module):
    """Masked autoencoder that reconstructs the masked patches of an image from the few visible ones.

    The encoder, whose blocks have memory slots, sees only the visible patches. The decoder, with a learned token at
    each masked position, attends to itself and to the outputs of all encoder blocks. Positions are sines and cosines.
    Only masked patches are reconstructed: the last decoder block computes nothing for the visible ones.

    At inference a fixed ensemble of complementary masks masks every patch equally often. The pseudo-healthy value of a
    pixel is the mean over the masks that hide it, so the pixel itself never contributes to its reconstruction.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the images.
        image_size: sides of the images in pixels; one number for equal sides.
        patch_size: sides of a patch in pixels; must divide those of the image.
        hidden_size: channels of the encoder's tokens, a multiple of 2 * spatial_dims.
        depth: number of encoder blocks.
        num_heads: heads of the encoder.
        decoder_hidden_size: channels of the decoder's tokens, a multiple of 2 * spatial_dims.
        decoder_depth: number of decoder blocks.
        decoder_num_heads: heads of the decoder.
        mlp_ratio: width of the MLPs in units of the channels.
        memory_slots: memory slots of each encoder block; 0 = none.
        levels: number of last encoder blocks whose outputs the decoder attends to; None = all, 1 = standard
            cross-attention, 0 = no cross-attention (the decoder of the plain masked autoencoder).
        level_normalisation: "sqrt", "mean" or "sum", see custom.networks.attention.MultiLevelCrossAttention.
        mask_ratio: share of patches that are masked, in training and at inference.
        masks: number of masks of the ensemble.
        mask_seed: seed of the ensemble.
        masks_per_pass: number of masks of the ensemble processed at once; None = all.

    Raises:
        NomalyError: a number out of range, sizes that do not divide, mask_ratio outside (0, 1), or a number of masks
            that cannot mask every patch equally often.
    """

    positions: Tensor
    decoder_positions: Tensor
    ensemble: Tensor
    ensemble_hidden: Tensor
    ensemble_places: Tensor

    def __init__(
        self,
        spatial_dims: int,
        in_channels: int,
        image_size: int | Sequence[int],
        patch_size: int | Sequence[int],
        hidden_size: int = 256,
        depth: int = 4,
        num_heads: int = 8,
        decoder_hidden_size: int = 128,
        decoder_depth: int = 1,
        decoder_num_heads: int = 4,
        mlp_ratio: float = 4.0,
        memory_slots: int = 40,
        levels: int | None = None,
        level_normalisation: str = "sqrt",
        mask_ratio: float = 0.75,
        masks: int = 8,
        mask_seed: int = 0,
        masks_per_pass: int | None = None,
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise NomalyError(f"spatial_dims must be 2 or 3, got {spatial_dims}.")
        if masks_per_pass is not None and masks_per_pass < 1:
            raise NomalyError(f"masks_per_pass must be >= 1, or null for all masks at once, got {masks_per_pass}.")
        self.in_channels = in_channels
        self.image_size = ensure_tuple_rep(image_size, spatial_dims)
        self.patch_size = ensure_tuple_rep(patch_size, spatial_dims)
        self.grid = patch_grid(self.image_size, self.patch_size)
        self.levels = check_levels(levels, depth)
        self.mask_ratio = mask_ratio
        self.masks_per_pass = masks_per_pass
        self.num_patches, self.patch_values = math.prod(self.grid), in_channels * math.prod(self.patch_size)
        self.num_visible = visible_count(self.num_patches, mask_ratio)

        self.patch_embedding = linear(self.patch_values, hidden_size)
        self.encoder = nn.ModuleList(
            EncoderBlock(hidden_size, num_heads, mlp_ratio, memory_slots) for _ in range(depth)
        )
        self.encoder_norm = nn.LayerNorm(hidden_size)
        self.level_norms = nn.ModuleList(nn.LayerNorm(hidden_size) for _ in range(self.levels))
        self.decoder_embedding = linear(hidden_size, decoder_hidden_size)
        self.mask_token = nn.Parameter(torch.randn(1, 1, decoder_hidden_size) * 0.02)
        self.decoder = nn.ModuleList(
            DecoderBlock(
                decoder_hidden_size, hidden_size, decoder_num_heads, mlp_ratio, self.levels, level_normalisation
            )
            for _ in range(decoder_depth)
        )
        self.decoder_norm = nn.LayerNorm(decoder_hidden_size)
        self.head = linear(decoder_hidden_size, self.patch_values)

        for name, size in (("positions", hidden_size), ("decoder_positions", decoder_hidden_size)):
            self.register_buffer(name, sincos_positions(self.grid, size), persistent=False)
        self.mask_settings = {"mask_ratio": mask_ratio, "mask_seed": mask_seed}
        ensemble = complementary_visible(self.grid, self.num_visible, masks, mask_seed)
        self.register_buffer("ensemble", ensemble, persistent=False)
        hidden = hidden_patches(ensemble, self.num_patches)
        self.register_buffer("ensemble_hidden", hidden, persistent=False)
        # (N, R): where each patch is among the hidden ones of all masks, in the order of the masks
        places = hidden.flatten().argsort(stable=True).unflatten(0, (self.num_patches, -1))
        self.register_buffer("ensemble_places", places, persistent=False)

    def forward(self, image: Tensor, visible: Tensor) -> Tensor:
        """Reconstructed patches (B, N, C * patch pixels) of images (B, C, *S), given the indices ``visible`` (B, V) of
        the visible patches; 0 for these, which are not reconstructed.
        """
        self.check_image(image)
        check_visible(visible, image.shape[0], self.num_patches)
        hidden = hidden_patches(visible, self.num_patches)
        patches = take(patchify(image, self.patch_size), visible)
        tokens = self.patch_embedding(patches) + take(self.positions.expand(len(visible), -1, -1), visible)
        predicted = self.decode(*self.encode(tokens), visible, hidden)
        everywhere = predicted.new_zeros(len(visible), self.num_patches, self.patch_values)
        return everywhere.scatter(1, hidden.unsqueeze(-1).expand_as(predicted), predicted)

    def draw_visible(self, batch_size: int) -> Tensor:
        """Random indices (batch_size, V) of visible patches, on the network's device."""
        return random_visible(batch_size, self.num_patches, self.num_visible, self.positions.device)

    def embed_all(self, image: Tensor) -> Tensor:
        """Embedded patches (B, N, D) of images (B, C, *S), with their positions."""
        return self.patch_embedding(patchify(image, self.patch_size)) + self.positions

    def encode(self, tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Tokens (B, V, D) of embedded visible patches (B, V, D), and the outputs of the last ``levels`` blocks."""
        outputs = []
        for block in self.encoder:
            tokens = block(tokens)
            outputs.append(tokens)
        return self.encoder_norm(tokens), outputs[len(outputs) - self.levels :]

    def latent(self, image: Tensor) -> Tensor:
        """Code (B, hidden_size) of images (B, C, *S): the mean of the encoder's tokens with all patches visible."""
        self.check_image(image)
        return self.encode(self.embed_all(image))[0].mean(1)

    def decode(self, tokens: Tensor, outputs: Sequence[Tensor], visible: Tensor, hidden: Tensor) -> Tensor:
        """Hidden patches (B, N - V, C * patch pixels) from the encoder's tokens and levels.

        Args:
            tokens: (B, V, D).
            outputs: of the last ``levels`` encoder blocks, each (B, V, D).
            visible: indices (B, V).
            hidden: indices (B, N - V) of all others.
        """
        seen = self.decoder_embedding(tokens)
        everywhere = self.mask_token.to(seen.dtype).expand(seen.shape[0], self.num_patches, -1)
        y = everywhere.scatter(1, visible.unsqueeze(-1).expand_as(seen), seen) + self.decoder_positions
        context = torch.stack([norm(x) for norm, x in zip(self.level_norms, outputs)]) if self.levels else None
        *blocks, last = self.decoder
        for block in blocks:
            y = block(y, context)
        return self.head(self.decoder_norm(last(y, context, hidden)))

    def reconstruct(self, image: Tensor) -> Tensor:
        """Pseudo-healthy image of (B, C, *S) in [0, 1]: the mean over the masks."""
        return self.ensemble_statistics(image)[0].clamp(0, 1)

    def settings(self) -> dict[str, Any]:
        """The settings that pseudo-healthy images depend on besides the weights, see custom.scoring.settings."""
        return {"kind": "complementary_masks", "masks": len(self.ensemble), **self.mask_settings}

    def ensemble_statistics(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each pixel over the masks that hide it, both (B, C, *S), float32."""
        self.check_image(image)
        embedded = self.embed_all(image)  # once: each patch is visible under several masks
        size = self.masks_per_pass or len(self.ensemble)
        passes = zip(self.ensemble.split(size), self.ensemble_hidden.split(size))
        predicted = torch.cat([self.predict_hidden(embedded, *masks) for masks in passes], 1)
        runs = predicted.flatten(1, 2)[:, self.ensemble_places]  # (B, N, R, values): each patch under R masks
        mean = runs.mean(2)
        deviation = (runs - mean.unsqueeze(2)).square().mean(2).sqrt()
        return unpatchify(mean, self.patch_size, self.grid), unpatchify(deviation, self.patch_size, self.grid)

    def predict_hidden(self, embedded: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """Hidden patches (B, K, N - V, values), float32, of embedded patches (B, N, D) under each of K masks, given as
        indices of the visible (K, V) and the hidden ones (K, N - V).
        """
        batch, masks = embedded.shape[0], len(visible)
        codes = self.encode(embedded[:, visible].flatten(0, 1))
        places = (part.expand(batch, -1, -1).flatten(0, 1) for part in (visible, hidden))
        return self.decode(*codes, *places).float().unflatten(0, (batch, masks))

    def check_image(self, image: Tensor) -> None:
        """Reject images whose shape is not the network's."""
        expected = (self.in_channels, *self.image_size)
        if tuple(image.shape[1:]) != expected:
            raise NomalyError(
                f"image must have the shape (B, {', '.join(map(str, expected))}), got {tuple(image.shape)}: resize "
                "it, or set image_size and in_channels to those of the image."
            )


def sincos_positions(grid: Sequence[int], size: int) -> Tensor:
    """Fixed sine-cosine positions (1, N, size)."""
    if size % (2 * len(grid)):
        raise NomalyError(
            f"hidden sizes must be multiples of {2 * len(grid)} for a grid of {len(grid)} axes, got {size}."
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*meshgrid.*")  # MONAI omits its argument indexing
        return build_sincos_position_embedding(list(grid), size, len(grid)).detach().clone()


def patch_grid(image_size: Sequence[int], patch_size: Sequence[int]) -> tuple[int, ...]:
    """Number of patches along each axis."""
    if any(patch < 1 or side % patch for side, patch in zip(image_size, patch_size)):
        raise NomalyError(
            f"patch_size must divide image_size along each axis, got {list(patch_size)} for {list(image_size)}: choose "
            "an image_size that is a multiple of patch_size."
        )
    grid = tuple(side // patch for side, patch in zip(image_size, patch_size))
    if math.prod(grid) < 2:
        raise NomalyError(f"patch_size must divide the image into at least 2 patches, got {list(patch_size)}.")
    return grid


def check_levels(levels: int | None, depth: int) -> int:
    """Number of levels after a check; None = ``depth``."""
    levels = depth if levels is None else levels
    if not 0 <= levels <= depth:
        raise NomalyError(f"levels must be from 0 to the encoder's depth {depth}, or null for all, got {levels}.")
    return levels


def check_visible(visible: Tensor, batch_size: int, num_patches: int) -> None:
    """Reject indices of the wrong shape or type."""
    fits = visible.ndim == 2 and visible.shape[0] == batch_size and 0 < visible.shape[-1] < num_patches
    if not fits or visible.dtype != torch.long:
        raise NomalyError(
            f"visible must be indices of visible patches, int64 of the shape ({batch_size}, V) with V from 1 to "
            f"{num_patches - 1}, got {visible.dtype} of {tuple(visible.shape)}: use draw_visible."
        )
