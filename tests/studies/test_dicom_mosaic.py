"""Siemens mosaics are volumes with the geometry that dcm2niix gives them, or refused."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from custom.errors import NomalyError
from custom.studies.dicom import read_dicom
from custom.studies.discovery import find_studies
from custom.studies.readers import read_study
from dicom import refused, write_mosaic
from dicom_results import write
from tests.support.scripts import load_script

SLICES = np.random.default_rng(0).integers(1, 999, (20, 24, 9)).astype(np.uint16)
OBLIQUE = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.3, 0.2, 0.1) @ np.diag([-1.5, -2, 3]), [30, -20, 7])
SAGITTAL = nib.affines.from_matvec(np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]]) @ np.diag([1.5, 2, 3]), [3, 4, 5])
DOWNWARDS = np.diag([1, 1, -1, 1])  # the normal of the slices opposes that of the image
AFFINES = {"oblique": OBLIQUE, "sagittal": SAGITTAL, "downwards": OBLIQUE @ DOWNWARDS}
compare_geometry = load_script("compare_geometry.py")


@pytest.mark.parametrize("count", [2, 7, 9])
@pytest.mark.parametrize("affine", AFFINES.values(), ids=AFFINES)
def test_mosaic_is_the_volume_that_it_was_made_of(tmp_path: Path, affine: np.ndarray, count: int) -> None:
    image = read_study(write_mosaic(tmp_path / "mosaic.dcm", SLICES[..., :count], affine))
    assert np.array_equal(image[0], SLICES[..., :count])
    np.testing.assert_allclose(image.affine, affine, atol=1e-5)
    assert image.meta["spacing_known"] and image.meta["sides_known"]


@pytest.mark.skipif(compare_geometry.find_program(None) is None, reason="needs dcm2niix")
def test_mosaic_has_the_geometry_and_values_of_dcm2niix(tmp_path: Path, capsys) -> None:
    for name, affine in AFFINES.items():
        write_mosaic(tmp_path / name / f"{name}.dcm", SLICES[..., :7], affine)
    assert compare_geometry.main([str(tmp_path)]) == 0
    assert "3 agree" in capsys.readouterr().out


def test_mosaic_in_a_folder_is_one_study(tmp_path: Path) -> None:
    write_mosaic(tmp_path / "mosaic.dcm", SLICES, OBLIQUE)
    (item,) = find_studies(tmp_path)
    assert read_study(item["image"]).shape == (1, 20, 24, 9)


def without(*tags):
    """Remove elements of a file."""
    return lambda file: [file.__delitem__(tag) for tag in tags]


def damaged(file) -> None:
    """Cut the CSA header off."""
    file[0x0029, 0x1010].value = file[0x0029, 0x1010].value[:100]


@pytest.mark.parametrize(
    "edit",
    [
        without((0x29, 0x1010)),
        damaged,
        without("SpacingBetweenSlices"),
        without("ImagePositionPatient"),
        lambda file: setattr(file, "SpacingBetweenSlices", 0),
        lambda file: setattr(file[0x19, 0x100A], "value", 17),  # 5 x 5 tiles, which do not fit
        lambda file: setattr(file, "ImageOrientationPatient", [1, 0, 0, 0, 1, 0]),  # contradicts the normal
    ],
)
def test_mosaic_without_number_distance_or_normal_of_its_slices_is_refused(tmp_path: Path, edit) -> None:
    path = write_mosaic(tmp_path / "mosaic.dcm", SLICES, OBLIQUE, edit)
    refused([path], "must state number, distance and normal of its slices in a header of Siemens, but .*MOSAIC")


def test_number_of_tiles_is_also_found_in_the_csa_header(tmp_path: Path) -> None:
    path = write_mosaic(tmp_path / "mosaic.dcm", SLICES[..., :7], OBLIQUE, without((0x19, 0x100A)))
    assert read_dicom([path], path).shape == (1, 20, 24, 7)


def test_several_mosaics_are_refused_as_several_volumes(tmp_path: Path) -> None:
    same = "1.2.3.4"
    files = [
        write_mosaic(
            tmp_path / f"{n}" / "a.dcm", SLICES + n, OBLIQUE, lambda file: setattr(file, "SeriesInstanceUID", same)
        )
        for n in range(2)
    ]
    refused(files, "each of the 2 files is a mosaic, a volume of its own")


def test_results_of_a_mosaic_have_no_dicom_objects_and_the_reason(tmp_path: Path) -> None:
    path = write_mosaic(tmp_path / "mosaic.dcm", SLICES, OBLIQUE)
    arrays = {"map": SLICES.astype(np.float32), "labels": (SLICES > 500).astype(np.uint8)}
    with pytest.raises(NomalyError, match=r"grid \(60, 72, 1\).*tiles of a mosaic: use its results as NIfTI"):
        write("", tmp_path, files=[path], arrays=arrays, regions=[])
