"""Loss of the masked autoencoder: squared error of the masked patches (He et al., CVPR 2022, section 3)."""

from __future__ import annotations

from torch import Tensor, nn

from custom.networks.patches import is_masked


class MaskedPatchLoss(nn.Module):
    """Mean squared error over the masked patches of a batch; visible patches do not count.

    (Tian et al., arXiv 2203.11725, do not specify their reconstruction loss; this is that of the masked autoencoder.)
    """

    def forward(self, predicted: Tensor, patches: Tensor, visible: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Total and named terms.

        Args:
            predicted: reconstructed patches (B, N, P).
            patches: patches of the images (B, N, P), values in [0, 1].
            visible: indices (B, V) of the visible patches.

        Returns:
            mean squared error, in squared intensity, and {"reconstruction": the same}.
        """
        hidden = is_masked(visible, patches.shape[1])
        error = (predicted.float() - patches.float()).square().mean(-1)
        # where instead of boolean indexing: the number of masked patches is known without a transfer from the device
        total = error.where(hidden, 0).sum() / (hidden.shape[0] * (hidden.shape[1] - visible.shape[1]))
        return total, {"reconstruction": total}
