"""Parameters of the smallest networks and trainings, for the tests of several folders."""

from __future__ import annotations

import torch

# Parameters that make a network of a method as small as its layers allow, and its training a matter of a second.
TINY_NETWORK = {
    "ra": {"image_size": 32, "channels": [4, 8], "latent_size": 8},
    "memmc": {
        "image_size": 32,
        "patch_size": 8,
        "hidden_size": 16,
        "depth": 2,
        "num_heads": 2,
        "decoder_hidden_size": 16,
        "decoder_num_heads": 2,
        "memory_slots": 4,
        "masks": 4,
    },
}
# An alpha at which almost every region of these detectors is a finding, so that masks are not empty.
ALPHA_OF_FINDINGS = 0.999
TINY_TRAINING = {"max_epochs": 2, "warmup_epochs": 1, "val_interval": 1, "batch_size": 4}
# Sizes of a masked autoencoder that is constructed directly, for images of 16 pixels.
TINY_AUTOENCODER = {"hidden_size": 8, "depth": 1, "num_heads": 2, "decoder_hidden_size": 8, "decoder_num_heads": 2}


class Rejects:
    """An input check that gives the same reasons for every file."""

    def __init__(self, *reasons: str) -> None:
        self.reasons = list(reasons)

    def reasons_of_file(self, image: torch.Tensor) -> list[str]:
        return self.reasons

    def reasons_of_images(self, images: torch.Tensor, codes: torch.Tensor | None = None) -> list[list[str]]:
        return [[] for _ in images]
