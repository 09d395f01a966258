"""nomaly export: the whole detector as one graph, compared with the detector itself."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import platform
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from custom import __version__
from custom.commands.bundle import checked, find_bundle
from custom.commands.from_weights import parameters_from_weights
from custom.errors import NomalyError

if TYPE_CHECKING:
    from monai.bundle.config_parser import ConfigParser
    from monai.transforms import Compose
    from torch import Tensor

    from custom.detector.anomaly_detector import AnomalyDetector
    from custom.engines.detection_evaluator import DetectionEvaluator
    from custom.export.detector import ExportedDetector

logger = logging.getLogger(__name__)

RECORD, PARITY = "export.json", "parity.json"


class SliceNetwork(Protocol):
    """The size of the slices that a network takes."""

    in_channels: int
    image_size: Sequence[int]


def run(
    bundle: str, overlays: Sequence[str], overrides: dict[str, Any], output: str, name: str, overwrite: bool
) -> int:
    """Write the detector in the requested formats, with export.json and parity.json.

    Args:
        bundle: name or path.
        overlays: configs merged over inference.json.
        overrides: parameters of inference.json.
        output: folder.
        name: a format, or "all".
        overwrite: replace an earlier export.

    Returns:
        0 = all formats agree with the detector, 1 = at least one does not.

    Raises:
        NomalyError: the detector cannot be exported, or an earlier export exists.
    """
    checked(bundle, ["inference", *overlays], overrides)

    from custom.export.detector import exported_detector
    from custom.export.formats import OPSET, formats_of, load_runner, write_formats
    from custom.export.parity import check_parity, one_thread, table, tolerances_of

    folder = Path(output)
    formats = formats_of(name)
    earlier = earlier_export(folder, overwrite)
    evaluator, parser = load_evaluator(bundle, overlays, overrides)
    network: AnomalyDetector = parser.get_parsed_content("network")
    module = exported_detector(evaluator)
    for path in earlier:
        path.unlink()
    if all(decision.refusal is not None for decision in module.decisions):
        logger.warning("The graphs give no p-value (-1): %s.", module.decisions[0].refusal)
    print(f"Writing {', '.join(formats)} to {folder} (about a minute) ...", flush=True)
    paths = write_formats(module, example_of(network), folder, formats)
    record = description(bundle, module, network, evaluator, parser.get_parsed_content("preprocessing"))
    record |= {
        "files": {key: {"file": path.name, "sha256": digest(path)} for key, path in paths.items()},
        "onnx_opset": OPSET if "onnx" in paths else None,
        "versions": versions(),
    }
    write_json(folder / RECORD, record)
    try:
        with one_thread():
            runners = {key: load_runner(key, path) for key, path in paths.items()}
            tolerances = tolerances_of(network.map_head, evaluator.score.mode == "fused")
            report = check_parity(evaluator, module, runners, tolerances)
    except NomalyError:
        for path in (*paths.values(), folder / RECORD):  # files that were not checked
            path.unlink()
        raise
    write_json(folder / PARITY, report)
    print(f"Largest differences from the detector on {report['studies']} studies:\n{table(report)}")
    if not report["passed"]:
        print(f"NOT EQUAL: see {(folder / PARITY).resolve()}. Do not use these files.")
    return int(not report["passed"])


def earlier_export(folder: Path, overwrite: bool) -> list[Path]:
    """Files of an earlier export, which may be removed.

    Raises:
        NomalyError: if the folder contains other files, or an export that must not be overwritten.
    """
    from custom.export.formats import FILES

    if folder.exists() and not folder.is_dir():
        raise NomalyError(f"--output must be a folder, but {folder} is a file: give another path.")
    earlier = [path for path in (folder / file for file in (*FILES.values(), RECORD, PARITY)) if path.exists()]
    if earlier and not (folder / RECORD).exists():
        raise NomalyError(
            f"--output must be a folder without other files, but {earlier[0]} does not belong to a finished export "
            f"({RECORD} is missing): remove it, or give another folder."
        )
    if earlier and not overwrite:
        raise NomalyError(
            f"--output must be a folder without an earlier export, but {earlier[0]} exists: give another folder, or "
            "--overwrite."
        )
    return earlier


def load_evaluator(
    bundle: str, overlays: Sequence[str], overrides: dict[str, Any]
) -> tuple[DetectionEvaluator, ConfigParser]:
    """The evaluator of the bundle's inference on the CPU, without handlers that write, and the config's parser."""
    from monai.bundle import ConfigWorkflow

    root, files, overrides = checked(bundle, ["inference", *overlays], overrides)
    fixed = {
        "bundle_root": str(root),
        "device": "$torch.device('cpu')",
        "amp": False,
        "input_checker": None,
        "handlers": [],
    }
    taken = parameters_from_weights(root, files, overrides)
    workflow = ConfigWorkflow(config_file=files, **{**taken, **overrides, **fixed})
    workflow.initialize()
    workflow.parser.get_parsed_content("network")  # wrong weights are reported before a phantom is made
    return workflow.parser.get_parsed_content("evaluator"), workflow.parser


def slice_shape(network: AnomalyDetector) -> tuple[int, ...]:
    """Shape (C, X, Y) of the slices that a detector takes."""
    reconstructor = cast(SliceNetwork, network.reconstructor)
    return reconstructor.in_channels, *reconstructor.image_size


def example_of(network: AnomalyDetector) -> Tensor:
    """Slices (3, C, X, Y) for the tracing of the graph."""
    import torch

    return torch.rand(3, *slice_shape(network), generator=torch.Generator().manual_seed(0))


def description(
    bundle: str,
    module: ExportedDetector,
    network: AnomalyDetector,
    evaluator: DetectionEvaluator,
    transforms: Compose,
) -> dict[str, Any]:
    """What is needed to use exported files without this software, for export.json."""
    from custom.detector.weights import model_hash, weight_hash
    from custom.export.detector import DECISIONS, NONE
    from custom.export.preprocessing import preprocessing_steps
    from custom.studies.kinds import KINDS, PLURALS

    calibrations, group = network.calibration, evaluator.study_group
    channels, *plane = slice_shape(network)
    return {
        "what": "The whole detector as one graph: input = preprocessed slices of one study, output = its results.",
        "bundle": find_bundle(bundle).resolve().name,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "model_hash": model_hash(network),
        "calibration_hash": weight_hash(calibrations.state_dict()) if calibrations.is_calibrated else None,
        "calibration_group": group if any(state.group_names for state in calibrations.calibrated.values()) else None,
        "input": {
            "name": "image",
            "dtype": "float32",
            "shape": ["slices", channels, *plane],
            "axes": "slices of one study, channels, X = column, Y = row",
            "range": [0, 1],
        },
        "outputs": {
            "map": {"shape": ["slices", 1, *plane], "dtype": "float32", "larger": "more abnormal"},
            "reconstruction": {"shape": ["slices", channels, *plane], "dtype": "float32", "range": [0, 1]},
            "score": {"shape": [], "dtype": "float32", "larger": "more abnormal", "none": "NaN"},
            "p_value": {"shape": [], "dtype": "float64", "none": NONE},
            "decision": {"shape": [], "dtype": "int64", "codes": DECISIONS, "none": NONE},
        },
        "decision_rule": vars(evaluator.decision_rule) if calibrations.is_calibrated else None,
        "calibrations": {
            kind: {
                "studies": PLURALS[kind],
                "given": decision.refusal is None,
                "why_not": decision.refusal,
                "healthy_studies": state.healthy_count(group) if decision.refusal is None else 0,
                "pixel_threshold": float(state.pixel_threshold) if state.is_calibrated else None,
                "minimum_region": int(state.minimum_region),
            }
            for kind, decision in zip(KINDS, module.decisions)
            for state in [calibrations.of_kind(kind)]
        },
        "regions": {
            "what": "not in the graph: connected pixels of the map above the pixel_threshold of the kind of study, "
            "with at least minimum_region pixels",
        },
        "preprocessing": {
            "what": "not in the graph, nor is the input check: preprocessing of a study by the bundle, in this order",
            "steps": preprocessing_steps(transforms),
        },
    }


def versions() -> dict[str, str]:
    """Versions of this software and of the packages that wrote the files."""
    packages = ("torch", "monai", "numpy", "onnx", "onnxscript", "onnxruntime")
    installed = {name: importlib.metadata.version(name) for name in packages if is_installed(name)}
    return {"nomaly": __version__, "python": platform.python_version(), **installed}


def is_installed(package: str) -> bool:
    """Whether a package is installed."""
    return importlib.util.find_spec(package) is not None


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a record atomically."""
    from custom.files import atomic_write

    with atomic_write(path) as file:
        json.dump(content, file, indent=2, allow_nan=False)
        file.write("\n")
