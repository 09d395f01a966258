"""Pictures of a study: input, pseudo-healthy image and anomaly map side by side.

Arrays come in MONAI's order: `[x, y]` is shown at column x, row y, so a volume in LPS stands as a radiologist hangs it
(nose up, the patient's left on the right of the picture).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import lru_cache

import matplotlib
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from custom.errors import NomalyError

BACKGROUND = (11, 13, 16)
CAPTION_COLOUR = (168, 176, 186)
THRESHOLD_COLOUR = (255, 255, 255)
TRUTH_COLOUR = (64, 224, 208)
THUMBNAIL_KEY = "nomaly_thumbnail_box"

_GAP, _CAPTION, _SUPERSAMPLING = 8, 30, 2


def slice_picture(
    image: ArrayLike,
    reconstruction: ArrayLike,
    anomaly_map: ArrayLike,
    threshold: float | None,
    truth: ArrayLike | None = None,
    vmax: float | None = None,
    *,
    spacing: Sequence[float] = (1.0, 1.0),
    panel: int = 300,
    note: str = "",
) -> bytes:
    """Draw one slice: input | pseudo-healthy | map over the input | input with the truth's outline, if it is given.

    Args:
        image: (X, Y), (1, X, Y) or, for colour, (3, X, Y); values in [0, 1].
        reconstruction: pseudo-healthy image, shaped as `image`.
        anomaly_map: (X, Y) or (1, X, Y), larger = more abnormal. A value that is not finite is drawn as the largest,
            so that it can never pass for normal.
        threshold: pixel threshold, drawn as a thin white outline; None draws none.
        truth: reference mask, (X, Y) or (1, X, Y), drawn as a thin turquoise outline.
        vmax: map value that gets the full colour. Give one number for all studies of a run, or their pictures cannot
            be compared; None takes the largest value of this map, at least twice the threshold.
        spacing: size of a pixel along x and y in mm; sets the picture's proportions.
        panel: longest side of a panel in pixels.
        note: text after the first caption, such as "slice 12 of 40".

    Returns:
        The bytes of a PNG. Its text chunk `nomaly_thumbnail_box` holds the box of the map panel.

    Raises:
        NomalyError: the arrays differ in their grid or are not two-dimensional.
    """
    picture, values = _as_plane("image", image), _as_plane("anomaly_map", anomaly_map)[..., 0]
    planes = {"reconstruction": _as_plane("reconstruction", reconstruction)}
    if truth is not None:
        planes["truth"] = _as_plane("truth", truth)
    for name, plane in {**planes, "anomaly_map": values}.items():
        if plane.shape[:2] != picture.shape[:2]:
            raise NomalyError(
                f"{name} must have the grid of image {picture.shape[1::-1]}, got {plane.shape[1::-1]}. "
                "Resample it to the image's grid first."
            )
    vmax = _full_colour(values, threshold) if vmax is None else vmax
    size = _panel_size(picture.shape[:2], spacing, panel)
    base = _to_rgb(picture, size)
    field = _resize(np.nan_to_num(values, nan=vmax, posinf=vmax, neginf=0.0), size)
    overlay = _overlay(base, field, vmax)
    if threshold is not None:
        overlay = _outline(overlay, field > threshold, THRESHOLD_COLOUR)
    panels = [base, _to_rgb(planes["reconstruction"], size), overlay]
    captions = [f"Input  {note}".rstrip(), "Pseudo-healthy", "Anomaly map"]
    if truth is not None:
        mask = _resize((planes["truth"][..., 0] > 0).astype(np.float32), size, Image.Resampling.BILINEAR) > 0.5
        panels.append(_outline(base, mask, TRUTH_COLOUR))
        captions.append("Reference")
    return _compose([_halve(p) for p in panels], captions, vmax, threshold)


def volume_picture(
    image: ArrayLike,
    reconstruction: ArrayLike,
    anomaly_map: ArrayLike,
    threshold: float | None,
    truth: ArrayLike | None = None,
    vmax: float | None = None,
    *,
    spacing: Sequence[float] = (1.0, 1.0),
    panel: int = 300,
) -> tuple[bytes, int]:
    """Draw the slice along z where the map stands out most, and say which it is.

    Args:
        image: (X, Y, Z) or (C, X, Y, Z), C = 1 or 3; the other arrays likewise, the map and the truth with C = 1.
        reconstruction, anomaly_map, threshold, truth, vmax, spacing, panel: as in `slice_picture`.

    Returns:
        The bytes of a PNG and the index of the slice along z.

    Raises:
        NomalyError: the arrays differ in their grid.
    """
    values = _as_array(anomaly_map)
    index = strongest_slice(values, threshold)
    depth = values.shape[-1]
    arrays = [_as_array(a) for a in (image, reconstruction)]
    for name, array in (("image", arrays[0]), ("reconstruction", arrays[1])):
        if array.shape[-3:] != values.shape[-3:]:
            raise NomalyError(
                f"{name} must have the grid of anomaly_map {values.shape[-3:]}, got {array.shape[-3:]}. "
                "Resample it to the map's grid first."
            )
    png = slice_picture(
        *(a[..., index] for a in arrays),
        values[..., index],
        threshold,
        None if truth is None else _as_array(truth)[..., index],
        vmax,
        spacing=spacing,
        panel=panel,
        note=f"slice {index + 1} of {depth}" if depth > 1 else "",
    )
    return png, index


def strongest_slice(anomaly_map: ArrayLike, threshold: float | None = None) -> int:
    """Index along the last axis of the slice with the largest map content.

    Content is the sum of what lies over the threshold; where nothing does (or without a threshold) the plain sum.

    Args:
        anomaly_map: (X, Y, Z) or (1, X, Y, Z), larger = more abnormal.
        threshold: pixel threshold.
    """
    values = np.nan_to_num(_as_array(anomaly_map), posinf=0.0, neginf=0.0)
    axes = tuple(range(values.ndim - 1))
    excess = np.clip(values - threshold, 0, None).sum(axes) if threshold is not None else np.zeros(1)
    return int(np.argmax(excess if excess.max() > 0 else values.sum(axes)))


def grid_picture(
    image: ArrayLike,
    reconstruction: ArrayLike,
    anomaly_map: ArrayLike | None = None,
    *,
    max_cases: int = 8,
    vmax: float | None = None,
) -> NDArray[np.uint8]:
    """Draw a batch for TensorBoard: a column a case; rows input, pseudo-healthy and, if given, map over the input.

    Args:
        image: (B, C, X, Y) or (B, C, X, Y, Z), C = 1 or 3, values in [0, 1]; of a volume the middle slice is shown,
            or the strongest slice of its map.
        reconstruction: pseudo-healthy images, shaped as `image`.
        anomaly_map: (B, 1, ...), larger = more abnormal.
        max_cases: number of columns at most.
        vmax: map value that gets the full colour; None takes the batch's largest.

    Returns:
        (H, W, 3) uint8; pass it to `SummaryWriter.add_image(..., dataformats="HWC")`.
    """
    images, reconstructions = _as_array(image)[:max_cases], _as_array(reconstruction)[:max_cases]
    maps = None if anomaly_map is None else _as_array(anomaly_map)[:max_cases]
    if images.ndim == 5:
        depths = [images.shape[-1] // 2] * len(images) if maps is None else [strongest_slice(m) for m in maps]
        images = np.stack([a[..., z] for a, z in zip(images, depths)])
        reconstructions = np.stack([a[..., z] for a, z in zip(reconstructions, depths)])
        maps = None if maps is None else np.stack([a[..., z] for a, z in zip(maps, depths)])
    rows = [[_to_rgb(_as_plane("image", a)) for a in row] for row in (images, reconstructions)]
    if maps is not None:
        full = float(np.nanmax(maps)) if vmax is None else vmax
        rows.append([_overlay(base, _as_plane("anomaly_map", m)[..., 0], full) for base, m in zip(rows[0], maps)])
    framed = [[np.pad(tile, ((1, 1), (1, 1), (0, 0))) for tile in row] for row in rows]
    return np.concatenate([np.concatenate(row, axis=1) for row in framed], axis=0).astype(np.uint8)


def _as_array(values: ArrayLike) -> NDArray[np.float32]:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().float().numpy()
    return np.asarray(values, dtype=np.float32)


def _as_plane(name: str, values: ArrayLike) -> NDArray[np.float32]:
    """Bring (X, Y) or (C, X, Y) to rows, columns, channels: (Y, X, C)."""
    array = _as_array(values)
    array = array[None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[0] not in (1, 3):
        raise NomalyError(
            f"{name} must be (X, Y) or (C, X, Y) with C = 1 or 3, got {np.shape(values)}. Pick one slice."
        )
    return array.transpose(2, 1, 0)


def _full_colour(values: NDArray[np.float32], threshold: float | None) -> float:
    finite = values[np.isfinite(values)]
    return max(float(finite.max()) if finite.size else 0.0, 2 * (threshold or 0.0), 1e-8)


def _panel_size(shape: Sequence[int], spacing: Sequence[float], panel: int) -> tuple[int, int]:
    """Width and height of a panel that keeps the proportions in millimetres, supersampled for smooth outlines."""
    width, height = shape[1] * spacing[0], shape[0] * spacing[1]
    scale = panel / max(width, height)
    return tuple(max(1, round(side * scale)) * _SUPERSAMPLING for side in (width, height))


def _resize(plane: NDArray[np.float32], size: tuple[int, int], method: int = Image.Resampling.BICUBIC) -> NDArray:
    return np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize(size, method))


def _to_rgb(plane: NDArray[np.float32], size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """(Y, X, 1 or 3) in [0, 1] -> (H, W, 3) in 0..255, resized if a size is given."""
    grey = (np.nan_to_num(np.clip(plane, 0, 1)) * 255).round().astype(np.uint8)
    picture = Image.fromarray(grey[..., 0] if grey.shape[-1] == 1 else np.ascontiguousarray(grey))
    return np.asarray((picture.resize(size, Image.Resampling.BICUBIC) if size else picture).convert("RGB"))


@lru_cache(maxsize=1)
def _colours() -> NDArray[np.float32]:
    """256 colours in 0..255: inferno without its dark end, which would hide the anatomy rather than mark it."""
    return (matplotlib.colormaps["inferno"](np.linspace(0.35, 0.97, 256))[:, :3] * 255).astype(np.float32)


def _overlay(base: NDArray[np.uint8], field: NDArray[np.float32], vmax: float) -> NDArray[np.uint8]:
    """Lay the map over the picture; the colour grows more opaque with the value, smoothly from 8 % to 70 % of vmax.

    The everyday residual of healthy tissue thus leaves no veil over the anatomy.
    """
    share = np.nan_to_num(np.clip(field / max(vmax, 1e-8), 0, 1), nan=1.0)
    rise = np.clip((share - 0.08) / 0.62, 0, 1)
    opacity = (0.92 * rise * rise * (3 - 2 * rise))[..., None].astype(np.float32)
    colour = _colours()[(share * 255).astype(np.uint8)]
    return (base + (colour - base) * opacity).round().astype(np.uint8)


def _outline(picture: NDArray[np.uint8], mask: NDArray[np.bool_], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Paint the inner border of a mask, one and a half pixels wide once the supersampling is undone."""
    width = 3
    padded = np.pad(mask, width)
    inner = padded.copy()
    for axis in (0, 1):
        for shift in range(1, width + 1):
            inner &= np.roll(padded, shift, axis) & np.roll(padded, -shift, axis)
    painted = picture.copy()
    painted[mask & ~inner[width:-width, width:-width]] = colour
    return painted


