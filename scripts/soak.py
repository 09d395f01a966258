"""Run `nomaly detect` on many synthetic films, kill it at random moments, resume it, and check that nothing is lost.

    python scripts/soak.py
    python scripts/soak.py --studies 200 --kills 3 --output results/soak_small

2 percent of the studies are broken. The run is killed (SIGKILL) several times, resumed each time, and finished by two
processes. Then every study must be in results.csv exactly once, each broken one failed, and a sample must have the same
decisions, scores and p-values in a run that was not interrupted. The memory of every process is measured all the time
and must not grow with the number of studies. Written are soak.csv (the checks) and memory.csv (MiB over time). The exit
code is 1 if a check failed. Further options are parameters of the bundle, such as --image_size 32. Not for Windows.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import signal
import statistics
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path

import psutil

from custom.runs.tables import StudyResult, read_results_csv
from custom.synthetic.phantoms import find_phantom

ANATOMY = "chest"
BROKEN = 0.02  # of the studies
ABNORMAL = 0.2
INTERVAL = 0.2  # seconds between two measurements
MIB = 2**20
SAMPLE = 100  # studies of the uninterrupted run, at most
GROWTH = 0.05  # allowed growth of memory, of its median, per process
LEAST_MEASUREMENTS = 40  # of a process whose growth is judged


@dataclass
class Check:
    """One property of the run: what it must be, what was found, and whether it holds."""

    name: str
    expected: str
    found: str
    holds: bool


@dataclass
class Measurement:
    """Memory of one process at one time.

    Attributes:
        run: number of the run, 1 = the first.
        process: process id.
        seconds: since the first run began.
        memory: resident memory, MiB.
        done: studies of the whole run that were done by then.
    """

    run: int
    process: int
    seconds: float
    memory: float
    done: int


@dataclass
class Soak:
    """A run that is killed and resumed.

    Args:
        bundle: name of the bundle.
        studies: folder of the studies.
        output: its results folder.
        words: further words of the command.
        seed: of the moments at which it is killed.
    """

    bundle: str
    studies: Path
    output: Path
    words: Sequence[str]
    seed: int
    started: float = field(default_factory=time.perf_counter)
    measurements: list[Measurement] = field(default_factory=list)
    runs: int = 0

    def done(self) -> int:
        """Number of studies that have a record."""
        return sum(1 for _ in self.output.glob("records/*.json"))

    def kill_often(self, count: int, studies: int) -> int:
        """Start the run `count` times and kill it each time; return how often it was killed before its end."""
        draw = random.Random(self.seed)
        moments = sorted(draw.sample(range(studies), min(count, studies)))
        return sum(self.run(moment, draw.uniform(0, 1)) == -signal.SIGKILL for moment in moments)

    def run(self, kill_at: int | None = None, delay: float = 0.0, processes: int = 1) -> int:
        """Run until the end, or until `delay` seconds after `kill_at` studies are done; return the exit code."""
        self.runs += 1
        resume = ["--resume"] if self.runs > 1 else []
        with open(self.output.with_suffix(".log"), "a") as log:
            run = start(
                [self.bundle, str(self.studies), "--output", str(self.output), *resume, *self.words], processes, log
            )
        while run.poll() is None:
            self._measure(run.pid)
            if kill_at is not None and self.done() >= kill_at:
                time.sleep(delay)
                os.killpg(run.pid, signal.SIGKILL)
                break
            time.sleep(INTERVAL)
        return run.wait()

    def _measure(self, pid: int) -> None:
        """Measure all processes of a run."""
        done, seconds = self.done(), round(time.perf_counter() - self.started, 2)
        for process in tree(pid):
            try:
                memory = process.memory_info().rss / MIB
            except psutil.Error:  # it has just ended
                continue
            self.measurements.append(Measurement(self.runs, process.pid, seconds, round(memory, 1), done))


def tree(pid: int) -> list[psutil.Process]:
    """A process and its descendants."""
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def start(words: Sequence[str], processes: int, log) -> subprocess.Popen:
    """Start `nomaly detect` as one process or several, in a group of its own."""
    launcher = (
        [] if processes == 1 else ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    )
    root = str(Path(__file__).parents[1])
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, *launcher, "-m", "custom.cli", "detect", *words]
    return subprocess.Popen(command, env=os.environ | environment, stdout=log, stderr=log, start_new_session=True)


def write_studies(folder: Path, count: int, size: int) -> list[Path]:
    """Write synthetic films, some with lesions, and return the broken ones: empty, cut off, or not an image."""
    phantom, broken = find_phantom(ANATOMY), []
    folder.mkdir(parents=True)
    every = round(1 / BROKEN)
    for number in range(count):
        path = folder / f"film_{number:05}.png"
        lesion = (phantom.groups[number % len(phantom.groups)], number) if number % round(1 / ABNORMAL) == 0 else None
        settings = phantom.settings | {"size": size}
        phantom.write(path, phantom.study(number, settings, lesion)[0], settings)
        if number % every == every // 2:
            content = path.read_bytes()
            path.write_bytes([b"", content[: len(content) // 2], b"not an image"][len(broken) % 3])
            broken.append(path)
    return broken


def uninterrupted(bundle: str, studies: Sequence[Path], folder: Path, words: Sequence[str]) -> list[StudyResult]:
    """Results of some of the studies by one run that is left alone."""
    listed = folder / "sample.txt"
    listed.write_text("".join(f"{path.absolute()}\n" for path in studies))
    with open(folder / "sample.log", "w") as log:
        start([bundle, str(listed), "--output", str(folder / "sample"), *words], 1, log).wait()
    return read_results_csv(folder / "sample" / "results.csv")


def growth(measurements: Sequence[Measurement]) -> Iterator[tuple[int, int, float, float, float]]:
    """Yield run, process, median memory (MiB) of the second and the last quarter of its studies, and the peak.

    The first quarter, in which libraries are loaded, is left out; processes that did little work, too.
    """
    processes: dict[tuple[int, int], list[Measurement]] = defaultdict(list)
    for measurement in measurements:
        processes[measurement.run, measurement.process].append(measurement)
    for (run, process), rows in processes.items():
        working = [row for row in rows if row.done > rows[0].done]
        if len(working) >= LEAST_MEASUREMENTS:
            quarter = len(working) // 4
            early, late = (
                statistics.median(row.memory for row in part)
                for part in (working[quarter : 2 * quarter], working[-quarter:])
            )
            yield run, process, early, late, max(row.memory for row in rows)


def result_of(row: StudyResult) -> tuple:
    """What must not depend on interruptions."""
    return row.status, row.decision, row.score, row.p_value, row.region_count


def checks(rows: list[StudyResult], sample: list[StudyResult], count: int, broken: int, soak: Soak) -> list[Check]:
    """Check the results of a run."""
    times = Counter(row.study for row in rows)
    whole = {row.study: result_of(row) for row in rows}
    other = sum(whole.get(row.study) != result_of(row) for row in sample)
    failed = sum(row.status == "failed" for row in rows)
    left = [path for path in soak.output.rglob(".*") if path.is_file()]
    found = [
        Check("studies in results.csv", str(count), str(len(times)), len(times) == count),
        Check("studies listed twice", "0", str(len(rows) - len(times)), len(rows) == len(times)),
        Check("failed studies", str(broken), str(failed), failed == broken),
        Check("results that differ from an uninterrupted run", f"0 of {len(sample)}", str(other), other == 0),
        Check("temporary files", "0", str(len(left)), not left),
    ]
    for run, process, early, late, peak in growth(soak.measurements):
        name = f"memory, run {run}, process {process}"
        text = f"{early:.0f} -> {late:.0f} MiB, peak {peak:.0f}"
        found.append(Check(name, f"growth below {GROWTH:.0%}", text, late <= (1 + GROWTH) * early))
    return found


def write_csv(path: Path, rows: Sequence[Check] | Sequence[Measurement]) -> None:
    """Write rows of one kind as CSV."""
    with open(path, "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([column.name for column in fields(rows[0])])
        writer.writerows(map(astuple, rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Make studies, run, kill, resume, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=2000, help="number of studies (%(default)s)")
    parser.add_argument("--kills", type=int, default=5, help="how often the run is killed (%(default)s)")
    parser.add_argument("--bundle", default="ra_chest", help="bundle for chest films (%(default)s)")
    parser.add_argument("--size", type=int, default=128, help="side of the films in pixels (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments of the kills (%(default)s)")
    parser.add_argument("--output", type=Path, default=Path("results/soak"), help="new folder (%(default)s)")
    options, parameters = parser.parse_known_args(arguments)
    if options.output.exists():
        parser.error(f"--output must be a new folder, but {options.output} exists.")
    words = ["--no-input-check", *parameters]
    broken = write_studies(options.output / "studies", options.studies, options.size)
    paths = sorted((options.output / "studies").iterdir())
    soak = Soak(options.bundle, options.output / "studies", options.output / "run", words, options.seed)
    killed = soak.kill_often(options.kills, options.studies)
    code = soak.run(processes=2)
    if code not in (0, 1):
        parser.error(f"the last run ended with exit code {code}, see {soak.output.with_suffix('.log')}.")
    sample = uninterrupted(options.bundle, paths[:: max(1, len(paths) // SAMPLE)], options.output, words)
    rows = read_results_csv(soak.output / "results.csv")
    found = checks(rows, sample, options.studies, len(broken), soak)
    found.insert(0, Check("kills", str(options.kills), str(killed), killed == options.kills))
    for check in found:
        print(f"{'ok' if check.holds else 'FAILED':8}{check.name:50}{check.expected:20}{check.found}")
    print(f"{time.perf_counter() - soak.started:.0f} s, {soak.runs} runs")
    write_csv(options.output / "soak.csv", found)
    write_csv(options.output / "memory.csv", soak.measurements)
    return int(not all(check.holds for check in found))


if __name__ == "__main__":
    sys.exit(main())
