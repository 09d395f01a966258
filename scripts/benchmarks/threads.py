"""Compare training with different numbers of CPU threads while other processes keep the machine busy.

    python scripts/benchmarks/threads.py ra_chest
    python scripts/benchmarks/threads.py ra_brain --busy 0 2 4 --threads 1 2 auto default --output threads

Each measurement trains the bundle on a small phantom in its own process and counts steps per second; data preparation
is included, the first steps are not. Numbers of threads take turns within each round, so that other load affects all of
them equally. ``auto`` is the automatic choice of the parameter ``threads``, ``default`` that of PyTorch.
OMP_NUM_THREADS and MKL_NUM_THREADS are ignored. Any parameter of train.json can be given, such as --batch_size 8.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # runs from a clone; inherited by the processes

from custom.commands.bundle import check_overrides, find_bundle, path_of  # noqa: E402
from custom.commands.options import OptionParser  # noqa: E402
from custom.commands.overrides import parse_overrides  # noqa: E402
from custom.errors import NomalyError, report_mistake  # noqa: E402
from custom.files import atomic_write  # noqa: E402
from custom.threads import VARIABLES, available_cores  # noqa: E402

# torch and MONAI are imported in the processes that need them.

AUTO, DEFAULT = "auto", "default"
WARM_UP = 3  # steps that are not counted
PHANTOM = {"num_training": 64, "num_validation": 2, "num_calibration": 0, "num_test_healthy": 1, "num_test_abnormal": 1}


@dataclass(frozen=True)
class Speed:
    """Result for one number of threads beside a number of busy processes.

    Attributes:
        busy: number of busy processes.
        threads: number as requested, "auto" or "default".
        used: number of threads that PyTorch had.
        steps_per_second: median over the rounds.
        slowest: smallest of the rounds.
        fastest: largest of the rounds.
    """

    busy: int
    threads: str
    used: int
    steps_per_second: float
    slowest: float
    fastest: float


def train(connection: Connection, bundle: str, data: str, threads: str, steps: int, parameters: dict[str, Any]) -> None:
    """Process of one measurement: sends PyTorch's number of threads and the steps per second, or the error's text."""
    try:
        connection.send(measure_steps(bundle, data, threads, steps, parameters))
    except Exception as error:
        from custom.errors import root_cause

        connection.send(root_cause(error))


def measure_steps(bundle: str, data: str, threads: str, steps: int, parameters: dict[str, Any]) -> tuple[int, float]:
    """Train for some steps with the bundle's own config; returns PyTorch's number of threads and steps per second."""
    import torch
    from ignite.engine import Engine, Events
    from monai.bundle import ConfigWorkflow

    number = {AUTO: None, DEFAULT: torch.get_num_threads()}.get(threads) if not threads.isdigit() else int(threads)
    times: list[float] = []

    def _count(engine: Engine) -> None:
        times.append(time.perf_counter())
        if len(times) > steps + WARM_UP:
            engine.terminate()

    with tempfile.TemporaryDirectory() as output:
        fixed = {"bundle_root": bundle, "dataset_dir": data, "output_dir": output, "threads": number}
        file = str(path_of(Path(bundle), "train"))
        workflow = ConfigWorkflow(
            config_file=file,
            **{**parameters, **fixed, "max_epochs": 1000, "val_interval": 1000, "train#handlers": []},
        )
        workflow.initialize()
        trainer = workflow.parser.get_parsed_content("train#trainer")
        trainer.add_event_handler(Events.ITERATION_COMPLETED, _count)
        trainer.run()
    return torch.get_num_threads(), (len(times) - 1 - WARM_UP) / (times[-1] - times[WARM_UP])


def keep_busy() -> None:
    """Process that computes until it is ended."""
    while True:
        pass


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Keep the machine busy with this number of processes."""
    context = get_context("spawn")
    processes = [context.Process(target=keep_busy, daemon=True) for _ in range(number)]
    try:
        for process in processes:
            process.start()
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def run_once(*arguments: Any) -> tuple[int, float]:
    """Result of ``train`` in a process of its own.

    Raises:
        NomalyError: if the training failed.
    """
    context = get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=train, args=(there, *arguments), daemon=True)
    process.start()
    there.close()
    try:
        result = here.recv()
    except EOFError:
        result = "the process ended without a result"
    process.terminate()  # what it would still do at its end is not measured
    process.join()
    if isinstance(result, str):
        raise NomalyError(f"the training stopped: {result}")
    return result