def _halve(picture: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(picture).reduce(_SUPERSAMPLING)


def _compose(panels: list[Image.Image], captions: list[str], vmax: float, threshold: float | None) -> bytes:
    """Set the panels side by side on a dark ground, captions under them, the colour scale beside the map's caption."""
    width, height = panels[0].size
    sheet = Image.new("RGB", (len(panels) * (width + _GAP) + _GAP, height + _GAP + _CAPTION), BACKGROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=12)
    for i, (panel, caption) in enumerate(zip(panels, captions)):
        left = _GAP + i * (width + _GAP)
        sheet.paste(panel, (left, _GAP))
        draw.text((left + 2, height + _GAP + 9), caption, CAPTION_COLOUR, font)
        if caption == "Anomaly map":
            _draw_scale(sheet, draw, font, left + width, height + _GAP + 12, vmax, threshold)
            box = (left, _GAP, left + width, _GAP + height)
    text = PngImagePlugin.PngInfo()
    text.add_text(THUMBNAIL_KEY, ",".join(map(str, box)))
    stream = io.BytesIO()
    sheet.save(stream, "PNG", compress_level=4, pnginfo=text)
    return stream.getvalue()


def _draw_scale(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    font: ImageFont.ImageFont,
    right: int,
    top: int,
    vmax: float,
    threshold: float | None,
) -> None:
    """A small ramp from 0 to vmax, right-aligned, with a white tick at the threshold."""
    length, thickness = 64, 6
    label = f"{vmax:.3g}"
    bar_right = right - 6 - int(draw.textlength(label, font))
    ramp = np.broadcast_to(np.linspace(0, vmax, length, dtype=np.float32), (thickness, length))
    ground = np.full((thickness, length, 3), 40, np.uint8)
    sheet.paste(Image.fromarray(_overlay(ground, ramp, vmax)), (bar_right - length, top))
    draw.text((bar_right + 5, top - 3), label, CAPTION_COLOUR, font)
    draw.text((bar_right - length - 11, top - 3), "0", CAPTION_COLOUR, font)
    if threshold is not None and 0 <= threshold <= vmax:
        tick = bar_right - length + round(threshold / vmax * (length - 1))
        draw.line((tick, top - 2, tick, top + thickness + 1), THRESHOLD_COLOUR)
