"""Siemens mosaics: all slices of a volume as the tiles of one image, with their normal in a private header (CSA)."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from custom.studies.dicom_frames import count_frames, plane_of_frame
from custom.studies.dicom_geometry import Plane, numbers

MOSAIC_WORDS = frozenset({"MOSAIC", "VFRAME"})  # ImageType of Siemens and of United Imaging
SIEMENS_GROUP, SIEMENS_TILES = (0x0019, 0x0010), (0x0019, 0x100A)
PARALLEL = 1e-2  # of two unit vectors


@dataclass(frozen=True)
class Mosaic:
    """Tiles of one image.

    Attributes:
        side: tiles per row and per column; those after the last slice are empty.
        planes: plane of each slice, in the order of the tiles: row by row.
    """

    side: int
    planes: list[Plane]

    def split(self, pixels: np.ndarray) -> np.ndarray:
        """Return the pixels (C, X, Y, 1) of the image as the volume (C, X, Y, Z) of its tiles."""
        columns, rows = self.planes[0].size
        tiles = pixels.reshape(pixels.shape[0], self.side, columns, self.side, rows)
        volume = tiles.transpose(0, 2, 4, 3, 1).reshape(pixels.shape[0], columns, rows, -1)
        return volume[..., : len(self.planes)]


def mosaic_mark(header: Dataset) -> str:
    """Return what states that an image is a mosaic: ImageType, or the number of its tiles in Siemens' own group; "" if
    nothing does.
    """
    kind = header.get("ImageType") or ()
    words = {str(word).upper() for word in ([kind] if isinstance(kind, str) else kind)} & MOSAIC_WORDS
    if words:
        return f"ImageType {', '.join(sorted(words))}"
    return "NumberOfImagesInMosaic" if _tiles_of_group(header) is not None else ""


def read_mosaic(header: Dataset) -> Mosaic | None:
    """Return the tiles of a mosaic; None if the header does not state their number, distance, normal and position, or
    they do not fill the image.
    """
    private, image = _csa_header(header), plane_of_frame(header)
    spacing, normal = numbers(header, "SpacingBetweenSlices", 1), _vector(private, "SliceNormalVector")
    count = _tiles_of_group(header) or _number(private, "NumberOfImagesInMosaic")
    if image is None or spacing is None or normal is None or count is None or count < 1 or spacing[0] <= 0:
        return None
    side = math.ceil(math.sqrt(count))
    is_filled = image.size[0] % side == 0 and image.size[1] % side == 0 and count_frames(header) == 1
    if not is_filled or abs(abs(image.normal @ normal) - 1) > PARALLEL:
        return None
    first = _first_tile(image, side)
    step = np.sign(image.normal @ normal) * float(spacing[0]) * image.normal
    return Mosaic(side, [replace(first, position=first.position + number * step) for number in range(count)])


def _first_tile(image: Plane, side: int) -> Plane:
    """Return the plane of the first slice: Siemens states the position of an image of the mosaic's size with the same
    centre.
    """
    size = (image.size[0] // side, image.size[1] // side)
    columns, rows = (whole - tile for whole, tile in zip(image.size, size, strict=True))
    along = image.cosines[:3] * image.spacing[1] * columns + image.cosines[3:] * image.spacing[0] * rows
    return replace(image, position=image.position + along / 2, size=size)


def _tiles_of_group(header: Dataset) -> int | None:
    """Return the number of tiles in Siemens' own group 0019, None if it is missing."""
    owner, tiles = header.get(SIEMENS_GROUP), header.get(SIEMENS_TILES)
    is_stated = tiles is not None and "SIEMENS" in str(getattr(owner, "value", ""))
    return int(tiles.value) if is_stated else None


def _csa_header(header: Dataset) -> dict[str, Any]:
    """Return the items of Siemens' CSA header by their tag; none if it is missing or damaged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel calls its DICOM readers experimental
        from nibabel.nicom import csareader
    try:
        found = csareader.get_csa_header(header)
    except Exception:  # nibabel raises anything on a damaged one
        return {}
    return {name: tag["items"] for name, tag in found["tags"].items()} if found else {}


def _number(items: dict[str, Any], name: str) -> int | None:
    """Return the one integer of a tag."""
    return int(items[name][0]) if items.get(name) else None


def _vector(items: dict[str, Any], name: str) -> np.ndarray | None:
    """Return the three numbers of a tag."""
    found = np.array(items.get(name) or (), dtype=np.float64)
    return found if found.shape == (3,) and np.isfinite(found).all() else None
