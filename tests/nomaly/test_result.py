"""Results: pictures, folders, and what a study that was not scored has."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from custom.runs.tables import read_results_csv
from custom.studies.datalist import load_datalist
from nomaly import Detector, NomalyError, load, save
from tiny import Rejects


@pytest.fixture(scope="module")
def detector(tiny_bundle, tmp_path_factory) -> Detector:
    """A detector of chest films."""
    return load(tiny_bundle("ra_chest", tmp_path_factory.mktemp("bundle") / "ra_chest"))


@pytest.fixture(scope="module")
def film(tiny_data) -> np.ndarray:
    """A chest film with a lesion."""
    return np.asarray(Image.open(load_datalist(tiny_data("ra_chest"))["test"][-1]["image"]))


def test_picture_shows_image_pseudo_healthy_image_and_map(detector, film):
    picture = detector(film).plot(height=64)

    assert picture.mode == "RGB" and picture.height == 64 and picture.width == 3 * 64 + 8
    left, _, right = (np.asarray(picture)[:, start : start + 64].astype(int) for start in (0, 68, 136))
    assert (left[..., 0] == left[..., 2]).all() and (right[..., 0] != right[..., 2]).any()
    with pytest.raises(NomalyError, match="height must be at least 16 pixels, got 3"):
        detector(film).plot(height=3)


def test_picture_of_a_volume_has_its_proportions(tiny_bundle, tiny_data, tmp_path):
    heads = load(tiny_bundle("ra_brain", tmp_path / "ra_brain"))
    result = heads(load_datalist(tiny_data("ra_brain"))["test"][-1]["image"])
    assert result.plot(height=90).height == 90


def test_mask_labels_and_regions_are_the_findings_of_nomaly_detect(tiny_bundle, tiny_data, nomaly, tmp_path):
    folder = tiny_bundle("ra_chest", tmp_path / "ra_chest")
    film = load_datalist(tiny_data("ra_chest"))["test"][-1]["image"]
    assert nomaly("detect", folder, film, "--output", tmp_path / "out").code == 0
    [row] = read_results_csv(tmp_path / "out" / "results.csv")
    candidates = (tmp_path / "out" / "regions.csv").read_text().splitlines()[1:]

    result = load(folder)(film)

    assert 0 < len(result.regions) == row.region_count < len(candidates)
    assert sum(region.size for region in result.regions) == pytest.approx(row.region_size)
    written = np.asarray(Image.open(tmp_path / "out" / row.study / "mask.png")) > 0
    assert np.array_equal(result.mask, written) and written.any()
    assert set(np.unique(result.labels)) == {0, *(region.region for region in result.regions)}
    none = load(folder, alpha=0.2)(film)
    assert none.regions == [] and not none.mask.any()  # decided: no finding


def test_parts_of_the_score_are_those_of_the_table(detector, film, tmp_path):
    result = detector(film)
    result.save(tmp_path)
    [row] = read_results_csv(tmp_path / "results.csv")

    assert result.parts == {
        "map": row.score_map,
        "structure": row.score_structure,
        "code": row.score_code,
        "patches": row.score_patches,
    }
    assert sum(result.parts.values()) == pytest.approx(result.score)
    [failed] = detector([np.zeros((40, 40))])
    assert failed.parts == {}


def test_without_images_only_tables_are_saved_and_files_of_a_study_stay(tiny_bundle, film, tmp_path):
    result = load(tiny_bundle("ra_chest", tmp_path / "ra_chest"), write_images=False)(film)
    own = tmp_path / "out" / "image" / "map.png"
    own.parent.mkdir(parents=True)
    own.write_text("of the user")

    result.save(tmp_path / "out")

    assert own.read_text() == "of the user" and (tmp_path / "out" / "results.csv").is_file()
    assert [path.name for path in own.parent.iterdir()] == ["map.png"]


def test_results_of_a_list_are_saved_as_one_table(detector, film, tmp_path):
    results = detector([film, film[::-1], np.zeros((40, 40))])

    save(results, tmp_path / "out")

    with open(tmp_path / "out" / "results.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["study"], row["status"]) for row in rows] == [
        ("image-1", "ok"),
        ("image-2", "ok"),
        ("image-3", "failed"),
    ]
    assert [float(row["score"]) for row in rows[:2]] == [result.score for result in results[:2]]
    assert (tmp_path / "out" / "report.html").is_file() and (tmp_path / "out" / "image-1" / "map.png").is_file()
    assert not (tmp_path / "out" / ".lock").exists()


def test_earlier_results_are_replaced_only_on_request(detector, film, tmp_path):
    result = detector(film)
    result.save(tmp_path)
    with pytest.raises(NomalyError, match="already contains results"):
        result.save(tmp_path)
    result.save(tmp_path, overwrite=True)


def test_what_cannot_be_saved_together_is_refused(detector, film, tiny_bundle, tmp_path):
    other = load(tiny_bundle("ra_chest", tmp_path / "other"))
    with pytest.raises(NomalyError, match="results must hold at least one result, got none"):
        save([], tmp_path)
    with pytest.raises(NomalyError, match="results must be of one detector"):
        save([detector(film), other(film)], tmp_path)
    with pytest.raises(NomalyError, match="two are called image: score the images in one call"):
        save([detector(film), detector(film)], tmp_path)


def test_float_images_are_saved_as_nifti(detector, film, tmp_path):
    detector(film / 255).save(tmp_path)
    assert (tmp_path / "image" / "pseudo_healthy.nii.gz").is_file()


def test_rejected_image_has_its_reason(detector, film, monkeypatch, tmp_path):
    evaluator = detector._scorer.evaluator
    monkeypatch.setattr(evaluator, "input_check", Rejects("it shows a hand"))
    monkeypatch.setattr(evaluator, "score_all", False)

    with pytest.raises(NomalyError, match=r"^Not assessable: it shows a hand\.$"):
        detector(film)
    [result] = detector([film])
    assert (result.status, result.note, result.score) == ("not_assessable", "Not assessable: it shows a hand.", None)
    assert repr(result) == "Result('image-1', not_assessable: Not assessable: it shows a hand.)"
    with pytest.raises(NomalyError, match="only a scored study can be drawn, but image-1"):
        result.plot()
    save([result], tmp_path)
    assert "not_assessable" in Path(tmp_path / "results.csv").read_text()


def test_detector_without_calibration_gives_score_and_map_only(train_tiny, tiny_data, tiny_bundle, film, tmp_path):
    assert train_tiny("ra_chest", tiny_data("ra_chest"), tmp_path / "run").code == 0
    folder = tiny_bundle("ra_chest", tmp_path / "ra_chest")

    result = load(folder, weights=tmp_path / "run" / "models" / "model.pt")(film)

    assert np.isfinite(result.score) and result.map.shape == film.shape
    assert (result.p_value, result.decision, result.labels, result.mask, result.regions) == (None, None, None, None, [])
    assert result.plot().size and "p_value=none" in repr(result)
