"""What to do after a command, as a command to paste; words in capitals stand for the user's own files."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom.commands.bundle import find_bundle, path_of

# Parameters that the next command takes from the files of this one, or sets itself.
OWN = (
    *("alpha", "calibration_file", "overwrite", "pseudonymise", "studies", "output_dir", "ckpt_dir", "weights"),
    *("dataset_dir", "into_weights", "threads"),
)

# Overlays that another one follows after the training, and those that only a training has.
AFTER_TRAINING = {"train_3d": "inference_3d"}
ONLY_TRAINING = ("multi_gpu_train",)
# A first run of a graph, by its format: prints the score.
RUNS = {
    "onnx": "import numpy, onnxruntime; session = onnxruntime.InferenceSession({file!r}); "
    "print(session.run(['score'], {{'image': numpy.zeros({shape}, 'float32')}}))",
    "torchscript": "import torch; print(torch.jit.load({file!r})(torch.zeros({shape}))[2])",
    "torch_export": "import torch; print(torch.export.load({file!r}).module()(torch.zeros({shape}))[2])",
}


def step(purpose: str, *words: str) -> str:
    """One or several commands to paste, with their purpose."""
    return "\n".join([f"{purpose}:", *(f"  {word}" for word in words)])


def to_open(page: str | Path) -> str:
    """The command that opens a page in the browser."""
    return shlex.join(["python", "-m", "webbrowser", str(Path(page).resolve())])


def after_datalist(output: str) -> str:
    """Training on a data set that was made."""
    words = ["nomaly", "train", "BUNDLE", "--dataset_dir", output, "--output", "runs/own"]
    return step("Next, train (for BUNDLE see `nomaly bundles`)", shlex.join(words))


def after_training(
    bundle: str,
    overlays: Sequence[str],
    overrides: Mapping[str, Any],
    weights: str,
    dataset_dir: str | None,
    report: Path | None = None,
) -> str:
    """Calibration of weights that were trained or adapted, and opening the report of a training.

    Args:
        bundle: name or path.
        overlays: configs that were merged over the bundle's own.
        overrides: parameters that the user set; those that calibration has are repeated.
        weights: the file that was written.
        dataset_dir: the data set; None = the phantom.
        report: of the training; None = there is none.
    """
    overlays = [AFTER_TRAINING.get(overlay, overlay) for overlay in overlays if overlay not in ONLY_TRAINING]
    words = ["nomaly", "calibrate", bundle, *merged(overlays)]
    words += [] if dataset_dir is None else ["--dataset_dir", dataset_dir]
    words += ["--weights", weights, *repeated(bundle, "calibrate", overrides)]
    words += ["--output", str(Path(weights).parent / "calibration")]
    steps = [step(f"The weights are in {weights}. Next, calibrate", shlex.join(words))]
    if report is not None and report.is_file():
        steps.insert(0, step(f"The report of the training is {report}. To open it", to_open(report)))
    return "\n".join(steps)


def after_calibration(
    bundle: str,
    overlays: Sequence[str],
    overrides: Mapping[str, Any],
    calibration_file: str,
    weights: str | None = None,
    into_weights: str | None = None,
    dataset_dir: str | None = None,
) -> str:
    """Where the calibration is, and the commands that use it.

    Args:
        bundle: name or path.
        overlays: configs that were merged over the bundle's own.
        overrides: parameters that the user set; those that detection has are repeated.
        calibration_file: the file that was written.
        weights: file of the weights; None = those of the bundle.
        into_weights: the copy of the weights that contains the calibration; None = none was written.
        dataset_dir: data set of the calibration, which may have a test section; None = none was given.
    """
    if into_weights is None:
        where = f"in {calibration_file}; the weights were not changed"
        detector = [] if weights is None else ["--weights", weights]
        detector += ["--calibration", calibration_file]
    else:
        where = f"in {into_weights}, a copy of the weights, and in {calibration_file}"
        detector = ["--weights", into_weights]
    rest = [*merged(overlays), *detector, *repeated(bundle, "inference", overrides), "--output", "results"]
    commands = [shlex.join(["nomaly", "detect", bundle, "IMAGES", *rest])]
    if dataset_dir is not None:
        commands.insert(0, shlex.join(["nomaly", "evaluate", bundle, "--dataset_dir", dataset_dir, *rest[:-1]]))
        commands[0] += " evaluation"
    return step(f"The calibration is {where}. To use it", *commands)


def after_results(output: str, words: Sequence[str], failed: int, resumable: bool) -> str:
    """Opening the report, and another attempt at studies that failed.

    Args:
        output: folder of the results.
        words: the command line, after the name of the program.
        failed: number of studies that failed.
        resumable: whether the command has --resume.
    """
    steps = [step("To open the report", to_open(Path(output) / "report.html"))]
    if failed and resumable:
        again = [word for word in words if word not in ("--overwrite", "--resume")]
        these = "The study that failed" if failed == 1 else f"The {failed} studies that failed"
        reasons = Path(output) / "results.csv"
        steps.append(
            step(f"{these}: the reason is in {reasons}. To try again", shlex.join(["nomaly", *again, "--resume"]))
        )
    return "\n".join(steps)


def after_export(output: str) -> str:
    """A first run of each exported graph, on a black study, in the runtime that it is for.

    Args:
        output: folder of the export, with export.json.
    """
    folder = Path(output)
    record = json.loads((folder / "export.json").read_text(encoding="utf-8"))
    shape = [1, *record["input"]["shape"][1:]]
    programs = [
        RUNS[name].format(file=str(folder / entry["file"]), shape=shape) for name, entry in record["files"].items()
    ]
    # Programs have single quotes: double ones around them are easier to read, where the path allows it.
    commands = [
        shlex.join(["python", "-c", code]) if set(code) & set('"$`\\!') else f'python -c "{code}"' for code in programs
    ]
    return step(
        f"Inputs, outputs and preprocessing are in {folder / 'export.json'}. To run it, here on black", *commands
    )


def merged(overlays: Sequence[str]) -> list[str]:
    """The options of overlays."""
    return [word for overlay in overlays for word in ("--overlay", overlay)]


def repeated(bundle: str, config: str, overrides: Mapping[str, Any]) -> list[str]:
    """The parameters that the user set and that another config of the bundle also has, as options."""
    known = json.loads(path_of(find_bundle(bundle), config).read_text(encoding="utf-8"))
    names = [name for name in overrides if name.split("#")[0] in known and name not in OWN]
    return [word for name in names for word in (f"--{name}", str(overrides[name]))]
