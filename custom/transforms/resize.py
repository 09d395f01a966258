"""Resizing of a study to the network's grid."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.networks.layers.convutils import gaussian_1d
from monai.transforms import MapTransform, Resize
from monai.utils import convert_to_dst_type
from scipy import ndimage

from custom.errors import NomalyError


class ResizeStudyd(MapTransform):
    """Resize images (C, X, Y, Z), smoothed before shrinking, and their masks (nearest neighbour). Invertible.

    This is MONAI's Resize with ``anti_aliasing``, but the Gaussian is applied axis by axis: MONAI's convolution over
    three axes takes a quarter of a minute for a film of 2000 x 2000 pixels.

    Args:
        plane: sides (X, Y) in pixels; one number = length of the shorter side, with the aspect ratio kept; None = no
            resizing.
        depth: number of slices, for volumes; None = unchanged.
        keys: images and masks on one grid; missing keys are skipped.
        mask_key: key of the mask.

    Raises:
        NomalyError: if a study of one slice is to be resized to several slices.
    """

    def __init__(
        self,
        plane: int | Sequence[int] | None,
        keys: Sequence[Hashable] = ("image", "mask"),
        mask_key: Hashable = "mask",
        depth: int | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.plane = plane
        self.mask_key = mask_key
        self.depth = depth

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        if self.plane is None:
            return item
        for key in self.key_iterator(item):
            width, height, depth = item[key].shape[1:]
            size = (*plane_size(self.plane, width, height), depth if self.depth is None else self.depth)
            if depth == 1 and size[2] > 1:
                raise NomalyError(
                    f"only a volume can be resized to {size[2]} slices, but this study has one slice: give the whole "
                    "volume, or use the configs without the 3-D overlay for 2-D images."
                )
            if key == self.mask_key:
                item[key] = Resize(size, mode="nearest-exact")(item[key])
            else:
                item[key] = Resize(size, mode="trilinear")(smoothed(item[key], size))
        return item


def plane_size(plane: int | Sequence[int], width: int, height: int) -> tuple[int, int]:
    """Sides (X, Y) of a resized slice of width x height pixels; a single number is the length of the shorter side."""
    if not isinstance(plane, int):
        return plane[0], plane[1]
    shorter = min(width, height)
    return round(width * plane / shorter), round(height * plane / shorter)


def smoothed(image: MetaTensor, size: Sequence[int]) -> MetaTensor:
    """Smooth an image (C, X, Y, Z) with a Gaussian, sigma (length / target - 1) / 2 pixels, along each shrinking axis.

    The plane is padded with zeros, as in MONAI; along Z the last slices are repeated, because the body continues there.
    """
    values = image.as_tensor().numpy()
    for axis, (length, target) in enumerate(zip(image.shape[1:], size), start=1):
        if target < length:
            kernel = gaussian_1d(torch.tensor((length / target - 1) / 2), truncated=4.0).numpy()
            values = ndimage.convolve1d(values, kernel, axis, mode="nearest" if axis == 3 else "constant")
    return convert_to_dst_type(values, image)[0]
