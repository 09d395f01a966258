"""The command line of Nomaly: each command is one run of a bundle's config, and prints the equivalent monai.bundle
command.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom.commands import bundles, next_step, parameters, steps
from custom.commands.bundle import UnknownParameter, failures, find_bundle, run_bundle
from custom.commands.checks import check_tables
from custom.commands.demo_parameters import split_overrides
from custom.commands.folder_options import training_data
from custom.commands.options import choices
from custom.commands.overrides import given, parse_overrides
from custom.commands.parser import build_parser, check_command
from custom.errors import NomalyError, escape_unprintable, find_mistake, report_mistake

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
        command, options.words = options.command, words
        if hasattr(options, "bundle"):
            find_bundle(options.bundle)
        return RUN[command](options, parse_overrides(unknown)) or 0
    except KeyboardInterrupt:
        print(f"nomaly: stopped. Run the same command again{RESUMES.get(command, '.')}", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of the output, such as head, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
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


def run_bundles(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """List the bundles."""
    refuse_parameters("bundles", options, overrides)
    return bundles.run(bool(options.json))


def run_parameters(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """List the parameters of a bundle."""
    refuse_parameters("parameters", options, overrides)
    return parameters.run(options.bundle, options.of_command, bool(options.json))


def run_datalist(options: argparse.Namespace, overrides: dict[str, Any]) -> None:
    """Make a data set."""
    refuse_parameters("datalist", options, overrides)
    from custom.commands.datalist import folders_of, make_datalist

    rest = (options.subject, options.only, options.shares, options.seed, bool(options.overwrite))
    print(make_datalist(folders_of(options), Path(options.output), *rest))
    print(next_step.after_datalist(options.output))


def run_prepare(options: argparse.Namespace, overrides: dict[str, Any]) -> None:
    """Make a data set of a public one."""
    refuse_parameters("prepare", options, overrides)
    from custom.public_sets.prepare import prepare

    output = Path(options.output or f"data/{options.name}")
    print(prepare(options.name, Path(options.folder), output, bool(options.overwrite)))


def refuse_parameters(command: str, options: argparse.Namespace, overrides: dict[str, Any]) -> None:
    """Refuse parameters of configs for a command without a config.

    Raises:
        NomalyError: with the nearest option.
    """
    for name in overrides:
        advice = choices(f"--{name}", options.parser.names(), "options")
        raise NomalyError(f"{command} has no option --{name}: {advice}.")


def run_train(options: argparse.Namespace, overrides: dict[str, Any]) -> None:
    """Train."""
    options.dataset_dir = training_data(options) or options.dataset_dir
    overrides = overrides | given(options, "dataset_dir")
    workflow = steps.train(options.bundle, options.overlay, overrides, options.output, options.tracking)
    weights = workflow.parser.get_parsed_content("weights")
    if weights and is_main():
        words = (options.bundle, options.overlay, overrides, weights, overrides.get("dataset_dir"))
        print(next_step.after_training(*words, report=workflow.parser.get_parsed_content("report").path))


def run_adapt(options: argparse.Namespace, overrides: dict[str, Any]) -> None:
    """Fit the statistics of healthy studies."""
    overrides = overrides | given(options, "dataset_dir", "weights", output="output_dir")
    workflow = steps.adapt(options.bundle, options.overlay, overrides)
    weights = workflow.parser.get_parsed_content("fitted_weights")
    if weights:
        print(
            next_step.after_training(options.bundle, options.overlay, overrides, weights, overrides.get("dataset_dir"))
        )


def run_calibrate(options: argparse.Namespace, overrides: dict[str, Any]) -> None:
    """Calibrate, and print how to use the calibration."""
    names = ("studies", "dataset_dir", "weights", "into_weights", "pseudonymise", "overwrite")
    workflow = steps.calibrate(options.bundle, options.overlay, overrides | given(options, *names), options.output)
    file = workflow.parser.get_parsed_content("calibration_file")
    rest = (file, options.weights, options.into_weights, options.dataset_dir)
    print(next_step.after_calibration(options.bundle, options.overlay, overrides, *rest))


def scoring_options(options: argparse.Namespace) -> dict[str, Any]:
    """Options of all commands that score studies, as config parameters; a calibration is a file, or its folder."""
    if options.calibration_file:
        options.calibration_file = steps.calibration_file(options.calibration_file)
    return given(options, "weights", "calibration_file", "study_group")


def run_evaluate(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Evaluate."""
    overrides = overrides | scoring_options(options) | given(options, "dataset_dir", "overwrite", output="output_dir")
    return finished(options, steps.evaluate(options.bundle, options.overlay, overrides))


def run_detect(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Detect."""
    # Each of several processes, as torchrun starts them, scores a part of the studies.
    shared = ["multi_gpu_inference"] if int(os.environ.get("WORLD_SIZE", 1)) > 1 else []
    parameters = ("studies", "resume", "overwrite", "pseudonymise", "slicer", "input_check")
    overrides = overrides | scoring_options(options) | given(options, *parameters, output="output_dir")
    run_bundle(options.bundle, ["inference", *options.overlay, *shared], overrides)
    # Only the first of several processes reports failures: torchrun would call it a crash of any other.
    return finished(options, options.output) if is_main() else 0


def is_main() -> bool:
    """Whether this is the only process of a run, or the first of several."""
    return os.environ.get("RANK", "0") == "0"


def finished(options: argparse.Namespace, output: str) -> int:
    """Print what to do with results; 1 if a study failed, else 0."""
    from custom.studies.privacy import without_studies

    failed = failures(output)
    hidden = options.studies if getattr(options, "pseudonymise", None) else None
    words = without_studies(options.words, hidden)
    print(next_step.after_results(output, words, failed, resumable=hasattr(options, "resume")))
    return int(failed > 0)


def run_export(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Export."""
    from custom.commands.export import run

    overrides = overrides | scoring_options(options) | given(options, "dataset_dir", "studies")
    different = run(options.bundle, options.overlay, overrides, options.output, options.format, bool(options.overwrite))
    if not different:
        print(next_step.after_export(options.output))
    return different


def run_demo(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Train, calibrate, evaluate and detect on the phantom."""
    split_overrides(options.bundle, overrides)

    from custom.commands.demo import run

    return run(options.bundle, options.output or f"results/demo/{Path(options.bundle).name}", overrides)


def run_monitor(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Watch for drift."""
    refuse_parameters("monitor", options, overrides)
    check_tables(options.results)

    from custom.commands.monitor import run

    return run(
        options.results,
        options.output,
        options.alarm_rate,
        options.healthy_only,
        options.healthy_studies,
        options.group,
        options.kind,
        options.planned_studies,
        bool(options.overwrite),
    )


def run_benchmark(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Compare models."""
    from custom.commands.benchmark import run

    rest = (options.entries, overrides, bool(options.overwrite), options.seeds)
    return run(options.models, options.dataset_dir, options.output, *rest)


RUN = {
    "bundles": run_bundles,
    "parameters": run_parameters,
    "datalist": run_datalist,
    "prepare": run_prepare,
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
