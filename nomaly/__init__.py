"""Unsupervised anomaly detection for medical images.

    import nomaly

    detector = nomaly.load("ra_chest")
    result = detector("film.png")
    print(result.score, result.p_value, result.decision)

`load` gives a `Detector`, which turns images into `Result`s. `train`, `adapt`, `calibrate` and `evaluate` do what the
commands of the same names do, and `nomaly.metrics` evaluates maps and scores of any method. Mistakes raise
`NomalyError`, whose text names the rule, the value and the next step.

Research software, not a medical device.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from custom import __version__
from custom.errors import NomalyError

if TYPE_CHECKING:
    from nomaly import metrics
    from nomaly.detector import Detector, find_studies, load
    from nomaly.result import Result, save
    from nomaly.runs import adapt, calibrate, evaluate, phantom, train

__all__ = [
    "Detector",
    "NomalyError",
    "Result",
    "__version__",
    "adapt",
    "calibrate",
    "evaluate",
    "find_studies",
    "load",
    "metrics",
    "phantom",
    "save",
    "train",
]

# Where each name is defined; imported when it is first used, as PyTorch and MONAI take seconds to import.
_HOMES = {
    "Detector": "detector",
    "Result": "result",
    "adapt": "runs",
    "calibrate": "runs",
    "evaluate": "runs",
    "find_studies": "detector",
    "load": "detector",
    "phantom": "runs",
    "save": "result",
    "train": "runs",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name == "metrics":
        return import_module("nomaly.metrics")
    if name not in _HOMES:
        raise AttributeError(f"module 'nomaly' has no attribute {name!r}")
    return getattr(import_module(f"nomaly.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
