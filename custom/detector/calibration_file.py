"""The calibrations made in one run as a small JSON file, valid only for the weights that they were made with.

A site calibrates on its own healthy studies without changing the weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from custom.calibration.by_kind import Calibrations
from custom.calibration.decision import DecisionRule
from custom.calibration.state import CalibrationState, group_name
from custom.detector.existence import check_calibration
from custom.earlier_names import CALIBRATION_KEYS, current_name
from custom.errors import NomalyError
from custom.files import atomic_write
from custom.input_check.file import input_check_content, read_input_check
from custom.studies.kinds import IMAGE, KINDS, VOLUME

NUMBERS = ("pixel_threshold", "pixel_false_positive_rate", "minimum_region", "false_regions_per_study")
LISTS = ("slices", "plane")


def write_calibration(
    path: str | Path,
    calibrations: Calibrations,
    model_hash: str,
    studies: Mapping[str, list[dict[str, Any]]],
    info: dict[str, Any],
) -> None:
    """Write the calibrations of the given kinds of study in a readable form, for ``load_calibration``.

    Args:
        path: path of the file; replaced atomically.
        calibrations: those of a calibrated detector.
        model_hash: hash of the detector's weights, without calibration.
        studies: by kind, ``study`` (name), ``score``, ``mass`` and ``group`` of each healthy study; written unchanged.
        info: further entries, such as date and bundle.

    Raises:
        NomalyError: if the file cannot be written.
    """
    rule = calibrations.decision_rule
    content = {
        "model_hash": model_hash,
        **info,
        "alpha": rule.alpha,
        "confidence": rule.confidence,
        "likely_normal_p": rule.likely_normal_p,
        **{kind: _content(calibrations.of_kind(kind), found) for kind, found in studies.items()},
    }
    with atomic_write(path) as file:
        json.dump(content, file, indent=2, allow_nan=False)
        file.write("\n")


def load_calibration(path: str | Path, calibrations: Calibrations, model_hash: str) -> None:
    """Fill the calibrations from a file of ``write_calibration``; a kind that it does not contain is kept.

    Raises:
        NomalyError: if the file was not found, is not a calibration, or was made with other weights.
    """
    content = _read(Path(path))
    if content["model_hash"] != model_hash:
        raise NomalyError(
            f"calibration {path} was made with other weights ({content['model_hash']}; these are {model_hash}), so the "
            "scores are not comparable. Calibrate these weights (nomaly calibrate), or use those it was made with."
        )
    try:
        rule = DecisionRule(content["alpha"], content["confidence"], content["likely_normal_p"])
        found = {kind: _state(content[kind]) for kind in KINDS if kind in content}
    except (KeyError, TypeError, ValueError) as error:
        raise NomalyError(
            f"calibration {path} is incomplete or invalid ({type(error).__name__}: {error}): create it again with "
            "nomaly calibrate."
        ) from error
    for kind, state in found.items():
        calibrations.of_kind(kind).load_state_dict(state.state_dict())
    calibrations.fill_rule(rule)


def _content(state: CalibrationState, studies: list[dict[str, Any]]) -> dict[str, Any]:
    """The calibration of one kind of study as plain values."""
    return {
        "healthy_studies": len(studies),
        **{name: getattr(state, name).item() for name in NUMBERS},
        **{name: getattr(state, name).tolist() for name in LISTS},
        "scoring": state.scoring_settings,
        "group_field": state.group_field,
        "input_check": input_check_content(state.input_check),
        "studies": sorted(studies, key=lambda study: study["score"]),
    }


def _state(content: dict[str, Any]) -> CalibrationState:
    """The calibration of one kind of study from its plain values, without the decision rule.

    Raises:
        KeyError, TypeError, ValueError: if the content is incomplete or invalid.
    """
    state = CalibrationState()
    values = {name: content[name] for name in (*NUMBERS, *LISTS)}
    scores, masses, groups = _studies(content)
    _check_numbers(scores, masses, values)
    state.fill_healthy(scores, masses, groups, content["group_field"])
    state.fill(**values)
    state.fill_scoring(_scoring(content))
    # absent from files older than the input check
    state.input_check.load_state_dict(read_input_check(content.get("input_check")).state_dict())
    return state


def _studies(content: dict[str, Any]) -> tuple[list[float], list[float], list[str] | None]:
    """Scores, masses and groups (None without a field) of the healthy studies."""
    studies = content["studies"]
    if len(studies) != content["healthy_studies"]:
        raise ValueError(f"healthy_studies is {content['healthy_studies']}, but {len(studies)} are listed")
    groups = None
    if content["group_field"] is not None:
        if any(study["group"] is None for study in studies):
            raise ValueError(f"each study must have a group, since group_field is {content['group_field']}")
        groups = [group_name(study["group"]) for study in studies]
    return [float(study["score"]) for study in studies], [float(study["mass"]) for study in studies], groups


def _scoring(content: dict[str, Any]) -> dict[str, Any]:
    """Settings of the scores; in files of releases that did not store them, mode and checksum."""
    scoring = content["scoring"] if "scoring" in content else {"version": 0, "checksum": content["score_rule"]}
    if not isinstance(scoring, dict) or "version" not in scoring:
        raise ValueError(f"scoring must be settings with a version, got {scoring!r}")
    return scoring


def _check_numbers(scores: list[float], masses: list[float], values: dict[str, Any]) -> None:
    """Refuse invalid numbers."""
    if not np.isfinite([*scores, *masses, *(values[name] for name in NUMBERS)]).all():
        raise ValueError("scores, masses and thresholds must be finite")
    if values["minimum_region"] < 1:
        raise ValueError(f"minimum_region must be at least 1, got {values['minimum_region']}")
    for name in LISTS:
        if len(values[name]) != 2:
            raise ValueError(f"{name} must be two numbers, got {values[name]}")


def _read(path: Path) -> dict[str, Any]:
    """Content of the file, at least with hash and the studies of one kind."""
    check_calibration(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise NomalyError(
            f"calibration {path} is not valid JSON ({error}): create it again with nomaly calibrate."
        ) from None
    content = _by_kind(content) if isinstance(content, dict) else {}
    kinds = [content[kind] for kind in KINDS if kind in content]
    if "model_hash" not in content or not kinds or not all(isinstance(k, dict) and k.get("studies") for k in kinds):
        raise NomalyError(
            f"calibration {path} must contain model_hash and studies: create it again with nomaly calibrate."
        )
    return content


def _by_kind(content: dict[str, Any]) -> dict[str, Any]:
    """Content of a file of any release: earlier ones have one calibration, which is that of the kind of its studies."""
    if "studies" not in content:
        return content
    earlier = {current_name(key, CALIBRATION_KEYS): value for key, value in content.items()}
    several = any(isinstance(count, int) and count > 1 for count in earlier.get("slices") or ())
    return {**earlier, VOLUME if several else IMAGE: earlier}
