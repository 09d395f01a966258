from __future__ import annotations

import itk
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.transforms import Orientation
from PIL import Image

from custom.errors import NomalyError
from custom.studies.loading import LoadStudy, LoadStudyd
from dicom import write_film, write_series


def ramp(height=70, width=90, dtype=np.uint8):
    """Rows y, columns x, value 2 y + x mod 250: no two axes alike."""
    y, x = np.mgrid[:height, :width]
    return ((2 * y + x) % 250).astype(dtype)


def test_2d_image_becomes_one_slice_with_x_as_column(save_picture):
    image = LoadStudy()(save_picture(ramp()))
    assert image.shape == (1, 90, 70, 1) and image.dtype == torch.float32
    assert np.array_equal(image[0, :, :, 0], ramp().T)


def test_2d_image_is_unchanged_by_orientation_to_lps(save_picture):
    image = LoadStudy()(save_picture(ramp()))
    turned = Orientation(axcodes="LPS")(image)
    assert np.array_equal(image.affine, np.diag([-1, -1, 1, 1]))
    assert torch.equal(turned.as_tensor(), image.as_tensor()) and torch.equal(turned.affine, image.affine)


def test_sixteen_bit_image_keeps_its_values(save_picture):
    pixels = ramp(dtype=np.uint16) * 257
    image = LoadStudy()(save_picture(pixels))
    assert np.array_equal(image[0, :, :, 0], pixels.T) and float(image.max()) == (2 * 69 + 89) * 257


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_image_stored_with_more_channels_is_accepted(save_picture, mode):
    image = LoadStudy(channels=1)(save_picture(ramp(), mode=mode))
    assert image.shape == (1, 90, 70, 1)
    assert np.array_equal(image[0, :, :, 0], ramp().T)


