"""Time scoring (map, score, input check, p-value) of 2-D images against the bare network in one batch.

    python scripts/benchmarks/scoring.py ra_brain
    python scripts/benchmarks/scoring.py memmc_pneumonia --slices 64

The network is that of a bundle with its shipped weights; the images are random and prepared in memory. Scores of a
batch are compared with those of single images: they must be equal to the last bit.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from measure import ROOT, in_turns, options, parsed, report, smooth_images  # noqa: E402
from monai.bundle import ConfigWorkflow  # noqa: E402
from monai.data import MetaTensor  # noqa: E402


def evaluator_of(bundle: str, device: str, **changes: Any) -> Any:
    """The evaluator of a bundle's inference.json, which scores every study and writes nothing."""
    folder = ROOT / "bundles" / bundle
    fixed = {"studies": [], "items": [], "pending": [{"image": ""}], "evaluator#val_handlers": []}
    workflow = ConfigWorkflow(
        str(folder / "configs" / "inference.json"),
        workflow_type="infer",
        bundle_root=str(folder),
        device=f"$torch.device({device!r})",
        **{"evaluator#score_all": True},
        **fixed | changes,
    )
    workflow.initialize()
    evaluator = workflow.parser.get_parsed_content("evaluator")
    evaluator.detector.eval()
    return evaluator


def studies_of(images: torch.Tensor) -> list[dict[str, Any]]:
    """2-D images (N, C, X, Y) as the evaluator's loader gives them."""
    return [
        {"image": MetaTensor(image.unsqueeze(-1)), "case": f"{number}", "seconds": 0.0}
        for number, image in enumerate(images)
    ]


def channels_of(network: torch.nn.Module) -> int:
    """Channels of the images of a reconstructor."""
    return int(getattr(network, "in_channels", 0)) or next(network.parameters()).shape[1]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, compare, print and write."""
    parser = options(__doc__)
    parser.add_argument("bundle", nargs="?", default="ra_brain", help="name of a bundle (ra_brain)")
    parser.add_argument("--slices", type=int, default=256, help="number of images (256)")
    args = parsed(parser, arguments)
    report(f"scoring_{args.bundle}", measure(args), args)


def measure(args: argparse.Namespace) -> list:
    """Rows of the bare network and of scoring."""
    evaluator = evaluator_of(args.bundle, args.device)
    network = evaluator.detector.reconstructor
    number = 4 if args.smoke else args.slices
    images = smooth_images(number, channels_of(network), network.image_size[0])
    x = images.to(args.device)
    step = evaluator.inferer.sw_batch_size

    def bare(size: int) -> None:
        with torch.no_grad():
            for part in x.split(size):
                network.reconstruct(part)

    def score(images: torch.Tensor, size: int) -> list:
        studies = studies_of(images)
        parts = [studies[at : at + size] for at in range(0, len(studies), size)]
        return [study["score"] for part in parts for study in evaluator._iteration(evaluator, part)]

    if score(images[:8], step) != score(images[:8], 1):
        sys.exit("scores depend on the images that share a pass")
    variants = {
        "bare encoder and decoder, one batch": lambda: bare(number),
        f"bare encoder and decoder, batches of {step}": lambda: bare(step),
        f"scoring, batches of {step}": lambda: score(images, step),
    }
    return in_turns(f"{number} images, {args.bundle}", variants, args, number)


if __name__ == "__main__":
    main()
