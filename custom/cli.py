"""The command line of Nomaly: each command is one run of a bundle's config, and prints the monai.bundle command it
stands for.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom.commands.bundle import exit_code, run_bundle
from custom.commands.overrides import given, parse_overrides, refuse
from custom.commands.parser import build_parser
from custom.commands.tracking import check_tracking
from custom.errors import report_mistake

GOES_ON = {
    "detect": " with --resume: what is done is kept.",
    "train": ": it goes on where it was.",
    "demo": ": its training goes on where it was.",
    "benchmark": ": models that are done are kept.",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 = done, 1 = some studies failed, 2 = a mistake of the user, said in one sentence."""
    parser = build_parser()
    options, unknown = parser.parse_known_args(arguments)
    if not options.command:
        parser.print_help()
        return 0
    try:
        return RUN[options.command](options, parse_overrides(unknown)) or 0
    except KeyboardInterrupt:
        print(f"nomaly: stopped. Run the same command again{GOES_ON.get(options.command, '.')}", file=sys.stderr)
        return 130
    except Exception as error:  # MONAI wraps a config component's error in its own
        end_progress_bars()
        report_mistake("nomaly", error)
        return 2


def end_progress_bars() -> None:
    """Let what is said next begin a line of its own."""
    from tqdm.std import tqdm

    for bar in list(getattr(tqdm, "_instances", [])):
        bar.close()


def run_train(options: argparse.Namespace, overrides: dict[str, Any]) -> None:
    """Train."""
    if options.output:
        overrides |= {"ckpt_dir": f"{options.output}/models", "output_dir": f"{options.output}/train"}
    if options.tracking:
        check_tracking(options.tracking)
        # MONAI finds the config that it keeps for MLflow only where the folder is an expression.
        overrides |= {"output_dir": f"${overrides['output_dir']!r}"} if "output_dir" in overrides else {}
    run_bundle(options.bundle, ["train", *options.overlay], overrides | given(options, "dataset_dir"), options.tracking)


def run_calibrate(options: argparse.Namespace, overrides: dict[str, Any]) -> None:
    """Calibrate."""
    overrides = overrides | given(options, "studies", "dataset_dir", "weights", "calibration_file", "keep_identifiers")
    run_bundle(options.bundle, ["calibrate", *options.overlay], overrides)


def run_evaluate(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Evaluate."""
    overrides = overrides | given(
        options, "dataset_dir", "weights", "calibration_file", "study_group", output="output_dir"
    )
    workflow = run_bundle(options.bundle, ["evaluate", *options.overlay], overrides)
    return exit_code(workflow.parser.get_parsed_content("output_dir"))


def run_detect(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Detect."""
    parameters = (
        "studies",
        "weights",
        "calibration_file",
        "study_group",
        "resume",
        "overwrite",
        "keep_identifiers",
        "input_check",
    )
    # Several processes, as torchrun starts them, each do a part of the studies.
    shared = ["multi_gpu_inference"] if int(os.environ.get("WORLD_SIZE", 1)) > 1 else []
    overrides = overrides | given(options, *parameters, output="output_dir")
    run_bundle(options.bundle, ["inference", *options.overlay, *shared], overrides)
    # Of several processes the first one tells of failures: any other would have torchrun report a crash.
    return exit_code(options.output) if os.environ.get("RANK", "0") == "0" else 0


def run_export(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Export."""
    from custom.commands.export import run

    overrides = overrides | given(options, "weights", "calibration_file", "study_group", "dataset_dir", "studies")
    return run(options.bundle, options.overlay, overrides, options.output, options.format, bool(options.overwrite))


def run_demo(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Train, calibrate, evaluate and detect on the phantom."""
    from custom.commands.demo import run

    return run(options.bundle, options.output or f"results/demo/{Path(options.bundle).name}", overrides)


def run_monitor(options: argparse.Namespace, overrides: dict[str, Any]) -> int:
    """Watch for drift."""
    refuse(overrides, "monitor")
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
