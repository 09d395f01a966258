"""What a user would take instead: nearest neighbours of features of a network trained on natural images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from custom.baselines.intensity import Baseline, or_all
from custom.networks.natural_image_features import NaturalImageFeatures
from custom.scoring.score import StudyScore, foreground


class ImagenetNeighbours(Baseline):
    """Distance of each patch's features from the nearest ones of healthy slices, the idea of PatchCore (Roth et al.,
    CVPR 2022), with EfficientNet-Lite0 trained on ImageNet.

    As published: features of two middle stages, averaged over 3 x 3 patches, against a memory of healthy patches.
    Different: a small network, a memory drawn at random instead of a greedy choice, and the mean of the highest 5 % of
    the body as the score instead of the maximum. Slices are enlarged twice, since they are smaller than photographs.

    Args:
        seed: of the choice of the memory.
        memory: number of patches in it.
        network: returns features (B, F, height / 8, width / 8) of images (B, C, H, W) in [0, 1] enlarged to a size
            (height, width); None = EfficientNet-Lite0.
    """

    peer = True

    def __init__(
        self, seed: int = 0, memory: int = 20_000, network: Callable[[Tensor, Sequence[int]], Tensor] | None = None
    ) -> None:
        self.seed = seed
        self.size = memory
        if network is None:
            network = NaturalImageFeatures()
            network.load_pretrained()
        self.network = network
        self.rule = StudyScore("top_q", 0.05)
        self._last: tuple[Tensor, Tensor] | None = None

    @torch.no_grad()
    def _fit(self, train: Tensor) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        share = -(-self.size // len(train))
        patches = []
        for batch in train.split(16):
            found = self._features(batch).flatten(2).transpose(1, 2)
            chosen = torch.randperm(found.shape[1], generator=generator)[:share]
            patches.append(found[:, chosen.to(found.device)].flatten(0, 1))
        memory = torch.cat(patches)
        self.memory = memory[torch.randperm(len(memory), generator=generator)[: self.size].to(memory.device)]

    def map(self, study: Tensor) -> Tensor:
        """Distance from the nearest healthy patch, (1, X, Y, Z)."""
        if self._last is None or self._last[0] is not study:  # score and map of a study are asked for one by one
            self._last = study, self._distances(study)
        return self._last[1]

    def score(self, study: Tensor) -> float:
        """Mean of the highest 5 % of the map over the body or, without one, over all pixels."""
        mask = or_all(foreground(study.float())[None])[0]
        return self.rule(self.map(study), mask).item()

    @torch.no_grad()
    def _distances(self, study: Tensor) -> Tensor:
        """Map (1, X, Y, Z) of a study (C, X, Y, Z)."""
        maps = []
        for batch in self.slices(study).split(16):
            features = self._features(batch)
            rows = features.flatten(2).transpose(1, 2).flatten(0, 1)
            nearest = torch.cat([torch.cdist(part, self.memory).amin(1) for part in rows.split(1024)])
            grid = nearest.reshape(len(batch), 1, *features.shape[2:])
            maps.append(F.interpolate(grid, size=batch.shape[2:], mode="bilinear", align_corners=False))
        return torch.cat(maps).permute(1, 2, 3, 0)

    def _features(self, slices: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, F, H', W') features of patches of the enlarged slices."""
        if isinstance(self.network, NaturalImageFeatures):
            self.network.to(slices.device)
        return self.network(slices, [max(-(-2 * side // 32) * 32, 64) for side in slices.shape[2:]])
