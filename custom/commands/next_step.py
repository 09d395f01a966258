"""The command to paste after a command that is not the last step."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from custom.commands.bundle import find_bundle, path_of

# Parameters of both calibrate.json and inference.json that detection takes from the calibration, or sets itself.
OWN = ("alpha", "calibration_file", "overwrite", "keep_identifiers", "studies", "output_dir")


def after_calibration(
    bundle: str,
    overlays: Sequence[str],
    overrides: Mapping[str, Any],
    calibration_file: str,
    weights: str | None = None,
    into_weights: str | None = None,
) -> str:
    """Where the calibration is, and the command that uses it.

    Args:
        bundle: name or path.
        overlays: configs that were merged over the bundle's own.
        overrides: parameters that the user set; those that detection has are repeated.
        calibration_file: the file that was written.
        weights: file of the weights; None = those of the bundle.
        into_weights: the copy of the weights that contains the calibration; None = none was written.
    """
    known = json.loads(path_of(find_bundle(bundle), "inference").read_text(encoding="utf-8"))
    words = ["nomaly", "detect", bundle, "IMAGES"]
    words += [word for overlay in overlays for word in ("--overlay", overlay)]
    if into_weights is None:
        where = f"in {calibration_file}; the weights were not changed"
        words += [] if weights is None else ["--weights", weights]
        words += ["--calibration", calibration_file]
    else:
        where = f"in {into_weights}, a copy of the weights, and in {calibration_file}"
        words += ["--weights", into_weights]
    for name, value in overrides.items():
        if name.split("#")[0] in known and name not in OWN:
            words += [f"--{name}", str(value)]
    return f"The calibration is {where}. To use it:\n  {shlex.join([*words, '--output', 'results'])}"
