"""Image files that state an orientation, a grey scale or a format of their own."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from custom.errors import NomalyError
from custom.runs.source_geometry import write_images
from custom.studies.loading import LoadStudy
from custom.studies.readers import read_study

GREY = np.random.default_rng(0).integers(0, 200, (6, 9)).astype(np.uint8)
PHOTOMETRIC, ORIENTATION = 262, 274
# How the stored pixels are turned to be upright, by the orientation of EXIF and TIFF 6.0.
UPRIGHT = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 6: lambda a: np.rot90(a, -1), 8: np.rot90}


def write_tiff(path: Path, pixels: np.ndarray, white_is_zero: bool = False) -> None:
    """Write integers (Y, X) or (Y, X, 3) as an uncompressed TIFF file; Pillow writes only some kinds."""
    (height, width), samples = pixels.shape[:2], pixels.shape[2] if pixels.ndim == 3 else 1
    bits, photometric = 8 * pixels.itemsize, 2 if samples == 3 else int(not white_is_zero)
    depths, start = bits.to_bytes(2, "little") * samples, 200
    short = {258: bits, 259: 1, PHOTOMETRIC: photometric, 277: samples, 339: 2 if pixels.dtype.kind == "i" else 1}
    tags = {256: width, 257: height, 273: start, 279: pixels.nbytes, **short}
    content = b"II*\0\x08\0\0\0" + len(tags).to_bytes(2, "little")
    for tag, value in sorted(tags.items()):
        count, value = (samples, start - 20) if tag == 258 and samples == 3 else (1, value)
        content += struct.pack("<HHII", tag, 3 if tag in short else 4, count, value)
    path.write_bytes((content.ljust(start - 20, b"\0") + depths).ljust(start, b"\0") + pixels.tobytes())


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_stated_orientation_is_applied(tmp_path: Path, name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(GREY).save(tmp_path / name, exif=exif)
    assert np.array_equal(read_study(tmp_path / name)[0].T, UPRIGHT[orientation](GREY))


def test_results_have_the_size_of_the_upright_image(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    Image.fromarray(GREY).save(tmp_path / "a.jpg", exif=exif)
    image = LoadStudy(min_size=1)(tmp_path / "a.jpg")
    assert image.meta["spatial_shape"].tolist() == [6, 9]
    path = write_images(tmp_path / "results", image, {"mask": np.ones((6, 9))})["mask"]
    with Image.open(path) as result:
        assert result.size == (6, 9)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiff_whose_white_is_zero_is_inverted(tmp_path: Path, dtype) -> None:
    stored = np.iinfo(dtype).max - GREY.astype(dtype) * (np.iinfo(dtype).max // 255)
    write_tiff(tmp_path / "a.tif", stored, white_is_zero=True)
    expected = (np.iinfo(dtype).max - stored).astype(np.float32)
    assert np.array_equal(read_study(tmp_path / "a.tif")[0].T, expected)


def test_signed_tiff_of_8_bits_keeps_its_negative_values(tmp_path: Path) -> None:
    values = GREY.astype(np.int16) - 100
    write_tiff(tmp_path / "a.tif", values.astype(np.int8))
    assert np.array_equal(read_study(tmp_path / "a.tif")[0].T, values)


def test_tiff_of_32_bit_integers_keeps_its_values(tmp_path: Path) -> None:
    values = GREY.astype(np.uint32) * 20_000_000
    write_tiff(tmp_path / "a.tif", values)
    image = LoadStudy(min_size=1)(tmp_path / "a.tif")
    assert np.array_equal(image[0, ..., 0].T, values.astype(np.float32)) and float(image.max()) > 2**31
    paths = write_images(tmp_path / "results", image, {"pseudo_healthy": image[0, ..., 0].numpy()})
    assert paths["pseudo_healthy"].name == "pseudo_healthy.nii.gz"


def test_cmyk_tiff_is_refused_in_plain_words(tmp_path: Path) -> None:
    Image.fromarray(GREY).convert("CMYK").save(tmp_path / "a.tif")
    with pytest.raises(NomalyError, match="must be grey or RGB with 8 bits per colour, but this one is CMYK. Save it"):
        read_study(tmp_path / "a.tif")


def test_tiff_with_16_bit_colours_is_refused_in_plain_words(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", np.zeros((4, 5, 3), np.uint16))
    with pytest.raises(NomalyError, match="must be grey or RGB with 8 bits per colour, but this one is 16-bit RGB"):
        read_study(tmp_path / "a.tif")


def test_tiff_pages_of_different_sizes_are_refused(tmp_path: Path) -> None:
    thumbnail = Image.fromarray(GREY[:3, :4])
    Image.fromarray(GREY).save(tmp_path / "a.tif", save_all=True, append_images=[thumbnail])
    with pytest.raises(NomalyError, match="pages of a TIFF file must have one size and kind, but these have 4 x 3, 9"):
        read_study(tmp_path / "a.tif")


@pytest.mark.parametrize("suffix", ["gif", "jp2", "pgm", "tga", "webp", "jfif", "jpe"])
def test_other_formats_of_pillow_are_read(tmp_path: Path, suffix: str) -> None:
    smooth = np.add.outer(np.arange(64), np.arange(80)).astype(np.uint8)
    kind = {"jfif": "JPEG", "jpe": "JPEG", "jp2": "JPEG2000", "pgm": "PPM"}.get(suffix, suffix.upper())
    Image.fromarray(smooth).save(tmp_path / f"a.{suffix}", kind)
    image = LoadStudy()(tmp_path / f"a.{suffix}")
    assert image.shape == (1, 80, 64, 1) and np.abs(image[0, ..., 0].numpy().T - smooth).max() <= 8


@pytest.mark.parametrize("name", ["a.gif", "a.webp"])
def test_animation_is_refused(tmp_path: Path, name: str) -> None:
    Image.fromarray(GREY).save(tmp_path / name, save_all=True, append_images=[Image.fromarray(255 - GREY)])
    with pytest.raises(NomalyError, match="an image file must hold one image, but this (GIF|WEBP) holds 2"):
        read_study(tmp_path / name)


def test_file_that_is_no_image_is_refused_without_repeating_its_path(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"text")
    with pytest.raises(
        NomalyError, match=r"reader failed \(UnidentifiedImageError: no image of a kind that Pillow reads"
    ):
        read_study(tmp_path / "a.png")
