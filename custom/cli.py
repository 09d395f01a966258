"""The command line of Nomaly: each command is one run of a bundle's config, and prints the equivalent monai.bundle
command.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom.commands.bundle import UnknownParameter, exit_code, run_bundle
from custom.commands.options import choices
from custom.commands.overrides import given, parse_overrides
from custom.commands.parser import build_parser, check_command
from custom.commands.tracking import check_tracking
from custom.errors import NomalyError, escape_unprintable, find_mistake, report_mistake

logger = logging.getLogger(__name__)

CALIBRATION = "calibration.json"
RESUMES = {
    "detect": " with --resume: finished studies are kept.",
    "train": ": it resumes after the last completed epoch; without one, it starts from the beginning.",
    "demo": ": its training resumes after the last completed epoch; without one, it starts from the beginning.",
    "benchmark": ": finished models are kept.",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 = done, 1 = some studies failed, 2 = a mistake of the user, reported in one sentence."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    command = ""
    escape_unprintable()
    try:
        check_command(words)
        parser = build_parser()
        options, unknown = parser.parse_known_args(words)
        if not options.command:
            parser.print_help()
            return 0
        command = options.command
        return RUN[command](options, parse_overrides(unknown)) or 0
    except KeyboardInterrupt:
        print(f"nomaly: stopped. Run the same command again{RESUMES.get(command, '.')}", file=sys.stderr)
        return 130
    except Exception as error:  # MONAI wraps a config component's error in its own
        end_progress_bars()
        mistake = find_mistake(error)
        report_mistake(
            "nomaly", mistake.beside(options.parser.names()) if isinstance(mistake, UnknownParameter) else error
        )
        return 2


def end_progress_bars() -> None:
    """Let the next message begin on a line of its own."""
    from tqdm.std import tqdm

    for bar in list(getattr(tqdm, "_instances", [])):
        bar.close()


def run_train(options: argparse.Namespace, overrides: dict[str, Any]) -> None:
    """Train."""
    if options.output:
        overrides |= {"ckpt_dir": f"{options.output}/models", "output_dir": f"{options.output}/train"}
    if options.tracking:
        check_tracking(options.tracking)
        # MONAI finds the config that it logs to MLflow only where the folder is an expression.
        overrides |= {"output_dir": f"${overrides['output_dir']!r}"} if "output_dir" in overrides else {}
    run_bundle(options.bundle, ["train", *options.overlay], overrides | given(options, "dataset_dir"), options.tracking)


def run_adapt(options: argparse.Namespace, overrides: dict[str, Any]) -> None:
    """Fit the statistics of healthy studies."""
    overrides = overrides | given(options, "dataset_dir", "weights", output="output_dir")
    run_bundle(options.bundle, ["adapt", *options.overlay], overrides)


def run_calibrate(options: argparse.Namespace, overrides: dict[str, Any]) -> None:
    """Calibrate, and print how to use the calibration."""
    from custom.commands.next_step import after_calibration

    names = ("studies", "dataset_dir", "weights", "into_weights", "keep_identifiers", "overwrite")
    every = overrides | given(options, *names)
    if options.output:
        every["calibration_file"] = new_calibration(options.output)
    workflow = run_bundle(options.bundle, ["calibrate", *options.overlay], every)
    file = workflow.parser.get_parsed_content("calibration_file")
    print(after_calibration(options.bundle, options.overlay, overrides, file, options.weights, options.into_weights))


def new_calibration(output: str) -> str:
    """The calibration file in a folder; an earlier release took the file itself.

    Raises:
        NomalyError: if the folder is a file.
    """
    if not output.endswith(".json"):
        if Path(output).is_file():
            raise NomalyError(f"--output must be a folder, but {output} is a file: give another path.")
        return str(Path(output) / CALIBRATION)
    logger.warning("--output of calibrate is now a folder: a path that ends in .json is accepted for one more release.")
    return output


def scoring_options(options: argparse.Namespace) -> dict[str, Any]:
    """Options of all commands that score studies, as config parameters; a calibration is a file, or its folder."""
    if options.calibration_file and Path(options.calibration_file).is_dir():
        options.calibration_file = str(Path(options.calibration_file) / CALIBRATION)
    return given(options, "weights", "calibration_file", "study_group")


def run_evaluate(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Evaluate."""
    overrides = overrides | scoring_options(options) | given(options, "dataset_dir", "overwrite", output="output_dir")
    workflow = run_bundle(options.bundle, ["evaluate", *options.overlay], overrides)
    return exit_code(workflow.parser.get_parsed_content("output_dir"))


def run_detect(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Detect."""
    # Each of several processes, as torchrun starts them, scores a part of the studies.
    shared = ["multi_gpu_inference"] if int(os.environ.get("WORLD_SIZE", 1)) > 1 else []
    parameters = ("studies", "resume", "overwrite", "keep_identifiers", "input_check")
    overrides = overrides | scoring_options(options) | given(options, *parameters, output="output_dir")
    run_bundle(options.bundle, ["inference", *options.overlay, *shared], overrides)
    # Only the first of several processes reports failures: torchrun would call it a crash of any other.
    return exit_code(options.output) if os.environ.get("RANK", "0") == "0" else 0


def run_export(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Export."""
    from custom.commands.export import run

    overrides = overrides | scoring_options(options) | given(options, "dataset_dir", "studies")
    return run(options.bundle, options.overlay, overrides, options.output, options.format, bool(options.overwrite))


def run_demo(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Train, calibrate, evaluate and detect on the phantom."""
    from custom.commands.demo import run

    return run(options.bundle, options.output or f"results/demo/{Path(options.bundle).name}", overrides)


def run_monitor(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Watch for drift."""
    for name in overrides:
        advice = choices(f"--{name}", options.parser.names(), "options")
        raise NomalyError(f"monitor has no option --{name}: {advice}.")
    from custom.commands.monitor import run

    return run(
        options.results,
        options.output,
        options.alarm_rate,
        options.healthy_only,
        options.healthy_studies,
        options.group,
        options.planned_studies,
        bool(options.overwrite),
    )


def run_benchmark(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Compare models."""
    from custom.commands.benchmark import run

    return run(options.models, options.dataset_dir, options.output, options.entries, overrides, bool(options.overwrite))


RUN = {
    "train": run_train,
    "adapt": run_adapt,
    "calibrate": run_calibrate,
    "evaluate": run_evaluate,
    "detect": run_detect,
    "export": run_export,
    "demo": run_demo,
    "monitor": run_monitor,
    "benchmark": run_benchmark,
}


if __name__ == "__main__":
    sys.exit(main())
