"""What bundles of heads alone can do: volumes in their own geometry, and pictures of slices by the same network."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from custom.commands.bundle import BUNDLES
from custom.runs.notes import PHANTOM
from custom.runs.tables import read_results_csv

VARIANTS = {path.parent.name: json.loads(path.read_text()) for path in sorted(BUNDLES.glob("*/variant.json"))}
ALPHA = 0.2

pytestmark = pytest.mark.parametrize("bundle", [name for name in VARIANTS if VARIANTS[name]["images"] == "head"])


def test_maps_lie_on_the_grid_of_the_oblique_head(bundle: str, detection, unseen) -> None:
    source = nib.load(unseen(bundle))
    assert abs(source.affine[1, 2]) > 0.1  # oblique, or the test would prove little
    for name in ("map", "mask", "pseudo_healthy"):
        written = nib.load(detection(bundle) / "head_with_lesion" / f"{name}.nii.gz")
        assert written.shape == source.shape, name
        np.testing.assert_allclose(written.affine, source.affine, atol=1e-6)
        assert np.isfinite(written.get_fdata()).all() and written.get_fdata().max() > 0, name


# Pictures


@pytest.fixture(scope="module")
def picture_detector(nomaly, train_tiny, tiny_network, tiny_images: Path, tmp_path_factory) -> Callable[[str], dict]:
    """Parameters of a detector that is trained and calibrated on pictures."""

    @functools.cache
    def parameters(bundle: str) -> dict:
        folder = tmp_path_factory.mktemp(f"{bundle}_pictures")
        assert train_tiny(bundle, tiny_images, folder, batch_size=2).code == 0
        made = {"weights": folder / "models" / "model.pt", "alpha": ALPHA, **tiny_network(bundle)}
        done = nomaly("calibrate", bundle, "--dataset_dir", tiny_images, "--output", folder, **made)
        assert done.code == 0, done.err
        return made | {"calibration_file": folder / "calibration.json"}

    return parameters


def test_map_of_a_picture_has_the_size_of_the_picture(
    bundle: str, nomaly, picture_detector, tiny_images: Path, tmp_path: Path
) -> None:
    picture = tiny_images / "abnormal_000.png"
    done = nomaly("detect", bundle, picture, "--output", tmp_path, **picture_detector(bundle))
    assert done.code == 0, done.err
    (row,) = read_results_csv(tmp_path / "results.csv")
    assert row.status == "ok" and row.decision in ("flag", "likely_normal")
    assert row.region_unit in ("px", None)
    for name in ("map", "mask", "pseudo_healthy"):
        with Image.open(tmp_path / "abnormal_000" / f"{name}.png") as written, Image.open(picture) as source:
            assert written.size == source.size == (30, 36), name


def test_volume_gets_no_p_value_from_pictures_or_the_reverse(
    bundle: str, nomaly, parameters, picture_detector, unseen, tiny_images: Path, tmp_path: Path
) -> None:
    picture = tiny_images / "abnormal_000.png"
    for name, study, detector in (("volume", unseen(bundle), picture_detector), ("picture", picture, parameters)):
        assert nomaly("detect", bundle, study, "--output", tmp_path / name, **detector(bundle)).code == 0
        (row,) = read_results_csv(tmp_path / name / "results.csv")
        assert row.score is not None and (row.p_value, row.decision) == (None, None)


def test_pictures_without_masks_are_evaluated_without_pixel_metrics(
    bundle: str, nomaly, picture_detector, tiny_images: Path, tmp_path: Path
) -> None:
    words = ("--dataset_dir", tiny_images, "--output", tmp_path)
    done = nomaly("evaluate", bundle, *words, baseline_epochs=1, **picture_detector(bundle))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert (done.code, metrics["n_abnormal"], metrics["pixel"], metrics["synthetic"]) == (0, 4, None, False)
    assert PHANTOM not in (tmp_path / "report.html").read_text()


def test_folder_of_pictures_is_one_study_each(
    bundle: str, nomaly, picture_detector, tiny_images: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        shutil.copy(tiny_images / f"healthy_00{number}.png", folder)
    (folder / "notes.txt").write_text("not an image")
    assert nomaly("detect", bundle, folder, "--output", tmp_path / "out", **picture_detector(bundle)).code == 0
    rows = read_results_csv(tmp_path / "out" / "results.csv")
    assert [row.study for row in rows] == ["healthy_000", "healthy_001", "healthy_002"]