def compare(options: argparse.Namespace, parameters: dict[str, Any], data: str) -> list[Speed]:
    """All numbers of threads beside all numbers of busy processes."""
    bundle = str(find_bundle(options.bundle))
    results = []
    for busy in options.busy:
        found: dict[str, list[tuple[int, float]]] = {threads: [] for threads in options.threads}
        with busy_processes(busy):
            for _ in range(options.rounds):
                for threads, rounds in found.items():
                    rounds.append(run_once(bundle, data, threads, options.steps, parameters))
        results += [summary(busy, threads, rounds) for threads, rounds in found.items()]
    return results


def summary(busy: int, threads: str, rounds: Sequence[tuple[int, float]]) -> Speed:
    """Median and range over the rounds."""
    speeds = [round(speed, 3) for _, speed in rounds]
    return Speed(busy, threads, rounds[0][0], statistics.median(speeds), min(speeds), max(speeds))


def table(results: Sequence[Speed]) -> str:
    """Markdown table."""
    lines = ["| Busy processes | Threads | Used | Steps per second | Range |", "|---|---|---|---|---|"]
    for row in results:
        figures = f"{row.used} | {row.steps_per_second:.2f} | {row.slowest:.2f}-{row.fastest:.2f}"
        lines.append(f"| {row.busy} | {row.threads} | {figures} |")
    return "\n".join(lines)


def write_csv(path: Path, results: Sequence[Speed]) -> None:
    """Write the results, one row per number of threads and of busy processes."""
    with atomic_write(path) as file:
        writer = csv.DictWriter(file, list(asdict(results[0])))
        writer.writeheader()
        writer.writerows(asdict(row) for row in results)


def make_data(bundle: str, folder: Path) -> str:
    """Create the phantom of the bundle's anatomy and return its folder."""
    import json

    from custom.synthetic.dataset import make_phantom

    anatomy = json.loads(path_of(find_bundle(bundle), "train").read_text(encoding="utf-8"))["anatomy"]
    number = 4 if anatomy == "head" else PHANTOM["num_training"]  # a head has many slices
    return str(make_phantom(folder, anatomy, 0, **{**PHANTOM, "num_training": number}))


def build_parser() -> OptionParser:
    """Command line."""
    cores = available_cores()
    parser = OptionParser(description=__doc__)
    parser.add_argument("bundle", metavar="BUNDLE", help="name under bundles/, such as ra_chest, or a path")
    parser.add_argument(
        "--busy", type=int, nargs="+", default=[0, cores], help=f"numbers of busy processes (default: 0 {cores})"
    )
    parser.add_argument(
        "--threads",
        nargs="+",
        default=["1", DEFAULT, AUTO],
        help="numbers of threads, auto or default (default: 1 default auto)",
    )
    parser.add_argument("--steps", type=int, default=30, help="counted steps of a measurement (default: 30)")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each number (default: 3)")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="folder for threads.csv and threads.md")
    return parser


def check_options(options: argparse.Namespace) -> None:
    """Refuse values that cannot be measured.

    Raises:
        NomalyError: with the rule.
    """
    if min(options.busy) < 0 or min(options.steps, options.rounds) < 1:
        raise NomalyError("--busy must be 0 or more, --steps and --rounds 1 or more: correct these numbers.")
    wrong = [word for word in options.threads if word not in (AUTO, DEFAULT) and not (word.isdigit() and int(word))]
    if wrong:
        raise NomalyError(f"--threads must be whole numbers of 1 or more, auto or default, got {wrong[0]}.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and write; 0 = done, 2 = user error, reported in one sentence."""
    options, unknown = build_parser().parse_known_args(arguments)
    for name in VARIABLES:
        os.environ.pop(name, None)
    try:
        from monai.bundle.config_parser import ConfigParser

        check_options(options)
        parameters = parse_overrides(unknown)
        check_overrides(ConfigParser.load_config_file(path_of(find_bundle(options.bundle), "train")), parameters)
        with tempfile.TemporaryDirectory() as folder:
            results = compare(options, parameters, make_data(options.bundle, Path(folder) / "phantom"))
    except NomalyError as error:
        report_mistake("threads.py", error)
        return 2
    print(f"{available_cores()} cores\n\n{table(results)}")
    if options.output:
        write_csv(options.output / "threads.csv", results)
        with atomic_write(options.output / "threads.md") as file:
            file.write(table(results) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
