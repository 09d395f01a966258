"""One site of a federated training: a bundle in MONAI's client for federated learning."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from monai.bundle.config_parser import ConfigParser
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems
from monai.fl.utils.exchange_object import ExchangeObject
from torch import nn

from custom.commands.bundle import check_overrides, find_bundle, path_of
from custom.federated.weights import load_shared, shared

SELECTION = "selection"  # metric by which the best average is chosen
ERROR = "error.txt"  # next to a site's settings: the error that stopped it


class DetectorAlgo(MonaiAlgo):
    """MonaiAlgo that exchanges the whole detector except its calibration, whichever part of it is trained.

    A calibration lists scores of the site's own studies and is valid for its own scanners, so it neither leaves a site
    nor is replaced there. Optimisers, learning-rate schedule and random state continue from round to round.

    ``evaluate`` returns ``synthetic_auroc`` (larger = better) and ``healthy_error`` (smaller = better) on the
    validation section. The statistics of healthy studies are not fitted: run `nomaly adapt` with the final model at
    each site.
    """

    @property
    def detector(self) -> nn.Module:
        """The network, shared by training and validation."""
        return cast(SupervisedEvaluator, self.evaluator).network

    @property
    def training_slices(self) -> int:
        """Number of training slices, the site's weight in an average."""
        return len(cast(Any, self.train_workflow).train_dataset)

    def initialize(self, extra: dict | None = None) -> None:
        """Load the studies and create trainer and evaluator."""
        super().initialize(extra)
        self.evaluator = cast(Any, self.train_workflow).evaluator  # a second workflow would read all studies again

    def train(self, data: ExchangeObject, extra: dict | None = None) -> None:
        """Train one round, starting from the weights of ``data``.

        Raises:
            NomalyError: if they do not fit this network or are not finite.
        """
        load_shared(self.detector, data.weights or {})
        super().train(ExchangeObject(weights=shared(cast(SupervisedTrainer, self.trainer).network.state_dict())), extra)

    def evaluate(self, data: ExchangeObject, extra: dict | None = None) -> ExchangeObject:
        """Validate the weights of ``data``."""
        metrics = super().evaluate(data, extra).metrics
        # The checkpoint would take them for metrics of the next epoch.
        cast(SupervisedEvaluator, self.evaluator).state.metrics = {}
        return ExchangeObject(metrics={name: float(value) for name, value in metrics.items()})

    def get_weights(self, extra: dict | None = None) -> ExchangeObject:
        """The weights that may leave the site."""
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
        output_dir: folder for logs and checkpoints, which stay at the site; earlier ones are overwritten.
        rounds: rounds of the whole training.
        local_epochs: epochs per round.
        name: name of the site in logs.
        parameters: parameters of the config train.json; those of the network must be the same at all sites.

    Raises:
        NomalyError: unknown bundle or parameter, or a data set that cannot be used.
    """
    folder, parameters = find_bundle(bundle).absolute(), dict(parameters or {})
    check_overrides(ConfigParser.load_config_file(path_of(folder, "train")), parameters)
    parameters |= {
        "bundle_root": str(folder),
        "dataset_dir": str(dataset_dir),
        "output_dir": str(output_dir),
        "max_epochs": rounds * local_epochs,  # end of the learning-rate schedule
        "overwrite": True,
    }
    # Whole weights instead of differences: buffers that are infinite until calibration have no difference.
    algo = DetectorAlgo(
        str(folder), local_epochs, send_weight_diff=False, train_kwargs=parameters, config_evaluate_filename=None
    )
    algo.initialize({ExtraItems.CLIENT_NAME: name})
    return algo
