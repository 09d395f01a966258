"""From files as they are distributed to the images of the data sets behind the published figures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.funcs import as_closest_canonical
from nibabel.loadsave import load as load_nifti
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from scipy import ndimage

from custom.errors import NomalyError

Box = tuple[float, float, float, float]

# Of a frame of width W and height H: columns from LEFT * W, rows from H / 2 + TOP * W. Found by comparing the published
# masks with the bounding boxes in HyperKvasir: over 29 polyps, the median difference is 0.7 pixels of the frame.
LEFT, RIGHT, TOP, BOTTOM = 0.3733, 0.8992, -0.3115, 0.1627
WINDOW = (256, 230)
SLICE = (197, 233)  # columns and rows of 1 mm
BELOW_TOP = 60.0  # mm from the top of the head; of 55 to 80 mm the most like the published slices of 14 subjects


def read_image(path: Path) -> Image.Image:
    """Read an image file.

    Raises:
        NomalyError: if it cannot be read.
    """
    try:
        image = Image.open(path)
        image.load()
    except (OSError, UnidentifiedImageError) as error:
        raise NomalyError(f"{path} cannot be read ({error}): download it again.") from error
    return image


def encoded(image: Image.Image, quality: int | None = None) -> bytes:
    """The bytes of a PNG file, or of a JPEG file of a quality."""
    stream = io.BytesIO()
    if quality is None:
        image.save(stream, "PNG")
    else:
        image.save(stream, "JPEG", quality=quality)
    return stream.getvalue()


def child_film(path: Path) -> bytes:
    """A film of 224 x 224 pixels; the published ones were stored as JPEG of quality 75 in between."""
    image = read_image(path)
    if image.size != (224, 224):
        small = image.convert("L").resize((224, 224), Image.Resampling.BILINEAR)
        image = Image.open(io.BytesIO(encoded(small, 75)))
    return encoded(image.convert("L"), 95)


def adult_film(path: Path) -> bytes:
    """A film of 256 x 256 pixels."""
    image = read_image(path).convert("L")
    if image.size != (256, 256):
        image = image.resize((256, 256), Image.Resampling.BILINEAR)
    return encoded(image, 92)


def hand_film(path: Path) -> bytes:
    """A film as it is, 64 x 64 pixels."""
    return encoded(read_image(path).convert("L"), 95)


def flair_slice(path: Path) -> bytes:
    """The second of the three channels: pre-contrast T1, FLAIR, post-contrast T1.

    Raises:
        NomalyError: if the file has other channels.
    """
    image = read_image(path)
    if image.mode != "RGB":
        raise NomalyError(f"{path} must have three channels, but has mode {image.mode}: use the file as distributed.")
    return encoded(image.getchannel("G"))


def mask(path: Path) -> bytes:
    """A mask of 0 and 255."""
    return encoded(_binary(read_image(path)))


def colon_window(path: Path) -> bytes:
    """The window of a frame, which leaves out its black corners and overlays."""
    image = read_image(path).convert("RGB")
    return encoded(image.resize(WINDOW, Image.Resampling.BILINEAR, box=window_of(*image.size)), 92)


def colon_mask(path: Path) -> bytes:
    """The window of a frame's mask, of 0 and 255."""
    image = _binary(read_image(path))
    return encoded(image.resize(WINDOW, Image.Resampling.NEAREST, box=window_of(*image.size)))


def window_of(width: int, height: int) -> Box:
    """Left, upper, right and lower border of the window of a frame, inside the frame."""
    upper, lower = height / 2 + TOP * width, height / 2 + BOTTOM * width
    return LEFT * width, max(0.0, upper), RIGHT * width, min(float(height), lower)


def head_slice(path: Path) -> bytes:
    """The axial slice 60 mm below the top of the head, of 1 mm pixels, nose up, the head in the middle.

    Raises:
        NomalyError: if the file is not a T1-weighted head.
    """
    try:
        volume = as_closest_canonical(load_nifti(path))
        values, spacing = np.asarray(volume.dataobj, np.float32), volume.header.get_zooms()[:3]
    except (ImageFileError, OSError, EOFError, ValueError) as error:
        raise NomalyError(f"{path} cannot be read ({error}): download it again.") from error
    head = head_of(values)
    filled = np.flatnonzero(head.sum((0, 1)) * spacing[0] * spacing[1] > 500)  # mm2
    if not len(filled):
        raise NomalyError(f"{path} must be a volume of a head, but no head was found in it: check the file.")
    level = max(0, round(float(filled[-1] - BELOW_TOP / spacing[2])))
    plane = ndimage.zoom(values[:, :, level], spacing[:2], order=1)
    outline = np.argwhere(ndimage.zoom(head[:, :, level].astype(np.uint8), spacing[:2], order=0))
    middle = (outline.min(0) + outline.max(0)) // 2 if len(outline) else np.array(plane.shape) // 2
    cut = _centred(plane, middle)
    bright = np.percentile(cut[cut > 0.05 * cut.max()], 99.5) if cut.max() > 0 else 1.0
    grey = (np.clip(cut / bright, 0, 1) * 255).astype(np.uint8)
    return encoded(Image.fromarray(np.ascontiguousarray(grey.T[::-1])))


def head_of(values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The largest bright part of a volume."""
    bright = ndimage.binary_opening(values > 0.15 * np.percentile(values, 99))
    parts, number = ndimage.label(bright)
    return parts == 1 + np.bincount(parts.ravel())[1:].argmax() if number else np.zeros(values.shape, bool)


def _centred(plane: NDArray[np.float32], middle: NDArray[np.int64]) -> NDArray[np.float32]:
    """A part of SLICE around a pixel, with 0 outside of the plane."""
    padded = np.pad(plane, max(SLICE))
    first = middle + max(SLICE) - np.array(SLICE) // 2
    return padded[first[0] : first[0] + SLICE[0], first[1] : first[1] + SLICE[1]]


def _binary(image: Image.Image) -> Image.Image:
    """An image of 0 and 255, which JPEG masks are only nearly."""
    return image.convert("L").point(lambda value: 255 if value > 127 else 0)
