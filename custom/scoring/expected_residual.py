"""Anomaly maps relative to the residual that healthy images have at the same place."""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.nets import SegResNet
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import trange

from custom.errors import NomalyError
from custom.processes import is_main_process

MINIMUM = 20  # healthy images from which the residual can be learned


class ExpectedResidual(nn.Module):
    """Divide an anomaly map by the residual that healthy images have at that place: r / (mean * E(x_hat)).

    Ribs, folds of the cortex and the border of the skull are hard to reconstruct in every image. A small network E
    learns from healthy images how large the map usually is at each pixel, and sees only the pseudo-healthy image x_hat
    and the position of the pixel. It never sees the image itself, so an anomaly cannot raise its own expectation except
    by changing x_hat. 1 is about what is usual; the map is never negative. (Not part of either published method.)

    E is fitted by the likelihood of an exponential distribution, log E + r / E with r in units of its mean, whose
    optimum is the mean residual. It works on a grid of about half the image's size, since the map is smooth.

    Before it is fitted, the map is returned unchanged. The network is stored with the detector's weights.

    Args:
        in_channels: channels of the images.
        spatial_dims: 2 or 3.
        floor: smallest expected residual, as a share of the mean residual of healthy images, > 0, so that a small
            difference does not become large where healthy images agree, as in air.
        width: feature channels of the network at its finest level, a multiple of 8.

    Raises:
        NomalyError: floor or width out of range.
    """

    scale: Tensor
    images: Tensor

    def __init__(self, in_channels: int = 1, spatial_dims: int = 2, floor: float = 0.05, width: int = 16) -> None:
        super().__init__()
        if floor <= 0:
            raise NomalyError(f"residual_floor must be > 0, a share of the mean residual, got {floor}.")
        if width < 8 or width % 8:
            raise NomalyError(f"width must be a multiple of 8, got {width}.")
        self.floor = floor
        self.plan = (spatial_dims, width, in_channels + spatial_dims, 1)
        self.network = self._new_network(seed=0)
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("images", torch.zeros((), dtype=torch.int64))

    def forward(self, anomaly_map: Tensor, reconstruction: Tensor) -> Tensor:
        """Map (B, 1, *S) of images with these reconstructions (B, C, *S) -> (B, 1, *S), larger = more abnormal."""
        relative = anomaly_map / (self.scale * self.expected(reconstruction))
        # no branch on the buffer: a graph exported before the fit stays correct afterwards
        return torch.where(self.images > 0, relative, anomaly_map)

    def expected(self, reconstruction: Tensor) -> Tensor:
        """Expected map (B, 1, *S) > 0 of pseudo-healthy images (B, C, *S), in units of the mean healthy map."""
        size = reconstruction.shape[2:]
        mode = "bilinear" if len(size) == 2 else "trilinear"
        grid = [max(-(-side // 8) * 4, 4) for side in size]
        with torch.autocast(reconstruction.device.type, enabled=False):
            coarse = F.interpolate(reconstruction.float(), size=grid, mode=mode, align_corners=False)
            axes = [torch.linspace(-1, 1, side, device=coarse.device) for side in grid]
            # not len(): in an exported graph the number of images stays free
            position = torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(coarse.shape[0], -1, *grid)
            expected = F.softplus(self.network(torch.cat([coarse, position], 1))) + self.floor
            return F.interpolate(expected, size=size, mode=mode, align_corners=False)

    @torch.enable_grad()
    def fit(
        self, maps: Tensor, reconstructions: Tensor, steps: int = 250, batch_size: int = 32, seed: int = 0
    ) -> list[float]:
        """Learn the expected residual from maps (N, 1, *S) and reconstructions (N, C, *S) of healthy images.

        An earlier fit is replaced; the result depends on the data, the settings and `seed` only.

        Returns:
            The loss of each step.

        Raises:
            NomalyError: too few images, or maps that are 0 or not finite.
        """
        check_images(len(maps), "expected residual")
        scale = maps.float().mean()
        if not (torch.isfinite(scale) and scale > 0):
            raise NomalyError(
                f"maps of healthy images must be finite with a mean > 0, got a mean of {scale.item():g}: check the "
                "weights and the training images."
            )
        self.network.load_state_dict(self._new_network(seed).state_dict())
        self.scale.copy_(scale)
        self.images.fill_(len(maps))
        optimizer = torch.optim.AdamW(self.network.parameters(), 2e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        order = torch.Generator().manual_seed(seed)
        losses = []
        for _ in trange(steps, desc="Expected residual", unit="step", mininterval=1.0, disable=not is_main_process()):
            chosen = torch.randint(len(maps), (min(batch_size, len(maps)),), generator=order).to(maps.device)
            expected = self.expected(reconstructions[chosen])
            loss = (expected.log() + maps[chosen].float() / (scale * expected)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        self.network.zero_grad(set_to_none=True)
        return torch.stack(losses).tolist()

    def settings(self) -> dict[str, Any]:
        """The settings that scores of a relative map depend on, see custom.scoring.settings."""
        return {"kind": "expected_residual", "floor": self.floor}

    def _new_network(self, seed: int) -> nn.Module:
        """E before the fit, with random weights that depend on the seed only."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return SegResNet(*self.plan, blocks_down=(1, 1, 1), blocks_up=(1, 1))


def spread_evenly(count: int, most: int) -> Tensor:
    """Indices, int64, of all of `count` images or, if these are more, of `most` that are spread evenly."""
    return torch.linspace(0, count - 1, min(count, most)).round().long()


def check_images(count: int, what: str) -> None:
    """Refuse too few healthy images for a fit.

    Raises:
        NomalyError: with the number needed.
    """
    if count < MINIMUM:
        raise NomalyError(
            f"the {what} needs at least {MINIMUM} healthy training images, got {count}: add healthy studies to the "
            "section training."
        )
