from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Invertd

from custom.errors import NomalyError
from custom.transforms.head import (
    CropHead,
    CropHeadd,
    cut_reason,
    cut_remark,
    head_mask,
    mm_to_vertex,
    square_box,
    vertex_slice,
)


@pytest.fixture
def head_study(head_array):
    """A head of 4 mm voxels in LPS orientation."""

    def make(**kwargs) -> MetaTensor:
        affine = torch.diag(torch.tensor([-4.0, -4.0, 4.0, 1.0], dtype=torch.float64))
        return MetaTensor(torch.as_tensor(head_array(**kwargs)[None]), affine=affine)

    return make


def test_slab_keeps_the_slices_whose_centre_lies_in_it(head_study):
    # The ellipsoid's top voxel is at z = 12 + 14 = 26; its tip slices are too small to be the vertex.
    study = head_study()
    vertex = vertex_slice(head_mask(np.asarray(study[0]), (4, 4, 4)))
    start, end = CropHead(slab_mm=(20, 40)).compute_bounding_box(study)
    assert vertex in (25, 26)
    assert (start[2], end[2]) == (vertex - 10, vertex - 5 + 1)  # 40 and 20 mm are 10 and 5 slices, both included


def test_box_is_square_in_millimetres_for_unequal_pixels():
    plane = np.zeros((100, 50), bool)
    plane[20:60, 10:40] = True  # 40 x 1 mm by 30 x 2 mm: the longer side is 60 mm
    start, end = square_box(plane, (1.0, 2.0), margin=0.1)
    assert (end - start).tolist() == [72, 36]  # 60 mm * 1.2 = 72 mm
    assert start.tolist() == [4, 7]  # centred on 40 and 25


def test_box_may_leave_the_image_and_zeros_fill_it(head_study):
    study = head_study(centre=(6, 22, 12))
    cropped = CropHead()(study)
    start, _ = CropHead().compute_bounding_box(study)
    assert start[0] < 0
    assert torch.count_nonzero(cropped[:, : -start[0]]) == 0
    assert cropped.shape[1] == cropped.shape[2]


def test_speck_beside_the_head_does_not_widen_the_box(head_study):
    study = head_study()
    clean = CropHead().compute_bounding_box(study)
    study[0, 1:3, 1:3, 28:30] = 255.0
    assert np.array_equal(CropHead(slab_mm=(0, 400)).compute_bounding_box(study)[0][:2], clean[0][:2])
    assert np.array_equal(CropHead().compute_bounding_box(study)[1][:2], clean[1][:2])


def test_very_bright_fat_does_not_hide_the_head(head_study):
    study = head_study()
    wanted = head_mask(np.asarray(study[0]), (4, 4, 4))
    study[0, 18:22, 20:24, 10:12] = 2550.0  # ten times the rim, 0.06 % of the volume
    found = head_mask(np.asarray(study[0]), (4, 4, 4))
    assert (found ^ wanted).mean() < 0.01


def test_inverse_restores_the_grid_with_zeros_outside(head_study):
    study = head_study()
    cropper = CropHeadd(keys="image", slab_mm=(20, 40), margin=0.0)
    item = cropper({"image": study})
    item["pred"] = MetaTensor(torch.ones_like(item["image"].as_tensor()))
    restored = Invertd(keys="pred", transform=cropper, orig_keys="image")(item)["pred"]
    start, end = CropHead(slab_mm=(20, 40), margin=0.0).compute_bounding_box(study)
    expected = torch.zeros(study.shape)
    expected[:, max(start[0], 0) : end[0], max(start[1], 0) : end[1], start[2] : end[2]] = 1
    assert torch.equal(restored.as_tensor(), expected)
    assert torch.allclose(restored.affine, study.affine)


def test_mask_is_cropped_by_the_box_of_the_image(head_study):
    study = head_study()
    mask = MetaTensor(torch.zeros(study.shape), affine=study.affine)
    mask[0, 20, 22, 18] = 1
    item = CropHeadd(slab_mm=(20, 40))({"image": study, "mask": mask})
    start, _ = CropHead(slab_mm=(20, 40)).compute_bounding_box(study)
    assert item["mask"].shape == item["image"].shape
    assert item["mask"].nonzero()[0, 1:].tolist() == (np.array([20, 22, 18]) - start).tolist()


