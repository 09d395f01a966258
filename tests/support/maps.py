"""An anomaly map whose values can be computed by hand."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class ResidualMap(nn.Module):
    """Mean over the channels of |x - x_hat|; in [0, 1] for images in [0, 1]."""

    def forward(self, image: Tensor, reconstruction: Tensor, embed: object = None) -> Tensor:
        return (image.float() - reconstruction.float()).abs().mean(1, keepdim=True)

    def settings(self) -> dict[str, Any]:
        return {"kind": "residual"}
