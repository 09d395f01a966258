"""Training, calibration and evaluation of a bundle: what their commands and the functions of the Python package run.

Imports beyond the standard library are in the functions: help and mistakes must appear at once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from custom.commands.bundle import run_bundle
from custom.errors import NomalyError

if TYPE_CHECKING:
    from monai.bundle import ConfigWorkflow

logger = logging.getLogger(__name__)

CALIBRATION = "calibration.json"


def train(
    bundle: str,
    overlays: Sequence[str],
    parameters: dict[str, Any],
    output: str | None = None,
    tracking: str | None = None,
) -> ConfigWorkflow:
    """Train a bundle.

    Args:
        bundle: name or path.
        overlays: configs merged over train.json.
        parameters: of the config.
        output: folder for models/ and train/; None = as in the config.
        tracking: "mlflow" or a file of MONAI's settings; None = no tracking.

    Raises:
        NomalyError: as :func:`custom.commands.bundle.run_bundle`, or if the tracking is not available.
    """
    if output:
        parameters = parameters | {"ckpt_dir": f"{output}/models", "output_dir": f"{output}/train"}
    if tracking:
        from custom.commands.tracking import check_tracking

        check_tracking(tracking)
        # MONAI finds the config that it logs to MLflow only where the folder is an expression.
        parameters |= {"output_dir": f"${parameters['output_dir']!r}"} if "output_dir" in parameters else {}
    return run_bundle(bundle, ["train", *overlays], parameters, tracking)


def calibrate(
    bundle: str, overlays: Sequence[str], parameters: dict[str, Any], output: str | None = None
) -> ConfigWorkflow:
    """Calibrate a trained bundle on healthy studies; the weights are not changed.

    Args:
        bundle: name or path.
        overlays: configs merged over calibrate.json.
        parameters: of the config.
        output: folder for calibration.json; None = as in the config.

    Raises:
        NomalyError: as :func:`custom.commands.bundle.run_bundle`, or if ``output`` is a file.
    """
    if output:
        parameters = parameters | {"calibration_file": new_calibration(output)}
    return run_bundle(bundle, ["calibrate", *overlays], parameters)


def adapt(bundle: str, overlays: Sequence[str], parameters: dict[str, Any]) -> ConfigWorkflow:
    """Fit the statistics of healthy studies that the weights hold, and write a copy of the weights with them.

    Args:
        bundle: name or path.
        overlays: configs merged over adapt.json.
        parameters: of the config.

    Raises:
        NomalyError: as :func:`custom.commands.bundle.run_bundle`.
    """
    return run_bundle(bundle, ["adapt", *overlays], parameters)


def evaluate(bundle: str, overlays: Sequence[str], parameters: dict[str, Any]) -> str:
    """Evaluate a trained bundle on a labelled test section; return the folder of the results.

    Args:
        bundle: name or path.
        overlays: configs merged over evaluate.json.
        parameters: of the config.

    Raises:
        NomalyError: as :func:`custom.commands.bundle.run_bundle`.
    """
    workflow = run_bundle(bundle, ["evaluate", *overlays], parameters)
    return str(workflow.parser.get_parsed_content("output_dir"))


def new_calibration(output: str) -> str:
    """The calibration file in a folder; an earlier release took the file itself.

    Raises:
        NomalyError: if the folder is a file.
    """
    if not output.endswith(".json"):
        if Path(output).is_file():
            raise NomalyError(f"--output must be a folder, but {output} is a file: give another path.")
        return str(Path(output) / CALIBRATION)
    logger.warning("--output of calibrate is now a folder: a path that ends in .json is accepted for one more release.")
    return output


def calibration_file(given: str) -> str:
    """The file of a calibration that is given as a file or as its folder."""
    return str(Path(given) / CALIBRATION) if Path(given).is_dir() else given
