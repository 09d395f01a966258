"""All slices of a study in one picture, pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from custom.errors import NomalyError
from custom.rendering.montage import montage


def test_every_slice_has_its_place_and_its_rows() -> None:
    # five slices of 4 x 6 pixels (X, Y), of grey 0.1, 0.2 ... above their reconstructions of 0.5: tiles of 8 x 6
    image = np.broadcast_to(0.1 * np.arange(1, 6, dtype=np.float32), (1, 4, 6, 5))
    healthy, values, truth = np.full_like(image, 0.5), np.zeros_like(image), np.zeros_like(image)
    values[..., 4] = 1.0
    truth[0, 0, 0, 3] = 1
    picture = montage(image, healthy, values, truth, columns=3)
    assert picture.shape == (2 * (4 * 8 + 2), 3 * 6, 3) and picture.dtype == np.uint8
    centres = picture[4::8][:4, 3::6, 0]  # of the first line: rows of input, pseudo-healthy, map, truth
    assert centres.tolist() == [[26, 51, 76], [128] * 3, [26, 51, 76], [0] * 3]
    second = picture[34:]
    assert second[4::8][:2, 3::6, 0].tolist() == [[102, 128, 0], [128, 128, 0]]  # the sixth place is empty
    assert second[20, 3].tolist() == [102] * 3 and second[20, 9, 0] > 200  # only the last slice has a map
    assert second[25, 1].tolist() == [255] * 3 and (second[24:32] > 0).sum() == 3


def test_one_slice_makes_one_column() -> None:
    flat = np.zeros((3, 8, 8, 1), np.float32)
    assert montage(flat, flat, flat[:1]).shape == (3 * 10 + 2, 10, 3)


def test_parts_of_other_sizes_are_refused() -> None:
    volume = np.zeros((1, 4, 4, 3))
    with pytest.raises(NomalyError, match=r"must be \(C, X, Y, Z\) of one size, got \(1, 4, 4, 3\), .*\(1, 4, 4, 2\)"):
        montage(volume, volume, volume[..., :2])
    with pytest.raises(NomalyError, match="columns must be at least 1, got 0"):
        montage(volume, volume, volume, columns=0)
