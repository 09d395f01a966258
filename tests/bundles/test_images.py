"""What bundles of films and frames write, and which pictures get a p-value."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from custom.commands.bundle import BUNDLES
from custom.runs.source_geometry import OFFSET_TEXT, SCALE_TEXT
from custom.runs.tables import read_results_csv
from custom.studies.loading import case_name
from tiny import ALPHA_OF_FINDINGS

VARIANTS = {path.parent.name: json.loads(path.read_text()) for path in sorted(BUNDLES.glob("*/variant.json"))}
PICTURES = {name: variant["images"] for name, variant in VARIANTS.items() if variant["images"] != "head"}
# Bundles of one method and one kind of images work alike: the first of each is enough.
KINDS = {(VARIANTS[name]["method"], images): name for name, images in reversed(PICTURES.items())}

every_kind = pytest.mark.parametrize("bundle", sorted(KINDS.values()))
frames = pytest.mark.parametrize("bundle", [name for (_, images), name in KINDS.items() if images == "frame"])
films = pytest.mark.parametrize("bundle", [name for (_, images), name in KINDS.items() if images == "film"])


def stretched(source: Path, target: Path, size: tuple[int, int]) -> Path:
    """A copy of a picture at another size (columns, rows)."""
    with Image.open(source) as picture:
        picture.resize(size).save(target)
    return target


def results_of(bundle: str) -> set[str]:
    """Names of the images of a study with a p-value; ensembles alone have a deviation."""
    ensemble = json.loads((BUNDLES / bundle / "variant.json").read_text())["method"] == "memmc"
    return {"map", "mask", "pseudo_healthy"} | ({"deviation"} if ensemble else set())


@every_kind
def test_results_are_pictures_of_the_size_and_kind_of_the_source(bundle: str, detection, unseen) -> None:
    folder = detection(bundle) / case_name(unseen(bundle))
    without = {"mask"} if PICTURES[bundle] == "frame" else set()  # a frame of another size has no p-value
    assert {path.stem for path in folder.iterdir()} == results_of(bundle) - without
    with Image.open(unseen(bundle)) as source:
        for path in folder.iterdir():
            with Image.open(path) as written:
                assert written.size == source.size, path
        with Image.open(folder / "pseudo_healthy.png") as healthy:
            assert healthy.mode == source.mode


@every_kind
def test_mask_is_where_the_map_exceeds_the_calibrated_threshold(
    bundle: str, trained, parameters, nomaly, tiny_data, tmp_path
):
    picture = tiny_data(bundle) / "images" / "abnormal_000.png"  # of the network's size: nothing is interpolated
    words = (picture, "--output", tmp_path)
    assert nomaly("detect", bundle, *words, **parameters(bundle) | {"alpha": ALPHA_OF_FINDINGS}).code == 0
    with Image.open(tmp_path / "abnormal_000" / "map.png") as written:
        values = float(written.text[OFFSET_TEXT]) + float(written.text[SCALE_TEXT]) * np.asarray(written, np.float64)
    mask = np.asarray(Image.open(tmp_path / "abnormal_000" / "mask.png")) > 0
    threshold = json.loads((trained(bundle) / "models" / "calibration.json").read_text())["image"]["pixel_threshold"]
    step = values.max() / 65535
    with open(tmp_path / "regions.csv", newline="") as table:
        significant = [float(row["p_value"]) <= ALPHA_OF_FINDINGS for row in csv.DictReader(table)]
    assert mask.any() and any(significant) and not mask.all()
    assert (values[mask] > threshold - step).all()
    assert values[~mask].max() < threshold + step or not all(significant)


@frames
def test_frame_gets_a_p_value_only_at_about_the_calibrated_size(
    bundle: str, nomaly, parameters, tiny_data, tmp_path: Path
) -> None:
    source = tiny_data(bundle) / "images" / "abnormal_000.png"  # 32 x 32 pixels
    sizes = {"equal": (32, 32), "a_little_wider": (35, 32), "wider": (36, 32), "much_larger": (64, 50)}
    studies = [stretched(source, tmp_path / f"{name}.png", size) for name, size in sizes.items()]
    assert nomaly("detect", bundle, *studies, "--output", tmp_path / "out", **parameters(bundle)).code == 0
    rows = {row.study: row for row in read_results_csv(tmp_path / "out" / "results.csv")}
    assert {name: row.p_value is not None for name, row in rows.items()} == {
        "equal": True,
        "a_little_wider": True,
        "wider": False,
        "much_larger": False,
    }
    assert all(row.score is not None and (row.decision is None) == (row.p_value is None) for row in rows.values())


@films
def test_film_of_any_proportions_gets_a_p_value_and_results_of_its_size(
    bundle: str, nomaly, parameters, tiny_data, tmp_path: Path
) -> None:
    film = stretched(tiny_data(bundle) / "images" / "abnormal_000.png", tmp_path / "tall.png", (40, 71))
    assert nomaly("detect", bundle, film, "--output", tmp_path / "out", **parameters(bundle)).code == 0
    (row,) = read_results_csv(tmp_path / "out" / "results.csv")
    assert row.p_value is not None and row.decision in ("flag", "uncertain", "likely_normal")
    for name in results_of(bundle):
        with Image.open(tmp_path / "out" / "tall" / f"{name}.png") as written:
            assert written.size == (40, 71), name


@frames
def test_training_on_larger_frames_learns_from_their_windows(
    bundle: str, tiny_data, train_tiny, tmp_path: Path
) -> None:
    shutil.copytree(tiny_data(bundle), tmp_path / "data", ignore=shutil.ignore_patterns("phantom.json", "unseen"))
    for path in (tmp_path / "data" / "images").iterdir():
        stretched(path, path, (50, 70))  # 2 x 3 windows of 32 pixels
    # four frames have one batch of 24 windows, or none of whole frames
    done = train_tiny(bundle, tmp_path / "data", tmp_path / "run", batch_size=24, max_epochs=1)
    assert done.code == 0, done.err
    assert "Epoch 1: validation synthetic-lesion AUROC" in done.err
    too_many = train_tiny(bundle, tmp_path / "data", tmp_path / "other", batch_size=25, max_epochs=1)
    assert too_many.code == 2 and "training needs at least one whole batch of 25 images, got 24: add" in too_many.err
