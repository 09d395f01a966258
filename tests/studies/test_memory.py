"""Images in memory are read as files with the same content."""

from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from custom.studies.formats import study_path
from custom.studies.loading import LoadStudy
from custom.studies.memory import memory_image

RANDOM = np.random.default_rng(0)


def test_image_in_memory_stands_where_a_path_stands():
    image = memory_image(np.ones((4, 4)), "film")
    assert str(image) == os.fspath(image) == "film" and study_path(image) == Path("film")


@pytest.mark.parametrize("shape", [(80, 70), (80, 70, 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_array_is_read_as_its_png(shape, dtype, tmp_path):
    if len(shape) == 3 and dtype == np.uint16:
        pytest.skip("PNG of 16-bit colours is not read")
    values = RANDOM.integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    Image.fromarray(values).save(tmp_path / "a.png")
    load = LoadStudy(3 if len(shape) == 3 else 1)

    expected, found = load(tmp_path / "a.png"), load(memory_image(values))

    assert torch.equal(found.as_tensor(), expected.as_tensor()) and torch.equal(found.affine, expected.affine)
    names = expected.meta.keys() - {"filename_or_obj", "case", "source_files", "original_affine", "spatial_shape"}
    assert {name: str(found.meta[name]) for name in names} == {name: str(expected.meta[name]) for name in names}
    assert found.meta["rows_first"] and found.meta["integers"] == np.dtype(dtype).name


def test_volume_is_read_as_its_nifti_and_stays_unchanged(tmp_path):
    values, affine = RANDOM.random((70, 80, 5)).astype(np.float32), np.diag([1.0, -2.0, 3.0, 1.0])
    nib.save(nib.Nifti1Image(values, affine), tmp_path / "a.nii.gz")
    before = values.copy()

    expected, found = LoadStudy()(tmp_path / "a.nii.gz"), LoadStudy()(memory_image(values, affine=affine))
    found += 1

    assert torch.equal(found.as_tensor() - 1, expected.as_tensor() + 1 - 1)
    assert torch.equal(found.affine, expected.affine) and np.array_equal(values, before)
    assert found.meta["spacing_known"] and found.meta["sides_known"] and not found.meta["rows_first"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_tensors_of_any_real_type_are_read(dtype):
    values = torch.arange(100, dtype=dtype).reshape(10, 10).requires_grad_(dtype.is_floating_point)
    assert torch.equal(memory_image(values).read()[0].T, values.detach().float())


def test_image_without_channel_axis_and_with_one_are_the_same():
    values = RANDOM.random((70, 80))
    images = [values, values[..., None], torch.from_numpy(values), torch.from_numpy(values)[None]]
    first, *others = [memory_image(image).read() for image in images]
    assert first.shape == (1, 80, 70) and all(torch.equal(first, other) for other in others)
