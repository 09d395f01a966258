"""Parameters that a command takes from the weights, because their training or calibration set them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)


def parameters_from_weights(folder: Path, configs: Sequence[str], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters stored with the weights that differ from those of the bundle and that the user did not set.

    Args:
        folder: the bundle.
        configs: files of the run; all but the first are overlays, whose entries the user has chosen.
        overrides: parameters that the user set.

    Returns:
        Values by name; empty for a run without weights, for weights that store none or are of another bundle, and for
        those of another number of spatial axes, which need the overlays of their training.
    """
    from monai.bundle.config_parser import ConfigParser

    from custom.detector.configuration import configuration_of
    from custom.detector.weights import read_tensors

    own, *overlays = (ConfigParser.load_config_file(file) for file in configs)
    path = weights_of(folder, overrides)
    if "weights" not in own or path is None or not path.is_file():
        return {}
    stored = configuration_of(read_tensors(path))
    chosen = {**stored.get("adjustable", {}), **stored.get("network", {})}
    config = own | {name: value for overlay in overlays for name, value in overlay.items()}
    if stored.get("bundle") != own.get("configuration", {}).get("bundle"):
        return {}
    if chosen.get("spatial_dims", 2) != config.get("spatial_dims", 2):
        return {}
    fixed = {name.split("#")[0] for names in (overrides, *overlays) for name in names}
    taken = {name: value for name, value in chosen.items() if name in own and name not in fixed and own[name] != value}
    if taken:
        values = ", ".join(f"{name} {value}" for name, value in taken.items())
        logger.warning("Taken from the weights, which were made with other parameters than the bundle's: %s.", values)
    return taken


def weights_of(folder: Path, overrides: Mapping[str, Any]) -> Path | None:
    """File of the weights of a run; None if an expression of the config decides it."""
    weights = overrides.get("weights") or f"{overrides.get('ckpt_dir', folder / 'models')}/model.pt"
    return None if str(weights).startswith(("$", "@")) else Path(weights)
