"""Two sites that share weights and no image train one detector, by MONAI's client for federated learning."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.fl.utils.constants import WeightType
from monai.fl.utils.exchange_object import ExchangeObject

from custom.commands.bundle import BUNDLES
from custom.detector.configuration import configuration_of
from custom.detector.weights import NOT_LEARNED, read_tensors, save_tensors
from custom.errors import NomalyError
from custom.federated.site import DetectorAlgo, make_site
from custom.federated.weights import write_initial, write_model
from custom.runs.tables import read_results_csv
from custom.synthetic.dataset import make_phantom

TRAINING = {"a": 2, "b": 3}  # studies; the second site counts more
ROUNDS = 2
KNOBS = {"warmup_epochs": 1, "val_interval": 1, "batch_size": 2, "num_workers": 0}
GEOMETRY = {"head": {"shape": (30, 36, 28), "spacing": (6.0, 6.0, 6.0)}, "chest": {"size": 32}}
SECTIONS = {"num_validation": 4, "num_calibration": 0, "num_test_healthy": 1, "num_test_abnormal": 1}

# Four healthy studies are enough for this alpha.
CALIBRATION = {"alpha": 0.2, "pixel_false_positive_rate": 0.2, "false_regions_per_study": 1000}

Weights = dict[str, torch.Tensor]
# About 15 seconds a bundle.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:executing the bundle config"),
    pytest.mark.parametrize("bundle", ["ra_brain", "memmc_pneumonia"], scope="module"),
]


@dataclass
class Federation:
    """Two sites after their training, and what was seen of it."""

    sites: dict[str, DetectorAlgo]
    data: dict[str, Path]
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    begins: dict[str, list[Weights]] = field(default_factory=lambda: {"a": [], "b": []})
    sent: list[dict[str, ExchangeObject]] = field(default_factory=list)
    averages: list[Weights] = field(default_factory=list)

    def watch(self, name: str) -> None:
        """Keep what a site's network is when the first step of a round begins."""
        site, begins = self.sites[name], self.begins[name]

        def look() -> None:
            if site.trainer.state.iteration == site.iter_of_start_time + 1:
                begins.append({key: value.clone() for key, value in site.detector.state_dict().items()})

        site.trainer.add_event_handler(Events.ITERATION_STARTED, look)

    def train_round(self, weights: Weights) -> Weights:
        """A round at all sites, then the server's average."""
        sent = {}
        for name, site in self.sites.items():
            site.train(ExchangeObject(weights=weights))
            sent[name] = site.get_weights()
        self.sent.append(sent)
        counts = {name: site.training_slices for name, site in self.sites.items()}
        self.averages.append(average({name: exchange.weights for name, exchange in sent.items()}, counts))
        return self.averages[-1]


def average(weights: Mapping[str, Weights], counts: Mapping[str, int]) -> Weights:
    """The server: mean of the sites' weights by their numbers of training slices, types as they were."""
    total, first = sum(counts.values()), next(iter(weights.values()))
    mean = {key: sum(weights[name][key] * (counts[name] / total) for name in weights) for key in first}
    return {key: value.to(first[key].dtype) for key, value in mean.items()}


@pytest.fixture(scope="module")
def federation(bundle: str, tiny_network, tmp_path_factory) -> Federation:
    """Two sites with data of their own after two rounds of one epoch."""
    folder = tmp_path_factory.mktemp("federated")
    anatomy = json.loads((BUNDLES / bundle / "configs" / "train.json").read_text())["anatomy"]
    data, sites = {}, {}
    for seed, (name, number) in enumerate(TRAINING.items(), start=1):
        sections = {"num_training": number, **SECTIONS}
        data[name] = Path(make_phantom(folder / f"data_{name}", anatomy, seed, **sections, **GEOMETRY[anatomy]))
        parameters = {**tiny_network(bundle), **KNOBS, "seed": seed}
        sites[name] = make_site(bundle, data[name], folder / name, ROUNDS, name=name, parameters=parameters)
    federation = Federation(sites, data)
    weights = sites["a"].get_weights().weights
    for name, site in sites.items():
        federation.metrics[name] = site.evaluate(ExchangeObject(weights=weights)).metrics
        federation.watch(name)
    for _ in range(ROUNDS):
        weights = federation.train_round(weights)
    return federation


def test_both_sites_begin_a_round_with_the_mean_of_what_they_sent(federation: Federation) -> None:
    slices = [site.training_slices for site in federation.sites.values()]
    assert slices[0] < slices[1]
    first, second = (exchange.weights for exchange in federation.sent[0].values())
    for begins in federation.begins.values():
        assert len(begins) == ROUNDS
        for key, value in begins[1].items():
            if key in first:
                a, b = (weights[key].numpy().astype(np.float64) for weights in (first, second))
                expected = (slices[0] * a + slices[1] * b) / sum(slices)
                expected = expected if value.is_floating_point() else np.trunc(expected)
                np.testing.assert_allclose(value.numpy(), expected, rtol=1e-5, atol=1e-7, err_msg=key)


