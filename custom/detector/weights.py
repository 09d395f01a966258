"""Reading and writing of weights: tensors and plain values only, whole files only."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from custom.detector.calibration_file import load_calibration
from custom.detector.ownership import check_owner
from custom.errors import NomalyError
from custom.files import atomic_write


def save_tensors(state: dict[str, Any], path: str | Path) -> None:
    """Write a dictionary of tensors and plain values; what was there stays until the new file is whole.

    Raises:
        NomalyError: if it cannot be written (disk full, no permission).
    """
    # Packed in memory first: a disk that fills up is then a plain failed write, not an error from inside torch's
    # archive writer.
    packed = io.BytesIO()
    torch.save(state, packed)
    with atomic_write(path, "wb") as file:
        file.write(packed.getbuffer())


def read_tensors(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what :func:`save_tensors` wrote; never runs code that the file may hold.

    Raises:
        NomalyError: if the file is missing, broken or holds other than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise NomalyError(f"weights file {path} must exist: train the bundle first (nomaly train), or give its path.")
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # torch raises many types for truncated or foreign files
        raise NomalyError(
            f"{path} must be a weights file of tensors only, but cannot be read ({type(error).__name__}): it "
            "may be truncated or of another program; train again or copy it anew."
        ) from error


def load_detector(
    network: nn.Module,
    path: str | Path,
    device: torch.device | str = "cpu",
    calibration_file: str | Path | None = None,
    bundle: str | Path | None = None,
) -> nn.Module:
    """Load ``model.pt`` into the detector, move it to the device and set it to evaluation.

    Args:
        network: the detector.
        path: of its weights.
        device: to compute on.
        calibration_file: a calibration for these weights, such as one of another site; None = the calibration that
            ``model.pt`` holds.
        bundle: folder of the bundle that the detector is of; weights that lie in another one are refused.

    Raises:
        NomalyError: as :func:`read_tensors`, and if the device is none, the weights are of another bundle or
            architecture, or the calibration is of other weights.
    """
    check_device(device)
    if bundle is not None:
        check_owner(Path(bundle), path)
    state = read_tensors(path, device)
    try:
        network.load_state_dict(state)
    except (RuntimeError, AttributeError, TypeError) as error:
        raise NomalyError(
            f"{path} must hold weights of this network, but is of another architecture: use the bundle and "
            f"overlays that it was trained with ({difference(network.state_dict(), state) or 'of another kind'})."
        ) from error
    if calibration_file is not None:
        load_calibration(calibration_file, network.calibration, model_hash(network))
    return network.to(device).eval()


def difference(own: Mapping[str, torch.Tensor], other: Any) -> str:
    """In what a file's content differs from a network's state; empty if its names and shapes are the same."""
    if not isinstance(other, Mapping):
        return f"it holds a {type(other).__name__}, not tensors by name"
    if "optimizers" in other:
        return "it is the state of a training; its network is model.pt beside it"
    shared = [name for name in own if name in other]
    shapes = [name for name in shared if getattr(other[name], "shape", None) != own[name].shape]
    counts = {
        "missing": [name for name in own if name not in other],
        "not known": [name for name in other if name not in own],
        "of another shape": shapes,
    }
    parts = [f"{len(names)} {what}, such as {names[0]}" for what, names in counts.items() if names]
    return f"of its tensors {'; '.join(parts)}" if parts else ""


def check_device(device: torch.device | str) -> None:
    """Refuse a device that this machine lacks, before it looks as if the weights were broken.

    Raises:
        NomalyError: if nothing can be computed there.
    """
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise NomalyError(
            f"device must be one that this machine has, got {device}: {reason} Give --device cpu."
        ) from None


def weight_hash(state_dict: Mapping[str, torch.Tensor]) -> str:
    """Fingerprint of a network's weights: first 16 hex digits of SHA-256 over names, dtypes, shapes and bytes.

    It depends neither on the order of the entries nor on the device.

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
        # The header carries the shape, so the end of one tensor can never be read as the start of the next.
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        if tensor.numel():  # an empty tensor may have strides that no view has
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def model_hash(network: nn.Module) -> str:
    """Fingerprint of a detector without its calibration: the same before and after it was calibrated."""
    state = network.state_dict()
    return weight_hash({name: tensor for name, tensor in state.items() if not name.startswith("calibration.")})


def halved(network: nn.Module) -> dict[str, torch.Tensor]:
    """State of a detector whose learned weights take two bytes each; the rest, such as its calibration, stays exact.

    Loaded again the weights are float32 of these values: calibrate them, not those that they were rounded from.
    """
    learned = {name for name, weight in network.named_parameters() if weight.dtype == torch.float32}
    return {name: tensor.half() if name in learned else tensor for name, tensor in network.state_dict().items()}
