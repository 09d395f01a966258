"""Draw a page of 12 real test studies of each bundle, 4 healthy and 8 abnormal, drawn at random, to be looked at.

    python scripts/draw_pages.py --data DATA --output results/pages

Writes OUTPUT/BUNDLE.png: a row for each study with input, pseudo-healthy image, expected residual, anomaly map and
truth. Where a set has no abnormal studies, synthetic lesions are drawn into healthy ones. Pages show images of the data
sets: mind their terms before publishing one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from skimage.segmentation import find_boundaries
from tqdm import tqdm

from custom.commands.bundle import BUNDLES
from custom.commands.options import OptionParser
from custom.detection.bundle_detector import BundleDetector
from custom.errors import report_mistake
from custom.rendering.colours import map_colours, palette_of
from custom.rendering.images import as_plane, lay_over, strongest_slice, to_rgb
from custom.reporting.evidence import SETS
from custom.runs.inputs import evaluation_items
from custom.studies.datalist import load_datalist
from custom.studies.items import StudyItem

NUMBERS = {0: 4, 1: 8}  # label -> studies on a page
TITLES = ("input", "pseudo-healthy", "expected residual", "anomaly map", "truth")
SIDE, GAP, MARGIN, CAPTION = 160, 4, 18, 190
OUTLINE = (64, 224, 208)


def drawn(items: Sequence[StudyItem], seed: int) -> list[StudyItem]:
    """The studies of a page, drawn at random within each class."""
    generator = np.random.default_rng(seed)
    chosen = []
    for label, number in NUMBERS.items():
        members = [item for item in items if item["label"] == label]
        picked = generator.permutation(len(members))[:number]
        chosen += [members[index] for index in sorted(picked)]
    return chosen


def page(detector: BundleDetector, items: Sequence[StudyItem], title: str) -> Image.Image:
    """One row for each study; maps have one scale, twice the threshold of healthy pixels, or else each its own."""
    rows = []
    for item in tqdm(items, desc=title, unit="study"):
        study: Any = detector.process(item)
        lesion = "healthy" if not item["label"] else "synthetic lesion" if "synthetic" in item else "abnormal"
        caption = [str(item["case"])[-28:], f"{lesion} {item.get('group') or ''}".strip()]
        if "score" in study:
            p_value = "no p-value" if study["p_value"] is None else f"p {study['p_value']:.3f}"
            caption += [f"score {study['score']:.2f}, {p_value}", str(study["decision"] or "")]
            rows.append((caption, tiles(detector, study, bool(item["label"]))))
        else:
            rows.append(([*caption, str(study.get("error", "rejected"))[:28]], []))
    width = CAPTION + len(TITLES) * (SIDE + GAP)
    picture = Image.new("RGB", (width, 2 * MARGIN + len(rows) * (SIDE + GAP)), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((4, 3), title, fill="black")
    for column, name in enumerate(TITLES):
        pen.text((CAPTION + column * (SIDE + GAP), MARGIN), name, fill="black")
    for number, (caption, images) in enumerate(rows):
        top = 2 * MARGIN + number * (SIDE + GAP)
        pen.multiline_text((4, top + 4), "\n".join(caption), fill="black")
        for column, pixels in enumerate(images):
            tile = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
            picture.paste(tile, (CAPTION + column * (SIDE + GAP), top))
    return picture


def tiles(detector: BundleDetector, study: Any, abnormal: bool) -> list[NDArray[np.uint8]]:
    """Input, pseudo-healthy image, expected residual, map over the input, and the input with the outline of the truth.

    Without a mask of an abnormal study its last tile is missing; of a volume the strongest slice is shown.
    """
    z = strongest_slice(study["pred"])
    image, healthy = (to_rgb(as_plane("image", study[name][..., z])) for name in ("image", "reconstruction"))
    expected = expected_residual(detector, study["reconstruction"][..., z])
    field = as_plane("map", study["pred"][..., z])[..., 0]
    threshold = study["pixel_threshold"]
    vmax = float(field.max()) if threshold is None else 2 * threshold
    overlay = lay_over(image, map_colours(field, vmax, palette_of(len(study["image"]))))
    mask = torch.as_tensor(study["mask"])[..., z] if "mask" in study else torch.zeros(1, *field.T.shape)
    shown = [np.ascontiguousarray(image), np.ascontiguousarray(healthy), expected, overlay]
    if abnormal and not mask.any():
        return shown
    truth = np.array(image)
    truth[find_boundaries(as_plane("mask", mask)[..., 0] > 0.5, mode="outer")] = OUTLINE
    return [*shown, truth]


def expected_residual(detector: BundleDetector, reconstruction: torch.Tensor) -> NDArray[np.uint8]:
    """Expected residual of a pseudo-healthy slice (C, X, Y), white = its largest value; black without one."""
    network = detector.evaluator.detector
    if network.normalisation is None:
        return np.zeros((*reconstruction.shape[:0:-1], 3), np.uint8)
    with torch.no_grad():
        values = network.normalisation.expected(reconstruction[None].to(network.normalisation.scale.device))[0]
    return np.ascontiguousarray(to_rgb(as_plane("expected residual", values / values.max())))


def main() -> int:
    """Draw the pages of all bundles."""
    parser = OptionParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="folder of the sets")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="for BUNDLE.png")
    parser.add_argument("--bundles", nargs="+", metavar="BUNDLE", help="only these (default: all)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="model.pt (default: the bundle's own)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    args = parser.parse_args()
    try:
        args.output.mkdir(parents=True, exist_ok=True)
        for name, data_set in SETS.items():
            for bundle in data_set.bundles.values():
                if args.bundles is None or bundle in args.bundles:
                    folder = BUNDLES / bundle
                    weights = args.weights or folder / "models" / "model.pt"
                    detector = BundleDetector(folder, weights, input_check=False)
                    sections = load_datalist(args.data / name, required=("test",))
                    anatomy, groups = (detector.parameter(key) for key in ("anatomy", "lesion_groups"))
                    items = drawn(evaluation_items(sections, "auto", anatomy, groups), args.seed)
                    path = args.output / f"{bundle}.png"
                    page(detector, items, f"{bundle}, {data_set.title}, seed {args.seed}").save(path)
                    print(path)
    except Exception as error:
        report_mistake("draw_pages", error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