def test_mean_is_neither_sites_own(federation: Federation) -> None:
    weights = [exchange.weights for exchange in federation.sent[0].values()]
    parameters = federation.sites["a"].detector.named_parameters()
    learned = {key for key, weight in parameters if weight.requires_grad}
    moved = {key for key in learned if not torch.equal(weights[0][key], weights[1][key])}
    assert len(moved) > len(learned) / 2
    for own in weights:
        assert all(not torch.equal(federation.averages[0][key], own[key]) for key in moved)


def test_sites_send_weights_alone_and_no_calibration(federation: Federation) -> None:
    for sent in federation.sent:
        for name, exchange in sent.items():
            detector = federation.sites[name].detector
            assert exchange.weight_type == WeightType.WEIGHTS and exchange.optim is None and exchange.metrics is None
            expected = {
                key: value.shape for key, value in detector.state_dict().items() if not key.startswith(NOT_LEARNED)
            }
            assert {key: value.shape for key, value in exchange.weights.items()} == expected
            assert all(type(value) is int for value in exchange.statistics.values())  # epochs and steps


def test_sites_validate_weights_before_and_after_training(federation: Federation) -> None:
    average = federation.averages[-1]
    for name, site in federation.sites.items():
        for metrics in (federation.metrics[name], site.evaluate(ExchangeObject(weights=average)).metrics):
            assert 0 <= metrics["synthetic_auroc"] <= 1 and metrics["healthy_error"] > 0
        assert metrics["healthy_error"] < federation.metrics[name]["healthy_error"]
        assert site.trainer.state.epoch == ROUNDS and not site.evaluator.state.metrics  # a checkpoint would take them
        for key, value in site.get_weights().weights.items():
            if not key.startswith("normalisation."):  # fitted anew to what is validated
                assert torch.equal(value, average[key]), key


@pytest.fixture(scope="module")
def model(bundle: str, federation: Federation, tiny_network, tmp_path_factory) -> Path:
    """The last average as a model."""
    folder = tmp_path_factory.mktemp("average")
    save_tensors(federation.averages[-1], folder / "average.pt")
    write_model(bundle, tiny_network(bundle), folder / "average.pt", folder / "model.pt")
    return folder / "model.pt"


def test_each_site_calibrates_the_one_model_for_itself(
    bundle: str, model: Path, federation: Federation, nomaly, tiny_network, tmp_path: Path
) -> None:
    before, thresholds, kind = model.read_bytes(), set(), "volume" if bundle == "ra_brain" else "image"
    for name, data in federation.data.items():
        calibration, results = tmp_path / f"{name}.json", tmp_path / name
        words = ("--weights", model, "--dataset_dir", data, "--output", calibration)
        assert nomaly("calibrate", bundle, *words, **CALIBRATION, **tiny_network(bundle)).code == 0
        state = json.loads(calibration.read_text())[kind]
        cases = [item["subject"] for item in json.loads((data / "datalist.json").read_text())["validation"]]
        assert sorted(study["study"] for study in state["studies"]) == cases
        thresholds.add(state["pixel_threshold"])

        image = data / json.loads((data / "datalist.json").read_text())["test"][-1]["image"]
        words = (image, "--weights", model, "--calibration", calibration, "--no-input-check", "--output", results)
        assert nomaly("detect", bundle, *words, **tiny_network(bundle)).code == 0
        [row] = read_results_csv(results / "results.csv")
        assert row.status == "ok" and 0 < row.p_value <= 1
    assert model.read_bytes() == before and len(thresholds) == len(federation.data)


def test_model_is_the_average_without_calibration(model: Path, federation: Federation) -> None:
    state = read_tensors(model)
    assert configuration_of(state)["network"]["image_size"] == 32  # of the average, too
    for kind in ("image", "volume"):
        assert state[f"calibration.{kind}.healthy_scores"].numel() == 0
        assert state[f"calibration.{kind}.pixel_threshold"] == float("inf")
    for key, value in federation.averages[-1].items():
        assert torch.equal(state[key], value), key


def test_average_of_another_network_is_refused(
    bundle: str, federation: Federation, tiny_network, tmp_path: Path
) -> None:
    average = federation.averages[-1]
    first, *others = average
    broken = {**average, first: average[first] / 0}
    for wrong, message in (
        (
            {key: average[key] for key in others},
            "do not fit this network (tensors: 1 missing, such as",
        ),
        ([1, 2], "do not fit this network (the file contains a list, not tensors by name): use the same bundle"),
        (broken, f"must be finite, but {first} is not: the training of a site has diverged"),
    ):
        save_tensors(wrong, tmp_path / "average.pt")
        with pytest.raises(NomalyError, match=f"shared weights {re.escape(message)}"):
            write_model(bundle, tiny_network(bundle), tmp_path / "average.pt", tmp_path / "model.pt")
    assert not (tmp_path / "model.pt").exists()


def test_training_can_begin_with_a_calibrated_model(bundle: str, trained, tiny_network, tmp_path: Path) -> None:
    weights = trained(bundle) / "models" / "model.pt"
    write_initial(bundle, tiny_network(bundle), tmp_path / "initial.pt", weights)
    initial, state = read_tensors(tmp_path / "initial.pt"), read_tensors(weights)
    assert initial.keys() == {key for key in state if not key.startswith(NOT_LEARNED)}
    assert all(torch.equal(value, state[key]) for key, value in initial.items())
