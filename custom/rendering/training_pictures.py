"""Small pictures of a validation study, kept during a training and drawn later on one colour scale."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from skimage.segmentation import find_boundaries

from custom.rendering.colours import Palette, map_colours, palette_of
from custom.rendering.images import as_array, as_plane, data_uri, lay_over, strongest_slice, to_rgb, webp
from custom.rendering.panels import OUTLINES
from custom.studies.items import Study

SIDE = 128  # longest side of a picture in pixels; larger ones are reduced


@dataclass(frozen=True)
class StudyPicture:
    """Pictures of one study at one validation; all can be stored as JSON.

    Args:
        image: the network's input, a data URI.
        healthy: its pseudo-healthy image, a data URI.
        marked: the input with the outline of its lesion, a data URI; None without a mask.
        anomaly_map: the map as an 8-bit PNG in base64; 255 is ``peak``.
        peak: largest value of the map.
        palette: colours of the map.
        lesion: kind of its synthetic lesion; None = healthy.
    """

    image: str
    healthy: str
    marked: str | None
    anomaly_map: str
    peak: float
    palette: Palette
    lesion: str | None = None

    def map_over_image(self, vmax: float) -> str:
        """The map over the input, a data URI; values from ``vmax`` are drawn in the last colour."""
        base = np.asarray(_opened(self.image.partition(",")[2]).convert("RGB"))
        field = np.asarray(_opened(self.anomaly_map), dtype=np.float32) * np.float32(self.peak / 255)
        return data_uri(webp(lay_over(base, map_colours(field, vmax, self.palette)), quality=80))


def study_picture(study: Study) -> StudyPicture:
    """Pictures of a study that was scored: of a volume its middle slice, or the slice with most of its lesion."""
    image, mask = as_array(study["image"]), as_array(study["mask"]) if "mask" in study else np.zeros(())
    z = strongest_slice(mask) if mask.any() else image.shape[-1] // 2
    base = _reduced(to_rgb(as_plane("image", image[..., z])))
    healthy = _reduced(to_rgb(as_plane("reconstruction", as_array(study["reconstruction"])[..., z])))
    field = as_plane("pred", np.nan_to_num(as_array(study["pred"])[..., z]))[..., 0]
    peak = max(float(field.max()), 1e-8)
    palette = palette_of(len(image))
    marked = None
    if mask.any():
        inside = _reduced(255 * (as_plane("mask", mask[..., z])[..., 0] > 0).astype(np.uint8)) > 127
        outlined = base.copy()
        outlined[find_boundaries(inside, mode="outer")] = OUTLINES[palette]
        marked = _uri(outlined)
    stored = _reduced((np.clip(field / peak, 0, 1) * 255).round().astype(np.uint8))
    lesion = str(study.get("group") or "lesion") if study.get("label") else None
    return StudyPicture(_uri(base), _uri(healthy), marked, _png(stored), peak, palette, lesion)


def _reduced(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels (Y, X) or (Y, X, 3) with a longest side of at most SIDE."""
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.thumbnail((SIDE, SIDE))
    return np.array(picture)


def _uri(pixels: NDArray[np.uint8]) -> str:
    return data_uri(webp(pixels, quality=80))


def _png(pixels: NDArray[np.uint8]) -> str:
    """Grey pixels (Y, X) as a PNG in base64."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode("ascii")


def _opened(content: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(content)))
