"""Parameters that were given at training need not be given again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from custom.commands.bundle import BUNDLES, run_configs
from custom.commands.from_weights import parameters_from_weights
from custom.detector.anomaly_detector import AnomalyDetector
from custom.detector.weights import save_tensors
from custom.errors import NomalyError
from custom.runs.tables import read_results_csv

FOLDER = BUNDLES / "ra_brain"
CONFIG = json.loads((FOLDER / "configs" / "inference.json").read_text())


def taken(
    folder: Path, overrides: dict[str, Any], *overlays: str, bundle: str = "ra_brain", **network: Any
) -> dict[str, Any]:
    """Parameters that a run takes from weights that were made with these parameters of the network."""
    made_with = {"bundle": bundle, "network": network, "adjustable": {"score_q": 0.5}}
    detector = AnomalyDetector(nn.Linear(1, 1), nn.Identity(), configuration=made_with)
    save_tensors(detector.state_dict(), folder / "model.pt")
    files = [str(FOLDER / "configs" / f"{name}.json") for name in ("inference", *overlays)]
    return parameters_from_weights(FOLDER, files, {"weights": str(folder / "model.pt"), **overrides})


def test_parameters_that_differ_from_the_bundle_are_taken_and_reported(tmp_path: Path, caplog) -> None:
    assert taken(tmp_path, {}, latent_size=7, image_size=CONFIG["image_size"]) == {"score_q": 0.5, "latent_size": 7}
    assert (
        "Taken from the weights, which were made with other parameters than the bundle's: score_q 0.5, " in caplog.text
    )


def test_what_the_user_or_an_overlay_sets_and_what_the_config_lacks_is_not_taken(tmp_path: Path) -> None:
    assert taken(tmp_path, {"latent_size": 8, "score_q": 0.1}, latent_size=7) == {}
    assert taken(tmp_path, {}, "demo", image_size=7, latent_size=7, window_slices=4) == {"score_q": 0.5}


def test_nothing_is_taken_from_weights_of_volumes_without_their_overlay(tmp_path: Path) -> None:
    assert taken(tmp_path, {}, spatial_dims=3, margin=0.1) == {}
    assert taken(tmp_path, {}, "inference_3d", spatial_dims=3, margin=0.1) == {"score_q": 0.5, "margin": 0.1}


def test_nothing_is_taken_from_weights_of_another_bundle(tmp_path: Path) -> None:
    assert taken(tmp_path, {}, bundle="ra_chest", latent_size=7) == {}


def test_weights_without_parameters_or_without_a_file_give_none(tmp_path: Path) -> None:
    save_tensors(AnomalyDetector(nn.Linear(1, 1), nn.Identity()).state_dict(), tmp_path / "model.pt")
    files = [str(FOLDER / "configs" / "inference.json")]
    for overrides in ({"weights": str(tmp_path / "model.pt")}, {"weights": "gone.pt"}, {"ckpt_dir": str(tmp_path)}):
        assert parameters_from_weights(FOLDER, files, overrides) == {}


@pytest.mark.parametrize("bundle", ["ra_chest", "memmc_pneumonia"])
def test_trained_network_detects_without_the_parameters_of_its_training(
    bundle: str, nomaly, trained, tiny_data, tiny_network, quiet_process: None, tmp_path: Path
) -> None:
    film = tiny_data(bundle) / "images" / "abnormal_000.png"
    words = ("detect", bundle, film, "--weights", trained(bundle) / "models" / "model.pt")
    rows = []
    for name, parameters in (("given", tiny_network(bundle)), ("taken", {})):
        assert nomaly(*words, "--output", tmp_path / name, input_check=False, **parameters).code == 0
        [row] = read_results_csv(tmp_path / name / "results.csv")
        rows.append((row.score, row.p_value, row.region_count))
    assert rows[0] == rows[1]

    files = [str(BUNDLES / bundle / "configs" / "inference.json")]
    folders = {"bundle_root": str(BUNDLES / bundle), "output_dir": str(tmp_path / "monai")}
    overrides = {**folders, "studies": str(film), "weights": str(words[-1])}
    with pytest.raises(Exception) as refused:  # MONAI's own command takes nothing
        run_configs(files, overrides)
    assert isinstance(mistake := refused.value.__cause__ or refused.value, NomalyError)
    assert "were made with other parameters: image_size is 32, not " in str(mistake)
