"""Weights remember the parameters that they were made with, and refuse others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from custom.commands.bundle import BUNDLES
from custom.detector.anomaly_detector import AnomalyDetector
from custom.detector.configuration import STORED, configuration_of
from custom.detector.weights import load_detector, model_hash, save_tensors
from custom.errors import NomalyError

MADE_WITH = {"bundle": "a", "network": {"mask_ratio": 0.5, "image_size": 16}, "adjustable": {"score_q": 0.1}}


def detector(**changes: Any) -> AnomalyDetector:
    """A detector with the parameters of MADE_WITH, of which some are changed."""
    return AnomalyDetector(nn.Linear(1, 1), nn.Identity(), configuration={**MADE_WITH, **changes})


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights that were made with MADE_WITH."""
    save_tensors(detector().state_dict(), tmp_path / "model.pt")
    return tmp_path / "model.pt"


def test_file_holds_a_plain_dictionary_with_a_version(weights: Path) -> None:
    state = torch.load(weights, weights_only=True)
    assert json.loads(bytes(state["configuration.stored"].tolist())) == {"version": 1, **MADE_WITH}
    assert configuration_of(state) == {"version": 1, **MADE_WITH}


def test_other_parameters_of_the_network_are_refused_with_both_values(weights: Path) -> None:
    other = detector(network={"mask_ratio": 0.75, "image_size": 32})
    message = (
        r"model.pt were made with other parameters: mask_ratio is 0.5, not 0.75; image_size is 16, not 32. Use the "
        r"overlays of their training, or give --mask_ratio 0.5 --image_size 16.$"
    )
    with pytest.raises(NomalyError, match=message):
        load_detector(other, weights)


def test_weights_of_another_bundle_are_refused_wherever_they_lie(weights: Path) -> None:
    with pytest.raises(NomalyError, match="weights must be of the bundle b, but .*model.pt are of a: use a instead"):
        load_detector(detector(bundle="b"), weights)


def test_other_score_and_new_parameters_are_accepted_and_stay(weights: Path) -> None:
    loaded = load_detector(detector(network={"depth": 4}, adjustable={"score_q": 0.2}), weights)
    assert configuration_of(loaded.state_dict())["adjustable"] == {"score_q": 0.2}


def test_weights_of_earlier_releases_and_detectors_without_parameters_load(weights: Path, tmp_path: Path) -> None:
    state = detector().state_dict()
    del state[STORED]
    save_tensors(state, tmp_path / "earlier.pt")
    assert configuration_of(load_detector(detector(), tmp_path / "earlier.pt").state_dict())["bundle"] == "a"
    plain = load_detector(AnomalyDetector(nn.Linear(1, 1), nn.Identity()), weights)
    assert configuration_of(plain.state_dict()) == {"version": 1, **MADE_WITH}  # kept for the next copy


def test_parameters_of_a_later_release_are_refused(tmp_path: Path) -> None:
    save_tensors(detector(version=2).state_dict(), tmp_path / "model.pt")
    with pytest.raises(NomalyError, match="parameters in version 2, this release reads version 1: use the release"):
        load_detector(detector(), tmp_path / "model.pt")


def test_hash_of_the_weights_does_not_depend_on_the_parameters(weights: Path) -> None:
    loaded = load_detector(AnomalyDetector(nn.Linear(1, 1), nn.Identity()), weights)
    changed = detector(bundle="b")
    changed.load_state_dict(loaded.state_dict())
    assert model_hash(changed) == model_hash(loaded)


@pytest.mark.parametrize("bundle", sorted(path.parent.name for path in BUNDLES.glob("*/variant.json")))
def test_all_configs_of_a_bundle_store_the_same_parameters(bundle: str) -> None:
    stored = {}
    for name in ("train", "calibrate", "evaluate", "inference"):
        config = json.loads((BUNDLES / bundle / "configs" / f"{name}.json").read_text())
        groups = config["configuration"]
        stored[name] = {key: config[key] for group in ("network", "adjustable") for key in groups[group]}
        assert groups["bundle"] == bundle and set(groups["network"]) >= {"anatomy", "image_size", "in_channels"}
        assert not set(groups["network"]) & set(groups["adjustable"])
    assert all(values == stored["train"] for values in stored.values())
