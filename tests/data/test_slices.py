"""Slices of studies as training data."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from monai.data import MetaTensor

from custom.data.slices import SliceDataset, load_slices, study_slices, window_starts
from custom.errors import NomalyError


def study(value: float, slices: int) -> dict[str, Any]:
    """A study (1, 2, 3, slices) whose slice z has the value ``value`` + z."""
    return {"image": MetaTensor((value + torch.arange(float(slices))).expand(1, 2, 3, slices).clone())}


def test_slices_keep_their_order_and_are_plain_tensors() -> None:
    slices = study_slices(study(10, 3)["image"])
    assert [type(part) for part in slices] == 3 * [torch.Tensor]
    assert [(tuple(part.shape), part.unique().tolist()) for part in slices] == [((1, 2, 3), [10 + z]) for z in range(3)]


def test_data_set_has_every_slice_of_every_study_prepared_once() -> None:
    prepared = []

    def prepare(item: dict[str, Any]) -> dict[str, Any]:
        prepared.append(item)
        return item

    studies = [study(0, 2), study(5, 3)]
    dataset = SliceDataset(studies, prepare, progress=False)
    assert [float(dataset[i].mean()) for i in range(len(dataset))] == [0, 1, 5, 6, 7]
    assert dataset.images().shape == (5, 1, 2, 3)
    assert prepared == studies


def test_loaded_slices_are_those_of_the_data_set() -> None:
    assert load_slices([study(0, 2)], lambda item: item, progress=False).mean(dim=(1, 2, 3)).tolist() == [0, 1]


def test_no_study_at_all_is_refused() -> None:
    with pytest.raises(NomalyError, match="data must contain at least one study, got none: add studies to the section"):
        SliceDataset([], lambda item: item)


# Windows of larger slices


@pytest.mark.parametrize(
    ("length", "starts"), [(32, [0]), (33, [0, 1]), (64, [0, 32]), (100, [0, 32, 64, 68]), (128, [0, 32, 64, 96])]
)
def test_windows_lie_side_by_side_and_the_last_ends_with_the_axis(length: int, starts: list[int]) -> None:
    assert window_starts(length, 32) == starts


def test_windows_are_cut_from_every_slice_where_they_begin() -> None:
    x, y, z = torch.meshgrid(torch.arange(5.0), torch.arange(4.0), torch.arange(2.0), indexing="ij")
    image = MetaTensor((x + 10 * y + 100 * z)[None])
    windows = study_slices(image, window=3)
    # along x they begin at 0 and 2, along y at 0 and 1
    assert [int(window[0, 0, 0]) for window in windows] == [0, 10, 2, 12, 100, 110, 102, 112]
    assert {tuple(window.shape) for window in windows} == {(1, 3, 3)}
    assert windows[3][0].tolist() == [[12, 22, 32], [13, 23, 33], [14, 24, 34]]


def test_data_set_and_baseline_learn_from_windows_of_studies_of_any_size() -> None:
    studies = [{"image": torch.zeros(3, *size)} for size in ((4, 4, 2), (8, 5, 1))]
    assert SliceDataset(studies, lambda item: item, window=4, progress=False).images().shape == (2 + 4, 3, 4, 4)
    assert load_slices(studies, lambda item: item, window=4, progress=False).shape == (2 + 4, 3, 4, 4)


def test_slice_smaller_than_the_window_is_refused() -> None:
    with pytest.raises(NomalyError, match="must have at least the window's 4 pixels, got 3: crop less"):
        study_slices(torch.zeros(1, 9, 3, 1), window=4)
