"""One site of a federated training: a bundle in MONAI's client for federated learning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle.config_parser import ConfigParser
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject
from torch import nn

from custom.commands.bundle import check_overrides, find_bundle, path_of
from custom.federated.weights import load_shared, shared

SELECTION = "selection"  # the metric that averages are chosen by
ERROR = "error.txt"  # beside a site's settings: what stopped it


class DetectorAlgo(MonaiAlgo):
    """MonaiAlgo that exchanges the whole detector but its calibration, whichever part of it the trainer holds.

    A calibration lists scores of the site's own studies and is right for its own scanners, so it neither leaves a site
    nor is replaced there. Optimisers, the schedule of learning rates and random seeds go on from round to round.

    ``evaluate`` gives ``synthetic_auroc`` (larger = better) and ``healthy_error`` (smaller = better) of weights on the
    validation section. It also fits the normalisation of maps, where the bundle has one, to these weights.
    """

    @property
    def detector(self) -> nn.Module:
        """The network, which training and validation share."""
        return self.evaluator.network

    @property
    def training_slices(self) -> int:
        """How much the site counts in an average."""
        return len(self.train_workflow.train_dataset)

    def initialize(self, extra: dict | None = None) -> None:
        """Read the studies and make trainer and validation."""
        super().initialize(extra)
        self.evaluator = self.train_workflow.evaluator  # a second workflow would read all studies again

    def train(self, data: ExchangeObject, extra: dict | None = None) -> None:
        """Train a round from the weights of ``data``.

        Raises:
            NomalyError: if they are not of this network.
        """
        load_shared(self.detector, data.weights)
        super().train(ExchangeObject(weights=shared(self.trainer.network.state_dict())), extra)

    def evaluate(self, data: ExchangeObject, extra: dict | None = None) -> ExchangeObject:
        """Validate the weights of ``data``."""
        metrics = super().evaluate(data, extra).metrics
        # The checkpoint would take them for metrics of the epoch that follows.
        self.evaluator.state.metrics = {}
        return ExchangeObject(metrics={name: float(value) for name, value in metrics.items()})

    def get_weights(self, extra: dict | None = None) -> ExchangeObject:
        """What may leave the site."""
        exchange = super().get_weights(extra)
        exchange.weights = shared(self.detector.state_dict())
        return exchange


def make_site(
    bundle: str,
    dataset_dir: str | Path,
    output_dir: str | Path,
    rounds: int,
    local_epochs: int = 1,
    name: str = "site",
    parameters: Mapping[str, Any] | None = None,
) -> DetectorAlgo:
    """A site that is ready for its first round.

    Args:
        bundle: name or path.
        dataset_dir: the site's own data set.
        output_dir: for logs and checkpoints, which stay at the site; earlier ones are overwritten.
        rounds: of the whole training.
        local_epochs: epochs in a round.
        name: of the site, for logs.
        parameters: of the config train.json; those that shape the network are the same at all sites.

    Raises:
        NomalyError: if there is no such bundle or parameter, or the data set cannot be used.
    """
    folder, parameters = find_bundle(bundle).absolute(), dict(parameters or {})
    check_overrides(ConfigParser.load_config_file(path_of(folder, "train")), parameters)
    parameters |= {
        "bundle_root": str(folder),
        "dataset_dir": str(dataset_dir),
        "output_dir": str(output_dir),
        "max_epochs": rounds * local_epochs,  # where the schedule ends
        "overwrite": True,
    }
    # Whole weights, no differences: what is infinite until calibration has none.
    algo = DetectorAlgo(
        str(folder), local_epochs, send_weight_diff=False, train_kwargs=parameters, config_evaluate_filename=None
    )
    algo.initialize({ExtraItems.CLIENT_NAME: name})
    return algo
