"""nomaly export: the whole detector as one graph, checked against the detector itself."""

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
from typing import Any

from custom import __version__
from custom.commands.bundle import check_overrides, find_bundle, path_of
from custom.errors import NomalyError

logger = logging.getLogger(__name__)

RECORD, PARITY = "export.json", "parity.json"


def run(
    bundle: str, overlays: Sequence[str], overrides: dict[str, Any], output: str, name: str, overwrite: bool
) -> int:
    """Write the detector in the formats asked for, with export.json and parity.json.

    Args:
        bundle: name or path.
        overlays: configs merged over inference.
        overrides: parameters of inference.
        output: folder.
        name: a format, or all.
        overwrite: replace an earlier export.

    Returns:
        0 = all say what the detector says, 1 = one does not.

    Raises:
        NomalyError: what cannot be exported, or an export that is there.
    """
    from custom.export.detector import exported_detector
    from custom.export.formats import formats_of, load_runner, write_formats
    from custom.export.parity import check_parity, one_thread, table, tolerances_of

    folder = Path(output)
    formats = formats_of(name)
    earlier = earlier_export(folder, overwrite)
    evaluator, parser = load_evaluator(bundle, overlays, overrides)
    module = exported_detector(evaluator)
    for path in earlier:
        path.unlink()
    if module.calibrated_decision.refusal is not None:
        logger.warning("The graphs give no p-value (-1): %s.", module.calibrated_decision.refusal)
    print(f"Writing {', '.join(formats)} to {folder} (about a minute) ...", flush=True)
    paths = write_formats(module, example_of(evaluator), folder, formats)
    transforms = parser.get_parsed_content("preprocessing")
    write_json(folder / RECORD, description(bundle, module, evaluator, transforms, paths))
    try:
        with one_thread():
            runners = {key: load_runner(key, path) for key, path in paths.items()}
            report = check_parity(evaluator, module, runners, tolerances_of(evaluator.network.map_head))
    except NomalyError:
        for path in (*paths.values(), folder / RECORD):  # files that nothing has checked
            path.unlink()
        raise
    write_json(folder / PARITY, report)
    print(f"Largest differences from the detector on {report['studies']} studies:\n{table(report)}")
    if not report["passed"]:
        print(f"NOT EQUAL: see {(folder / PARITY).resolve()}. Do not use these files.")
    return int(not report["passed"])


def earlier_export(folder: Path, overwrite: bool) -> list[Path]:
    """Files of an earlier export, which may be removed."""
    from custom.export.formats import FILES

    if folder.exists() and not folder.is_dir():
        raise NomalyError(f"--output must be a folder, but {folder} is a file: give another.")
    earlier = [path for path in (folder / file for file in (*FILES.values(), RECORD, PARITY)) if path.exists()]
    if earlier and not (folder / RECORD).exists():
        raise NomalyError(
            f"--output must be a folder without other files, but {earlier[0]} is of no export, or of one that was "
            f"stopped ({RECORD} is missing): remove it, or give another."
        )
    if earlier and not overwrite:
        raise NomalyError(
            f"--output must be a folder without an earlier export, but {earlier[0]} is there: give another, or "
            "--overwrite."
        )
    return earlier


def load_evaluator(bundle: str, overlays: Sequence[str], overrides: dict[str, Any]) -> tuple[Any, Any]:
    """The evaluator of the bundle's inference on the CPU, which writes nothing, and the config's parser."""
    from monai.bundle import ConfigWorkflow
    from monai.bundle.config_parser import ConfigParser

    root = find_bundle(bundle)
    files = [str(path_of(root, config)) for config in ("inference", *overlays)]
    check_overrides(ConfigParser.load_config_files(files), overrides)
    fixed = {
        "bundle_root": str(root),
        "device": "$torch.device('cpu')",
        "amp": False,
        "input_checker": None,
        "handlers": [],
    }
    workflow = ConfigWorkflow(config_file=files, **{**overrides, **fixed})
    workflow.initialize()
    workflow.parser.get_parsed_content("network")  # wrong weights are told before a phantom is made
    return workflow.parser.get_parsed_content("evaluator"), workflow.parser


def example_of(evaluator: Any) -> Any:
    """Slices (3, C, X, Y) to record with."""
    import torch

    reconstructor = evaluator.network.reconstructor
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, reconstructor.in_channels, *reconstructor.image_size, generator=generator)


def description(bundle: str, module: Any, evaluator: Any, transforms: Any, paths: Mapping[str, Path]) -> dict[str, Any]:
    """What export.json tells: all that one needs to use the files without this software."""
    from custom.detector.weights import model_hash, weight_hash
    from custom.export.detector import DECISIONS, NONE
    from custom.export.formats import OPSET
    from custom.export.preprocessing import preprocessing_steps

    network, calibration = evaluator.network, evaluator.network.calibration
    reconstructor, plane = network.reconstructor, list(network.reconstructor.image_size)
    channels, calibrated = reconstructor.in_channels, module.calibrated_decision.refusal is None
    return {
        "what": "The whole detector as one graph: preprocessed slices of one study in, all that is said of it out.",
        "bundle": find_bundle(bundle).resolve().name,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "model_hash": model_hash(network),
        "calibration_hash": weight_hash(calibration.state_dict()) if calibration.is_calibrated else None,
        "calibration_group": evaluator.study_group if calibration.group_names else None,
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
        "p_value": {
            "given": calibrated,
            "why_not": module.calibrated_decision.refusal,
            "studies": ("pictures" if module.calibrated_decision.pictures else "volumes") if calibrated else None,
            "healthy_studies": calibration.healthy_count(evaluator.study_group) if calibrated else 0,
            "decision_rule": vars(evaluator.decision_rule) if calibrated else None,
        },
        "regions": {
            "what": "not in the graph: connected pixels of the map above the threshold, of at least so many pixels",
            "pixel_threshold": float(calibration.pixel_threshold) if calibration.is_calibrated else None,
            "minimum_region": int(calibration.minimum_region),
        },
        "preprocessing": {
            "what": "not in the graph, nor is the input check: what the bundle does to a study before, in this order",
            "steps": preprocessing_steps(transforms),
        },
        "files": {key: {"file": path.name, "sha256": digest(path)} for key, path in paths.items()},
        "onnx_opset": OPSET if "onnx" in paths else None,
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """Of this software and those that wrote the files."""
    packages = ("torch", "monai", "numpy", "onnx", "onnxscript", "onnxruntime")
    installed = {name: importlib.metadata.version(name) for name in packages if is_installed(name)}
    return {"nomaly": __version__, "python": platform.python_version(), **installed}


def is_installed(package: str) -> bool:
    """Whether a package is there."""
    return importlib.util.find_spec(package) is not None


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a record whole."""
    from custom.files import atomic_write

    with atomic_write(path) as file:
        json.dump(content, file, indent=2, allow_nan=False)
        file.write("\n")