def test_single_slice_is_the_slab_whatever_slab_mm(head_study):
    study = head_study()[..., 12:13]
    assert CropHead(slab_mm=(500, 600))(study).shape[-1] == 1


def test_slab_below_the_volume_is_refused_with_its_extent(head_study):
    with pytest.raises(NomalyError, match=r"slab_mm \[200.0, 220.0\] selects no slice of .* covers 0 to 10[04] mm"):
        CropHead(slab_mm=(200, 220))(head_study())


@pytest.mark.parametrize("cut", [2, 3, 4])
def test_head_cut_off_at_the_top_keeps_its_slab_and_the_vertex_is_reported(head_study, cut: int) -> None:
    study = head_study()
    vertex = vertex_slice(head_mask(np.asarray(study[0]), (4, 4, 4)))
    whole = CropHead(slab_mm=(28, 52)).compute_bounding_box(study)
    cut_off = study[..., : vertex + 1 - cut]
    assert mm_to_vertex(head_mask(np.asarray(cut_off[0]), (4, 4, 4)), 4.0) == pytest.approx(4 * cut, abs=4)
    found = CropHead(slab_mm=(28, 52)).compute_bounding_box(cut_off)
    assert abs(found[0][2] - whole[0][2]) <= 1 and abs(found[1][2] - whole[1][2]) <= 1
    assert f"the vertex is about {cut_off.meta['head_cut_mm']:.0f} mm above the topmost slice" in cut_remark(cut_off)
    assert cut_reason(cut_off) == ""


@pytest.mark.parametrize(("slices", "slab"), [(13, (45, 75)), (13, (0, 20)), (22, (0, 20)), (2, (0, 20))])
def test_cut_head_whose_slab_cannot_be_found_is_rejected(head_study, caplog, slices: int, slab) -> None:
    """The top slice is nearly the largest one, a part of the slab is missing, or there are too few slices."""
    study = head_study()[..., 22 - min(slices, 9) : 22] if slices == 2 else head_study()[..., :slices]
    with caplog.at_level(logging.WARNING):
        cropped = CropHead(slab_mm=slab)(study)
    assert "does not reach the top of the head" in caplog.text
    assert "the slab to analyse cannot be found" in cut_reason(cropped) and cut_remark(cropped) == ""


@pytest.mark.parametrize("options", [{"slab_mm": (20, 40)}, {}])
def test_complete_head_and_head_without_a_slab_have_no_remark(head_study, options) -> None:
    study = head_study() if options else head_study()[..., :13]
    cropped = CropHead(**options)(study)
    assert cropped.meta["head_cut_mm"] == 0 and cut_reason(cropped) == cut_remark(cropped) == ""


def test_head_whose_top_slice_is_a_tip_is_complete(head_study) -> None:
    study = head_study()
    vertex = vertex_slice(head_mask(np.asarray(study[0]), (4, 4, 4)))
    assert mm_to_vertex(head_mask(np.asarray(study[0, ..., : vertex + 1]), (4, 4, 4)), 4.0) == 0


def test_study_in_another_orientation_is_refused(head_study):
    study = head_study()
    study.affine = torch.diag(torch.tensor([4.0, 4.0, 4.0, 1.0]))
    with pytest.raises(NomalyError, match=r"CropHead needs LPS orientation, but .* is in RAS"):
        CropHead()(study)


@pytest.mark.parametrize("slab", [(75, 45), (-1, 5), (1, 2, 3)])
def test_slab_that_is_no_range_is_refused(slab):
    with pytest.raises(NomalyError, match=r"slab_mm must be \[a, b\] with 0 <= a < b"):
        CropHead(slab_mm=slab)


def test_negative_margin_is_refused():
    with pytest.raises(NomalyError, match="margin must be a fraction .* >= 0, got -0.1"):
        CropHead(margin=-0.1)
