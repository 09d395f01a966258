"""Reading of DICOM films, series and multi-frame files."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from highdicom import get_volume_from_series
from monai.data import ITKReader
from pydicom import uid

from custom.errors import NomalyError
from custom.studies.dicom import read_dicom
from custom.studies.readers import read_study
from dicom import RAMP, VOLUME, refused, write_cine, write_film, write_multiframe, write_series

COSINE, SINE = np.cos(0.3), np.sin(0.3)
# Spacings 1.5, 2 and 3 mm, turned by 0.3 rad around the x axis.
OBLIQUE = np.array([[-1.5, 0, 0, 7], [0, -2 * COSINE, 3 * SINE, -8], [0, 2 * SINE, 3 * COSINE, 9], [0, 0, 0, 1]])
SERIES_OF_PLANES = np.diag([-1.0, -1.0, 2.0, 1.0])


@pytest.mark.parametrize("syntax", ["ExplicitVRLittleEndian", "RLELossless", "JPEGLSLossless", "JPEG2000Lossless"])
def test_film_of_twelve_bits_keeps_4096_levels(tmp_path: Path, syntax: str) -> None:
    path = write_film(tmp_path / "film.dcm", RAMP, 12, getattr(uid, syntax))
    image = read_dicom([path], path)
    assert np.array_equal(image[0, ..., 0], RAMP)


def test_affine_and_values_of_a_series_are_those_of_independent_readers(tmp_path: Path) -> None:
    files = write_series(tmp_path / "series", VOLUME, OBLIQUE)
    image = read_dicom(files[::-1], tmp_path)
    assert np.array_equal(image[0], VOLUME)
    np.testing.assert_allclose(image.affine, OBLIQUE, atol=1e-9)
    reader = ITKReader()
    array, meta = reader.get_data(reader.read(tmp_path / "series"))
    assert np.array_equal(array, VOLUME)
    np.testing.assert_allclose(image.affine, meta["affine"], atol=1e-6)
    volume = get_volume_from_series([pydicom.dcmread(file) for file in files])
    corner = volume.affine @ [0, 0, 0, 1]  # highdicom's axes are (slice, row, column), of either direction; LPS
    flipped = not np.allclose(np.diag([-1, -1, 1, 1]) @ corner, OBLIQUE[:, 3])
    theirs = (np.diag([-1.0, -1, 1, 1]) @ volume.affine)[:, [2, 1, 0, 3]]
    theirs[:, 3] += flipped * (len(files) - 1) * theirs[:, 2]
    theirs[:, 2] *= -1 if flipped else 1
    np.testing.assert_allclose(image.affine, theirs, atol=1e-9)


def test_tilted_gantry_keeps_its_shear(tmp_path: Path) -> None:
    tilted = SERIES_OF_PLANES + np.outer([0, 1, 0, 0], [0, 0, 0.6, 0])
    image = read_dicom(write_series(tmp_path, VOLUME, tilted), tmp_path)
    np.testing.assert_allclose(image.affine, tilted, atol=1e-9)


def test_each_slice_has_its_own_slope(tmp_path: Path) -> None:
    # The first slope is whole and the others are not, as in PET: no value may be cut to the first file's type.
    slopes = [2, 0.25, 0.123456789, 300]
    files = write_series(tmp_path, VOLUME, OBLIQUE, RescaleSlope=lambda z: str(slopes[z]), RescaleIntercept="-3")
    expected = (VOLUME * np.array(slopes) - 3).astype(np.float32)
    assert np.array_equal(read_dicom(files, tmp_path)[0], expected)


def test_negative_volume_is_turned(tmp_path: Path) -> None:
    stored = (VOLUME + 1000).astype(np.uint16)
    files = write_series(tmp_path, stored, OBLIQUE, 12, PhotometricInterpretation="MONOCHROME1")
    assert np.array_equal(read_dicom(files, tmp_path)[0], 4095 - stored)


def test_one_slice_has_the_depth_of_its_header(tmp_path: Path) -> None:
    files = write_series(tmp_path, VOLUME[..., :1], OBLIQUE)
    image = read_dicom(files, files[0])
    assert image.shape == (1, 6, 5, 1)
    np.testing.assert_allclose(image.affine, OBLIQUE, atol=1e-9)


def test_copies_of_a_file_are_left_out(tmp_path: Path) -> None:
    files = write_series(tmp_path, VOLUME, OBLIQUE)
    copy = Path(shutil.copy(files[1], tmp_path / "copy.dcm"))
    image = read_dicom([*files, copy], tmp_path)
    assert np.array_equal(image[0], VOLUME) and len(image.meta["source_files"]) == 4


def test_other_pixels_under_one_identifier_are_refused(tmp_path: Path) -> None:
    refused(
        write_series(tmp_path, VOLUME, OBLIQUE, SOPInstanceUID="1.2.3"),
        r"0001.dcm: each image must have its own SOPInstanceUID, but .*0000.dcm has the same and other pixels",
    )


def test_echoes_at_one_position_are_refused(tmp_path: Path) -> None:
    echoes = [write_series(tmp_path / str(echo), VOLUME, OBLIQUE, SeriesInstanceUID="1.2.3") for echo in range(2)]
    refused(sum(echoes, []), "Study series: .* this series has 2 at each of its 4 positions")


def test_missing_slice_is_found(tmp_path: Path) -> None:
    files = write_series(tmp_path, VOLUME, OBLIQUE)
    refused(files[:1] + files[2:], "must follow each other every 3.00 mm, but 1 is missing")


def test_files_of_several_series_are_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path, VOLUME, OBLIQUE, SeriesInstanceUID=lambda z: f"1.2.{z % 2 + 1}")
    refused(files, "all files must belong to one series, but they do not")


def test_volume_without_pixel_spacing_is_refused(tmp_path: Path) -> None:
    files = write_series(tmp_path, VOLUME, OBLIQUE, PixelSpacing=lambda z: None if z else [1, 1])
    refused(files, "must specify the position of each slice, but in 3 of 4 files these tags .*: PixelSpacing.")


def test_truncated_file_is_refused_where_itk_would_fill_up(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.dcm", RAMP, 12)
    path.write_bytes(path.read_bytes()[:-100])
    refused([path], r"film.dcm: the file must contain all its pixels, but of 8192 bytes only 8092 follow its header")


@pytest.mark.parametrize("implicit", [False, True])
def test_one_missing_byte_at_the_end_is_noticed(tmp_path: Path, implicit: bool) -> None:
    path = write_film(tmp_path / "film.dcm", RAMP, 12)
    file = pydicom.dcmread(path)
    file.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian
    file.save_as(path, implicit_vr=implicit, little_endian=True)
    assert np.array_equal(read_dicom([path], path)[0, ..., 0], RAMP)
    path.write_bytes(path.read_bytes()[:-1])
    refused([path], "must contain all its pixels, but of 8192 bytes only 8191 follow its header")


@pytest.mark.parametrize("cut", [-300, -20])
@pytest.mark.parametrize("syntax", ["RLELossless", "JPEGLSLossless", "JPEG2000Lossless"])
def test_truncated_compressed_file_is_refused(tmp_path: Path, syntax: str, cut: int) -> None:
    noise = np.random.default_rng(0).integers(0, 4096, (64, 64), dtype=np.uint16)
    path = write_film(tmp_path / "film.dcm", noise, 12, getattr(uid, syntax))
    path.write_bytes(path.read_bytes()[:cut])
    refused([path], "film.dcm: the file must contain all its pixels, but it ends within them")


def test_compressed_file_without_the_last_mark_is_read(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.dcm", RAMP, 12, uid.JPEGLSLossless)
    path.write_bytes(path.read_bytes()[:-8])
    assert np.array_equal(read_dicom([path], path)[0, ..., 0], RAMP)


def test_pixels_that_cannot_be_decoded_are_refused(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.dcm", RAMP, 12, uid.JPEGLSLossless)
    content = path.read_bytes()
    start = content.index(b"\xff\xd8\xff")  # the first mark of the JPEG stream
    path.write_bytes(content[:start] + b"\x00" * 16 + content[start + 16 :])
    refused([path], r"film.dcm: .* could not be decoded \(JPEG-LS Lossless Image Compression\)")


def test_object_without_an_image_is_named(tmp_path: Path) -> None:
    path = write_film(tmp_path / "report.dcm", RAMP, Modality="SR", Rows=None, Columns=None)
    refused([path], r"report.dcm: the file must be an image, but it is another DICOM object \(SR\)")


def test_broken_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.dcm").write_bytes(b"\x08\x00" * 500)
    refused([tmp_path / "broken.dcm"], "broken.dcm: the file must be a readable .* image, but the reader failed")


def test_value_of_the_wrong_kind_is_not_printed(tmp_path: Path) -> None:
    path = write_film(tmp_path / "film.dcm", RAMP, NumberOfFrames="98765")
    path.write_bytes(path.read_bytes().replace(b"98765", b"Smith"))
    refused([path], r"all values in its header must be intact, but NumberOfFrames is not one integer")


@pytest.mark.parametrize("photometric", ["RGB", "YBR_FULL"])
def test_colour_image_has_three_channels(tmp_path: Path, photometric: str) -> None:
    path = write_film(tmp_path / "frame.dcm", RAMP.astype(np.uint8), Modality="ES")
    file = pydicom.dcmread(path)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    file.SamplesPerPixel, file.PlanarConfiguration, file.PhotometricInterpretation = 3, 0, photometric
    file.PixelData = pixels.tobytes()
    file.save_as(path)
    expected = pydicom.pixels.convert_color_space(pixels, photometric, "RGB")
    assert np.array_equal(read_dicom([path], path)[..., 0], expected.transpose(2, 1, 0))


def test_palette_is_expanded_to_colours(tmp_path: Path) -> None:
    path = write_film(tmp_path / "doppler.dcm", (RAMP % 256).astype(np.uint8), Modality="US")
    file = pydicom.dcmread(path)
    file.PhotometricInterpretation = "PALETTE COLOR"
    for place, rising in enumerate([True, False, True]):
        table = np.arange(256, dtype=np.uint16)[:: 1 if rising else -1] * 257
        file.add_new(0x00281101 + place, "US", [256, 0, 16])
        file.add_new(0x00281201 + place, "OW", table.tobytes())
    file.save_as(path)
    image = read_dicom([path], path)[..., 0]
    index = torch.from_numpy(RAMP % 256).float()
    assert torch.equal(image / image.max() * 255, torch.stack([index, 255 - index, index]))


@pytest.mark.parametrize("step", [1, -1])
def test_frames_of_one_stack_are_a_volume_in_their_order(tmp_path: Path, step: int) -> None:
    affine = OBLIQUE @ np.diag([1, 1, step, 1])
    path = write_multiframe(tmp_path / "head.dcm", VOLUME, affine)
    image = read_dicom([path], path)
    assert np.array_equal(image[0], VOLUME) and image.meta["spacing_known"]
    np.testing.assert_allclose(image.affine, affine, atol=1e-9)


def test_each_frame_has_its_own_slope(tmp_path: Path) -> None:
    def scale(frame: pydicom.Dataset, number: int) -> None:
        group = pydicom.Dataset()
        group.RescaleSlope, group.RescaleIntercept, group.RescaleType = str((number + 1) / 4), "-10", "US"
        frame.PixelValueTransformationSequence = [group]

    path = write_multiframe(tmp_path / "pet.dcm", VOLUME, OBLIQUE, edit=scale)
    assert np.array_equal(read_dicom([path], path)[0], VOLUME * np.array([0.25, 0.5, 0.75, 1]) - 10)


def test_frames_in_another_order_are_refused(tmp_path: Path) -> None:
    def shuffle(frame: pydicom.Dataset, number: int) -> None:
        frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, number * 3 % 4]

    path = write_multiframe(tmp_path / "head.dcm", VOLUME, SERIES_OF_PLANES, edit=shuffle)
    refused([path], "the 4 frames must be stored in the order of their positions")


def test_frames_of_several_echoes_are_refused(tmp_path: Path) -> None:
    def repeat(frame: pydicom.Dataset, number: int) -> None:
        frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, number // 2]

    path = write_multiframe(tmp_path / "head.dcm", VOLUME, SERIES_OF_PLANES, edit=repeat)
    refused([path], "this series has 2 at each of its 2 positions")


def test_cine_is_refused_as_frames_over_time(tmp_path: Path) -> None:
    path = write_cine(tmp_path / "heart.dcm", np.zeros((8, 8, 38), np.uint8))
    message = r"it contains 38 frames over time \(US, Ultrasound Multi-frame Image Storage\)"
    with pytest.raises(NomalyError, match=f"heart.dcm: the file must be one image or one volume, but {message}"):
        read_study(path)


def test_frames_without_geometry_are_refused(tmp_path: Path) -> None:
    stripped = {"SharedFunctionalGroupsSequence": None, "PerFrameFunctionalGroupsSequence": None}
    path = write_multiframe(tmp_path / "head.dcm", VOLUME, OBLIQUE, **stripped)
    tags = "ImagePositionPatient, ImageOrientationPatient, PixelSpacing"
    refused([path], f"in 4 of 4 frames these tags are missing or wrong: {tags}.")
