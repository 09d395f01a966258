"""Each kind of file becomes the kind of image that the published figures were measured on."""

from __future__ import annotations

import io
import re

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from custom.errors import NomalyError
from custom.public_sets import convert
from custom.public_sets.fingerprint import digest, fingerprint, is_same_picture

RANDOM = np.random.default_rng(0)


def opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content))


def noise(size: tuple[int, int], mode: str = "L") -> Image.Image:
    """Smooth noise of a size (columns, rows)."""
    small = RANDOM.integers(0, 255, (12, 12, 3) if mode == "RGB" else (12, 12)).astype(np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


@pytest.mark.parametrize(
    ("function", "given", "made"),
    [
        (convert.child_film, (400, 300), (224, 224)),
        (convert.adult_film, (299, 299), (256, 256)),
        (convert.hand_film, (64, 64), (64, 64)),
    ],
)
def test_films_become_grey_and_of_the_published_size_and_show_the_same(tmp_path, function, given, made) -> None:
    picture = noise(given)
    picture.convert("RGB").save(tmp_path / "film.png")
    film = opened(function(tmp_path / "film.png"))
    assert (film.mode, film.size, film.format) == ("L", made, "JPEG")
    assert is_same_picture(fingerprint(film), fingerprint(picture))
    assert not is_same_picture(fingerprint(film), fingerprint(noise(given)))


def test_film_of_the_published_size_is_only_encoded_again(tmp_path) -> None:
    noise((224, 224)).save(tmp_path / "film.png")
    expected = io.BytesIO()
    Image.open(tmp_path / "film.png").save(expected, "JPEG", quality=95)
    assert convert.child_film(tmp_path / "film.png") == expected.getvalue()


def test_flair_is_the_second_of_three_channels(tmp_path) -> None:
    channels = RANDOM.integers(0, 255, (256, 256, 3)).astype(np.uint8)
    Image.fromarray(channels).save(tmp_path / "a.tif")
    assert np.array_equal(np.asarray(opened(convert.flair_slice(tmp_path / "a.tif"))), channels[..., 1])
    Image.fromarray(channels[..., 0]).save(tmp_path / "b.tif")
    with pytest.raises(
        NomalyError, match="b.tif must have three channels, but has mode L: use the file as distributed"
    ):
        convert.flair_slice(tmp_path / "b.tif")


def test_window_of_a_frame_has_the_shape_of_its_image() -> None:
    assert convert.window_of(1000, 1000) == pytest.approx((373.3, 188.5, 899.2, 662.7))
    left, upper, right, lower = convert.window_of(622, 529)
    columns, rows = convert.WINDOW
    assert (right - left) / (lower - upper) == pytest.approx(columns / rows, rel=0.005)
    assert convert.window_of(1000, 500)[1] == 0.0  # inside the frame


def test_window_and_its_mask_show_the_same_place(tmp_path) -> None:
    frame = np.zeros((1000, 1000), np.uint8)
    frame[300:400, 500:700] = 255
    Image.fromarray(frame).convert("RGB").save(tmp_path / "frame.jpg", quality=95)
    Image.fromarray(frame).save(tmp_path / "mask.jpg", quality=50)
    window, mask = opened(convert.colon_window(tmp_path / "frame.jpg")), opened(
        convert.colon_mask(tmp_path / "mask.jpg")
    )
    assert window.size == mask.size == (256, 230) and (window.mode, mask.mode) == ("RGB", "L")
    rows, columns = np.nonzero(np.asarray(mask))
    # (500 - 373.3) / 525.9 * 256 = 61.7 and (300 - 188.5) / 474.2 * 230 = 54.1
    assert (columns.min(), columns.max() + 1) == pytest.approx((61.7, 159.0), abs=1)
    assert (rows.min(), rows.max() + 1) == pytest.approx((54.1, 102.6), abs=1)
    bright = np.asarray(window.convert("L")) > 127
    assert (bright != (np.asarray(mask) > 0)).mean() < 0.02
    assert set(np.unique(np.asarray(mask))) == {0, 255}


@pytest.mark.parametrize("spacing", [2.0, 3.0])
def test_head_is_cut_60_mm_below_its_top_with_the_nose_up(tmp_path, spacing) -> None:
    x, y, z = np.meshgrid(*[np.arange(0, side, spacing) - side / 2 for side in (200, 240, 200)], indexing="ij")
    head = ((x / 75) ** 2 + (y / 95) ** 2 + (z / 90) ** 2 < 1) * 100.0
    head[(np.abs(z - 30) < 5) & (np.hypot(x, y - 60) < 15)] = 200.0  # towards the nose, 60 mm below the top of 90
    image = nib.Nifti1Image(head.astype(np.float32), np.diag([spacing] * 3 + [1]))
    nib.save(nib.as_closest_canonical(image).slicer[::-1], tmp_path / "head.nii.gz")  # another orientation

    cut = opened(convert.head_slice(tmp_path / "head.nii.gz"))

    values = np.asarray(cut, int)
    assert (cut.mode, cut.size) == ("L", (197, 233)) and values.max() == 255
    rows, columns = np.nonzero(values > 40)
    # half axes at z = 30 of 90: 75 and 95 times sqrt(1 - 1 / 9)
    assert (np.ptp(columns) + 1, np.ptp(rows) + 1) == pytest.approx((2 * 70.7, 2 * 89.6), abs=2 * spacing + 1)
    assert (rows.min() + rows.max()) / 2 == pytest.approx(116, abs=2)
    assert np.nonzero(values > 200)[0].mean() == pytest.approx(116 - 60, abs=3)


def test_what_cannot_be_read_is_named(tmp_path) -> None:
    (tmp_path / "a.jpeg").write_bytes(b"no image")
    with pytest.raises(NomalyError, match=re.escape(f"{tmp_path / 'a.jpeg'} cannot be read (")):
        convert.hand_film(tmp_path / "a.jpeg")
    (tmp_path / "a.nii.gz").write_bytes(b"no image")
    with pytest.raises(NomalyError, match=r"a\.nii\.gz cannot be read .*: download it again"):
        convert.head_slice(tmp_path / "a.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros((9, 9, 9), np.float32), np.eye(4)), tmp_path / "empty.nii.gz")
    with pytest.raises(NomalyError, match="must be a volume of a head, but no head was found"):
        convert.head_slice(tmp_path / "empty.nii.gz")


def test_digest_changes_with_a_single_pixel_but_not_with_the_format() -> None:
    picture = noise((40, 30))
    assert digest(picture) == digest(opened(convert.encoded(picture)))
    changed = picture.copy()
    changed.putpixel((3, 3), picture.getpixel((3, 3)) ^ 1)
    assert digest(changed) != digest(picture)
    assert is_same_picture(fingerprint(changed), fingerprint(picture))
