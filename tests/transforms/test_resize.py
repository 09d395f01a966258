"""Resizing equals MONAI's with anti-aliasing, can be undone, and takes masks along."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Resize

from custom.errors import NomalyError
from custom.runs.source_geometry import to_source
from custom.transforms.resize import ResizeStudyd


def study(*shape: int) -> MetaTensor:
    values = torch.from_numpy(np.random.default_rng(0).random(shape).astype(np.float32))
    return MetaTensor(values, meta={"spatial_shape": np.asarray(shape[1:])})


@pytest.mark.parametrize(
    ("shape", "plane"),
    [((1, 90, 64, 1), (24, 24)), ((3, 50, 40, 1), (16, 40)), ((1, 40, 48, 5), (16, 20)), ((1, 20, 30, 1), (32, 16))],
)
def test_image_equals_monais_resize_with_anti_aliasing(shape: tuple[int, ...], plane: tuple[int, int]) -> None:
    image = study(*shape)
    reference = Resize((*plane, -1), mode="trilinear", anti_aliasing=True)(image)
    found = ResizeStudyd(plane)({"image": image})["image"]
    torch.testing.assert_close(found.as_tensor(), reference.as_tensor(), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.affine, reference.affine)


def test_mask_goes_along_to_the_nearest_and_may_be_missing() -> None:
    mask = (study(1, 60, 60, 1) > 0.5).float()
    found = ResizeStudyd((20, 20))({"image": study(1, 60, 60, 1), "mask": mask})
    assert set(found["mask"].unique().tolist()) == {0.0, 1.0} and found["mask"].shape == (1, 20, 20, 1)
    assert torch.equal(found["mask"].as_tensor(), mask[:, 1::3, 1::3].as_tensor())  # the middle one of three
    assert "mask" not in ResizeStudyd((20, 20))({"image": study(1, 60, 60, 1)})


def test_result_finds_its_way_back_to_the_grid_of_the_file() -> None:
    found = ResizeStudyd((24, 24))({"image": study(1, 90, 64, 1)})["image"]
    assert to_source(torch.ones(1, 24, 24, 1), found).shape == (90, 64, 1)


# Depth


@pytest.mark.parametrize(("slices", "depth"), [(5, 12), (34, 12), (12, 12)])
def test_volume_is_resized_to_a_number_of_slices_and_back(slices: int, depth: int) -> None:
    item = {"image": study(1, 40, 48, slices), "mask": (study(1, 40, 48, slices) > 0.5).float()}
    found = ResizeStudyd((20, 20), depth=depth)(item)
    assert found["image"].shape == found["mask"].shape == (1, 20, 20, depth)
    assert float(np.linalg.norm(found["image"].affine[:3, 2])) == pytest.approx(slices / depth)
    assert set(found["mask"].unique().tolist()) == {0.0, 1.0}
    assert to_source(torch.ones(1, 20, 20, depth), found["image"]).shape == (40, 48, slices)


def test_slices_at_the_ends_are_as_bright_as_the_others() -> None:
    image = MetaTensor(torch.full((1, 8, 8, 30), 0.6), meta={"spatial_shape": np.array([8, 8, 30])})
    found = ResizeStudyd((8, 8), depth=10)({"image": image})["image"]
    torch.testing.assert_close(found.as_tensor(), torch.full((1, 8, 8, 10), 0.6))


def test_slope_along_the_slices_is_kept() -> None:
    image = MetaTensor(torch.arange(30.0).expand(1, 8, 8, 30).clone(), meta={"spatial_shape": np.array([8, 8, 30])})
    found = ResizeStudyd((8, 8), depth=10)({"image": image})["image"]
    # each new slice is three old ones: its middle is the middle one's; the smoothing bends only the ends
    assert found[0, 4, 4, 2:-2].tolist() == pytest.approx([7, 10, 13, 16, 19, 22], abs=1e-3)


def test_2d_image_is_not_made_a_volume() -> None:
    message = "only a volume can be resized to 12 slices, but this study has one slice: give the whole volume"
    with pytest.raises(NomalyError, match=message):
        ResizeStudyd((20, 20), depth=12)({"image": study(1, 40, 48, 1)})


def test_no_plane_leaves_the_study_as_it_is() -> None:
    image = study(1, 9, 8, 1)
    assert ResizeStudyd(None)({"image": image})["image"] is image


def test_one_number_is_the_length_of_the_shorter_side() -> None:
    wide = ResizeStudyd(32)(
        {"image": MetaTensor(torch.rand(1, 96, 64, 1)), "mask": MetaTensor(torch.ones(1, 96, 64, 1))}
    )
    assert wide["image"].shape == wide["mask"].shape == (1, 48, 32, 1)
    assert ResizeStudyd(32)({"image": MetaTensor(torch.rand(1, 64, 101, 1))})["image"].shape == (1, 32, 50, 1)
