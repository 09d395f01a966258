"""The three-dimensional overlays: the commands in a row on a tiny phantom, and the way back to the file."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser

from custom.commands.bundle import BUNDLES
from custom.detector.weights import read_tensors
from custom.inferers.volumes import VolumeInferer
from custom.runs.source_geometry import to_source
from custom.runs.tables import read_results_csv
from tiny import ALPHA_OF_FINDINGS, TINY_NETWORK, TINY_TRAINING

CONFIGS = {path.parent.name: path for path in sorted(BUNDLES.glob("*/configs"))}
VOLUMETRIC = [name for name, folder in CONFIGS.items() if (folder / "train_3d.json").is_file()]
ALPHA = 0.2
WINDOW = {**TINY_NETWORK["ra"], "window_slices": 4, "slab_slices": 6}
CALIBRATION = {"alpha": ALPHA, "pixel_false_positive_rate": 0.2, "false_regions_per_study": 1000}

every_bundle = pytest.mark.parametrize("bundle", VOLUMETRIC)


def test_heads_alone_have_the_overlays() -> None:
    variants = {name: json.loads((folder.parent / "variant.json").read_text()) for name, folder in CONFIGS.items()}
    assert VOLUMETRIC == ["ra_brain", "ra_brain_flair"]
    for name, folder in CONFIGS.items():
        kinds = (variants.get(name, {}).get("method"), variants.get(name, {}).get("images"))
        present = [(folder / f"{overlay}.json").is_file() for overlay in ("train_3d", "inference_3d")]
        assert present == 2 * [kinds == ("ra", "head")], name


@every_bundle
def test_both_overlays_make_one_and_the_same_network(bundle: str) -> None:
    train, inference = (
        json.loads((CONFIGS[bundle] / f"{name}_3d.json").read_text()) for name in ("train", "inference")
    )
    assert len(inference) > 5 and {key: train[key] for key in inference} == inference


@pytest.fixture(scope="module")
def run(nomaly, tiny_phantom: Path, tmp_path_factory) -> Path:
    """Folder of a tiny 3-D network: trained, calibrated, evaluated on the phantom, and asked about the unseen head."""
    folder = tmp_path_factory.mktemp("volumes")
    weights, data = folder / "calibrated.pt", ("--dataset_dir", tiny_phantom)
    steps = [
        (("train", "ra_brain", "--overlay", "train_3d", *data, "--output", folder), TINY_TRAINING),
        (
            ("calibrate", "ra_brain", "--overlay", "inference_3d", *data, "--weights", folder / "models" / "model.pt")
            + ("--into_weights", weights),
            CALIBRATION,
        ),
        (
            ("evaluate", "ra_brain", "--overlay", "inference_3d", *data, "--weights", weights)
            + ("--output", folder / "evaluation"),
            {"alpha": ALPHA, "baseline_epochs": 1},
        ),
        (
            ("detect", "ra_brain", tiny_phantom / "unseen" / "head_with_lesion.nii.gz", "--overlay", "inference_3d")
            + ("--weights", weights, "--output", folder / "unseen"),
            {"alpha": ALPHA_OF_FINDINGS},
        ),
    ]
    for words, parameters in steps:
        done = nomaly(*words, **WINDOW, **parameters)
        assert done.code == 0, done.err
    return folder


def test_network_has_three_axes_and_is_calibrated_on_the_whole_slab(run: Path) -> None:
    state = read_tensors(run / "calibrated.pt")
    assert state["reconstructor.encoder.stem.0.weight"].shape == (4, 1, 5, 5, 5)
    summary = json.loads((run / "calibration.json").read_text())["volume"]
    assert (summary["slices"], summary["plane"], summary["healthy_studies"]) == ([6, 6], 2 * [32 * 32], 5)


def test_studies_are_evaluated_beside_the_baselines(run: Path) -> None:
    metrics = json.loads((run / "evaluation" / "metrics.json").read_text())
    assert (metrics["n_healthy"], metrics["n_abnormal"]) == (4, 4)
    assert {"pca", "mean_image", "histogram"} <= metrics["baselines"].keys()
    assert {row.status for row in read_results_csv(run / "evaluation" / "results.csv")} == {"ok"}


def test_results_lie_on_the_grid_of_the_oblique_head(run: Path, tiny_phantom: Path) -> None:
    (row,) = read_results_csv(run / "unseen" / "results.csv")
    assert row.p_value is not None and row.decision in ("flag", "likely_normal")
    source = nib.load(tiny_phantom / "unseen" / "head_with_lesion.nii.gz")
    for name in ("map", "mask", "pseudo_healthy"):
        (path,) = (run / "unseen").glob(f"*/{name}.nii.gz")
        written = nib.load(path)
        assert written.shape == source.shape, name
        np.testing.assert_allclose(written.affine, source.affine, atol=1e-6)
        assert np.isfinite(written.get_fdata()).all(), name
        assert name == "mask" or written.get_fdata().max() > 0, name  # even at this alpha, p = 1 is no finding


def test_picture_is_refused_by_a_network_of_volumes(run: Path, nomaly, tiny_images: Path, tmp_path: Path) -> None:
    words = ("detect", "ra_brain", tiny_images / "abnormal_000.png", "--overlay", "inference_3d")
    done = nomaly(*words, "--weights", run / "calibrated.pt", "--output", tmp_path, alpha=ALPHA, **WINDOW)
    (row,) = read_results_csv(tmp_path / "results.csv")
    assert (done.code, row.status) == (1, "failed")
    assert "only a volume can be resized to 6 slices, but this study has one slice" in row.error


def test_weights_of_slices_do_not_pass_for_weights_of_volumes(nomaly, trained, unseen, tmp_path: Path) -> None:
    words = ("detect", "ra_brain", unseen("ra_brain"), "--overlay", "inference_3d", "--output", tmp_path)
    done = nomaly(*words, "--weights", trained("ra_brain") / "models" / "model.pt", **WINDOW)
    assert done.code == 2 and "spatial_dims is 2, not 3. Use the overlays" in done.err


@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR", "ASL"])
def test_lesion_keeps_its_place_in_the_file_through_the_whole_way(
    axes: str, tiny_phantom: Path, tmp_path: Path
) -> None:
    paths = {}
    for key, name in (("image", "head_with_lesion"), ("mask", "head_with_lesion_mask")):
        stored = nib.load(tiny_phantom / "unseen" / f"{name}.nii.gz")
        turn = nib.orientations.ornt_transform(
            nib.io_orientation(stored.affine), nib.orientations.axcodes2ornt(tuple(axes))
        )
        paths[key] = str(tmp_path / f"{key}.nii.gz")
        nib.save(stored.as_reoriented(turn), paths[key])
    parser = ConfigParser(ConfigParser.load_config_files([CONFIGS["ra_brain"] / "inference.json"]))
    parser.update({"slab_slices": 12})
    prepared = parser.get_parsed_content("preprocessing")(paths)
    assert prepared["mask"].shape == (1, 96, 96, 12)

    # a network that answers with the truth: what is left of it in the file is the fault of the way
    inferer = VolumeInferer((64, 64, 8))
    (found, everywhere) = (
        to_source(inferer(part.as_tensor()[None], lambda x: x)[0], prepared["image"])
        for part in (prepared["mask"], 1 + 0 * prepared["mask"])
    )
    truth = (np.asarray(nib.load(paths["mask"]).dataobj) > 0) & (everywhere > 0.5)
    assert truth.sum() >= 8
    centres = [np.argwhere(mask).mean(0) for mask in (truth, found > 0.5)]
    assert np.abs(centres[0] - centres[1]).max() < 0.35  # of a voxel of 2 to 3 mm
    assert 2 * (truth & (found > 0.5)).sum() / (truth.sum() + (found > 0.5).sum()) > 0.85
