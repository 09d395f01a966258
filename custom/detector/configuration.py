"""The parameters that weights were made with, stored in the same file: other parameters would give wrong results."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from custom.errors import NomalyError

VERSION = 1  # of the dictionary
PREFIX = "configuration."  # of the entries in the state of a detector
STORED = f"{PREFIX}stored"

Parameters = Mapping[str, Any]


class Configuration(nn.Module):
    """The parameters of a detector, part of its state.

    Buffers:
        stored: (k,) uint8, UTF-8 of {"version": 1, "bundle": name, "network": {...}, "adjustable": {...}}: the
            parameters of network and preprocessing, and those of map, score and source images; empty if unknown, as
            in weights of earlier releases.

    Args:
        values: the dictionary without its version; None = unknown: then it is taken from the weights that are loaded.
    """

    stored: Tensor

    def __init__(self, values: Parameters | None = None) -> None:
        super().__init__()
        self.register_buffer("stored", _packed({"version": VERSION, **values} if values else {}))

    def add_origin(self, origin: Parameters) -> None:
        """Store the provenance of the weights as "origin", for a copy of them, where the parameters are known."""
        if origin and len(self.stored):
            self.stored = _packed({**configuration_of({STORED: self.stored}), "origin": origin}).to(self.stored.device)

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        # The parameters of this run stay: check_configuration() has compared them with those of the weights.
        if not len(self.stored) and f"{prefix}stored" in state_dict:
            self.stored = state_dict[f"{prefix}stored"].clone()


def configuration_of(state: Any) -> dict[str, Any]:
    """The dictionary in the state of a detector; empty if it has none.

    Raises:
        NomalyError: if it is of a later release.
    """
    stored = state.get(STORED) if isinstance(state, Mapping) else None
    values: dict[str, Any] = json.loads(bytes(stored.cpu().tolist())) if stored is not None and len(stored) else {}
    if values and values.get("version") != VERSION:
        raise NomalyError(
            f"the weights store their parameters in version {values.get('version')}, this release reads version "
            f"{VERSION}: use the release that they were made with, or a later one."
        )
    return values


def check_configuration(own: Any, weights: Any, path: object) -> None:
    """Refuse weights that were made with other parameters of network or preprocessing, or for another bundle.

    The adjustable ones may differ: the calibration compares those of map and score, see custom.scoring.settings.

    Args:
        own: state of the detector that the weights are loaded into.
        weights: state in the file; one without parameters is accepted.
        path: the file, for the message.

    Raises:
        NomalyError: with each parameter and both values.
    """
    ours, theirs = configuration_of(own), configuration_of(weights)
    if not ours or not theirs:
        return
    if ours["bundle"] != theirs["bundle"]:
        raise NomalyError(
            f"weights must be of the bundle {ours['bundle']}, but {path} are of {theirs['bundle']}: use "
            f"{theirs['bundle']} instead, or other weights."
        )
    if differing := differences(ours["network"], theirs["network"]):
        values = "; ".join(f"{name} is {_text(theirs, name)}, not {_text(ours, name)}" for name in differing)
        options = " ".join(f"--{name} {shlex.quote(_text(theirs, name))}" for name in differing)
        raise NomalyError(
            f"the weights in {path} were made with other parameters: {values}. Use the overlays of their training, or "
            f"give {options}."
        )


def differences(own: Parameters, other: Parameters) -> list[str]:
    """Names of the parameters that both have, with different values."""
    return [name for name, value in json.loads(json.dumps(own)).items() if name in other and other[name] != value]


def _packed(values: Parameters) -> Tensor:
    """The dictionary as UTF-8; empty for an empty one."""
    return torch.tensor(list(json.dumps(values).encode() if values else b""), dtype=torch.uint8)


def _text(values: Parameters, name: str) -> str:
    """The value of a parameter of the network as a user writes it."""
    value = values["network"][name]
    return value if isinstance(value, str) else json.dumps(value)
