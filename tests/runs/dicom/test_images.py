from __future__ import annotations

import highdicom as hd
import itk
import numpy as np
import pydicom
import pytest
from highdicom.pm.sop import pmread
from pydicom.uid import JPEG2000Lossless

from dicom import write_series
from dicom_results import SHAPE, anomaly_map, labels, oblique_affine, regions, result, sources, write

SEGMENTS = np.array([0, 1, 0, 2])  # segment of each region number of the fixture


def patient_positions(image):
    """Patient coordinates (LPS, mm) of the pixels of each segment, by the arithmetic of PS3.3, C.7.6.2.1.1."""
    shared, found = image.SharedFunctionalGroupsSequence[0], {}
    right, down = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
    row_step, column_step = shared.PixelMeasuresSequence[0].PixelSpacing
    for pixels, frame in zip(image.pixel_array, image.PerFrameFunctionalGroupsSequence):
        origin = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        for row, column in np.argwhere(pixels):
            found.setdefault(number, []).append(origin + right * column_step * column + down * row_step * row)
    return found


@pytest.mark.parametrize("kind", ["series", "multiframe"])
def test_a_marked_voxel_of_an_oblique_series_keeps_its_patient_coordinates(kind, tmp_path):
    positions = patient_positions(pydicom.dcmread(write(kind, tmp_path)["segmentation"]))
    for region, segment in ((1, 1), (3, 2)):
        expected = [(oblique_affine() @ [*voxel, 1])[:3] * [-1, -1, 1] for voxel in np.argwhere(labels() == region)]
        np.testing.assert_allclose(sorted(map(tuple, positions[segment])), sorted(map(tuple, expected)), atol=1e-4)


def test_a_marked_voxel_lies_where_itk_sees_it_in_the_source(tmp_path):
    volume = np.zeros(SHAPE, np.uint16)
    volume[3, 7, 1] = 1000
    files = write_series(tmp_path / "source", volume, oblique_affine())
    image = itk.imread([str(file) for file in reversed(files)])  # in the order of the slices' normal, as ITK wants
    z, y, x = np.argwhere(itk.array_view_from_image(image) == 1000)[0]
    expected = image.TransformIndexToPhysicalPoint([int(x), int(y), int(z)])
    seen = hd.seg.segread(write("series", tmp_path, files=files)["segmentation"]).get_volume(combine_segments=True)
    np.testing.assert_allclose(seen.map_indices_to_reference(np.argwhere(seen.array == 1))[0], expected, atol=1e-4)


def test_each_source_file_has_the_regions_of_its_slice(tmp_path):
    files = sources("series", tmp_path)
    segmentation = hd.seg.segread(write("series", tmp_path, files=files)["segmentation"])
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in files]
    frames = segmentation.get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(frames.transpose(2, 1, 0), SEGMENTS[labels()])


def test_files_against_the_direction_of_their_positions_keep_their_regions(tmp_path):
    files = sources("series", tmp_path)[::-1]
    segmentation = hd.seg.segread(write("series", tmp_path, files=files)["segmentation"])
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in files]
    frames = segmentation.get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(frames.transpose(2, 1, 0), SEGMENTS[labels()])


def test_each_frame_of_a_multiframe_file_has_its_regions(tmp_path):
    files = sources("multiframe", tmp_path)
    segmentation = hd.seg.segread(write("multiframe", tmp_path, files=files)["segmentation"])
    frames = segmentation.get_pixels_by_source_frame(
        pydicom.dcmread(files[0]).SOPInstanceUID,
        range(1, 6),
        combine_segments=True,
        assert_missing_frames_are_empty=True,
    )
    np.testing.assert_array_equal(frames.transpose(2, 1, 0), SEGMENTS[labels()])


def test_orientation_repeated_in_each_frame_is_understood(tmp_path):
    def move_orientation(file):
        shared = file.SharedFunctionalGroupsSequence[0]
        for frame in file.PerFrameFunctionalGroupsSequence:
            frame.PlaneOrientationSequence = shared.PlaneOrientationSequence
            frame.PixelMeasuresSequence = shared.PixelMeasuresSequence
        del shared.PlaneOrientationSequence, shared.PixelMeasuresSequence

    (path,) = sources("multiframe", tmp_path)
    file = pydicom.dcmread(path)
    move_orientation(file)
    file.save_as(path)
    positions = patient_positions(pydicom.dcmread(write("multiframe", tmp_path, files=[path])["segmentation"]))
    expected = (oblique_affine() @ [3, 7, 1, 1])[:3] * [-1, -1, 1]
    np.testing.assert_allclose(positions[1][0], expected, atol=1e-4)


def test_frames_without_a_region_are_left_out(tmp_path):
    segmentation = pydicom.dcmread(write("series", tmp_path)["segmentation"])
    assert segmentation.NumberOfFrames == 3  # one of region 1, two of region 3


