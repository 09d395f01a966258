"""Pixels of 2-D images: grey levels, WebP bytes, and a batch as one image.

Arrays are in MONAI's order: `[x, y]` is shown at column x, row y, so a volume in LPS appears in radiological convention
(nose up, the patient's left on the right of the image).
"""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from custom.errors import NomalyError
from custom.rendering.colours import map_colours, palette_of

_THUMBNAIL_SIDE = 112  # twice the shown size, for dense screens


def strongest_slice(anomaly_map: ArrayLike) -> int:
    """Index along the last axis of the slice with the largest sum of the map.

    Args:
        anomaly_map: (X, Y, Z) or (1, X, Y, Z), larger = more abnormal. Infinity and NaN count as 0.
    """
    values = np.nan_to_num(as_array(anomaly_map), posinf=0.0, neginf=0.0)
    return int(np.argmax(values.sum(tuple(range(values.ndim - 1)))))


def image_grid(
    image: ArrayLike,
    reconstruction: ArrayLike,
    anomaly_map: ArrayLike | None = None,
    *,
    max_cases: int = 8,
    vmax: float | None = None,
) -> NDArray[np.uint8]:
    """Draw a batch for TensorBoard: one column per case; rows input, pseudo-healthy and, if given, map over the input.

    Args:
        image: (B, C, X, Y) or (B, C, X, Y, Z), C = 1 or 3, values in [0, 1]; of a volume the middle slice or, with
            a map, its strongest slice is shown.
        reconstruction: pseudo-healthy images, shaped as `image`.
        anomaly_map: (B, 1, ...), larger = more abnormal.
        max_cases: largest number of columns.
        vmax: map value shown in full colour; None = the largest of the batch.

    Returns:
        (H, W, 3) uint8; pass it to `SummaryWriter.add_image(..., dataformats="HWC")`.
    """
    images, reconstructions = as_array(image)[:max_cases], as_array(reconstruction)[:max_cases]
    maps = None if anomaly_map is None else as_array(anomaly_map)[:max_cases]
    if images.ndim == 5:
        depths = [images.shape[-1] // 2] * len(images) if maps is None else [strongest_slice(m) for m in maps]
        images = np.stack([a[..., z] for a, z in zip(images, depths)])
        reconstructions = np.stack([a[..., z] for a, z in zip(reconstructions, depths)])
        maps = None if maps is None else np.stack([a[..., z] for a, z in zip(maps, depths)])
    rows = [[to_rgb(as_plane("image", a)) for a in row] for row in (images, reconstructions)]
    if maps is not None:
        full = float(np.nanmax(maps)) if vmax is None else vmax
        palette = palette_of(images.shape[1])
        fields = [as_plane("anomaly_map", m)[..., 0] for m in maps]
        rows.append([lay_over(base, map_colours(field, full, palette)) for base, field in zip(rows[0], fields)])
    framed = [[np.pad(tile, ((1, 1), (1, 1), (0, 0))) for tile in row] for row in rows]
    return np.concatenate([np.concatenate(row, axis=1) for row in framed], axis=0).astype(np.uint8)


def as_array(values: ArrayLike) -> NDArray[np.float32]:
    """Tensor or array as a float32 array in CPU memory."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().float().numpy()
    return np.asarray(values, dtype=np.float32)


def as_plane(name: str, values: ArrayLike) -> NDArray[np.float32]:
    """Bring (X, Y) or (C, X, Y) to rows, columns, channels: (Y, X, C).

    Raises:
        NomalyError: not a single slice with one or three channels.
    """
    array = as_array(values)
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[0] not in (1, 3):
        raise NomalyError(
            f"{name} must be (X, Y) or (C, X, Y) with C = 1 or 3, got {np.shape(values)}. Select one slice."
        )
    return array.transpose(2, 1, 0)


def to_rgb(plane: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(Y, X, 1 or 3) in [0, 1] -> (Y, X, 3) in 0..255; non-finite values become black."""
    grey = (np.nan_to_num(np.clip(plane, 0, 1)) * 255).round().astype(np.uint8)
    return np.broadcast_to(grey, (*grey.shape[:2], 3))


def lay_over(base: NDArray[np.uint8], layer: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blend (Y, X, 4) over (Y, X, 3), as a browser does."""
    opacity = layer[..., 3:].astype(np.float32) / 255
    return (base + (layer[..., :3].astype(np.float32) - base) * opacity).round().astype(np.uint8)


def webp(pixels: NDArray[np.uint8], **options: Any) -> bytes:
    """(Y, X, 3 or 4) in 0..255 as the bytes of a WebP; `options` as Pillow's, such as quality or lossless."""
    return _encoded(Image.fromarray(np.ascontiguousarray(pixels)), **options)


def reencoded(content: bytes, quality: int, side: int | None = None) -> bytes:
    """A WebP at a lower quality and, if `side` is given, with its longest side at most `side` pixels."""
    image: Image.Image = Image.open(io.BytesIO(content))
    if side is not None:
        image.thumbnail((side, side))
    return _encoded(image, quality=quality, alpha_quality=quality)


def thumbnail(pixels: NDArray[np.uint8], ratio: float) -> bytes:
    """A small WebP of (Y, X, 3), with `ratio` = width over height."""
    longest = _THUMBNAIL_SIDE
    size = (longest, max(1, round(longest / ratio))) if ratio > 1 else (max(1, round(longest * ratio)), longest)
    return _encoded(Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC), quality=80)


def data_uri(content: bytes) -> str:
    """A WebP as a data URI."""
    return f"data:image/webp;base64,{base64.b64encode(content).decode('ascii')}"


def _encoded(image: Image.Image, **options: Any) -> bytes:
    """Bytes of a WebP."""
    stream = io.BytesIO()
    image.save(stream, "WEBP", method=2, **options)
    return stream.getvalue()
