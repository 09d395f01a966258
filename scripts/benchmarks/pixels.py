"""Time pixel average precision and best Dice against a loop over thresholds.

    python scripts/benchmarks/pixels.py

The loop evaluates precision, recall and Dice at each of `--thresholds` thresholds over all pixels, as scripts of
published methods do. Values are random, 4 % of the pixels belong to lesions.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from measure import in_turns, options, parsed, report  # noqa: E402

from custom.metrics.pixel_histogram import PixelHistogram  # noqa: E402
from custom.metrics.pixel_level import pixel_curve  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, compare, print and write."""
    parser = options(__doc__, repeats=3)
    parser.add_argument("--images", type=int, default=700, help="images of 128 x 128 pixels (700: 11.5 million)")
    parser.add_argument("--thresholds", type=int, default=1000, help="thresholds of the loop (1000)")
    args = parsed(parser, arguments)
    if args.smoke:
        args.images, args.thresholds = 4, 200
    random = np.random.default_rng(0)
    truth = random.random((args.images, 128 * 128)) < 0.04
    values = random.random(truth.shape, np.float32) + 0.5 * truth.astype(np.float32)

    def loop() -> tuple[float, float]:
        flat, true = values.ravel(), truth.ravel()
        positives, best, area, last = true.sum(), 0.0, 0.0, 0.0
        for threshold in np.linspace(float(flat.max()), float(flat.min()), args.thresholds):
            found = flat >= threshold
            hits, flagged = (found & true).sum(), found.sum()
            best = max(best, 2 * hits / (flagged + positives))
            recall = hits / positives
            area += (recall - last) * (hits / max(flagged, 1))
            last = recall
        return float(area), float(best)

    def streaming() -> tuple[float, float]:
        histogram = PixelHistogram()
        for row, true in zip(values, truth):
            histogram.add(row, true)
        curve = histogram.curve()
        return float(curve[0]), float(curve[1])

    def exact() -> tuple[float, float]:
        curve = pixel_curve(values, truth)
        return float(curve[0]), float(curve[1])

    np.testing.assert_allclose(streaming(), exact(), atol=1e-2)
    np.testing.assert_allclose(loop(), exact(), atol=5e-2)
    variants = {"loop over thresholds": loop, "exact": exact, "streaming": streaming}
    report("pixels", in_turns(f"{values.size} pixels, {args.thresholds} thresholds", variants, args, values.size), args)


if __name__ == "__main__":
    main()
