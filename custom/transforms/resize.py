"""Bringing a study to the network's grid."""

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
    """Resize images, (C, X, Y, Z), smoothed before they shrink, and their masks, to the nearest.

    It is MONAI's Resize with ``anti_aliasing``, whose Gaussian is taken line by line here: the convolution over three
    axes that MONAI makes of it takes a quarter of a minute for a film of 2000 x 2000 pixels. Undone as a Resize.

    Args:
        plane: sides (X, Y) in pixels; None leaves all as it is.
        depth: number of slices, for volumes; None leaves them as they are.
        keys: images and masks on one grid; one that an item lacks is passed over.
        mask_key: which of them is the mask.

    Raises:
        NomalyError: if a study of one slice is asked for a depth.
    """

    def __init__(
        self,
        plane: Sequence[int] | None,
        keys: Sequence[Hashable] = ("image", "mask"),
        mask_key: Hashable = "mask",
        depth: int | None = None,
    ) -> None:
        super().__init__(keys, allow_missing_keys=True)
        self.plane = None if plane is None else tuple(plane)
        self.mask_key = mask_key
        self.depth = depth

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        item = dict(data)
        for key in self.key_iterator(item) if self.plane is not None else ():
            size = (*self.plane, item[key].shape[3] if self.depth is None else self.depth)
            if item[key].shape[3] == 1 and size[2] > 1:
                raise NomalyError(
                    f"a study must be a volume to be brought to {size[2]} slices, but it has one: give the whole "
                    "volume, or use the configs without the 3-D overlay for pictures."
                )
            if key == self.mask_key:
                item[key] = Resize(size, mode="nearest-exact")(item[key])
            else:
                item[key] = Resize(size, mode="trilinear")(smoothed(item[key], size))
        return item


def smoothed(image: MetaTensor, size: Sequence[int]) -> MetaTensor:
    """An image (C, X, Y, Z) with a Gaussian of (length / target - 1) / 2 pixels along each axis that will shrink.

    Around the plane lie zeros, as MONAI has it; above and below the slices go on as the last ones are: there the study
    was cut out of a body.
    """
    values = image.as_tensor().numpy()
    for axis, (length, target) in enumerate(zip(image.shape[1:], size), start=1):
        if target < length:
            kernel = gaussian_1d(torch.tensor((length / target - 1) / 2), truncated=4.0).numpy()
            values = ndimage.convolve1d(values, kernel, axis, mode="nearest" if axis == 3 else "constant")
    return convert_to_dst_type(values, image)[0]
