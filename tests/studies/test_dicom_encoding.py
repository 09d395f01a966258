"""Damaged values and compressed pixels of DICOM files are refused with the reason, before ITK decodes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate, generate_frames

from custom.studies.dicom import read_dicom
from dicom import GRID, RAMP, VOLUME, refused, write_film, write_multiframe, write_series

RLE_ITEM = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0"


def rewritten(path: Path, old: bytes, new: bytes) -> Path:
    """Replace the first occurrence of bytes that a file contains."""
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new, 1))
    return path


@pytest.mark.parametrize("syntax", [uid.ExplicitVRLittleEndian, uid.RLELossless])
def test_value_of_unknown_type_is_refused_with_its_tag(tmp_path: Path, syntax: str) -> None:
    path = write_film(tmp_path / "film.dcm", RAMP, syntax=syntax)
    refused(
        [rewritten(path, b"\x18\0\x15\0CS", b"\x18\0\x15\0QQ")], r"\(0018,0015\) is 'QQ', which DICOM does not define"
    )


def test_value_of_unknown_type_in_a_sequence_is_refused(tmp_path: Path) -> None:
    path = write_multiframe(tmp_path / "frames.dcm", VOLUME, GRID)
    refused([rewritten(path, b"\x20\0\x56\x90SH", b"\x20\0\x56\x90QH")], r"\(0020,9056\) is 'QH'")


def test_value_longer_than_its_sequence_is_refused(tmp_path: Path) -> None:
    path = write_multiframe(tmp_path / "frames.dcm", VOLUME, GRID)
    refused(
        [rewritten(path, b"\x20\0\x57\x90UL\x04\0", b"\x20\0\x57\x90UL\xff\xff")],
        r"\(0020,9057\) must have 65535 bytes",
    )


@pytest.mark.parametrize(
    "tags, reason",
    [
        ({"Rows": [64, 64]}, "Rows is not one integer"),
        ({"NumberOfFrames": [1, 1]}, "NumberOfFrames is not one integer"),
        ({"Modality": ["CR", "DX"]}, "Modality is not one text"),
    ],
)
def test_several_values_where_one_must_be_are_refused(tmp_path: Path, tags: dict, reason: str) -> None:
    refused([write_film(tmp_path / "film.dcm", RAMP, **tags)], reason)


def test_file_of_a_series_with_a_damaged_value_is_stated_by_its_place(tmp_path: Path) -> None:
    files = write_series(tmp_path, VOLUME, GRID)
    rewritten(files[1], b"\x18\0\x15\0CS", b"\x18\0\x15\0QQ")
    refused(files, "0001.dcm: file 2 of 4, all values in its header must be intact")


def palette_film(path: Path, descriptor: list[int], table: bytes) -> Path:
    """Write a film of 8 bits whose grey values are entries of a palette."""
    write_film(path, RAMP.astype(np.uint8))
    file = pydicom.dcmread(path)
    file.PhotometricInterpretation = "PALETTE COLOR"
    for colour in ("Red", "Green", "Blue"):
        file.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", descriptor)
        if table:
            file.add_new(f"{colour}PaletteColorLookupTableData", "OW", table)
    file.save_as(path)
    return path


def test_film_with_a_palette_is_read_in_colour(tmp_path: Path) -> None:
    path = palette_film(tmp_path / "film.dcm", [256, 0, 8], bytes(range(256)))
    assert np.array_equal(read_dicom([path], path)[:, ..., 0], np.repeat([RAMP % 256], 3, axis=0))


@pytest.mark.parametrize(
    "descriptor, length, reason",
    [
        ([256, 0, 16], 0, "the table of red of its palette is missing"),
        ([256, 0], 512, "the table of red of its palette is missing"),
        ([0, 0, 16], 512, "the table of red of its palette is too short"),
        ([4096, 0, 16], 4096, "the table of red of its palette is too short"),
    ],
)
def test_incomplete_palette_is_refused(tmp_path: Path, descriptor: list[int], length: int, reason: str) -> None:
    refused([palette_film(tmp_path / "film.dcm", descriptor, bytes(length))], reason)


def rle_film(path: Path, change: Callable[[bytes], bytes], fragments: int = 1) -> Path:
    """Write RAMP in RLE, its only frame changed."""
    write_film(path, RAMP, syntax=uid.RLELossless)
    file = pydicom.dcmread(path)
    (frame,) = generate_frames(file.PixelData, number_of_frames=1)
    file.PixelData = encapsulate([change(frame)], fragments_per_frame=fragments)
    file.save_as(path)
    return path


def header(count: int, *offsets: int) -> Callable[[bytes], bytes]:
    """Replace the header of an RLE frame."""
    return lambda frame: np.array([count, *offsets], "<u4").tobytes().ljust(64, b"\0") + frame[64:]


@pytest.mark.parametrize(
    "change, reason",
    [
        (header(2 + 2**22, 64, 100), "RLE frame 1 has 4194306 segments instead of 2"),
        (header(0, 64, 100), "RLE frame 1 has 0 segments instead of 2"),
        (header(1, 64), "RLE frame 1 has 1 segments instead of 2"),
        (header(2, 64, 2**31), "the segments of RLE frame 1 are not one after another"),
        (header(2, 64, 64), "the segments of RLE frame 1 are not one after another"),
        (header(2, 0, 100), "the segments of RLE frame 1 are not one after another"),
        (lambda frame: frame[:40], "the segments of RLE frame 1 are not one after another"),
    ],
)
def test_damaged_rle_frame_is_refused(tmp_path: Path, change: Callable[[bytes], bytes], reason: str) -> None:
    refused([rle_film(tmp_path / "film.dcm", change)], f"must contain all its pixels, but {reason}")


def test_rle_frame_in_two_fragments_is_read(tmp_path: Path) -> None:
    path = rle_film(tmp_path / "film.dcm", lambda frame: frame, fragments=2)
    assert np.array_equal(read_dicom([path], path)[0, ..., 0], RAMP)


@pytest.mark.parametrize("left", [0, 4, 8, 12, 16, 40])
def test_compressed_film_cut_off_at_its_first_fragment_is_refused(tmp_path: Path, left: int) -> None:
    path = write_film(tmp_path / "film.dcm", RAMP, syntax=uid.RLELossless)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(RLE_ITEM) + 12 + left])
    refused([path], "it ends within them")
