"""The published maps and scores are an overlay of the same weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from custom.runs.tables import read_results_csv


@pytest.mark.parametrize("bundle", ["ra_brain", "memmc_pneumonia"])
def test_published_score_has_no_parts_and_needs_its_own_calibration(
    bundle: str, nomaly, parameters, tiny_data, tmp_path: Path
) -> None:
    image = next((tiny_data(bundle) / "images").iterdir())
    own = {**parameters(bundle), "alpha": 0.2}
    published = ("--overlay", "paper_score")
    done = {}
    for name, overlay in (("ours", ()), ("published", published)):
        words = (*overlay, "--dataset_dir", tiny_data(bundle), "--output", tmp_path / name)
        assert nomaly("calibrate", bundle, *words, **own).code == 0
        words = (*published, "--calibration", tmp_path / name, "--output", tmp_path / f"by_{name}")
        done[name] = nomaly("detect", bundle, image, *words, input_check=False, **own)
    assert done["ours"].code == 2 and "so the scores are not comparable. Calibrate these weights" in done["ours"].err
    (row,) = read_results_csv(tmp_path / "by_published" / "results.csv")
    assert done["published"].code == 0 and row.p_value is not None
    assert row.score > 0 and (row.score_map, row.score_structure, row.score_code, row.score_patches) == (None,) * 4
