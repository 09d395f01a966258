"""Run a bundle's configs in this process, as ``python -m monai.bundle run`` does."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

from monai.bundle import ConfigWorkflow
from monai.bundle.config_parser import ConfigParser

from custom.errors import NomalyError


def run(files: Sequence[str], overrides: dict[str, Any]) -> ConfigWorkflow:
    """Initialise, run and finalise the workflow of ``files`` merged in order, with ``overrides`` on top.

    Raises:
        NomalyError: if an override names no knob of the configs; MONAI would add it in silence.
    """
    known = set(ConfigParser.load_config_files(list(files)))
    unknown = sorted(name for name in overrides if name.split("#")[0].split("::")[0] not in known)
    if unknown:
        knobs = sorted(name for name in known if not name.startswith("_"))
        raise NomalyError(f"no knob is called {', '.join(unknown)}: the config has {', '.join(knobs)}.")
    # MONAI's own advice on each run: its security advisories, and the labels of Orientation.
    warnings.filterwarnings("ignore", message=".*(GHSA|execute|Orientation).*")
    workflow = ConfigWorkflow(config_file=list(files), **overrides)
    logging.captureWarnings(True)
    workflow.initialize()
    workflow.run()
    workflow.finalize()
    return workflow