def test_segments_say_what_they_are_and_who_found_them(tmp_path):
    segmentation = hd.seg.segread(write("series", tmp_path)["segmentation"])
    first, second = (segmentation.get_segment_description(number) for number in (1, 2))
    assert (first.segment_label, second.segment_label) == ("Anomaly 1", "Anomaly 3")
    assert first.segmented_property_category.value == "49755003"
    assert first.algorithm_type.value == "AUTOMATIC"
    algorithm = first.algorithm_identification
    assert (algorithm.name, algorithm.version) == ("Nomaly ra_brain", "1.2.3")
    assert algorithm.parameters["model_hash"] == "ab" * 32
    assert first.tracking_uid != second.tracking_uid


@pytest.mark.parametrize("kind", ["series", "multiframe"])
def test_the_map_of_a_volume_keeps_its_values_and_places(kind, tmp_path):
    volume = pmread(write(kind, tmp_path)["map"]).get_volume()
    for voxel in ((3, 7, 1), (8, 2, 4)):
        index = volume.map_reference_to_indices((oblique_affine() @ [*voxel, 1])[None, :3] * [-1, -1, 1])
        z, y, x = np.round(index[0]).astype(int)
        assert volume.array[z, y, x] == anomaly_map()[voxel]


def test_slices_that_were_not_assessed_are_no_part_of_the_map(tmp_path):
    image = pydicom.dcmread(write("series", tmp_path)["map"])
    assert image.NumberOfFrames == 4
    empty = {"map": np.zeros(SHAPE, np.float32)}
    assert pydicom.dcmread(write("series", tmp_path, arrays=empty, regions=[])["map"]).NumberOfFrames == 5


def test_the_map_of_a_film_tells_its_values_by_the_standard_rescale(tmp_path):
    path = write("film", tmp_path)["map"]
    image, expected = pydicom.dcmread(path), anomaly_map()[..., 4]
    step = float(image.RescaleSlope)
    assert step == pytest.approx(expected.max() / 65535, rel=1e-6)
    np.testing.assert_allclose(image.RescaleIntercept + step * image.pixel_array.T, expected, atol=0.51 * step)
    by_itk = itk.array_from_image(itk.imread(str(path), itk.F))
    np.testing.assert_allclose(by_itk.squeeze().T, expected, atol=0.51 * step)


def test_negative_values_of_a_film_are_kept(tmp_path):
    values = anomaly_map()[..., 4] - np.float32(0.4)
    image = pydicom.dcmread(write("film", tmp_path, arrays={"map": values}, regions=[])["map"])
    back = image.RescaleIntercept + float(image.RescaleSlope) * image.pixel_array.T
    np.testing.assert_allclose(back, values, atol=0.51 * float(image.RescaleSlope))


def test_a_map_of_one_value_gives_one_grey(tmp_path):
    image = pydicom.dcmread(write("film", tmp_path, arrays={"map": np.zeros(SHAPE[:2], np.float32)}, regions=[])["map"])
    assert not image.pixel_array.any()
    assert image.WindowWidth > 0


def test_the_map_of_a_film_has_the_pixel_size_and_side_of_the_film(tmp_path):
    image = pydicom.dcmread(write("film", tmp_path, PixelSpacing=[0.3, 0.2], Laterality="L")["map"])
    assert (list(image.PixelSpacing), image.Laterality, list(image.PatientOrientation)) == ([0.3, 0.2], "L", ["L", "F"])


@pytest.mark.parametrize(
    "tags", [{}, {"PixelSpacing": None}, {"PixelSpacing": [0, 0]}], ids=["size", "no_size", "zero"]
)
def test_regions_of_a_compressed_film_lie_on_its_pixels(tags, tmp_path):
    segmentation = hd.seg.segread(write("film", tmp_path, syntax=JPEG2000Lossless, **tags)["segmentation"])
    frames = segmentation.pixel_array
    np.testing.assert_array_equal(frames[0].T, labels().max(axis=2) == 1)
    np.testing.assert_array_equal(frames[1].T, labels().max(axis=2) == 3)


def test_pixels_of_the_source_are_never_read(tmp_path):
    (path,) = sources("film", tmp_path)
    file = pydicom.dcmread(path)
    file.PixelData = b"no pixels"
    file.save_as(path)
    assert set(write("film", tmp_path, files=[path])) == {"segmentation", "map", "report"}


def test_a_single_finding_has_a_segment_of_its_own(tmp_path):
    arrays = {"map": anomaly_map(), "labels": np.where(labels() == 3, 3, 0)}
    paths = write("series", tmp_path, arrays=arrays, regions=regions((3,)), result=result(region_count=1))
    volume = hd.seg.segread(paths["segmentation"]).get_volume(combine_segments=True)
    assert volume.array.sum() == 3


def test_one_slice_with_a_place_is_a_volume_of_one(tmp_path):
    paths = write("slice", tmp_path)
    values = np.frombuffer(pydicom.dcmread(paths["map"]).FloatPixelData, "<f4")
    np.testing.assert_array_equal(values.reshape(9, 11).T, anomaly_map()[..., 4])
    positions = patient_positions(pydicom.dcmread(paths["segmentation"]))
    np.testing.assert_allclose(positions[1], [(oblique_affine() @ [3, 7, 0, 1])[:3] * [-1, -1, 1]], atol=1e-4)
