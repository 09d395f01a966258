"""Weights that lie in another bundle are refused, also where the networks are alike."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from custom.commands.bundle import BUNDLES
from custom.commands.owner import check_owner
from custom.errors import NomalyError

NAMES = ("memmc_pneumonia", "memmc_covid")


def test_every_command_refuses_weights_of_a_bundle_whose_network_is_alike(nomaly, tmp_path: Path) -> None:
    weights = BUNDLES / "memmc_covid" / "models" / "model.pt"
    for words in (("detect", "memmc_pneumonia", tmp_path, "--output", tmp_path / "a"), ("evaluate", "memmc_pneumonia")):
        outcome = nomaly(*words, "--weights", weights)
        names = [json.loads((BUNDLES / name / "configs" / "metadata.json").read_text())["name"] for name in NAMES]
        advice = "leave them out, or use the bundle that they belong to."
        expected = f'nomaly: weights must be those of "{names[0]}", but {weights} are those of "{names[1]}": {advice}\n'
        assert (outcome.code, outcome.err) == (2, expected)


@pytest.mark.parametrize("place", ["run/models/model.pt", "model.pt"])
def test_weights_that_lie_in_no_bundle_may_belong_to_any(place: str, tmp_path: Path) -> None:
    check_owner(BUNDLES / "ra_brain", tmp_path / place)
    check_owner(BUNDLES / "ra_brain", "/model.pt")


def test_renamed_bundle_owns_its_weights(tmp_path: Path) -> None:
    shutil.copytree(BUNDLES / "ra_brain" / "configs", tmp_path / "heads" / "configs")
    check_owner(BUNDLES / "ra_brain", tmp_path / "heads" / "models" / "model.pt")
    with pytest.raises(
        NomalyError, match='weights must be those of "Anomaly detection in chest .*", but .*/heads/models/model.pt are'
    ):
        check_owner(BUNDLES / "ra_chest", tmp_path / "heads" / "models" / "model.pt")
