"""Weights that lie in another bundle are refused, also where the networks are alike."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from custom.commands.bundle import BUNDLES
from custom.detector.ownership import check_owner
from custom.errors import NomalyError
from custom.federated.weights import write_initial

NAMES = ("memmc_pneumonia", "memmc_covid")


@pytest.mark.parametrize("command", ["detect", "evaluate", "calibrate", "export", "federated"])
def test_weights_of_a_bundle_whose_network_is_alike_are_refused(
    command: str, nomaly, tiny_data, tmp_path: Path
) -> None:
    data, weights = tiny_data("memmc_pneumonia"), BUNDLES / "memmc_covid" / "models" / "model.pt"
    names = [json.loads((BUNDLES / name / "configs" / "metadata.json").read_text())["name"] for name in NAMES]
    advice = "omit --weights, or use their own bundle."
    expected = f'weights must belong to bundle "{names[0]}", but {weights} belong to "{names[1]}": {advice}'
    if command == "federated":
        with pytest.raises(NomalyError, match=re.escape(expected)):
            write_initial("memmc_pneumonia", {}, tmp_path / "initial.pt", weights)
        return
    words = (data, "--output", tmp_path / "a") if command == "detect" else ("--dataset_dir", data)
    words += ("--output", tmp_path / "a", "--format", "torchscript") if command == "export" else ()
    outcome = nomaly(command, "memmc_pneumonia", *words, "--weights", weights)
    assert outcome.code == 2 and f"nomaly: {expected}\n" in outcome.err


@pytest.mark.parametrize("place", ["run/models/model.pt", "model.pt"])
def test_weights_that_lie_in_no_bundle_may_belong_to_any(place: str, tmp_path: Path) -> None:
    check_owner(BUNDLES / "ra_brain", tmp_path / place)
    check_owner(BUNDLES / "ra_brain", "/model.pt")


def test_renamed_bundle_owns_its_weights(tmp_path: Path) -> None:
    shutil.copytree(BUNDLES / "ra_brain" / "configs", tmp_path / "heads" / "configs")
    check_owner(BUNDLES / "ra_brain", tmp_path / "heads" / "models" / "model.pt")
    with pytest.raises(
        NomalyError,
        match='weights must belong to bundle "Anomaly detection in chest .*", but .*/heads/models/model.pt belong',
    ):
        check_owner(BUNDLES / "ra_chest", tmp_path / "heads" / "models" / "model.pt")
