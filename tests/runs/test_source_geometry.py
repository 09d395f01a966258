from __future__ import annotations

import os

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, decollate_batch
from monai.transforms import Flip
from PIL import Image

from custom.files import WriteError
from custom.runs.source_geometry import (
    OFFSET_TEXT,
    SCALE_TEXT,
    source_arrays,
    source_spacing,
    to_source,
    write_images,
)


def rotation(degrees):
    """Rotation about x then z by the same angle."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    about_x, about_z = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]), np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return about_z @ about_x


# File axes -> world (RAS). The head's long axis of the array fixture is its last, so "stored" gives its permutation.
GEOMETRIES = {
    "plain_ras": (np.diag([4.0, 4.0, 4.0]), (0, 1, 2)),
    "flipped_axes": (np.diag([-4.0, 4.0, -4.0]), (0, 1, 2)),
    "oblique": (rotation(12) @ np.diag([4.0, 4.0, 4.0]), (0, 1, 2)),
    "anisotropic_oblique_flipped": (rotation(-15) @ np.diag([3.1, -4.7, 5.3]), (0, 1, 2)),
    "sagittal_storage": (np.array([[0, 0, -4.0], [4.0, 0, 0], [0, -4.0, 0]]), (1, 2, 0)),
}


@pytest.fixture(params=GEOMETRIES)
def source(request, head_array, save_volume):
    """A NIfTI head of odd size in one geometry; the superior end of the head is where the affine says."""
    matrix, order = GEOMETRIES[request.param]
    head = head_array()
    for axis in range(3):  # the fixture's head is top-heavy in +z: flip the array where the file axis runs downwards
        if matrix[2, order.index(axis)] < -1:
            head = np.flip(head, axis)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = matrix, (-31.0, 12.5, 7.25)
    return save_volume(np.ascontiguousarray(head.transpose(order)).astype(np.int16), affine)


def blob(shape, centre):
    """An int16 array with a 3 x 3 x 3 block of ones about `centre`."""
    array = np.zeros(shape, np.int16)
    array[tuple(slice(c - 1, c + 2) for c in centre)] = 1
    return array


def centroid(array):
    """Mean index weighted by the values."""
    return np.array([(index * array).sum() / array.sum() for index in np.indices(array.shape)])


def test_marker_on_the_network_grid_lands_where_the_affines_say(source, preprocessing):
    item = preprocessing()({"image": source})
    image = item["image"]
    middle = [side // 2 for side in image.shape[1:]]
    marker = torch.as_tensor(blob(image.shape[1:], middle))[None].float()
    world = image.affine.numpy() @ [*middle, 1]
    expected = (np.linalg.inv(nib.load(source).affine) @ world)[:3]
    for mode in ("trilinear", "nearest"):
        back = to_source(marker, image, mode)
        assert back.shape == nib.load(source).shape
        assert np.abs(centroid(back) - expected).max() < 0.5


def test_marker_in_the_source_survives_the_way_there_and_back(source, preprocessing, save_volume):
    original = nib.load(source)
    inside = preprocessing()({"image": source})["image"]
    world = inside.affine.numpy() @ [15, 30, inside.shape[3] // 2, 1]
    voxel = np.round((np.linalg.inv(original.affine) @ world)[:3]).astype(int)
    truth = save_volume(blob(original.shape, voxel), original.affine, "truth.nii.gz")
    item = preprocessing()({"image": source, "mask": truth})
    back = to_source(item["mask"], item["image"], "nearest")
    assert set(np.unique(back)) == {0, 1}
    assert np.abs(centroid(back) - voxel).max() < 1  # half a voxel for each of the two nearest-neighbour steps


def test_result_is_zero_outside_the_slab(source, preprocessing):
    image = preprocessing()({"image": source})["image"]
    back = to_source(torch.ones(1, *image.shape[1:]), image)
    # 20 to 60 mm of a head of about 110 mm: some, and not all, voxels are assessed.
    assert set(np.unique(back)) == {0, 1}
    assert 0.05 < back.mean() < 0.6


def test_nifti_results_have_the_affine_shape_and_spacing_of_their_source(source, preprocessing, tmp_path):
    image = preprocessing()({"image": source})["image"]
    grid = torch.rand(1, *image.shape[1:])
    paths = write_images(
        tmp_path / "out", image, source_arrays(image, {"map": grid, "labels": grid > 0.5, "pseudo_healthy": image})
    )
    original = nib.load(source)
    assert sorted(os.listdir(tmp_path / "out")) == ["map.nii.gz", "mask.nii.gz", "pseudo_healthy.nii.gz"]
    for name, dtype in {"map": np.float32, "mask": np.uint8, "pseudo_healthy": np.float32}.items():
        written = nib.load(paths[name])
        assert np.array_equal(written.affine, original.affine)
        assert written.shape == original.shape and written.get_data_dtype() == dtype
        assert written.header.get_zooms() == original.header.get_zooms()
        assert [int(written.header[code]) for code in ("qform_code", "sform_code")] == [
            int(original.header[code]) for code in ("qform_code", "sform_code")
        ]


def test_pseudo_healthy_has_the_intensities_of_the_source(source, preprocessing, tmp_path):
    image = preprocessing(size=96)({"image": source})["image"]
    path = write_images(tmp_path, image, source_arrays(image, {"pseudo_healthy": image}))["pseudo_healthy"]
    original, written = nib.load(source).get_fdata(), nib.load(path).get_fdata()
    # The image itself given as its own reconstruction: inside the ellipsoid (180) and outside (noise about 5).
    assessed = to_source(torch.ones(1, *image.shape[1:]), image) > 0.5
    inner = assessed & (original > 150) & (original < 210)
    assert abs(np.median(written[inner]) - np.median(original[inner])) < 2
    assert np.abs(written - original)[assessed].mean() < 6


def picture(height=75, width=61):
    """A grey disc, dark elsewhere, 8 bit, with a bright bar right of the centre, indexed [y, x]."""
    y, x = np.mgrid[:height, :width]
    pixels = np.where((y - 37) ** 2 + (x - 30) ** 2 < 24**2, 150, 0)
    pixels[30:34, 40:46] = 220
    return pixels.astype(np.uint8)


def test_picture_results_have_the_pixels_of_their_source(save_picture, preprocessing, tmp_path):
    image = preprocessing()({"image": save_picture(picture())})["image"]
    volumes = {"map": image * 3, "labels": image > 0.85, "pseudo_healthy": image}
    paths = write_images(tmp_path / "out", image, source_arrays(image, volumes))
    written = {name: np.asarray(Image.open(path)) for name, path in paths.items()}
    assert {name: (array.shape, str(array.dtype)) for name, array in written.items()} == {
        "map": ((75, 61), "uint16"),
        "mask": ((75, 61), "uint8"),
        "pseudo_healthy": ((75, 61), "uint8"),
    }
    y, x = np.nonzero(written["mask"])
    assert abs(y.mean() - 31.5) < 1 and abs(x.mean() - 42.5) < 1
    assert set(np.unique(written["mask"])) == {0, 255}
    assert written["pseudo_healthy"][37, 20] == 150


def test_map_picture_tells_its_scale(save_picture, preprocessing, tmp_path):
    image = preprocessing()({"image": save_picture(picture())})["image"]
    path = write_images(tmp_path, image, source_arrays(image, {"map": image * 3 - 1}))["map"]
    with Image.open(path) as written:
        values = float(written.text[OFFSET_TEXT]) + float(written.text[SCALE_TEXT]) * np.asarray(written).astype(float)
    expected = to_source(image * 3 - 1, image).T
    assert np.abs(values - expected).max() < 1e-4
    assert np.abs(expected).max() > 1


def test_map_of_zeros_is_written_as_zeros(save_picture, preprocessing, tmp_path):
    image = preprocessing()({"image": save_picture(picture())})["image"]
    path = write_images(tmp_path, image, source_arrays(image, {"map": torch.zeros(image.shape)}))["map"]
    assert not np.asarray(Image.open(path)).any()


def test_sixteen_bit_picture_gets_a_sixteen_bit_pseudo_healthy(save_picture, preprocessing, tmp_path):
    pixels = picture().astype(np.uint16) * 200
    image = preprocessing()({"image": save_picture(pixels)})["image"]
    path = write_images(tmp_path, image, source_arrays(image, {"pseudo_healthy": image}))["pseudo_healthy"]
    written = np.asarray(Image.open(path))
    assert written.dtype == np.uint16 and abs(int(written[37, 20]) - 30000) <= 1


def test_grey_two_dimensional_array_is_x_by_y(save_picture, preprocessing):
    image = preprocessing()({"image": save_picture(picture())})["image"]
    assert to_source(image, image).shape == (61, 75)
    assert to_source(torch.cat([image, image]), image).shape == (61, 75, 2)


def test_studies_from_a_batch_find_their_way_back(source, preprocessing, tmp_path):
    items = [{"image": source, "label": 0}, {"image": source, "label": 1}]
    batch = next(iter(DataLoader(Dataset(items, preprocessing()), batch_size=2)))
    alone = preprocessing()({"image": source})["image"]
    for item in decollate_batch(batch):
        np.testing.assert_array_equal(to_source(item["image"], item["image"]), to_source(alone, alone))
        paths = write_images(tmp_path, item["image"], source_arrays(item["image"], {"pseudo_healthy": item["image"]}))
        assert np.array_equal(nib.load(paths["pseudo_healthy"]).affine, nib.load(source).affine)


def test_way_back_leaves_the_preprocessed_image_as_it_was(source, preprocessing):
    image = preprocessing()({"image": source})["image"]
    first = to_source(image, image)
    np.testing.assert_array_equal(to_source(image, image), first)


def test_failed_write_leaves_no_file_behind(save_picture, preprocessing, tmp_path, monkeypatch):
    image = preprocessing()({"image": save_picture(picture())})["image"]

    def full_disk(*_):
        raise OSError("no space left")

    monkeypatch.setattr("custom.runs.source_geometry.os.replace", full_disk)
    with pytest.raises(WriteError, match="Cannot write .*map.png: no space left. The previous content is unchanged"):
        write_images(tmp_path / "out", image, source_arrays(image, {"map": image}))
    assert os.listdir(tmp_path / "out") == []


def test_spacing_is_that_of_the_file_and_unknown_for_pictures(save_volume, save_picture, preprocessing, head_array):
    volume = save_volume(head_array(), np.diag([4.0, 3.0, 5.0, 1.0]))
    assert source_spacing(preprocessing()({"image": volume})["image"]) == (4.0, 3.0, 5.0)
    assert source_spacing(preprocessing()({"image": save_picture(picture())})["image"]) is None


def test_tensor_of_another_grid_is_refused(source, preprocessing):
    image = preprocessing()({"image": source})["image"]
    with pytest.raises(ValueError, match=r"tensor must have the grid \(48, 48, .*, got \(24, 48, "):
        to_source(image[:, ::2], image)


def test_transform_that_cannot_be_undone_is_named(source, preprocessing):
    image = Flip(spatial_axis=0)(preprocessing()({"image": source})["image"])
    with pytest.raises(ValueError, match="to_source can invert only Orientation, CropHead.*, got Flip"):
        to_source(image, image)


def test_unknown_mode_is_refused_with_the_valid_ones(source, preprocessing):
    image = preprocessing()({"image": source})["image"]
    with pytest.raises(ValueError, match=r"mode must be one of \['trilinear', 'nearest'\], got 'cubic'"):
        to_source(image, image, "cubic")
