"""Shared by the tests of the bundles: what a tiny detector of each makes of its phantom."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from custom.commands.bundle import BUNDLES
from custom.synthetic.phantoms import find_phantom
from tiny import ALPHA_OF_FINDINGS

ALPHA = 0.2


@pytest.fixture(scope="session")
def parameters(trained, tiny_network) -> Callable[[str], dict]:
    """What a user of the tiny detector of a bundle gives to every command after training."""
    return lambda bundle: {"weights": trained(bundle) / "models" / "model.pt", "alpha": ALPHA, **tiny_network(bundle)}


@pytest.fixture(scope="session")
def unseen(tiny_data) -> Callable[[str], Path]:
    """The study with a lesion beside a bundle's phantom: an oblique head of another resolution, a larger picture."""

    def path(bundle: str) -> Path:
        train = json.loads((BUNDLES / bundle / "configs" / "train.json").read_text())
        phantom = find_phantom(train["anatomy"])
        return tiny_data(bundle) / "unseen" / f"{phantom.unseen}{phantom.suffix}"

    return path


@pytest.fixture(scope="session")
def detection(nomaly, parameters, unseen, tmp_path_factory) -> Callable[[str], Path]:
    """Results folder of the unseen study, with findings where it has a p-value."""

    @functools.cache
    def folder(bundle: str) -> Path:
        path = tmp_path_factory.mktemp(bundle) / "detection"
        words = ("--output", path)
        alpha = {"alpha": ALPHA_OF_FINDINGS}
        assert nomaly("detect", bundle, unseen(bundle), *words, **parameters(bundle) | alpha).code == 0
        return path

    return folder


@pytest.fixture(scope="session")
def evaluation(nomaly, parameters, tiny_data, tmp_path_factory) -> Callable[[str], Path]:
    """Results folder of the labelled test section."""

    @functools.cache
    def folder(bundle: str) -> Path:
        path = tmp_path_factory.mktemp(bundle) / "evaluation"
        words = ("--dataset_dir", tiny_data(bundle), "--output", path)
        assert nomaly("evaluate", bundle, *words, baseline_epochs=1, **parameters(bundle)).code == 0
        return path

    return folder