def test_colour_image_keeps_its_three_channels(save_picture):
    pixels = np.stack([ramp(), ramp() // 2, ramp() // 3], axis=-1)
    image = LoadStudy(channels=3)(save_picture(pixels))
    assert np.array_equal(image[..., 0], pixels.transpose(2, 1, 0))


def test_colour_image_is_refused_by_a_grey_model(save_picture):
    path = save_picture(np.stack([ramp(), ramp(), ramp() // 3], axis=-1))
    with pytest.raises(NomalyError, match=r"study.png: the image must be grey \(1 channel\), but it is colour"):
        LoadStudy(channels=1)(path)


def test_grey_image_is_refused_by_a_colour_model(save_picture):
    with pytest.raises(NomalyError, match=r"must be colour \(3 channels\), but it is grey"):
        LoadStudy(channels=3)(save_picture(ramp()))


def test_volume_keeps_values_affine_and_shape_of_its_file(save_volume):
    volume = np.random.default_rng(0).normal(size=(20, 24, 5)).astype(np.float32)
    affine = np.array([[0, 2.0, 0, -3], [1.5, 0, 0, 4], [0, 0, -4.0, 9], [0, 0, 0, 1]])
    image = LoadStudy(min_size=16)(save_volume(volume, affine))
    assert np.array_equal(image[0], volume)
    assert np.array_equal(image.affine, affine) and np.array_equal(image.meta["original_affine"], affine)
    assert list(image.meta["spatial_shape"]) == [20, 24, 5]


def test_single_sagittal_slice_is_shown_as_it_is_stored(save_volume):
    sagittal = np.array([[0, 0, 2.0, 0], [1.5, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1]])
    image = LoadStudy()(save_volume(ramp()[..., None], sagittal))
    assert np.array_equal(image.affine, np.diag([-1.5, -1, 1, 1]))


@pytest.mark.slow  # the first use of ITK loads its DICOM modules
def test_single_dicom_slice_becomes_one_slice(tmp_path):
    path = tmp_path / "film.dcm"
    itk.imwrite(itk.image_from_array(ramp(dtype=np.uint16)[None]), str(path))
    image = LoadStudy()(path)
    assert image.shape == (1, 90, 70, 1)
    assert np.array_equal(image[0, :, :, 0], ramp().T)


def test_dicom_film_stored_as_a_negative_comes_out_as_its_positive_does(tmp_path):
    shown = (ramp() * 16).astype(np.uint16)
    positive = LoadStudy()(write_film(tmp_path / "positive.dcm", shown.T, 12))
    path = write_film(tmp_path / "negative.dcm", 4095 - shown.T, 12, PhotometricInterpretation="MONOCHROME1")
    negative = LoadStudy()(path)
    assert np.array_equal(positive[0, :, :, 0], shown.T)
    contrast = negative - negative.mean()
    torch.testing.assert_close(contrast.as_tensor(), (positive - positive.mean()).as_tensor(), rtol=0, atol=1e-2)


@pytest.mark.parametrize(
    ("tags", "spacing"),
    [
        ({"PixelSpacing": [0.14, 0.13]}, (0.13, 0.14)),
        ({"PixelSpacing": None, "ImagerPixelSpacing": [0.2, 0.2]}, (0.2, 0.2)),
        ({"PixelSpacing": [0.14, 0.14], "ImagerPixelSpacing": [0.2, 0.2]}, (0.14, 0.14)),
        ({"PixelSpacing": ["0.000", "0.000"]}, None),
        ({"PixelSpacing": None}, None),
    ],
)
def test_film_has_the_spacing_of_its_header(tmp_path, tags, spacing):
    image = LoadStudy()(write_film(tmp_path / "film.dcm", ramp(dtype=np.uint16).T, **tags))
    assert image.meta["spacing_known"] is (spacing is not None)
    x, y = spacing or (1, 1)
    assert np.array_equal(image.affine, np.diag([-x, -y, 1, 1]))


def test_sides_of_the_patient_are_known_only_for_volumes_that_specify_them(tmp_path, save_picture):
    volume = np.random.default_rng(0).integers(0, 999, (64, 70, 3)).astype(np.int16)
    nib.Nifti1Image(volume, np.diag([-1.0, -1, 2, 1])).to_filename(tmp_path / "oriented.nii.gz")
    nib.Nifti1Image(volume, None).to_filename(tmp_path / "silent.nii.gz")
    write_series(tmp_path / "series", volume, np.diag([-1.0, -1, 2, 1]))
    sagittal = np.array([[0.0, 0, 2, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    nib.Nifti1Image(volume[..., :1], sagittal).to_filename(tmp_path / "sagittal.nii.gz")
    write_film(tmp_path / "film.dcm", ramp(dtype=np.uint16).T, PixelSpacing=[0.2, 0.2])
    known = {
        "oriented.nii.gz": True,
        "series": True,
        "silent.nii.gz": False,
        "film.dcm": False,
        "sagittal.nii.gz": False,
    }
    found = {name: LoadStudy(min_size=1)(tmp_path / name).meta["sides_known"] for name in known}
    assert found == known and LoadStudy()(save_picture(ramp())).meta["sides_known"] is False


def test_sixteen_bit_tiff_is_a_2d_image_without_spacing(tmp_path):
    pixels = ramp(dtype=np.uint16) * 257
    Image.fromarray(pixels).save(tmp_path / "film.tif")
    image = LoadStudy()(tmp_path / "film.tif")
    assert np.array_equal(image[0, :, :, 0], pixels.T) and image.meta["spacing_known"] is False
    assert np.array_equal(image.affine, np.diag([-1, -1, 1, 1]))


def test_tiff_of_several_pages_has_no_spacing(tmp_path):
    pages = [Image.fromarray(ramp() + page) for page in range(3)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    image = LoadStudy()(tmp_path / "stack.tif")
    assert image.shape == (1, 90, 70, 3) and image.meta["spacing_known"] is False


@pytest.mark.parametrize("stated", [True, False])
@pytest.mark.parametrize("name", ["study.mha", "study.nrrd"])
def test_volume_without_spacing_in_its_header_has_none(tmp_path, name, stated):
    if name == "study.mha":
        spacing = "ElementSpacing = 1 1 1\n" if stated else ""
        header = f"NDims = 3\nDimSize = 64 64 2\n{spacing}ElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    else:
        spacing = "spacings: 1 1 1\n" if stated else ""
        header = f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 64 64 2\n{spacing}encoding: raw\n\n"
    (tmp_path / name).write_bytes(header.encode() + bytes(range(128)) * 64)
    assert LoadStudy()(tmp_path / name).meta["spacing_known"] is stated


@pytest.mark.parametrize(("unit", "word"), [("micron", "micrometre"), ("meter", "m")])
def test_volume_that_is_not_in_millimetres_is_refused(tmp_path, unit, word):
    volume = nib.Nifti1Image(np.zeros((64, 64, 2), np.float32), np.eye(4))
    volume.header.set_xyzt_units(unit)
    nib.save(volume, tmp_path / "study.nii")
    message = f"study.nii: the units of a NIfTI file must be mm, but its header states {word}. Convert the file to mm"
    with pytest.raises(NomalyError, match=message):
        LoadStudy()(tmp_path / "study.nii")


@pytest.mark.parametrize("name", ["ramp.png", "ramp.tif", "ramp.nii.gz"])
def test_twelve_bits_keep_4096_levels(save_picture, save_volume, name):
    levels = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    path = save_volume(levels.T[..., None], name=name) if "nii" in name else save_picture(levels, name)
    assert np.array_equal(LoadStudy()(path)[0, ..., 0], levels.T)


def test_volume_sheared_so_far_that_two_axes_have_one_direction_is_refused(save_volume):
    affine = np.array([[-1.0, 0, 0, 0], [-1.7e38, -1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1]])
    with pytest.raises(NomalyError, match="the affine must be invertible"):
        LoadStudy(min_size=1)(save_volume(np.arange(8.0).reshape(2, 2, 2), affine))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_counted(save_volume, value):
    volume = ramp(dtype=np.float32)[..., None]
    volume[3, 4:7] = value
    with pytest.raises(NomalyError, match="all intensities must be finite, but 3 of 6300 are NaN or infinite"):
        LoadStudy()(save_volume(volume))


def test_constant_image_is_refused_with_its_value(save_picture):
    with pytest.raises(NomalyError, match="all its intensities equal 7"):
        LoadStudy()(save_picture(np.full((70, 90), 7, np.uint8)))


def test_small_image_is_refused_with_its_sides(save_picture):
    with pytest.raises(NomalyError, match=r"at least min_size = 64 pixels, but the plane is 90 x 63"):
        LoadStudy(min_size=64)(save_picture(ramp(height=63)))


def test_size_of_a_sagittal_volume_is_that_of_its_axial_plane(save_volume):
    # File axes: posterior-anterior 40, inferior-superior 50, left-right 10 slices.
    affine = np.array([[0, 0, 5.0, 0], [1.0, 0, 0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1]])
    volume = np.random.default_rng(0).normal(size=(40, 50, 10)).astype(np.float32)
    with pytest.raises(NomalyError, match="the plane is 10 x 40"):
        LoadStudy(min_size=16)(save_volume(volume, affine))
    assert LoadStudy(min_size=10)(save_volume(volume, affine)).shape == (1, 40, 50, 10)


def test_time_series_is_refused_with_its_shape(save_volume):
    series = np.random.default_rng(0).normal(size=(20, 20, 4, 6)).astype(np.float32)
    with pytest.raises(NomalyError, match=r"shape \(20, 20, 4\) with 6 values per voxel \(a 4-D time series"):
        LoadStudy(min_size=16)(save_volume(series))


def test_four_axes_with_one_time_point_are_a_volume(save_volume):
    series = np.random.default_rng(0).normal(size=(20, 20, 4, 1)).astype(np.float32)
    assert LoadStudy(min_size=16)(save_volume(series)).shape == (1, 20, 20, 4)


def test_mask_is_binarised_onto_the_images_grid(save_picture):
    truth = np.zeros((70, 90), np.uint8)
    truth[10, 20], truth[11, 20] = 3, 255
    item = LoadStudyd()({"image": save_picture(ramp()), "mask": save_picture(truth, "truth.png")})
    assert item["mask"].shape == (1, 90, 70, 1)
    assert item["mask"].nonzero().tolist() == [[0, 20, 10, 0], [0, 20, 11, 0]] and float(item["mask"].max()) == 1


def test_mask_of_another_shape_is_refused(save_picture):
    item = {"image": save_picture(ramp()), "mask": save_picture(ramp(71), "truth.png")}
    with pytest.raises(NomalyError, match=r"truth.png: a mask must have the grid .* it has shape \(90, 71, 1\)"):
        LoadStudyd()(item)


def test_mask_in_another_orientation_is_refused(save_volume):
    volume = np.random.default_rng(0).normal(size=(20, 20, 4)).astype(np.float32)
    item = {"image": save_volume(volume), "mask": save_volume(volume, np.diag([-1.0, 1, 1, 1]), "truth.nii.gz")}
    with pytest.raises(NomalyError, match="the same shape but another affine"):
        LoadStudyd(min_size=16)(item)


def test_case_comes_from_the_file_unless_given(save_picture):
    path = save_picture(ramp(), "patient.7.png")
    assert LoadStudyd()({"image": path})["case"] == "patient.7"
    assert LoadStudyd()({"image": path, "case": "mine"})["case"] == "mine"


def test_channel_number_other_than_grey_or_colour_is_refused():
    with pytest.raises(NomalyError, match=r"channels must be 1 \(grey\) or 3 \(colour\), got 2"):
        LoadStudy(channels=2)


def test_black_and_white_bitmap_is_zero_and_one(tmp_path):
    path = tmp_path / "study.png"
    Image.fromarray(ramp() > 100).save(path)
    assert LoadStudy()(path).unique().tolist() == [0, 1]


def test_png_has_no_dicom_facts(save_picture):
    path = save_picture(ramp())
    meta = LoadStudy()(path).meta
    assert meta["source_files"] == [str(path)] and meta["dicom"] is False
    assert [meta[name] for name in ("modality", "body_part", "view")] == ["", "", ""]


def test_film_has_its_modality_body_part_and_view(tmp_path):
    path = write_film(tmp_path / "film", ramp(dtype=np.uint16).T, BodyPartExamined="CHEST ", ViewPosition="AP")
    meta = LoadStudy()(path).meta
    assert meta["source_files"] == [str(path)] and meta["dicom"] is True and meta["filename_or_obj"] == str(path)
    assert [meta[name] for name in ("modality", "body_part", "view")] == ["CR", "CHEST", "AP"]


@pytest.mark.parametrize("as_folder", [True, False])
def test_series_is_one_volume_with_its_files_in_order(tmp_path, as_folder):
    volume = np.random.default_rng(0).integers(0, 999, (20, 24, 5)).astype(np.int16)
    files = write_series(tmp_path / "series", volume, np.diag([-1.0, -1, 2, 1]))
    image = LoadStudy(min_size=16)(tmp_path / "series" if as_folder else [str(file) for file in files[::-1]])
    assert np.array_equal(image[0], volume) and image.meta["spacing_known"] is True
    assert image.meta["source_files"] == [str(file) for file in files]
    assert image.meta["filename_or_obj"] == str(tmp_path / "series")
    assert list(image.meta["spatial_shape"]) == [20, 24, 5]


def test_case_of_a_series_is_its_folder(tmp_path):
    volume = np.random.default_rng(0).integers(0, 999, (20, 24, 2)).astype(np.int16)
    files = write_series(tmp_path / "series.7", volume, np.eye(4))
    assert LoadStudyd(min_size=16)({"image": [str(file) for file in files]})["case"] == "series.7"
