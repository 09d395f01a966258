"""The weights that sites share, and the detector that results from their average."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle.config_parser import ConfigParser
from torch import nn

from custom.commands.bundle import check_overrides, find_bundle, path_of
from custom.detector.anomaly_detector import AnomalyDetector
from custom.detector.weights import NOT_LEARNED, difference, load_detector, read_tensors, save_tensors
from custom.errors import NomalyError


def shared(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy of the shared part of a detector's state: everything except its calibration and its parameters."""
    return {name: tensor.cpu().clone() for name, tensor in state.items() if not name.startswith(NOT_LEARNED)}


def load_shared(detector: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Load shared weights into a detector; its calibration stays unchanged.

    Raises:
        NomalyError: if they do not fit this network or are not finite.
    """
    if problem := difference(shared(detector.state_dict()), state):
        raise NomalyError(
            f"the shared weights do not fit this network ({problem}): use the same bundle and the same network "
            "parameters at all sites."
        )
    if broken := [name for name, tensor in state.items() if not torch.isfinite(torch.as_tensor(tensor)).all()]:
        raise NomalyError(
            f"shared weights must be finite, but {broken[0]} is not: the training of a site has diverged. Restart from "
            "an earlier average with a lower learning_rate."
        )
    detector.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()}, strict=False)


def new_detector(bundle: str, parameters: Mapping[str, Any]) -> AnomalyDetector:
    """Untrained detector of a bundle, reproducible for given parameters.

    Args:
        bundle: name or path.
        parameters: parameters of the config train.json.

    Raises:
        NomalyError: unknown bundle or parameter.
    """
    file = path_of(find_bundle(bundle), "train")
    check_overrides(ConfigParser.load_config_file(file), parameters)
    parser = ConfigParser()
    parser.read_config(file)
    parser.update(dict(parameters))
    torch.manual_seed(parser.get_parsed_content("seed"))
    detector: AnomalyDetector = parser.get_parsed_content("network_def")
    return detector


def write_initial(
    bundle: str, parameters: Mapping[str, Any], path: str | Path, weights: str | Path | None = None
) -> None:
    """Write the weights with which all sites start.

    Args:
        bundle: name or path.
        parameters: parameters of the config train.json.
        path: file to write.
        weights: model.pt to continue from; None = new weights.

    Raises:
        NomalyError: as :func:`new_detector`, and if the weights cannot be used.
    """
    detector = new_detector(bundle, parameters)
    if weights is not None:
        load_detector(detector, weights, bundle=find_bundle(bundle))
    save_tensors(shared(detector.state_dict()), path)


def write_model(bundle: str, parameters: Mapping[str, Any], average: str | Path, path: str | Path) -> None:
    """Write an average as ``model.pt`` for all commands, not yet calibrated.

    Args:
        bundle: name or path.
        parameters: parameters of the config train.json.
        average: file of shared weights, or of a server that stores them under "model", such as NVFlare's.
        path: file to write.

    Raises:
        NomalyError: as :func:`new_detector`, and if the average is missing, damaged, not finite or of another network.
    """
    detector = new_detector(bundle, parameters)
    state = read_tensors(average)
    load_shared(detector, state.get("model", state) if isinstance(state, Mapping) else state)
    save_tensors(detector.state_dict(), path)
