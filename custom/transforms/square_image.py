"""Preprocessing of 2-D images such as films and frames: crop the margin, pad to a square. Both are invertible."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, cast

from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform, SpatialCrop, SpatialPad, Transform

from custom.errors import NomalyError


class CropMargin(Transform):
    """Crop the margins of a study (C, X, Y, Z), such as the black border of endoscopic frames.

    Args:
        margin: fractions (left, top, right, bottom) of the width and height to crop, each in [0, 1).

    Raises:
        NomalyError: if ``margin`` has another form or leaves nothing.
    """

    def __init__(self, margin: Sequence[float] = (0.0, 0.0, 0.0, 0.0)) -> None:
        margin = tuple(margin)
        fits = len(margin) == 4 and min(margin) >= 0
        if not fits or margin[0] + margin[2] >= 1 or margin[1] + margin[3] >= 1:
            raise NomalyError(
                "crop_margin must be the fractions (left, top, right, bottom) to crop, each >= 0 and opposite "
                f"ones below 1 in total, got {list(margin)}. Correct the config."
            )
        self.margin = margin

    def __call__(self, image: MetaTensor) -> MetaTensor:
        if not any(self.margin):
            return image
        left, top, right, bottom = self.margin
        _, width, height, depth = image.shape
        start = (round(left * width), round(top * height), 0)
        end = (width - round(right * width), height - round(bottom * height), depth)
        return cast(MetaTensor, SpatialCrop(roi_start=start, roi_end=end)(image))


class PadToSquare(Transform):
    """Pad the X-Y plane of a study (C, X, Y, Z) to a square with its lowest value, the image centred."""

    def __call__(self, image: MetaTensor) -> MetaTensor:
        side = max(image.shape[1:3])
        return cast(MetaTensor, SpatialPad(spatial_size=(side, side, -1), value=float(image.min()))(image))


class SquareImaged(MapTransform):
    """Crop the margin and pad to a square, as configured; dictionary version of both.

    Args:
        keys: images and masks on one grid.
        crop_margin: see :class:`CropMargin`.
        pad_to_square: whether to pad; without it a later resize to a square distorts the image.
        allow_missing_keys: whether a key may be absent.
    """

    def __init__(
        self,
        keys: KeysCollection = ("image", "mask"),
        crop_margin: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        pad_to_square: bool = False,
        allow_missing_keys: bool = True,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.steps = [CropMargin(crop_margin)] + ([PadToSquare()] if pad_to_square else [])

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item):
            for step in self.steps:
                item[key] = step(item[key])
        return item
