"""Pixels of DICOM files: padding, unusual bits, copies in other syntaxes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid

from custom.studies.dicom import read_dicom
from dicom import GRID, RAMP, VOLUME, refused, write_film, write_series


def test_padding_is_background_at_the_lowest_other_value_of_the_volume(tmp_path: Path) -> None:
    padded = np.where(VOLUME < 0, -2000, VOLUME).astype(np.int16)
    files = write_series(tmp_path, padded, GRID, PixelPaddingValue=-2000)
    assert np.array_equal(read_dicom(files, tmp_path)[0], np.where(VOLUME < 0, VOLUME[VOLUME >= 0].min(), VOLUME))


@pytest.mark.parametrize("photometric, padding, limit", [("MONOCHROME2", 4090, 4095), ("MONOCHROME1", 5, 0)])
def test_padding_range_of_a_film_is_background_also_in_a_negative(
    tmp_path: Path, photometric: str, padding: int, limit: int
) -> None:
    tags = {"PhotometricInterpretation": photometric, "PixelPaddingValue": padding, "PixelPaddingRangeLimit": limit}
    path = write_film(tmp_path / "film.dcm", RAMP, 12, **tags)
    bright = RAMP if photometric == "MONOCHROME2" else 4095 - RAMP
    expected = np.where(bright >= 4090, 0, bright)
    assert np.array_equal(read_dicom([path], path)[0, ..., 0], expected)


def test_padding_is_found_where_the_sign_of_the_pixels_is_not_stated(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.dcm", RAMP, 12)
    file = pydicom.dcmread(path)
    file.add_new("PixelPaddingValue", "US", 0)
    del file.PixelRepresentation
    file.save_as(path)
    assert np.array_equal(read_dicom([path], path)[0, ..., 0], np.maximum(RAMP, 1))


def test_padding_beyond_all_pixels_is_ignored(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.dcm", RAMP, 12)
    file = pydicom.dcmread(path)
    file.add_new("PixelPaddingValue", "UV", 2**64 - 1)
    file.save_as(path)
    assert np.array_equal(read_dicom([path], path)[0, ..., 0], RAMP)


@pytest.mark.parametrize("signed", [False, True])
def test_pixels_in_the_high_bits_are_shifted(tmp_path: Path, signed: bool) -> None:
    values = RAMP.astype(np.int16) - 2048 * signed
    path = write_film(tmp_path / "film.dcm", (values << 4).astype(np.int16 if signed else np.uint16), 12, HighBit=15)
    assert np.array_equal(read_dicom([path], path)[0, ..., 0], values)


def test_wrong_high_bit_is_refused(tmp_path: Path) -> None:
    refused([write_film(tmp_path / "film.dcm", RAMP, 12, HighBit=15)], "HighBit must be that of the pixels")


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_signed_pixels_of_8_bits_are_read(tmp_path: Path, photometric: str) -> None:
    values = np.arange(-128, 128).astype(np.int8).reshape(16, 16)
    path = write_film(tmp_path / "film.dcm", values, PhotometricInterpretation=photometric, RescaleIntercept=5)
    bright = values.astype(int) if photometric == "MONOCHROME2" else -1 - values.astype(int)
    assert np.array_equal(read_dicom([path], path)[0, ..., 0], bright + 5)


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_bits_that_are_not_stated_are_all_of_the_cell(tmp_path: Path, photometric: str) -> None:
    values = np.arange(-128, 128).astype(np.int8).reshape(16, 16)
    tags = {"PhotometricInterpretation": photometric, "PixelPaddingValue": -128, "BitsStored": None, "HighBit": None}
    path = write_film(tmp_path / "film.dcm", values, **tags)
    bright = values.astype(int) if photometric == "MONOCHROME2" else -1 - values.astype(int)
    expected = np.where(values == -128, bright[values > -128].min(), bright)
    assert np.array_equal(read_dicom([path], path)[0, ..., 0], expected)


def test_compressed_signed_pixels_of_8_bits_are_refused(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.dcm", np.arange(64, dtype=np.int8).reshape(8, 8), syntax=uid.RLELossless)
    refused([path], "pixels must be unsigned or of 16 bits")


def test_colour_of_16_bits_is_refused_by_name(tmp_path: Path) -> None:
    path = write_film(tmp_path / "colour.dcm", RAMP[:, :60])
    file = pydicom.dcmread(path)
    file.SamplesPerPixel, file.PhotometricInterpretation, file.PlanarConfiguration, file.Rows = 3, "RGB", 0, 20
    file.save_as(path)
    refused([path], "a colour image must have 8 bits per colour, but this one has 16")


@pytest.mark.parametrize("tags", [{"HighBit": 60000}, {"HighBit": 10}, {"BitsStored": 0}])
def test_bits_outside_their_cells_are_refused(tmp_path: Path, tags: dict) -> None:
    refused([write_film(tmp_path / "film.dcm", RAMP, 12, **tags)], r"HighBit is \d+ with \d+ of 16 bits")


def test_copy_in_another_lossless_syntax_is_left_out(tmp_path: Path) -> None:
    files = write_series(tmp_path, VOLUME, GRID)
    copy = pydicom.dcmread(files[1])
    copy.compress(uid.RLELossless, generate_instance_uid=False)
    copy.save_as(tmp_path / "copy.dcm")
    image = read_dicom([*files, tmp_path / "copy.dcm"], tmp_path)
    assert np.array_equal(image[0], VOLUME) and len(image.meta["source_files"]) == 4
