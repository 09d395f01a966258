"""Margins and squares of 2-D images, and the way back to their own pixels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Resized
from PIL import Image

from custom.errors import NomalyError
from custom.runs.source_geometry import source_arrays, to_source, write_images
from custom.studies.loading import LoadStudyd
from custom.transforms.intensity import ScaleStudyIntensityd
from custom.transforms.square_image import CropMargin, PadToSquare, SquareImaged


def coded(width: int, height: int, channels: int = 1) -> MetaTensor:
    """A 2-D image whose pixel (x, y) has the value 100 x + y + 1, in channel c ten thousand times c more."""
    x, y = torch.meshgrid(torch.arange(width), torch.arange(height), indexing="ij")
    source_image = (100 * x + y + 1)[None, ..., None].float()
    return MetaTensor(torch.cat([source_image + 10000 * channel for channel in range(channels)]))


def test_margins_are_cut_off_in_the_order_left_top_right_bottom() -> None:
    source_image = coded(10, 20, channels=3)
    cropped = CropMargin((0.1, 0.2, 0.3, 0.25))(source_image)
    assert torch.equal(cropped.as_tensor(), source_image.as_tensor()[:, 1:7, 4:15])


def test_margins_of_the_cited_frames_leave_the_inner_image() -> None:
    # 0.088 of 576 = 50.7 and 0.072 of 576 = 41.5 pixels
    cropped = CropMargin((0.088, 0.088, 0.072, 0.072))(torch.zeros(3, 720, 576, 1))
    assert cropped.shape == (3, 720 - 63 - 52, 576 - 51 - 41, 1)


def test_no_margin_leaves_the_image_as_it_is() -> None:
    source_image = coded(4, 5)
    assert CropMargin()(source_image) is source_image and source_image.applied_operations == []


@pytest.mark.parametrize("margin", [(0.5, 0, 0.5, 0), (0, 0.2, 0, 0.9), (-0.1, 0, 0, 0), (0.1, 0.1), (1, 0, 0, 0)])
def test_margins_that_leave_nothing_are_refused(margin: tuple[float, ...]) -> None:
    with pytest.raises(
        NomalyError, match=r"crop_margin must be the fractions \(left, top, right, bottom\) to crop, each"
    ):
        CropMargin(margin)


@pytest.mark.parametrize(("width", "height", "left", "top"), [(4, 7, 1, 0), (7, 4, 0, 1), (6, 6, 0, 0), (5, 9, 2, 0)])
def test_image_lies_in_the_middle_of_its_square(width: int, height: int, left: int, top: int) -> None:
    source_image, side = coded(width, height), max(width, height)
    square = PadToSquare()(source_image)
    assert square.shape == (1, side, side, 1)
    assert torch.equal(square[:, left : left + width, top : top + height].as_tensor(), source_image.as_tensor())
    border = side * side - width * height
    assert (
        square.sum() == source_image.sum() + border * source_image.min()
    )  # the lowest value about it: the air of a film


def test_image_and_mask_go_the_same_way_and_a_missing_mask_is_no_mistake() -> None:
    prepare = SquareImaged(crop_margin=(0.25, 0, 0, 0), pad_to_square=True)
    item = prepare({"image": coded(8, 9), "mask": coded(8, 9)})
    assert item["image"].shape == (1, 9, 9, 1) and torch.equal(item["mask"].as_tensor(), item["image"].as_tensor())
    assert set(prepare({"image": coded(8, 9), "case": "a"})) == {"image", "case"}


def test_without_a_square_the_plane_keeps_its_sides() -> None:
    assert SquareImaged()({"image": coded(8, 9)})["image"].shape == (1, 8, 9, 1)


# The way back


@pytest.fixture
def source_image(tmp_path) -> str:
    """An RGB image of 21 x 34 pixels without repeating pixels."""
    pixels = np.random.default_rng(0).integers(1, 256, (34, 21, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "frame.png")
    return str(tmp_path / "frame.png")


def preprocessing(side: int | None) -> Compose:
    """As that of frames, or with a resize, as that of films."""
    steps = [LoadStudyd(channels=3, min_size=8), SquareImaged(crop_margin=(0.1, 0.1, 0.2, 0.3), pad_to_square=True)]
    steps += [Resized(keys="image", spatial_size=(side, side, -1), mode="nearest-exact")] if side else []
    return Compose([*steps, ScaleStudyIntensityd(keys="image", source_range=(0, 255))])


@pytest.mark.parametrize(("side", "mode"), [(None, "trilinear"), (None, "nearest"), (63, "nearest")])
def test_way_back_lies_exactly_on_the_pixels_of_the_source(source_image: str, side: int | None, mode: str) -> None:
    image = preprocessing(side)({"image": source_image})["image"]
    # 2 of 21 columns and 3 of 34 rows before, 4 and 10 after: 15 x 21 pixels in a square of 21, three times enlarged
    assert image.shape == (3, side or 21, side or 21, 1)
    back = to_source(image, image, mode)
    source = np.asarray(Image.open(source_image)).swapaxes(0, 1) / 255
    assert back.shape == (21, 34, 3)
    np.testing.assert_allclose(back[2:17, 3:24], source[2:17, 3:24], atol=1e-6)
    outside = np.ones((21, 34), bool)
    outside[2:17, 3:24] = False
    assert not back[outside].any()


def test_results_are_images_of_the_sources_size(source_image: str, tmp_path) -> None:
    image = preprocessing(None)({"image": source_image})["image"]
    mask = torch.zeros(1, 21, 21, 1)
    mask[0, 3 + 4, 5] = 1  # three columns of the square are padding
    paths = write_images(
        tmp_path / "out", image, source_arrays(image, {"labels": mask, "pseudo_healthy": image.as_tensor()})
    )
    pixels = np.asarray(Image.open(paths["mask"]))
    assert pixels.shape == (34, 21) and np.argwhere(pixels).tolist() == [[3 + 5, 2 + 4]]
    written = np.asarray(Image.open(paths["pseudo_healthy"]))
    np.testing.assert_array_equal(written[3:24, 2:17], np.asarray(Image.open(source_image))[3:24, 2:17])
