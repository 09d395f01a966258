"""Reading and writing of weights: only tensors and plain values, only complete files."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from custom.detector.anomaly_detector import AnomalyDetector
from custom.detector.calibration_file import load_calibration
from custom.detector.configuration import PREFIX, STORED, check_configuration
from custom.detector.existence import check_weights
from custom.detector.ownership import check_owner
from custom.errors import NomalyError
from custom.files import atomic_write

NOT_LEARNED = ("calibration.", PREFIX)  # entries of a detector's state


def save_tensors(state: dict[str, Any], path: str | Path) -> None:
    """Write a dictionary of tensors and plain values; an existing file is kept until the new one is complete.

    Raises:
        NomalyError: if it cannot be written (disk full, no permission).
    """
    # Packed in memory first: a full disk then causes an ordinary write error, not one inside torch's archive writer.
    packed = io.BytesIO()
    torch.save(state, packed)
    with atomic_write(path, "wb") as file:
        file.write(packed.getbuffer())


def read_tensors(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read a file of :func:`save_tensors`; never runs code that the file may contain.

    Raises:
        NomalyError: if the file was not found, is damaged, or contains anything but tensors and plain values.
    """
    check_weights(path)
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many types for truncated files and those of other programs
        raise NomalyError(
            f"{path} cannot be read as a weights file ({type(error).__name__}): it may be truncated or from another "
            "program. Copy it again, or train again."
        ) from error


def load_detector(
    network: AnomalyDetector,
    path: str | Path,
    device: torch.device | str = "cpu",
    calibration_file: str | Path | None = None,
    bundle: str | Path | None = None,
) -> AnomalyDetector:
    """Load ``model.pt`` into the detector, move it to the device and set it to evaluation mode.

    Args:
        network: the detector.
        path: file of its weights.
        device: device to compute on.
        calibration_file: a calibration of these weights, such as that of a site; None = the one in ``model.pt``.
        bundle: folder of the detector's bundle; weights in the folder of another bundle are refused.

    Raises:
        NomalyError: as :func:`read_tensors`, and if the device is not available, the weights belong to another bundle
            or architecture or were made with other parameters, or the calibration was made with other weights.
    """
    check_device(device)
    if bundle is not None:
        check_owner(Path(bundle), path)
    state = read_tensors(path, device)
    check_configuration(network.state_dict(), state, path)
    try:
        network.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise NomalyError(
            f"the weights in {path} do not fit this network: use the bundle and overlays that they were trained with "
            f"({difference(network.state_dict(), state) or 'different values'})."
        ) from error
    if calibration_file is not None:
        load_calibration(calibration_file, network.calibration, model_hash(network))
    return network.to(device).eval()


def difference(own: Mapping[str, torch.Tensor], other: Any) -> str:
    """How the content of a file differs from a network's state; empty if names and shapes are the same."""
    if not isinstance(other, Mapping):
        return f"the file contains a {type(other).__name__}, not tensors by name"
    own, other = ({name: part for name, part in state.items() if name != STORED} for state in (own, other))
    if "optimizers" in other:
        return "the file is a training checkpoint; the network is in model.pt beside it"
    shared = [name for name in own if name in other]
    shapes = [name for name in shared if getattr(other[name], "shape", None) != own[name].shape]
    counts = {
        "missing": [name for name in own if name not in other],
        "unknown": [name for name in other if name not in own],
        "with another shape": shapes,
    }
    parts = [f"{len(names)} {what}, such as {names[0]}" for what, names in counts.items() if names]
    return f"tensors: {'; '.join(parts)}" if parts else ""


def check_device(device: torch.device | str) -> None:
    """Refuse a device that is not available, before the weights are loaded.

    Raises:
        NomalyError: if the device cannot be used.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0].rstrip(".")
        reason = "no such kind of device" if reason.startswith("Expected one of") else reason
        raise NomalyError(f"device {device} is not available ({reason}): give --device cpu.") from None


def weight_hash(state_dict: Mapping[str, torch.Tensor]) -> str:
    """Fingerprint of a network's weights: first 16 hex digits of SHA-256 over names, dtypes, shapes and bytes.

    Independent of the order of the entries and of the device.

    Raises:
        NomalyError: an entry is not a tensor.
    """
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name]
        if not isinstance(tensor, torch.Tensor):
            raise NomalyError(
                f"state_dict[{name!r}] must be a tensor, got {type(tensor).__name__}. Pass network.state_dict()."
            )
        # With the shape in the header, the end of one tensor cannot be mistaken for the start of the next.
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        if tensor.numel():  # an empty tensor may have strides that view() refuses
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def model_hash(network: nn.Module) -> str:
    """Fingerprint of a detector without calibration and parameters: the same before and after calibration."""
    state = network.state_dict()
    return weight_hash({name: tensor for name, tensor in state.items() if not name.startswith(NOT_LEARNED)})


def halved(network: nn.Module) -> dict[str, torch.Tensor]:
    """State of a detector with learned weights in float16; the rest, such as the calibration, stays exact.

    Loading converts the rounded weights to float32: calibrate the rounded weights, not the original ones.
    """
    learned = {name for name, weight in network.named_parameters() if weight.dtype == torch.float32}
    return {name: tensor.half() if name in learned else tensor for name, tensor in network.state_dict().items()}
