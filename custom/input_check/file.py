"""The state of the input check as a part of calibration.json: numbers as text, arrays as base64."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import torch

from custom.input_check.geometry import MEASURES
from custom.input_check.state import CHECKS, InputCheckState


def input_check_content(state: InputCheckState) -> dict[str, Any]:
    """Plain values of a state."""
    return {
        "studies": int(state.studies),
        "ranges_mm": dict(zip(MEASURES, state.ranges.tolist())),
        "limits": dict(zip(CHECKS, state.limits.tolist())),
        "arrays": {name: encoded(getattr(state, name)) for name in state.ARRAYS if getattr(state, name).numel()},
    }


def read_input_check(content: dict[str, Any] | None) -> InputCheckState:
    """State from the output of :func:`input_check_content`; empty for None, as in calibrations without an input check.

    Raises:
        KeyError, TypeError, ValueError: if the content is incomplete or invalid.
    """
    state = InputCheckState()
    if content is None:
        return state
    ranges = np.array([content["ranges_mm"][name] for name in MEASURES], np.float64)
    limits = np.array([content["limits"][name] for name in CHECKS], np.float64)
    arrays = {name: decoded(stored) for name, stored in content["arrays"].items()}
    if ranges.shape != tuple(state.ranges.shape) or not set(arrays) <= set(state.ARRAYS):
        raise ValueError("input_check must contain two numbers for each range, and no unknown arrays")
    if not all(np.isfinite(values).all() for values in (ranges, limits, *arrays.values())):
        raise ValueError("input_check must contain finite numbers")
    state.studies.fill_(int(content["studies"]))
    state.ranges.copy_(torch.from_numpy(ranges))
    state.limits.copy_(torch.from_numpy(limits))
    state.set_arrays(arrays)
    return state


def encoded(array: torch.Tensor) -> dict[str, Any]:
    """Shape and base64 of the little-endian float32 values."""
    values = array.cpu().numpy().astype("<f4")
    return {"shape": list(values.shape), "float32": base64.b64encode(values.tobytes()).decode()}


def decoded(stored: dict[str, Any]) -> np.ndarray:
    """Array of :func:`encoded`, float32."""
    values = np.frombuffer(base64.b64decode(stored["float32"], validate=True), dtype="<f4")
    return values.reshape(stored["shape"]).astype(np.float32)
