"""Training, adaptation, calibration and evaluation from Python give what their commands give."""

from __future__ import annotations

import json

import pytest

import nomaly as package
from custom.studies.datalist import load_datalist
from tiny import TINY_NETWORK, TINY_TRAINING


@pytest.mark.usefixtures("quiet_process")
def test_train_calibrate_evaluate_and_load(tiny_data, tmp_path):
    data, network = tiny_data("ra_chest"), TINY_NETWORK["ra"]

    weights = package.train("ra_chest", data, tmp_path / "run", **network, **TINY_TRAINING)
    rates = {"alpha": 0.2, "pixel_false_positive_rate": 0.2, "false_regions_per_study": 1000}
    file = package.calibrate(
        "ra_chest", output=tmp_path / "site", dataset_dir=data, weights=weights, **rates, **network
    )
    options = {"weights": weights, "calibration": tmp_path / "site", "baseline_epochs": 1}
    figures = package.evaluate("ra_chest", data, tmp_path / "evaluation", **options, **network)

    assert weights == tmp_path / "run" / "models" / "model.pt" and weights.is_file()
    assert file == tmp_path / "site" / "calibration.json" and file.is_file()
    assert figures.values == json.loads((tmp_path / "evaluation" / "metrics.json").read_text())
    assert str(figures) in (tmp_path / "evaluation" / "metrics.md").read_text()
    assert not package.load("ra_chest", weights=weights).is_calibrated  # the weights are not changed


@pytest.mark.usefixtures("quiet_process")
def test_calibration_is_also_written_into_a_copy_of_the_weights(tiny_data, trained, tmp_path):
    own = {"dataset_dir": tiny_data("ra_chest"), "weights": trained("ra_chest") / "models" / "model.pt"}

    file = package.calibrate("ra_chest", into_weights=tmp_path / "chest.pt", alpha=0.2, **own)

    assert file == tmp_path / "calibration.json" and file.is_file()
    assert package.load("ra_chest", weights=tmp_path / "chest.pt").is_calibrated


@pytest.mark.usefixtures("quiet_process")
def test_statistics_are_adapted_to_the_healthy_studies_of_a_site(trained, tmp_path):
    sections = {"num_training": 20, "num_validation": 10, "num_calibration": 0, "num_test_healthy": 1}
    site = package.phantom("ra_chest", tmp_path / "films", size=32, num_test_abnormal=0, seed=7, **sections)
    weights = trained("ra_chest") / "models" / "model.pt"
    before, film = weights.read_bytes(), load_datalist(site)["test"][0]["image"]

    adapted = package.adapt("ra_chest", site, tmp_path / "site", weights=weights, fit_steps=2)

    assert adapted == tmp_path / "site" / "model.pt" and weights.read_bytes() == before
    first, second = (package.load("ra_chest", weights=path, input_check=False) for path in (weights, adapted))
    assert first.is_calibrated and not second.is_calibrated
    assert first(film).parts != second(film).parts


@pytest.mark.usefixtures("quiet_process")
def test_mistakes_are_raised_as_they_are_reported(tmp_path):
    with pytest.raises(package.NomalyError, match="got ra_chst: did you mean ra_chest"):
        package.train("ra_chst")
    with pytest.raises(package.NomalyError, match="no parameter is called max_epoch: did you mean max_epochs"):
        package.train("ra_chest", max_epoch=1)
    with pytest.raises(package.NomalyError, match="dataset_dir must be an existing folder"):
        package.evaluate("ra_chest", tmp_path / "gone", tmp_path / "out")


def test_phantom_is_a_data_set_of_the_kind_of_the_bundle(tmp_path):
    settings = {"num_training": 1, "num_validation": 0, "num_calibration": 0, "num_test_healthy": 1, "size": 32}
    folder = package.phantom("ra_chest", tmp_path / "films", num_test_abnormal=1, **settings)
    items = json.loads((folder / "datalist.json").read_text())
    assert len(items["training"]) == 1 and items["test"][1]["label"] == 1
    assert (folder / items["test"][1]["mask"]).is_file()
