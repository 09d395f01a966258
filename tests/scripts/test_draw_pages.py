"""Pages of studies to be looked at."""

from __future__ import annotations

import numpy as np
import pytest

from custom.detection.bundle_detector import BundleDetector
from custom.runs.inputs import evaluation_items
from custom.studies.datalist import load_datalist
from tests.support.scripts import load_script

pages = load_script("draw_pages.py")


@pytest.mark.parametrize("bundle", ["ra_brain", "memmc_colonoscopy"])
def test_page_has_a_row_of_tiles_for_each_study(bundle: str, tiny_bundle, tiny_data, tmp_path) -> None:
    folder = tiny_bundle(bundle, tmp_path / bundle)
    detector = BundleDetector(folder, folder / "models" / "model.pt")
    items = evaluation_items(load_datalist(tiny_data(bundle), required=("test",)), "auto", None, None)
    chosen = [next(item for item in items if item["label"] == label) for label in (0, 1)]
    pixels = np.asarray(pages.page(detector, chosen, "Two studies"))
    height, step = 2 * pages.MARGIN + 2 * (pages.SIDE + pages.GAP), pages.SIDE + pages.GAP
    assert pixels.shape == (height, pages.CAPTION + 5 * step, 3)
    for row in range(2):
        for column in (0, 1, 2, 3):
            top, left = 2 * pages.MARGIN + row * step, pages.CAPTION + column * step
            assert pixels[top : top + pages.SIDE, left : left + pages.SIDE].std() > 1, (row, column)


def test_studies_are_drawn_by_the_seed_within_each_class() -> None:
    items = [{"case": str(number), "label": number % 2} for number in range(40)]
    first, again, other = (pages.drawn(items, seed) for seed in (0, 0, 1))
    assert first == again != other and [item["label"] for item in first] == [0] * 4 + [1] * 8
