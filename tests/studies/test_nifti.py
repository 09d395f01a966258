"""Geometry and kinds of NIfTI files and of the other formats that nibabel reads."""

from __future__ import annotations

import gzip
import re
import struct
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from nibabel.externals.netcdf import netcdf_file

from custom.errors import NomalyError
from custom.runs.source_geometry import write_images
from custom.studies.readers import read_study

VOLUME = np.random.default_rng(0).integers(0, 999, (9, 8, 7)).astype(np.int16)
FORM = np.array([[-2.0, 0, 0, 30], [0, -2.5, 0, 40], [0, 0, 3, -50], [0, 0, 0, 1]])


def saved(path: Path, sform: np.ndarray | None, qform: np.ndarray | None, sizes=(1.0, 1.0, 1.0)) -> Path:
    """A NIfTI file with the forms and the voxel sizes given, also if they contradict each other."""
    image = nib.Nifti1Image(VOLUME, None)
    image.header.set_qform(qform, code=0 if qform is None else 1)
    content = bytearray(image.to_bytes())
    header = np.frombuffer(content, dtype=nib.Nifti1Header.template_dtype, count=1)
    header["pixdim"][0, 1:4] = sizes
    header["sform_code"] = 0 if sform is None else 1
    for axis, name in enumerate(("srow_x", "srow_y", "srow_z")):
        header[name] = 0 if sform is None else sform[axis]
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("sizes", [(1, 1, 1), (0, 0, 0), (2, 2.5, 3)])
def test_set_sform_is_used_whatever_an_unset_qform_and_the_voxel_sizes_state(tmp_path: Path, sizes) -> None:
    image = read_study(saved(tmp_path / "a.nii", FORM, None, sizes))
    assert np.allclose(image.affine, FORM) and image.meta["spacing_known"] and image.meta["sides_known"]


@pytest.mark.parametrize("sform", [np.zeros((4, 4)), np.diag([9.0, 9, 9, 1])])
def test_set_qform_is_used_where_the_sform_is_zero_or_contradicts_the_voxel_sizes(tmp_path: Path, sform) -> None:
    image = read_study(saved(tmp_path / "a.nii", sform, FORM, (2, 2.5, 3)))
    assert np.allclose(image.affine, FORM)


@pytest.mark.parametrize("qform", [None, FORM])
@pytest.mark.parametrize("sizes", [(0, 0, 0), (2, 0, 3), (2, 2.5, np.nan)])
def test_voxels_of_unknown_size_are_refused_instead_of_read_as_1_mm(tmp_path: Path, qform, sizes) -> None:
    with pytest.raises(NomalyError, match=r"the voxel size must be known, but the header states \[.*\] mm and has no"):
        read_study(saved(tmp_path / "a.nii", None, qform, sizes))


def test_voxel_size_alone_is_read_without_the_sides_of_the_patient(tmp_path: Path) -> None:
    image = read_study(saved(tmp_path / "a.nii", None, None, (2, 2.5, 3)))
    assert np.allclose(np.abs(np.diag(image.affine)[:3]), (2, 2.5, 3)) and not image.meta["sides_known"]


def test_results_have_the_affine_that_was_read(tmp_path: Path) -> None:
    image = read_study(saved(tmp_path / "a.nii", np.zeros((4, 4)), FORM, (2, 2.5, 3)))
    image.meta |= {"filename_or_obj": str(tmp_path / "a.nii"), "dicom": False}
    path = write_images(tmp_path / "results", image, {"map": VOLUME.astype(np.float32)})["map"]
    assert np.allclose(nib.load(path).affine, FORM)


def test_slices_on_the_fourth_axis_are_one_volume(tmp_path: Path) -> None:
    nib.Nifti1Image(VOLUME[:, :, None], FORM).to_filename(tmp_path / "a.nii.gz")
    image = read_study(tmp_path / "a.nii.gz")
    assert np.array_equal(image[0], VOLUME) and np.allclose(image.affine, FORM)
    image.meta |= {"filename_or_obj": str(tmp_path / "a.nii.gz"), "dicom": False}
    path = write_images(tmp_path / "results", image, {"map": VOLUME.astype(np.float32)})["map"]
    assert np.array_equal(np.asarray(nib.load(path).dataobj)[:, :, 0], VOLUME)


@pytest.mark.parametrize(("place", "value", "shape"), [(44, 0, "(9, 0, 7)"), (40, 1, "(9,)")])
def test_axis_without_voxels_is_refused(tmp_path: Path, place: int, value: int, shape: str) -> None:
    content = bytearray(nib.Nifti1Image(VOLUME, FORM).to_bytes())
    content[place] = value  # of dim[2], or of the number of axes
    (tmp_path / "a.nii").write_bytes(content)
    with pytest.raises(NomalyError, match=re.escape(f"none of them empty, but its shape is {shape}")):
        read_study(tmp_path / "a.nii")


def test_mgh_whose_number_of_voxels_exceeds_32_bits_is_refused_by_its_size(tmp_path: Path) -> None:
    content = bytearray(nib.MGHImage(VOLUME, FORM).to_bytes())
    content[4:16] = struct.pack(">3i", 2**16, 2**16, 2**6)
    (tmp_path / "a.mgh").write_bytes(content)
    with pytest.raises(NomalyError, match="must fit into the free memory, but its 274877906944 values"):
        read_study(tmp_path / "a.mgh")


