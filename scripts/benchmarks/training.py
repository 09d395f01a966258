"""Time the training of the shipped networks end to end, against the same steps on one batch in memory.

    python scripts/benchmarks/training.py
    python scripts/benchmarks/training.py --device cuda --amp

A run is an epoch of synthetic images: with loader and augmentation as the bundles have them, on one batch in memory
without augmentation, and, on a GPU, with direct steps instead of a recorded one (custom.engines.recorded_step).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from measure import in_turns, options, parsed, report, smooth_images  # noqa: E402

from custom.data.augmentation import BatchAugmentation  # noqa: E402
from custom.data.batches import BatchLoader  # noqa: E402
from custom.data.slices import SliceDataset  # noqa: E402
from custom.detector.anomaly_detector import AnomalyDetector  # noqa: E402
from custom.engines.coarse_noise import CoarseNoise  # noqa: E402
from custom.engines.mae_trainer import MaskedAutoencoderTrainer  # noqa: E402
from custom.engines.ra_trainer import ReversedAutoencoderTrainer  # noqa: E402
from custom.handlers.loss_log import LossLog  # noqa: E402
from custom.losses.masked_autoencoder import MaskedPatchLoss  # noqa: E402
from custom.losses.reversed_autoencoder import IntrospectiveObjective  # noqa: E402
from custom.networks.memmc_mae import MemMCMaskedAutoencoder  # noqa: E402
from custom.networks.reversed_autoencoder import ReversedAutoencoder  # noqa: E402

WORKS = ("MemMC-MAE", "RA, warm-up", "RA, adversarial phase")


class OneBatch:
    """A loader that repeats one batch.

    Args:
        images: the batch (B, C, H, W), on the device.
        batches: how many times.
    """

    def __init__(self, images: torch.Tensor, batches: int) -> None:
        self.images = images
        self.batches = batches

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        return iter([{"image": self.images}] * self.batches)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = options(__doc__)
    parser.add_argument("--size", type=int, default=96, help="side of the images (96)")
    parser.add_argument("--batch_size", type=int, default=32, help="images of a step (32)")
    parser.add_argument("--batches", type=int, default=0, help="steps of a run (4, on a GPU 32)")
    parser.add_argument("--amp", action="store_true", help="bfloat16 autocast")
    args = parsed(parser, arguments)
    args.batches = args.batches or (4 if args.device == "cpu" else 32)
    if args.smoke:
        args.size, args.batch_size, args.batches = 32, 2, 2
    report("training", [row for work in WORKS for row in epochs(work, args)], args)


def epochs(work: str, args: argparse.Namespace) -> list:
    """Rows of one kind of training."""
    images = smooth_images(args.batch_size * args.batches, 1, args.size)
    studies = [{"image": image.unsqueeze(-1)} for image in images]
    dataset = SliceDataset(studies, lambda study: study, progress=False)
    memory = OneBatch(images[: args.batch_size].to(args.device), args.batches)
    loader = BatchLoader(dataset, args.batch_size, args.device)
    trainers = {
        "one batch in memory": trainer(work, args, memory, None),
        "loader and augmentation": trainer(work, args, loader, BatchAugmentation()),
    }
    if args.device != "cpu":
        trainers["the same, direct steps"] = trainer(work, args, loader, BatchAugmentation(), record_step=False)
    runs = {name: lambda trainer=each: one_epoch(trainer) for name, each in trainers.items()}
    return in_turns(f"{work}, batch {args.batch_size}, {args.size} px", runs, args, args.batch_size * args.batches)


def one_epoch(trainer: Any) -> None:
    """Train for one more epoch."""
    trainer.state.max_epochs = trainer.state.epoch + 1
    trainer.run()


def trainer(work: str, args: argparse.Namespace, loader: Any, augmentation: Any, record_step: bool = True) -> Any:
    """A trainer of the size of the bundles."""
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "device": torch.device(args.device),
        "max_epochs": 1,
        "train_data_loader": loader,
        "augmentation": augmentation,
        "amp": args.amp,
        "record_step": record_step,
        "train_handlers": [LossLog()],
    }
    if work == "MemMC-MAE":
        network: nn.Module = MemMCMaskedAutoencoder(2, 1, args.size, 8).to(args.device)
        optimizer = torch.optim.AdamW(network.parameters(), 1e-3, fused=True)
        return MaskedAutoencoderTrainer(
            network=network, optimizer=optimizer, loss_function=MaskedPatchLoss(), **settings
        )
    model = ReversedAutoencoder(2, 1, args.size, (24, 48, 96, 192), 32).to(args.device)
    encoder, decoder = (
        torch.optim.Adam(part.parameters(), 1e-3, fused=True) for part in (model.encoder, model.decoder)
    )
    return ReversedAutoencoderTrainer(
        network=AnomalyDetector(model, nn.Identity()),
        encoder_optimizer=encoder,
        decoder_optimizer=decoder,
        objective=IntrospectiveObjective(),
        warmup_epochs=10**6 if work == "RA, warm-up" else 0,
        input_noise=CoarseNoise(),
        **settings,
    )


if __name__ == "__main__":
    main()
