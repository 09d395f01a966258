"""The preprocessing steps before the graph, described in export.json so that they can be reimplemented elsewhere."""

from __future__ import annotations

from typing import Any

from monai.transforms import Compose

from custom.runs.info import described
from custom.synthetic.lesions import SyntheticLesiond

HOW = {
    "LoadStudyd": "float32 (channels, X, Y, Z) with the values of the file: X = column and Y = row of a 2-D image, Z "
    "= slice along the normal. A grey image stored as RGB becomes one channel; for DICOM, slope and intercept are "
    "applied and MONOCHROME1 is inverted, so that bone is bright.",
    "Orientationd": "Axes are flipped and swapped, without interpolation, so that X, Y, Z point in the directions of "
    "axcodes (LPS: left, posterior, superior).",
    "CropHeadd": "A copy, smoothed by a Gaussian of sigma 1.5 mm, is thresholded at p1 + threshold (p99 - p1), with "
    "its 1st and 99th percentiles; the head is the largest component connected by faces. Its vertex is the "
    "topmost slice whose area is over 0.05 of that of the largest slice. If that is the topmost slice of the volume, "
    "of at most 0.65 of the largest area, a parabola fitted to the areas of the slices of its topmost 40 mm (at least "
    "3) is followed upwards to 0.05; rounded down to slices, this distance is added if it is at least 5 mm and 2 "
    "slices. Nomaly rejects heads for which this fails or gives more than the lower value of slab_mm. Slices of the "
    "head at a distance below the vertex within slab_mm are kept. In plane: a square in mm around the head in these "
    "slices, whose side is the longer side of the head's box, extended by the share head_margin at each end and "
    "rounded to pixels; zeros outside the image.",
    "InvertFilmd": "x -> lowest + highest value of the image - x.",
    "SubtractLowestd": "x -> x - lowest value of the image, so that 0 is its background; 8-bit image files (PNG, JPEG, "
    "BMP, TIFF with integers from 0 to 255) are left as they are.",
    "SquareImaged": "CropMargin removes the shares (left, top, right, bottom), each rounded to pixels. PadToSquare "
    "pads X and Y to the longer side with the lowest value: half (rounded down) before, the rest after.",
    "ResizeStudyd": "Each axis that shrinks is first smoothed by a Gaussian of (length / target - 1) / 2 pixels = "
    "sigma: the weight of pixel k is the normal distribution's share from (k - 0.5) / sigma to (k + 0.5) / sigma, "
    "for |k| up to the integer part of 4 sigma + 0.5, at least 1; the image is padded with zeros in X and Y, and "
    "with its outermost slices in Z. Then linear interpolation at (i + 0.5) length / target - 0.5, clamped to the "
    "first and last pixel. Targets: plane = (X, Y), depth = Z; null = unchanged.",
    "ScaleStudyIntensityd": "x -> (x - low) / (white - low), clipped to [0, 1]. low = percentile lower of all values "
    "(NumPy's, linear), white = low + (percentile upper - low) / target; with source_range: (low, white) = "
    "source_range.",
}
UNKNOWN = "not a step of Nomaly's bundles: see its source code"


def preprocessing_steps(transforms: Compose) -> list[dict[str, Any]]:
    """Settings and arithmetic of each preprocessing step, without the drawing of synthetic lesions."""
    found = [described(step) for step in transforms.transforms if not isinstance(step, SyntheticLesiond)]
    pairs = [(step, None) if isinstance(step, str) else step for step in found]
    return [{"step": name, "settings": settings, "how": HOW.get(name, UNKNOWN)} for name, settings in pairs]
