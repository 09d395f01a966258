"""2-D images read with Pillow: PNG, JPEG, TIFF and what else it knows, upright and with larger = brighter."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from monai.data import MetaTensor
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError
from PIL.TiffImagePlugin import ImageFileDirectory_v2, TiffImageFile

from custom.studies.formats import check_memory, load_error

GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16L", "I;16B", "I;16N")
ANIMATIONS = ("GIF", "WEBP", "AVIF")
ALWAYS_COLOUR, ROUNDING = ("WEBP", "AVIF"), 2  # grey images are stored in colour, rounded when they are compressed
BITS, PHOTOMETRIC, SAMPLES, SAMPLE_FORMAT = 258, 262, 277, 339  # tags of TIFF 6.0
WHITE_IS_ZERO, UNSIGNED, SIGNED = 0, 1, 2  # values of Photometric and SampleFormat
NO_GREY_OR_RGB = {5: "CMYK", 8: "CIELab", 9: "CIELab", 10: "CIELab"}  # values of Photometric


def read_image_file(path: Path) -> MetaTensor:
    """Read an image file as (C, X, Y), or a TIFF file of several pages as (C, X, Y, Z).

    The orientation that the file states (EXIF, TIFF Orientation) is applied, WhiteIsZero is inverted, palettes are
    expanded and transparency is dropped.

    Raises:
        NomalyError: if it does not fit into memory, is an animation, or a TIFF of another kind than grey or 8-bit RGB.
    """
    with open_image(path) as image:
        return pillow_image(image, path)


def pillow_image(image: Image.Image, path: Path) -> MetaTensor:
    """The values of an opened image as `read_image_file` gives them; `path` names it in messages.

    Raises:
        NomalyError: as `read_image_file`.
    """
    pages = getattr(image, "n_frames", 1) if isinstance(image, TiffImageFile) else 1
    _check_kind(image, path)
    check_memory(path, image.width * image.height * len(image.getbands()) * pages)
    integers = _integers(image)
    if pages == 1:
        values = _values(image)
    else:
        values = _stack([_values(page) for page in ImageSequence.Iterator(image)], path)
    return as_displayed(values, integers)


def as_displayed(values: np.ndarray, integers: str) -> MetaTensor:
    """A float32 (C, X, Y) or (C, X, Y, Z) array as an image without geometry, in display orientation.

    Args:
        values: the array.
        integers: type of integers in PNG for these values, "uint8" or "uint16"; "" if PNG cannot hold them.
    """
    meta = {"spacing_known": False, "sides_known": False, "integers": integers}
    affine = torch.diag(torch.tensor([-1.0, -1.0, 1.0, 1.0], dtype=torch.float64))
    return MetaTensor(torch.from_numpy(values), affine=affine, meta=meta)


@contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """Open an image file with Pillow; whether it fits into memory is checked elsewhere.

    Raises:
        NomalyError: if it has more pixels than Pillow reads.
        UnidentifiedImageError: if Pillow does not know its kind.
    """
    with warnings.catch_warnings(), path.open("rb") as stream:  # by its path, Pillow scrambles uncompressed turned TIFF
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            image = Image.open(stream)
        except Image.DecompressionBombError:
            problem = f"an image must have at most {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels, but it has more"
            raise load_error(path, problem, "Give a smaller image.") from None
        except UnidentifiedImageError:  # its text repeats the path
            raise UnidentifiedImageError("no image of a kind that Pillow reads") from None
        yield image


def _integers(image: Image.Image) -> str:
    """The smallest type of integers in PNG for the values of an image; "" for more than 16 bits or fractions."""
    if image.mode == "F" or (isinstance(image, TiffImageFile) and image.mode == "I"):
        return ""
    return "uint16" if image.mode.startswith("I") else "uint8"


def _check_kind(image: Image.Image, path: Path) -> None:
    """Reject animations, and TIFF files that Pillow would convert with a loss."""
    frames = getattr(image, "n_frames", 1)
    if image.format in ANIMATIONS and frames > 1:
        step = "Save the image to analyse as PNG and use that."
        raise load_error(path, f"an image file must hold one image, but this {image.format} holds {frames}", step)
    if isinstance(image, TiffImageFile):
        kind = NO_GREY_OR_RGB.get(image.tag_v2.get(PHOTOMETRIC, -1)) or _deep_colour(image)
        if kind:
            problem = f"a TIFF image must be grey or RGB with 8 bits per colour, but this one is {kind}"
            raise load_error(path, problem, "Save it as grey TIFF or PNG (or 8-bit RGB for a colour model).")


def _deep_colour(image: TiffImageFile) -> str:
    """Name colours of more than 8 bits, else ""."""
    bits = max(image.tag_v2.get(BITS, (1,)))
    return f"{bits}-bit RGB" if image.tag_v2.get(SAMPLES, 1) >= 3 and bits > 8 else ""


def _values(image: Image.Image) -> np.ndarray:
    """The values of one page, float32 (C, X, Y)."""
    array = np.asarray(_grey_or_rgb(ImageOps.exif_transpose(image)))
    if image.format in ALWAYS_COLOUR and array.ndim == 3 and np.ptp(array.astype(np.int16), axis=2).max() <= ROUNDING:
        array = array[..., 1]
    if isinstance(image, TiffImageFile) and array.ndim == 2:
        array = _as_stated(array, image.tag_v2)
    return np.ascontiguousarray(
        np.moveaxis(array[None] if array.ndim == 2 else np.moveaxis(array, 2, 0), 2, 1), np.float32
    )


def _as_stated(array: np.ndarray, tags: ImageFileDirectory_v2) -> np.ndarray:
    """Grey values of a TIFF page with the sign that is stated, and with larger = brighter.

    Pillow reads 32-bit integers as signed and 8-bit ones as unsigned, and inverts WhiteIsZero only up to 8 bits.
    """
    bits, kinds = tags.get(BITS, (1,)), tags.get(SAMPLE_FORMAT, (UNSIGNED,))
    depth, unsigned = max(bits), UNSIGNED in kinds
    if unsigned and depth == 32:
        array = array.view(np.uint32)
    if SIGNED in kinds and depth == 8:
        array = array.view(np.int8)
    if tags.get(PHOTOMETRIC) != WHITE_IS_ZERO or depth <= 8:
        return array
    values = array.astype(np.float64)
    return (2**depth - 1 if unsigned else values.min() + values.max()) - values


def _stack(pages: list[np.ndarray], path: Path) -> np.ndarray:
    """Pages of one size as the slices of a volume."""
    shapes = {page.shape for page in pages}
    if len(shapes) > 1:
        sides = ", ".join(sorted(f"{x} x {y}" for _, x, y in shapes))
        step = "Save the page to analyse as a file of its own and use that."
        raise load_error(path, f"the pages of a TIFF file must have one size and kind, but these have {sides}", step)
    return np.stack(pages, axis=-1)


def _grey_or_rgb(image: Image.Image) -> Image.Image:
    """Drop transparency and expand palettes, so that array values are intensities, not palette indices."""
    if image.mode in GREY_MODES or image.mode == "RGB":
        return image
    return image.convert("L" if image.mode in ("LA", "La") else "RGB")
