"""Windows of volumes as training data."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from custom.data.volumes import VolumeDataset, study_windows
from custom.errors import NomalyError
from custom.inferers.volumes import VolumeInferer

X, Y, Z = torch.meshgrid(torch.arange(5.0), torch.arange(4.0), torch.arange(10.0), indexing="ij")
VOLUME = MetaTensor((100 * X + 10 * Y + Z / 10)[None])


def test_windows_overlap_by_their_share_and_the_last_ends_with_the_volume() -> None:
    windows = study_windows(VOLUME, (5, 4, 4), 0.5)
    assert [type(window) for window in windows] == 4 * [torch.Tensor]
    assert [round(float(window[0, 0, 0, 0]) * 10) for window in windows] == [0, 2, 4, 6]
    assert {tuple(window.shape) for window in windows} == {(1, 5, 4, 4)}


SIZES = [((10, 4, 10), 0.5), ((9, 7, 5), 0.25), ((4, 3, 4), 0.5), ((5, 5, 13), 0)]


@pytest.mark.parametrize(("size", "overlap"), SIZES)
def test_network_learns_from_the_windows_that_it_will_be_asked_about(size: tuple[int, ...], overlap: float) -> None:
    volume, asked = torch.rand(1, *size, generator=torch.Generator().manual_seed(0)), []
    VolumeInferer((4, 3, 4), overlap)(volume[None], lambda x: asked.extend(x.clone()) or x)
    learnt = study_windows(volume, (4, 3, 4), overlap)
    assert len(learnt) == len(asked) and all(torch.equal(*pair) for pair in zip(learnt, asked))


def test_data_set_has_every_window_of_every_volume_and_copies_none() -> None:
    studies = [{"image": torch.full((1, 4, 4, depth), float(depth))} for depth in (4, 8)]
    dataset = VolumeDataset(studies, lambda item: item, window=4, overlap=0.5, progress=False)
    assert dataset.images().flatten(1).mean(1).tolist() == [4, 8, 8, 8]
    assert {window.untyped_storage().data_ptr() for window in dataset.parts[1:]} == {
        studies[1]["image"].untyped_storage().data_ptr()
    }


@pytest.mark.parametrize("size", [(3, 4, 4), (4, 4, 3), (64, 64, 1)])
def test_volume_smaller_than_the_window_is_refused(size: tuple[int, int, int]) -> None:
    message = rf"must have at least the window's \[4, 4, 4\] voxels, got \[{size[0]}, {size[1]}, {size[2]}\]: crop "
    with pytest.raises(NomalyError, match=message):
        study_windows(torch.zeros(1, *size), (4, 4, 4), 0.5)
