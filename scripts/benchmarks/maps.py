"""Time the published map of RA of a batch against image by image with scikit-image, and our map beside it.

    python scripts/benchmarks/maps.py

Image by image: scikit-image equalises image and reconstruction (CLAHE), and the encoder embeds each of the four images
on its own. The batch does the same work, which is checked, with all images at once or a few at a time. Other rows are
of the equalisation only.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from skimage.exposure import equalize_adapthist

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from measure import in_turns, options, parsed, report, smooth_images  # noqa: E402

from custom.networks.reversed_autoencoder import ReversedAutoencoder  # noqa: E402
from custom.scoring import clahe  # noqa: E402
from custom.scoring.anomaly_map import AdaptiveHistogramPerceptualMap, SmoothResidualMap  # noqa: E402

TOGETHER = 4  # images


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, compare, print and write."""
    parser = options(__doc__, repeats=3)
    parser.add_argument("--images", type=int, default=256, help="number of images (256)")
    parser.add_argument("--size", type=int, default=128, help="side of the images (128)")
    args = parsed(parser, arguments)
    if args.smoke:
        args.images, args.size = 2, 32
    network = ReversedAutoencoder(2, 1, args.size, [24, 48, 96, 192], 32).to(args.device).eval()
    head = AdaptiveHistogramPerceptualMap().to(args.device)
    smooth = SmoothResidualMap().to(args.device)
    x = smooth_images(args.images, 1, args.size).to(args.device)
    x_hat = smooth_images(args.images, 1, args.size, seed=1).to(args.device)

    def equalised(image: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(equalize_adapthist(image[0, 0].double().cpu().numpy()).astype(np.float32))[None, None]

    def one_by_one() -> torch.Tensor:
        maps = []
        for pair in zip(x.split(1), x_hat.split(1)):
            first, second = (equalised(part).to(x) for part in pair)
            distances = [
                head.blur(
                    head.distance(
                        torch.cat(both),
                        lambda images: [
                            torch.cat(level) for level in zip(*(network.embed(image) for image in images.split(1)))
                        ],
                    )
                )
                for both in (pair, (first, second))
            ]
            maps.append((first - second).abs() * distances[0] * distances[1])
        return torch.cat(maps)

    with torch.no_grad():
        torch.testing.assert_close(one_by_one(), head(x, x_hat, network.embed), rtol=0.05, atol=1e-3)
        variants = {
            "scikit-image and embeddings, image by image": one_by_one,
            "published map, one batch": lambda: head(x, x_hat, network.embed),
            f"published map, batches of {TOGETHER}": lambda: [
                head(*pair, network.embed) for pair in zip(x.split(TOGETHER), x_hat.split(TOGETHER))
            ],
            "our map (blurred residual), one batch": lambda: smooth(x, x_hat),
        }
        rows = in_turns(f"{args.images} maps, {args.size} px", variants, args, args.images)
        equal = {
            "scikit-image, image by image": lambda: [
                equalised(image) for both in (x, x_hat) for image in both.split(1)
            ],
            "one batch": lambda: clahe.equalize_adapthist(torch.cat([x, x_hat])),
        }
        rows += in_turns(f"{2 * args.images} equalisations (CLAHE), {args.size} px", equal, args, 2 * args.images)
        report("maps", rows, args)


if __name__ == "__main__":
    main()
