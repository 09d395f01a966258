"""Time MemMC-MAE: its training step against a plain masked autoencoder, and its masks at once against one by one.

    python scripts/benchmarks/masks.py

Both networks have the same depth, widths and masks; the plain one has no memory slots and attends to no encoder block.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from measure import in_turns, options, parsed, report, smooth_images  # noqa: E402

from custom.losses.masked_autoencoder import MaskedPatchLoss  # noqa: E402
from custom.networks.memmc_mae import MemMCMaskedAutoencoder  # noqa: E402
from custom.networks.patches import patchify  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, compare, print and write."""
    parser = options(__doc__)
    parser.add_argument("--size", type=int, default=96, help="side of the images (96)")
    parser.add_argument("--batch_size", type=int, default=32, help="images of a step (32)")
    parser.add_argument("--masks", type=int, default=8, help="masks of the ensemble (8)")
    args = parsed(parser, arguments)
    if args.smoke:
        args.size, args.batch_size, args.masks = 32, 2, 4
    report("masks", [*steps(args), *ensembles(args)], args)


def network(args: argparse.Namespace, **settings: Any) -> MemMCMaskedAutoencoder:
    """A new network of the shipped size."""
    torch.manual_seed(0)
    return MemMCMaskedAutoencoder(2, 1, args.size, 8, masks=args.masks, **settings).to(args.device)


def steps(args: argparse.Namespace) -> list:
    """Rows of a training step: forward, backward and Adam."""
    loss, x = MaskedPatchLoss(), smooth_images(args.batch_size, 1, args.size).to(args.device)

    def step_of(model: MemMCMaskedAutoencoder) -> Any:
        optimizer = torch.optim.Adam(model.parameters(), 1e-4)

        def step() -> None:
            visible = model.draw_visible(len(x))
            value, _ = loss(model(x, visible), patchify(x, model.patch_size), visible)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()

        return step

    variants = {"plain": network(args, memory_slots=0, levels=0), "MemMC-MAE": network(args)}
    named = {name: step_of(model.train()) for name, model in variants.items()}
    return in_turns(f"training step, batch {args.batch_size}, {args.size} px", named, args, args.batch_size)


def ensembles(args: argparse.Namespace) -> list:
    """Rows of the ensemble of masks for one image, after a check that both ways agree."""
    model, x = network(args).eval(), smooth_images(1, 1, args.size).to(args.device)

    def masks(at_once: int | None) -> torch.Tensor:
        model.masks_per_pass = at_once
        with torch.no_grad():
            return model.ensemble_statistics(x)[0]

    torch.testing.assert_close(masks(None), masks(1), rtol=0, atol=1e-5)
    variants = {"one call per mask": lambda: masks(1), "all masks in one call": lambda: masks(None)}
    return in_turns(f"{args.masks} masks of one image, {args.size} px", variants, args)


if __name__ == "__main__":
    main()
