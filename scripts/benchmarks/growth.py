"""Measure how the cost of scoring grows: image size, batch, slices, masks, calibration studies; with a plot (SVG).

    python scripts/benchmarks/growth.py --output DIR

Networks have the shipped widths and random weights. Each point is the median of runs that take turns with the others of
its curve; the plots are log-log, so that work that grows in proportion is a line of slope 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from measure import Row, in_turns, options, parsed, report, smooth_images  # noqa: E402

from custom.calibration.conformal import p_values  # noqa: E402
from custom.detector.anomaly_detector import AnomalyDetector  # noqa: E402
from custom.inferers.slices import SliceWiseInferer  # noqa: E402
from custom.networks.memmc_mae import MemMCMaskedAutoencoder  # noqa: E402
from custom.networks.reversed_autoencoder import ReversedAutoencoder  # noqa: E402
from custom.scoring.anomaly_map import SmoothResidualMap  # noqa: E402
from custom.scoring.code_distance import CodeDistance  # noqa: E402
from custom.scoring.expected_residual import ExpectedResidual  # noqa: E402

Curve = dict[str, Callable[[], object]]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write and draw."""
    args = parsed(options(__doc__, repeats=3), arguments)
    found: list[Row] = []
    for name, points in curves(args).items():
        with torch.no_grad():
            found += in_turns(name, points, args)
    report("growth", found, args)
    if args.output:
        draw(found, args.output / "growth.svg")


def curves(args: argparse.Namespace) -> dict[str, Curve]:
    """What to call for each point of each curve."""
    few = 2 if args.smoke else None
    sizes, batches, depths = (64, 128, 256, 512)[:few], (1, 4, 16, 64)[:few], (8, 32, 128)[:few]
    masks, healthy = (4, 8, 16)[:few], (50, 500, 5000, 50000)[:few]
    inferer, volume = SliceWiseInferer(96, sw_batch_size=8, full_batches=True), detector(96, args)
    return {
        "side of an image (pixels)": {str(n): predict(detector(n, args), images(1, n, args)) for n in sizes},
        "images of a batch": {str(n): predict(detector(96, args), images(n, 96, args)) for n in batches},
        "slices of a volume": {str(n): slices(inferer, volume, n) for n in depths},
        "masks": {str(n): reconstruct(n, args) for n in masks},
        "healthy calibration studies": {str(n): p_value(n) for n in healthy},
    }


def detector(side: int, args: argparse.Namespace) -> AnomalyDetector:
    """RA with its map, expected residual and distance of codes."""
    torch.manual_seed(0)
    network = ReversedAutoencoder(2, 1, side, [24, 48, 96, 192], 32)
    parts = (SmoothResidualMap(), ExpectedResidual(), CodeDistance(32))
    return AnomalyDetector(network, *parts).to(args.device).eval()


def images(number: int, side: int, args: argparse.Namespace) -> torch.Tensor:
    """Random images (N, 1, side, side)."""
    return smooth_images(number, 1, side).to(args.device)


def predict(model: AnomalyDetector, x: torch.Tensor) -> Callable[[], object]:
    """Score a batch."""
    return lambda: model.predict(x)


def slices(inferer: SliceWiseInferer, model: AnomalyDetector, depth: int) -> Callable[[], object]:
    """Score a volume of so many slices."""
    device = next(model.parameters()).device
    x = smooth_images(depth, 1, 96)[:, 0].permute(1, 2, 0)[None, None].to(device)
    return lambda: inferer(x, model.predict)


def reconstruct(number: int, args: argparse.Namespace) -> Callable[[], object]:
    """The ensemble of so many masks of one image."""
    model = MemMCMaskedAutoencoder(2, 1, 96, 8, masks=number).to(args.device).eval()
    x = images(1, 96, args)
    return lambda: model.reconstruct(x)


def p_value(number: int) -> Callable[[], object]:
    """The p-value of one score among so many healthy ones."""
    healthy = np.random.default_rng(0).normal(size=number)
    return lambda: p_values(healthy, [0.5])


def draw(found: Sequence[Row], path: Path) -> None:
    """One small plot for each curve."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcParams["svg.hashsalt"] = "nomaly"
    names = list(dict.fromkeys(row.work for row in found))
    figure, axes = plt.subplots(1, len(names), figsize=(3 * len(names), 2.6), layout="constrained")
    for axis, name in zip(axes, names):
        points = [(float(row.variant), row.median) for row in found if row.work == name]
        axis.loglog(*zip(*points), "o-")
        axis.set_xlabel(name)
        axis.set_ylabel("seconds")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


if __name__ == "__main__":
    main()
