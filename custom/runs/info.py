"""What produced the results of a run: for ``run.json``, and to check that a run can be resumed."""

from __future__ import annotations

import hashlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any, Protocol

import torch
from monai.data import Dataset
from torch import nn

from custom.calibration.conformal import minimum_n
from custom.calibration.decision import DecisionRule
from custom.calibration.state import CalibrationState
from custom.detector.anomaly_detector import AnomalyDetector
from custom.detector.weights import model_hash, weight_hash
from custom.studies.privacy import printable, without_studies

SETTINGS = ("scoring", "foreground_threshold", "study_group", "autocast", "input_check", "score_all")


class Loader(Protocol):
    """A loader of prepared studies."""

    dataset: Dataset


class Evaluator(Protocol):
    """The parts of a DetectionEvaluator, beside its SETTINGS, on which the results of a study depend."""

    inferer: object
    data_loader: Loader


def run_info(
    network: AnomalyDetector,
    rule: DecisionRule,
    info: Mapping[str, Any],
    notes: Sequence[str],
    private_words: str | Sequence[str] | None = None,
) -> dict[str, Any]:
    """Content of ``run.json`` and of the technical section of the report.

    Args:
        network: the detector.
        rule: how p-values become decisions.
        info: further entries.
        notes: warnings about the data and the weights.
        private_words: studies as the user named them; they are left out of the command.
    """
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": printable(shlex.join(without_studies(sys.argv, private_words))),
        **info,
        "threads": torch.get_num_threads(),
        "decision_rule": asdict(rule),
        "model_hash": model_hash(network),
        "minimum_studies_for_alpha": minimum_n(rule.alpha, rule.confidence),
        "calibration": {kind: calibration_info(state) for kind, state in network.calibration.calibrated.items()},
        "notes": list(notes),
    }


def calibration_info(state: CalibrationState) -> dict[str, Any]:
    """What ``run.json`` contains about the calibration of a kind of study."""
    return {
        "healthy_studies": len(state.healthy_scores),
        "pixel_threshold": float(state.pixel_threshold),
        "pixel_false_positive_rate": float(state.pixel_false_positive_rate),
        "minimum_region": int(state.minimum_region),
        "false_regions_per_study": float(state.false_regions_per_study),
        "groups": {name: state.healthy_count(name) for name in state.group_names},
    }


def fingerprint(engine: Evaluator, network: AnomalyDetector, rule: DecisionRule) -> dict[str, Any]:
    """What must be equal for two runs to give the same results for a study."""
    parts = [getattr(engine, name) for name in SETTINGS]
    parts += [getattr(engine.inferer, name, None) for name in ("window", "overlap")]
    parts += [engine.data_loader.dataset.transform]
    settings = repr([described(part) for part in parts])
    return {
        "model": model_hash(network),
        "calibration": weight_hash(network.calibration.state_dict()),
        "decision_rule": asdict(rule),
        "settings": hashlib.sha256(settings.encode()).hexdigest()[:16],
    }


def described(part: Any) -> Any:
    """The plain values that an object was made with, to any depth; only the name of an object without settings, such
    as a network.
    """
    if isinstance(part, (bool, int, float, str, bytes)) or part is None:
        return part
    if isinstance(part, (list, tuple)):
        return [described(item) for item in part]
    if isinstance(part, Mapping):
        return {str(key): described(item) for key, item in part.items()}
    name = type(part).__name__
    if isinstance(part, nn.Module) or not type(part).__module__.startswith(("custom", "monai.transforms")):
        return name
    return [name, {key: described(value) for key, value in sorted(vars(part).items()) if key != "R"}]
