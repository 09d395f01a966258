"""The commands and their options: what ``nomaly --help`` and ``nomaly COMMAND --help`` show."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from custom import __version__
from custom.commands.folder_options import add_training_folders, datalist, prepare
from custom.commands.help import COMMANDS, Command, bundle_table, command_table, examples, wrapped
from custom.commands.options import OptionParser, add_switch, choices, truth
from custom.commands.parameters import CONFIGS
from custom.commands.shared_options import (
    add_bundle,
    add_dataset,
    add_detector,
    add_output,
    add_overwrite,
    add_pseudonymise,
    add_weights,
)
from custom.errors import NomalyError
from custom.studies.kinds import KINDS

NOTICE = "Research software, not a medical device."


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options; the namespace holds the command's own parser as ``parser``."""
    parser = argparse.ArgumentParser(
        prog="nomaly",
        usage="nomaly COMMAND ...",
        description=wrapped(
            "Unsupervised anomaly detection for medical images. Nomaly learns from healthy scans only and reports for "
            "each new study how unusual it is, where, and with what confidence."
        ),
        epilog="\n\n".join(
            [
                command_table(),
                bundle_table(),
                examples("nomaly demo", "nomaly detect ra_chest IMAGES --output results/chest"),
                wrapped(f"Run `nomaly COMMAND --help` for the options of a command. {NOTICE}"),
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"nomaly {__version__}", help="show the version and exit"
    )
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", help=argparse.SUPPRESS, parser_class=OptionParser
    )
    for command in COMMANDS:
        own = commands.add_parser(
            command.name,
            prog=f"nomaly {command.name}",
            usage=command.usage_line,
            description=command.description,
            epilog=command.epilog,
        )
        add_command(own, command)
    return parser


def check_command(words: Sequence[str]) -> None:
    """Refuse an unknown command.

    Raises:
        NomalyError: with the nearest one and all others.
    """
    names = [command.name for command in COMMANDS]
    if words and not words[0].startswith("-") and words[0] not in names:
        raise NomalyError(f"no command is called {words[0]}: {choices(words[0], names, 'commands')}.")


def add_command(parser: OptionParser, command: Command) -> None:
    """Add the options of a command to its parser."""
    parser.set_defaults(parser=parser)
    OPTIONS[command.name](parser)
    if command.parameters:
        text = f"Any parameter of the bundle's config can be overridden, for example {command.parameters}."
        group = parser.add_argument_group("config", wrapped(text, margin=2))
        if command.overlay:
            group.add_argument(
                "--overlay",
                action="append",
                default=[],
                metavar="CONFIG",
                help="config to merge over the bundle's own, such as demo or paper; may be given several times",
            )


def train(parser: OptionParser) -> None:
    """Options of training."""
    add_bundle(parser)
    add_training_folders(parser)
    group = parser.add_argument_group("data and results")
    add_dataset(group)
    group.add_argument(
        "--output",
        metavar="FOLDER",
        help="weights go to FOLDER/models, logs and the report training.html to FOLDER/train (default: in the bundle)",
    )
    group.add_argument(
        "--tracking",
        metavar="mlflow",
        help="also log losses, validation and config to MLflow: to the server MLFLOW_TRACKING_URI, else to mlruns.db "
        "beside the logs. A JSON file gives MONAI's own settings. Needs .[mlflow]",
    )


def adapt(parser: OptionParser) -> None:
    """Options of the adaptation to a site."""
    add_bundle(parser)
    group = parser.add_argument_group("data, weights and results")
    add_dataset(group)
    add_weights(group)
    group.add_argument("--output", metavar="FOLDER", help="weights go to FOLDER/model.pt (default: in the bundle)")


def calibrate(parser: OptionParser) -> None:
    """Options of calibration."""
    add_bundle(parser)
    group = parser.add_argument_group("healthy studies")
    group.add_argument(
        "--healthy",
        dest="studies",
        metavar="STUDIES",
        help="folder of healthy studies, or one file (default: the calibration section of the data set, else its "
        "validation section)",
    )
    add_dataset(group)
    group = parser.add_argument_group("weights and results")
    add_weights(group)
    group.add_argument(
        "--output",
        metavar="FOLDER",
        help="write FOLDER/calibration.json; the weights are not changed (default: output/calibrate of the bundle, or "
        "the folder of --into_weights)",
    )
    group.add_argument(
        "--into_weights", metavar="FILE", help="also write a copy of the weights that contains the calibration"
    )
    add_overwrite(group, "replace an earlier calibration.json, and an earlier file of --into_weights")
    add_pseudonymise(group, default=True)


def evaluate(parser: OptionParser) -> None:
    """Options of evaluation."""
    add_bundle(parser)
    group = parser.add_argument_group("data and results")
    add_dataset(group)
    add_output(group, required=False, default="output/evaluate of the bundle")
    add_overwrite(group)
    add_detector(parser)


def detect(parser: OptionParser) -> None:
    """Options of detection."""
    add_bundle(parser)
    parser.add_argument(
        "studies",
        nargs="+",
        metavar="STUDY",
        help="image files, folders (searched at any depth; DICOM series are separated), or lists (.txt, datalist.json)",
    )
    group = parser.add_argument_group("results")
    add_output(group)
    add_switch(group, "resume", "continue a stopped run; finished studies are kept")
    add_overwrite(group)
    add_pseudonymise(group)
    add_switch(group, "slicer", "also write a scene for 3D Slicer for each study with geometry, such as a volume")
    group = add_detector(parser)
    add_switch(group, "input_check", "score every study, also those that the input check rejects", shown=False)


def export(parser: OptionParser) -> None:
    """Options of the export."""
    add_bundle(parser)
    group = parser.add_argument_group("results")
    add_output(group)
    group.add_argument(
        "--format", default="all", help="onnx, torchscript, torch_export or all (default); onnx needs .[export]"
    )
    add_overwrite(group, "replace an earlier export, in all of its formats")
    add_detector(parser)
    group = parser.add_argument_group("studies to compare the files with the detector on")
    group.add_argument("--studies", nargs="+", metavar="STUDY", help="files or folders, as for `nomaly detect`")
    group.add_argument(
        "--dataset_dir",
        metavar="FOLDER",
        help="folder with datalist.json, of which the test section is used (default: the synthetic phantom)",
    )


def monitor(parser: OptionParser) -> None:
    """Options of monitoring."""
    parser.add_argument(
        "results", nargs="+", metavar="RESULTS", help="results folders or results.csv files, in chronological order"
    )
    group = parser.add_argument_group("results")
    add_output(group, text="folder for monitor.json and monitor.html")
    add_overwrite(group)
    group = parser.add_argument_group("which studies")
    group.add_argument(
        "--healthy_only",
        type=truth,
        default=True,
        metavar="true|false",
        help="leave out studies that metrics.json lists as abnormal (default: true)",
    )
    group.add_argument("--group", metavar="NAME", help="calibration group to monitor, if there are several")
    group.add_argument(
        "--kind", choices=KINDS, help="kind of study to monitor, if there are both: 2-D images or volumes"
    )
    group.add_argument(
        "--healthy_studies",
        type=int,
        metavar="N",
        help="number of healthy calibration studies (default: as in the results)",
    )
    group = parser.add_argument_group("alarm")
    group.add_argument(
        "--alarm_rate",
        type=float,
        default=0.01,
        metavar="P",
        help="maximum false-alarm probability per check (default: %(default)s)",
    )
    group.add_argument(
        "--planned_studies",
        type=int,
        metavar="N",
        help="planned length of the series; the false-alarm probability then holds over all checks up to it",
    )


def benchmark(parser: OptionParser) -> None:
    """Options of the comparison."""
    parser.add_argument("models", nargs="*", metavar="ENTRY", help="BUNDLE, or BUNDLE=WEIGHTS with a model.pt")
    group = parser.add_argument_group("data and results")
    add_dataset(group, required=True)
    add_output(group, text="folder for the tables and one results folder per model")
    add_overwrite(group, "evaluate all models again")
    group = parser.add_argument_group("models")
    group.add_argument(
        "--entries",
        metavar="FILE",
        help='more models, with parameters of their own: a JSON list of {"name", "bundle", "weights", '
        '"overlay": [...], "parameters": {...}}',
    )
    group.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        default=[],
        metavar="SEED",
        help="evaluate each model once per seed, with mean and interval over the seeds; {seed} in the path of the "
        "weights stands for the seed, as in ra_chest=runs/{seed}/models/model.pt",
    )


def demo(parser: OptionParser) -> None:
    """Options of the demonstration."""
    parser.add_argument("--bundle", default="ra_brain", help="name or path (default: %(default)s)")
    add_output(parser, required=False, default="results/demo/BUNDLE")


def bundles(parser: OptionParser) -> None:
    """Options of the list of bundles."""
    add_switch(parser, "json", "print JSON")


def parameters(parser: OptionParser) -> None:
    """Options of the list of parameters."""
    add_bundle(parser)
    parser.add_argument(
        "--command",
        dest="of_command",
        metavar="COMMAND",
        choices=tuple(CONFIGS),
        help=f"only those of {', '.join(CONFIGS)}",
    )
    add_switch(parser, "json", "print JSON")


FUNCTIONS = (
    *(bundles, parameters, demo, datalist, prepare, train),
    *(adapt, calibrate, evaluate, benchmark, detect, export, monitor),
)
OPTIONS = {function.__name__: function for function in FUNCTIONS}
