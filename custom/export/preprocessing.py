"""What export.json tells of the steps before the graph, so that they can be rebuilt elsewhere."""

from __future__ import annotations

from typing import Any

from monai.transforms import Compose

from custom.runs.info import described
from custom.synthetic.lesions import SyntheticLesiond

HOW = {
    "LoadStudyd": "float32 (channels, X, Y, Z) with the values of the file: X = column and Y = row of a picture, Z = "
    "slice along the normal. A grey picture stored as RGB is one channel; DICOM has slope and intercept applied, and "
    "MONOCHROME1 turned so that bone is bright.",
    "Orientationd": "Axes are flipped and swapped, nothing is interpolated, until X, Y, Z run towards the sides that "
    "axcodes names (LPS: left, back, up).",
    "CropHeadd": "A copy, smoothed by a Gaussian of 1.5 mm, is cut at threshold of the way from its 1st to its 99th "
    "percentile; the head is the largest part connected by faces. Its vertex is the topmost slice with over 0.05 of "
    "the area of its largest slice; kept are the slices of the head whose distance below the vertex lies in slab_mm. "
    "In the plane: the box around the head in these slices, its longer side in mm widened by head_margin of itself at "
    "each end, square in mm, rounded to pixels; zeros outside of the image.",
    "InvertFilmd": "x -> lowest + highest value of the image - x.",
    "SquareImaged": "CropMargin cuts the shares (left, top, right, bottom) off, each rounded to pixels. PadToSquare "
    "pads X and Y to the longer side with the lowest value, half of it (rounded down) before, the rest behind.",
    "ResizeStudyd": "Each axis that shrinks is first smoothed by a Gaussian of (length / target - 1) / 2 pixels = "
    "sigma: the weight of pixel k is the normal distribution's share from (k - 0.5) / sigma to (k + 0.5) / sigma, for "
    "|k| up to the integer part of 4 sigma + 0.5, at least 1; beyond the image lie zeros in X and Y, its last slices "
    "in Z. Then linear interpolation at (i + 0.5) length / target - 0.5, held within the first and the last pixel. "
    "Targets: plane = (X, Y), depth = Z; null = as it is.",
    "ScaleStudyIntensityd": "x -> (x - low) / (white - low), cut off at 0 and 1. low = percentile lower of all values "
    "(NumPy's, linear), white = low + (percentile upper - low) / target; where source_range is given: (low, white).",
}
UNKNOWN = "not of Nomaly's bundles: see its source"


def preprocessing_steps(transforms: Compose) -> list[dict[str, Any]]:
    """The steps of a preprocessing with their settings and arithmetic, but what evaluation alone needs: the drawing of
    synthetic lesions.
    """
    told = [described(step) for step in transforms.transforms if not isinstance(step, SyntheticLesiond)]
    pairs = [(step, None) if isinstance(step, str) else step for step in told]
    return [{"step": name, "settings": settings, "how": HOW.get(name, UNKNOWN)} for name, settings in pairs]
