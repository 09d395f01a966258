"""The options of the command line: what ``nomaly COMMAND --help`` tells."""

from __future__ import annotations

import argparse
from typing import Any

from custom import __version__
from custom.commands.overrides import truth

OVERRIDES = "Any parameter of the config can be set too, for example {}; parameters come last."
EXAMPLES = {
    "train": "--max_epochs 100 or --amp true",
    "calibrate": "--alpha 0.02, --confidence 0.95 or --group_field scanner",
    "evaluate": "--alpha 0.02, --synthetic_lesions true or --overwrite true",
    "detect": "--alpha 0.02, --write_images false or --num_workers 4",
    "export": "--alpha 0.02",
    "benchmark": "--alpha 0.02",
    "demo": "--max_epochs 10",
}

KEEP_IDENTIFIERS = "call studies by the names of their files, which may tell who a patient is (default: by a hash)"


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = argparse.ArgumentParser(
        prog="nomaly",
        description="Unsupervised anomaly detection for medical images: learns from healthy scans only.",
        epilog="A bundle is a name under bundles/ (ra_brain) or a path. Research software, not a medical device.",
    )
    parser.add_argument("--version", action="version", version=f"nomaly {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    train = add_command(commands, "train", "learn healthy anatomy; goes on where an earlier run stopped")
    train.add_argument("--dataset_dir", help="folder with datalist.json; without it the synthetic phantom is used")
    train.add_argument(
        "--output", help="folder for weights (in models/) and logs (default: output/train/ of the bundle)"
    )
    train.add_argument(
        "--tracking",
        metavar="mlflow",
        help="send losses, validation and config to MLflow, too: MLFLOW_TRACKING_URI, or mlruns.db beside the logs; a "
        "JSON file gives MONAI's own settings; needs .[mlflow]",
    )

    calibrate = add_command(commands, "calibrate", "learn what healthy scores are, for p-values and decisions")
    calibrate.add_argument(
        "--healthy",
        dest="studies",
        help="folder of healthy studies, or one file (default: calibration section of the data set, else its "
        "validation section)",
    )
    calibrate.add_argument("--dataset_dir", help="folder with datalist.json; without it the synthetic phantom is used")
    calibrate.add_argument("--weights", help="model.pt to calibrate (default: models/model.pt of the bundle)")
    calibrate.add_argument(
        "--output",
        dest="calibration_file",
        help="write the calibration to this JSON file and leave the weights as they are (default: into the weights)",
    )

    add_switch(calibrate, "keep_identifiers", KEEP_IDENTIFIERS)

    evaluate = add_command(commands, "evaluate", "measure on labelled test studies, beside the baselines")
    evaluate.add_argument("--dataset_dir", help="folder with datalist.json; without it the synthetic phantom is used")
    evaluate.add_argument("--output", help="results folder (default: output/evaluate/ of the bundle)")
    evaluate.add_argument("--weights", help="model.pt (default: models/model.pt of the bundle)")
    add_calibration(evaluate)

    detect = add_command(commands, "detect", "score studies and write maps in their own geometry")
    detect.add_argument(
        "studies",
        nargs="+",
        metavar="STUDY",
        help="image files, folders of them to any depth (DICOM series are told apart), or lists: .txt, datalist.json",
    )
    detect.add_argument("--output", required=True, help="results folder")
    detect.add_argument("--weights", help="model.pt (default: models/model.pt of the bundle)")
    add_calibration(detect)
    add_switch(detect, "resume", "go on with a run that was stopped: what is done is kept")
    add_switch(detect, "overwrite", "replace earlier results")
    add_switch(detect, "keep_identifiers", KEEP_IDENTIFIERS)
    detect.add_argument(
        "--no-input-check",
        dest="input_check",
        action="store_false",
        default=None,
        help="assess also what looks like no such study",
    )

    add_export(commands)
    add_monitor(commands)
    add_benchmark(commands)

    text = "see all of a bundle work on synthetic images in about five minutes"
    demo = add_parser(commands, "demo", text)
    demo.add_argument("--bundle", default="ra_brain", help="name under bundles/ or a path (default: %(default)s)")
    demo.add_argument("--output", help="results folder (default: results/demo/BUNDLE)")
    return parser


def add_parser(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    """A command whose options may be followed by parameters."""
    description, epilog = text[0].upper() + text[1:] + ".", OVERRIDES.format(EXAMPLES[name])
    return commands.add_parser(name, help=text, description=description, epilog=epilog)


def add_command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    """A command on a bundle."""
    command = add_parser(commands, name, text)
    command.add_argument("bundle", metavar="BUNDLE", help="name under bundles/, such as ra_brain, or a path")
    command.add_argument("--overlay", action="append", default=[], help="config to merge over, such as demo or paper")
    return command


def add_calibration(command: argparse.ArgumentParser) -> None:
    """The options of commands that judge studies."""
    command.add_argument(
        "--calibration",
        dest="calibration_file",
        metavar="FILE",
        help="calibration for these weights, as written by nomaly calibrate --output (default: the one in the weights)",
    )
    command.add_argument(
        "--study_group", help="calibration group, such as the scanner, of all studies that do not tell theirs"
    )


def add_switch(command: argparse.ArgumentParser, name: str, text: str) -> None:
    """An option that is false unless given; it may be followed by true or false as any parameter."""
    names = dict.fromkeys((f"--{name.replace('_', '-')}", f"--{name}"))
    command.add_argument(*names, dest=name, type=truth, nargs="?", const=True, help=text)


def add_export(commands: Any) -> None:
    """The command that writes the detector for other runtimes."""
    text = "write the detector with score and calibration as one graph: ONNX, TorchScript, torch.export"
    export = add_command(commands, "export", text)
    export.add_argument("--output", required=True, help="folder for the files, export.json and parity.json")
    export.add_argument(
        "--format", default="all", help="onnx, torchscript, torch_export or all (default); onnx needs .[onnx]"
    )
    export.add_argument("--weights", help="model.pt (default: models/model.pt of the bundle)")
    add_calibration(export)
    export.add_argument("--dataset_dir", help="folder with datalist.json, whose test section checks the files")
    export.add_argument(
        "--studies",
        nargs="+",
        help="studies to check the files on (default: the test section of the data set, else of the synthetic phantom)",
    )
    add_switch(export, "overwrite", "replace an earlier export, all of its formats")


def add_monitor(commands: Any) -> None:
    """The command that watches a detector in use."""
    text = "tell whether healthy studies still look as they did at calibration"
    monitor = commands.add_parser(
        "monitor",
        help=text,
        description=f"{text.capitalize()}: p-values of healthy studies must stay uniform. Give runs of healthy "
        "studies, or of studies later found healthy: truly abnormal ones make p-values small without any drift, so "
        "that with them the mix is what is watched.",
        epilog="Exit code 0 = in control, 3 = alarm, 2 = a mistake in what was given.",
    )
    monitor.add_argument(
        "results", nargs="+", metavar="RESULTS", help="folders of runs, or results.csv files, in order of time"
    )
    monitor.add_argument("--output", required=True, help="folder for monitor.json and monitor.html")
    monitor.add_argument(
        "--alarm_rate",
        type=float,
        default=0.01,
        help="chance of an alarm without drift, at most, of one look at a series of this length (default: %(default)s)",
    )
    monitor.add_argument(
        "--healthy_only",
        type=truth,
        default=True,
        help="leave out studies that metrics.json knows to be abnormal (default: true)",
    )
    monitor.add_argument(
        "--healthy_studies", type=int, help="number of calibration studies (default: as run.json says)"
    )
    monitor.add_argument(
        "--planned_studies",
        type=int,
        help="length that the series shall grow to: the chance then holds for all looks on its way together",
    )
    monitor.add_argument("--group", help="calibration group to watch, where there are several")
    add_switch(monitor, "overwrite", "replace earlier results")


def add_benchmark(commands: Any) -> None:
    """The command that compares models."""
    text = "evaluate several models on one data set, in one table: quality with intervals, speed, memory"
    benchmark = commands.add_parser(
        "benchmark",
        help=text,
        description=f"{text.capitalize()}. Each runs in a process of its own; those done are kept when it is run "
        "again, and one that fails gets a row with its reason. OMP_NUM_THREADS sets the threads of each.",
        epilog=OVERRIDES.format(EXAMPLES["benchmark"])
        + " They are set for all models, those of one model in --entries; without any ENTRY write them as --amp=true.",
    )
    benchmark.add_argument("models", nargs="*", metavar="ENTRY", help="BUNDLE, or BUNDLE=WEIGHTS for its model.pt")
    benchmark.add_argument("--dataset_dir", required=True, help="folder with datalist.json")
    benchmark.add_argument("--output", required=True, help="folder for the tables, and for a results folder a model")
    benchmark.add_argument(
        "--entries",
        metavar="FILE",
        help='more models: a JSON list of {"name", "bundle", "weights", "overlay": [...], "parameters": {...}}',
    )
    add_switch(benchmark, "overwrite", "evaluate all anew")
