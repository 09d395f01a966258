"""What is needed to log a training to MLflow."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path

from custom.commands.servers import why_unreachable
from custom.errors import NomalyError


def check_tracking(tracking: str) -> None:
    """Refuse settings with which a training cannot be logged.

    Raises:
        NomalyError: if ``tracking`` is neither mlflow nor a file of settings, MLflow is not installed, or its server
            does not respond.
    """
    if tracking != "mlflow" and not is_tracking_file(tracking):
        raise NomalyError(
            "--tracking must be mlflow or a JSON file of MONAI's tracking settings (handlers_id, configs), got "
            f"{tracking}: give one of these."
        )
    if find_spec("mlflow") is None:
        raise NomalyError("--tracking needs the package mlflow, which is not installed: run `pip install .[mlflow]`.")
    server = os.environ.get("MLFLOW_TRACKING_URI", "")
    reason = why_unreachable(server) if server.startswith(("http://", "https://")) else ""
    if reason:
        raise NomalyError(
            f"MLFLOW_TRACKING_URI must be a running server, but {server} does not respond ({reason}): start it, or "
            "unset the variable to use a database beside the logs."
        )


def is_tracking_file(path: str) -> bool:
    """Whether a file contains MONAI's tracking settings."""
    try:
        settings = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(settings, dict) and settings.keys() >= {"handlers_id", "configs"}
