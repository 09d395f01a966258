"""What the benchmarks share: options, timing in turns, the machine, table and CSV."""

from __future__ import annotations

import argparse
import csv
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Row:
    """One line of a table.

    Attributes:
        work: what is measured.
        variant: how it is done; the first of a work is what the others are compared with.
        median: seconds, over the repeats.
        fastest: seconds.
        slowest: seconds.
        per_second: units of work per second, such as images.
        speed: of the first variant's median, how many times this one fits into it.
        peak_mib: largest memory of the process so far, or of this variant on a GPU.
    """

    work: str
    variant: str
    median: float
    fastest: float
    slowest: float
    per_second: float
    speed: float
    peak_mib: float


def options(description: str | None, repeats: int = 5) -> argparse.ArgumentParser:
    """The options of every benchmark."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--repeats", type=int, default=repeats, help=f"counted runs of each variant ({repeats})")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes, one run: only shows that it works")
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="folder for the table as CSV")
    return parser


def parsed(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Options of the command line, with the number of threads set."""
    args = parser.parse_args(arguments)
    if min(args.threads, args.repeats) < 1:
        parser.error("--threads and --repeats must be at least 1")
    if args.smoke:
        args.repeats = 1
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    return args


def in_turns(
    work: str, variants: Mapping[str, Callable[[], object]], args: argparse.Namespace, units: float = 1
) -> list[Row]:
    """Time variants that do the same work; they take turns, so that other load affects all of them equally.

    Each is called once before it is timed.

    Args:
        work: name of the work.
        variants: what to call, by name.
        args: options.
        units: of work in one call, such as images.
    """
    on_gpu = torch.device(args.device).type == "cuda"
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    peaks: dict[str, float] = {}
    for turn in range(args.repeats + 1):
        for name, call in variants.items():
            if on_gpu:
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            started = time.perf_counter()
            call()
            if on_gpu:
                torch.cuda.synchronize()
            if turn or args.smoke:
                seconds[name].append(time.perf_counter() - started)
            peaks[name] = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else peak_mib()
    return rows(work, seconds, peaks, units)


def rows(work: str, seconds: Mapping[str, list[float]], peaks: Mapping[str, float], units: float = 1) -> list[Row]:
    """Rows of the variants of a work from the seconds of their runs."""
    medians = {name: statistics.median(runs) for name, runs in seconds.items()}
    first = next(iter(medians.values()))
    return [
        Row(work, name, median, min(seconds[name]), max(seconds[name]), units / median, first / median, peaks[name])
        for name, median in medians.items()
    ]


def peak_mib(who: int = resource.RUSAGE_SELF) -> float:
    """Largest resident memory of this process, or of its children, so far."""
    return resource.getrusage(who).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def machine(args: argparse.Namespace) -> str:
    """Processor, device and versions in one line."""
    model = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).is_file():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        model = f"{len(names)} x {names[0]}" if names else model
    device = torch.cuda.get_device_name() if torch.device(args.device).type == "cuda" else "CPU"
    return f"{device}; {model}; {args.threads} threads; PyTorch {torch.__version__}, Python {platform.python_version()}"


def table(found: Sequence[Row]) -> str:
    """Rows as a Markdown table."""
    lines = ["| Work | Variant | Median s | Range | Per second | Speed | Peak MiB |", "|---|---|---|---|---|---|---|"]
    lines += [
        f"| {row.work} | {row.variant} | {row.median:.4g} | {row.fastest:.4g}-{row.slowest:.4g} | {row.per_second:.4g} "
        f"| {row.speed:.2f} | {row.peak_mib:.0f} |"
        for row in found
    ]
    return "\n".join(lines)


def report(name: str, found: Sequence[Row], args: argparse.Namespace) -> None:
    """Print the table and the machine, and write NAME.csv to the folder of results."""
    print(f"{table(found)}\n\n{machine(args)}", flush=True)
    if args.output:
        args.output.mkdir(parents=True, exist_ok=True)
        with open(args.output / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*(field.name for field in fields(Row)), "machine"])
            writer.writeheader()
            writer.writerows({**asdict(row), "machine": machine(args)} for row in found)


def smooth_images(number: int, channels: int, side: int, seed: int = 0) -> torch.Tensor:
    """Random images (N, C, side, side) in [0, 1] without fine detail: synthetic, only for timing."""
    coarse = torch.rand(number, channels, 8, 8, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)