def test_cifti_is_refused_by_name(tmp_path: Path) -> None:
    table = nib.Nifti2Image(np.ones((1, 1, 1, 1, 10, 10), np.float32), None)
    table.header.set_intent("NIFTI_INTENT_CONNECTIVITY_DENSE")
    table.to_filename(tmp_path / "areas.nii")
    with pytest.raises(NomalyError, match="format not supported: CIFTI"):
        read_study(tmp_path / "areas.nii")


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
@pytest.mark.parametrize(("name", "packed"), [("a.nii.gz", False), ("a.nii", True), ("A.NII.GZ", True)])
def test_packing_is_found_by_the_content_not_by_the_name(tmp_path: Path, kind, name: str, packed: bool) -> None:
    content = kind(VOLUME, FORM).to_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if packed else content)
    image = read_study(tmp_path / name)
    assert np.array_equal(image[0], VOLUME) and np.allclose(image.affine, FORM)


@pytest.mark.parametrize("dtype", [">i2", np.float64, np.int64, np.uint8, np.uint32])
def test_real_numbers_of_every_type_are_read(tmp_path: Path, dtype) -> None:
    header = nib.Nifti1Header(endianness=">" if dtype == ">i2" else "<")
    nib.Nifti1Image((VOLUME % 200).astype(dtype), FORM, header, dtype=dtype).to_filename(tmp_path / "a.nii")
    assert np.array_equal(read_study(tmp_path / "a.nii")[0], VOLUME % 200)


@pytest.mark.parametrize(
    ("dtype", "words"),
    [
        (np.complex64, "complex numbers. Save the magnitude"),
        (np.dtype([(c, np.uint8) for c in "RGB"]), "RGB colours. Save the grey"),
    ],
)
def test_complex_numbers_and_colours_are_refused_in_plain_words(tmp_path: Path, dtype, words: str) -> None:
    nib.Nifti1Image(np.zeros((4, 4, 3), dtype), FORM).to_filename(tmp_path / "a.nii.gz")
    with pytest.raises(NomalyError, match=f"must have one real number per voxel, but this one holds {words}"):
        read_study(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("named", ["a.hdr", "a.img"])
@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Spm2AnalyzeImage])
def test_pairs_of_files_are_read_by_either_name(tmp_path: Path, kind, named: str) -> None:
    image = kind(VOLUME, FORM)
    image.header.set_zooms((2, 2.5, 3))
    nib.save(image, tmp_path / "a.img")
    image = read_study(tmp_path / named)
    assert np.array_equal(image[0], VOLUME) and np.allclose(np.abs(np.diag(image.affine)[:3]), (2, 2.5, 3))
    assert image.meta["sides_known"] is (kind is nib.Nifti1Pair)


@pytest.mark.parametrize("lost", [".hdr", ".img"])
def test_half_of_a_pair_is_refused(tmp_path: Path, lost: str) -> None:
    nib.save(nib.Nifti1Pair(VOLUME, FORM), tmp_path / "a.img")
    (tmp_path / f"a{lost}").unlink()
    with pytest.raises(NomalyError, match="an image in two files needs both .hdr and .img, but one is missing"):
        read_study(next(tmp_path.glob("a.*")))


@pytest.mark.parametrize("name", ["a.mgz", "a.mgh"])
def test_mgh_is_read_with_its_geometry(tmp_path: Path, name: str) -> None:
    nib.save(nib.MGHImage(VOLUME, FORM), tmp_path / name)
    image = read_study(tmp_path / name)
    assert np.array_equal(image[0], VOLUME) and np.allclose(image.affine, FORM, atol=1e-4)


def test_minc_1_is_read_with_its_geometry(tmp_path: Path) -> None:
    with netcdf_file(tmp_path / "a.mnc", "w") as file:
        for name, count, step in zip(("zspace", "yspace", "xspace"), VOLUME.shape, (3.0, 2.5, 2.0)):
            file.createDimension(name, count)
            variable = file.createVariable(name, "i", ())
            variable.step, variable.start, variable.spacing = step, 1.0, "regular__"
            variable.direction_cosines = np.eye(3)[["xspace", "yspace", "zspace"].index(name)]
        values = file.createVariable("image", "h", ("zspace", "yspace", "xspace"))
        values[:] = VOLUME
        values.signtype, values.valid_range = "signed__", np.array([0.0, 1000.0])
        for name, limit in (("image-min", 0.0), ("image-max", 1000.0)):
            file.createVariable(name, "d", ("zspace",))[:] = limit
    image = read_study(tmp_path / "a.mnc")
    assert np.allclose(image[0], VOLUME, atol=0.01)
    assert np.allclose(image.affine[:3, :3], [[0, 0, 2], [0, 2.5, 0], [3, 0, 0]])


def test_minc_2_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.mnc").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99))
    with pytest.raises(NomalyError, match="format not supported: MINC 2. Convert it to NIfTI"):
        read_study(tmp_path / "a.mnc")
