"""How far the texture of each small patch is from the patches of healthy images."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from custom.errors import NomalyError
from custom.networks.natural_image_features import NaturalImageFeatures
from custom.processes import is_main_process
from custom.scoring.expected_residual import check_images, spread_evenly

COMPARED = 512  # healthy images from which the usual distance is estimated
PART = 256  # patches of the memory that are compared at a time, so that the products stay in a processor's cache


class PatchDistance(nn.Module):
    """Distance of each patch's features from the nearest ones of healthy images, relative to what is usual there.

    A flat polyp or a change of texture leaves hardly any residual, but its patches look like no healthy patch. Features
    are those of a network trained on photographs, see NaturalImageFeatures, in their first principal components; a
    memory holds patches of healthy images (the idea of PatchCore, Roth et al., CVPR 2022). The distance d from the
    nearest of them is compared with its mean and deviation over healthy images at that place:
    log2(1 + 2 ^ ((d - mean) / deviation)), which is 1 where d is usual and about the number of deviations where it is
    far larger. Never negative, larger = more abnormal. (Not part of either published method.)

    Different from PatchCore: a small network, a random memory, and the usual distance at each place. A healthy image is
    compared with patches of other images only.

    Before the fit, the distance is 1 everywhere. Network, memory and statistics are stored with the detector's weights.

    Args:
        memory: number of healthy patches that are kept.
        dimensions: number of principal components, at most 152.
        floor: smallest deviation, as a share of the mean deviation over all places, > 0, so that a small difference
            does not become large where healthy images agree, as in air.

    Raises:
        NomalyError: a setting out of range.
    """

    centre: Tensor
    basis: Tensor
    memory: Tensor
    mean: Tensor
    deviation: Tensor
    images: Tensor

    def __init__(self, memory: int = 8192, dimensions: int = 64, floor: float = 0.2) -> None:
        super().__init__()
        if memory < 1 or not 1 <= dimensions <= NaturalImageFeatures.channels:
            raise NomalyError(
                f"memory must be at least 1 and dimensions within 1 to {NaturalImageFeatures.channels}, got {memory} "
                f"and {dimensions}."
            )
        if floor <= 0:
            raise NomalyError(f"floor must be > 0, a share of the mean deviation, got {floor}.")
        self.floor = floor
        self.features = NaturalImageFeatures()
        grid = (1, 1, NaturalImageFeatures.grid, NaturalImageFeatures.grid)
        self.register_buffer("centre", torch.zeros(NaturalImageFeatures.channels))
        self.register_buffer("basis", torch.zeros(NaturalImageFeatures.channels, dimensions))
        self.register_buffer("memory", torch.zeros(memory, dimensions))
        self.register_buffer("mean", torch.zeros(grid))
        self.register_buffer("deviation", torch.ones(grid))
        self.register_buffer("images", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Tensor) -> Tensor:
        """Relative distances (B, 1, *S) of images (B, C, *S) in [0, 1]; volumes are compared slice by slice."""
        exported = torch.compiler.is_exporting() or torch.jit.is_tracing()
        if not exported and int(self.images) == 0:
            return images.new_ones(images.shape[0], 1, *images.shape[2:], dtype=torch.float32)
        if images.ndim == 5:
            slices = self(images.movedim(-1, 1).flatten(0, 1))
            return slices.unflatten(0, (images.shape[0], -1)).movedim(1, -1)
        distances = self.nearest(self.described(self.features(images)))
        deviations = (distances - self.mean) / self.deviation
        relative = F.interpolate(
            torch.logaddexp2(deviations, torch.zeros_like(deviations)),
            size=images.shape[2:],
            mode="bilinear",
            align_corners=False,
        )
        # in an exported graph there is no branch on the buffer, so that it stays correct after a fit
        return torch.where(self.images > 0, relative, torch.ones_like(relative))

    def described(self, features: Tensor) -> Tensor:
        """Principal components (B, 24, 24, D) of features (B, 152, 24, 24)."""
        return (features.float().permute(0, 2, 3, 1) - self.centre) @ self.basis

    def nearest(self, patches: Tensor, excluded: Tensor | None = None) -> Tensor:
        """Distances (B, 1, h, w) of patches (B, h, w, D) from the nearest in the memory.

        Args:
            patches: principal components.
            excluded: bool (B, M), patches of the memory that an image must not be compared with; None = all are.
        """
        rows = patches.flatten(0, 2)
        best = rows.new_full(rows.shape[:1], -torch.inf)
        for first in range(0, len(self.memory), PART):
            part = self.memory[first : first + PART]
            closeness = torch.addmm(-0.5 * part.square().sum(1), rows, part.T)
            if excluded is not None:
                of_image = excluded[:, None, first : first + PART]
                closeness = closeness.view(len(patches), -1, len(part)).masked_fill(of_image, -torch.inf).flatten(0, 1)
            best = torch.maximum(best, closeness.amax(1))
        squared = rows.square().sum(1) - 2 * best
        return squared.clamp(min=0).sqrt().view(-1, 1, *patches.shape[1:3])

    @torch.no_grad()
    def fit(self, images: Tensor, seed: int = 0, batch_size: int = 16) -> None:
        """Fill the memory with patches of healthy images (N, C, *S), and estimate the usual distance.

        An earlier fit is replaced; the result depends on the images, the settings and ``seed`` only.

        Raises:
            NomalyError: too few images, or images without any texture.
        """
        check_images(len(images), "distance of patches")
        if images.ndim == 5:
            images = images.movedim(-1, 1).flatten(0, 1)
        self.features.load_pretrained()
        random = torch.Generator().manual_seed(seed)
        found = [self.features(batch.to(self.memory.device)).half().cpu() for batch in self._shown(images, batch_size)]
        features = torch.cat(found)
        self._fit_components(features, random)
        owners = self._fill_memory(features, random)
        chosen = spread_evenly(len(features), COMPARED)
        distances = torch.cat(
            [
                self.nearest(
                    self.described(features[part].to(self.memory.device)),
                    (owners == part.unsqueeze(1)).to(self.memory.device),
                )
                for part in chosen.split(batch_size)
            ]
        )
        mean, deviation = distances.mean(0, keepdim=True), distances.std(0, keepdim=True)
        if not (torch.isfinite(deviation).all() and deviation.mean() > 0):
            raise NomalyError(
                "patches of healthy images must be finite and differ, got distances with a mean deviation of "
                f"{deviation.mean():g}: check the training images."
            )
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.clamp(min=self.floor * deviation.mean().item()))
        self.images.fill_(len(images))

    def settings(self) -> dict[str, Any]:
        """The settings that scores depend on, see custom.scoring.settings."""
        return {
            "kind": "patch_distance",
            "memory": len(self.memory),
            "dimensions": self.basis.shape[1],
            "floor": self.floor,
        }

    def _shown(self, images: Tensor, batch_size: int) -> Any:
        """Batches with a progress bar."""
        batches = images.split(batch_size)
        return tqdm(batches, desc="Healthy patches", unit="batch", mininterval=1.0, disable=not is_main_process())

    def _fit_components(self, features: Tensor, random: torch.Generator) -> None:
        """Mean and principal components of at most 20 000 patches of features (N, 152, h, w)."""
        patches = features.permute(0, 2, 3, 1).flatten(0, 2)
        chosen = patches[torch.randperm(len(patches), generator=random)[:20_000]].double()
        self.centre.copy_(chosen.mean(0))
        axes = torch.linalg.eigh(torch.cov(chosen.T))[1]  # in ascending order of variance
        self.basis.copy_(axes.flip(1)[:, : self.basis.shape[1]])

    def _fill_memory(self, features: Tensor, random: torch.Generator) -> Tensor:
        """Draw the memory, as many patches from each image as possible; returns the image (M,) of each."""
        count, side = len(features), self.mean.shape[2]
        owners = torch.arange(count).repeat(-(-len(self.memory) // count))[: len(self.memory)]
        places = torch.randint(side * side, (len(owners),), generator=random)
        patches = self.described(
            features[owners, :, places // side, places % side].to(self.memory.device)[..., None, None]
        )
        self.memory.copy_(patches.flatten(1))
        return owners
