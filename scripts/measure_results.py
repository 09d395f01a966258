"""Measure all bundles on real data and write docs/results.csv; then run scripts/write_figures.py for pages and cards.

    python scripts/measure_results.py --data DATA
    python scripts/measure_results.py --data DATA --sets lgg_flair hyperkvasir --train --seeds 3
    python scripts/measure_results.py --data DATA --from TRAINED

DATA holds one folder with a datalist.json for each set. Without --train or --from, the weights that each bundle ships
are measured. --train trains each bundle with the seeds 0 to N - 1 into TRAINED (BUNDLE/seed0/models/model.pt and so
on; a stopped training resumes, a finished one is kept), and measures these; options of `nomaly train`, such as
--amp true, are passed on. --from measures what already lies there, BUNDLE/seed*/model.pt.

All weights are calibrated on the set's own healthy studies, with the bundle's score and with the published one, and
evaluated on the test section beside the baselines. Run it again to resume: rows of the same weights are kept.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from custom.commands import benchmark
from custom.commands.bundle import BUNDLES
from custom.commands.measured_process import measured
from custom.commands.options import OptionParser, add_switch
from custom.errors import NomalyError, report_mistake
from custom.files import atomic_write
from custom.reporting.evidence import OURS, PAPER, PEER, SETS, Row, figure, merged, read_rows, rows_of, write_rows

METHODS = {"ra": "RA", "memmc": "MemMC-MAE"}
RESULTS = Path(__file__).resolve().parents[1] / "docs" / "results.csv"


@dataclass(frozen=True)
class Unit:
    """Weights of a bundle ("shipped", or "trained" with a seed), to be measured on a set."""

    data_set: str
    bundle: str
    source: str
    seed: int
    weights: Path

    @property
    def name(self) -> str:
        """For progress messages."""
        return f"{self.data_set}, {self.bundle}, {self.source} weights of seed {self.seed}"


class Measurement:
    """What all units share: data, folders and the file of results.

    Args:
        data: folder of the sets.
        work: folder for calibrations and evaluations, kept for a resumed run.
        output: results.csv.
        peers: whether to measure the nearest neighbours of ImageNet features.
        command: recorded with each row.
    """

    def __init__(self, data: Path, work: Path, output: Path, peers: bool, command: str) -> None:
        self.data = data
        self.work = work
        self.output = output
        self.peers = peers
        self.command = command
        self.commit = _commit()
        self._file = threading.Lock()

    def finished(self, unit: Unit) -> bool:
        """Whether the file has all rows of these weights."""
        own = {
            row["method"]: row["sha256"]
            for row in self.rows(unit)
            if (row["weights"], row["seed"]) == (unit.source, str(unit.seed))
        }
        return own.get(OURS) == own.get(PAPER) == _digest(unit.weights) and self.has_baselines(unit)

    def has_baselines(self, unit: Unit) -> bool:
        """Whether the file has the baselines of this set, with the present settings of the bundle."""
        settings = _settings(unit.bundle)
        found = {row["method"] for row in self.rows(unit) if row["weights"] == "" and row["sha256"] == settings}
        return bool(found - {PEER}) and (PEER in found or not self.peers)

    def rows(self, unit: Unit) -> list[Row]:
        """Rows of the unit's set and bundle."""
        return [row for row in read_rows(self.output) if (row["set"], row["bundle"]) == (unit.data_set, unit.bundle)]

    def measure(self, unit: Unit) -> str:
        """Calibrate, evaluate and write the rows of a unit; returns its key figures in words.

        Baselines are fitted for the shipped weights, for the paired difference of pixels, and once for a set.
        """
        beside = self.with_baselines(unit) if self.has_baselines(unit) else None
        choice = "all" if self.peers and not self.has_baselines(unit) else "simple"
        ours = self.evaluation(unit, (), "none" if beside and unit.source == "trained" else choice)
        paper = self.evaluation(unit, ("paper_score",), "none")
        about = {"set": unit.data_set, "bundle": unit.bundle, "weights": unit.source, "seed": str(unit.seed)}
        about |= {"sha256": _digest(unit.weights), "commit": self.commit, "command": self.command}
        rows = rows_of(ours, paper, about, _settings(unit.bundle), ours if ours["baselines"] else beside)
        with self._file:
            write_rows(self.output, merged(read_rows(self.output), rows))
        aurocs = [(row["method"], figure(row, "auroc")) for row in rows[:2]]
        texts = [f"{method} {auroc['value']:.3f}" if auroc else f"{method} without AUROC" for method, auroc in aurocs]
        return f"AUROC {', '.join(texts)}, best baseline {rows[0]['best_baseline'] or 'none'}"

    def with_baselines(self, unit: Unit) -> Any:
        """An earlier evaluation of the bundle on this set with baselines; None if the work folder has none."""
        folder = self.work / unit.data_set / unit.bundle
        for path in sorted(folder.glob(f"*/own-*-{_settings(unit.bundle)[:8]}/metrics.json")):
            content = json.loads(path.read_text(encoding="utf-8"))
            if content["baselines"]:
                return content
        return None

    def evaluation(self, unit: Unit, overlay: tuple[str, ...], baselines: str) -> Any:
        """The metrics.json of these weights; an evaluation of an earlier run is kept."""
        name = "-".join([*(overlay or ("own",)), baselines, _settings(unit.bundle)[:8]])
        folder = self.work / unit.data_set / unit.bundle / _digest(unit.weights)[:12] / name
        calibration = self.calibration(unit, folder, overlay)
        request = {
            "bundle": unit.bundle,
            "weights": str(unit.weights),
            "overlay": list(overlay),
            "parameters": {"calibration_file": str(calibration), "baselines": baselines},
            "dataset_dir": str(self.data / unit.data_set),
        }
        record = benchmark.finished(folder, request) or benchmark.evaluate(folder, request)
        if record["exit_code"] != 0:
            raise NomalyError(f"the evaluation of {unit.name} failed: {record['reason']}.")
        return json.loads((folder / "metrics.json").read_text(encoding="utf-8"))

    def calibration(self, unit: Unit, folder: Path, overlay: tuple[str, ...]) -> Path:
        """Calibrate on the set's healthy studies; one of an earlier run is kept."""
        target = folder.with_name(f"{folder.name}-calibration")
        if not (target / "calibration.json").is_file():
            words = ["calibrate", unit.bundle, "--dataset_dir", str(self.data / unit.data_set)]
            words += ["--weights", str(unit.weights), "--output", str(target), "--overwrite"]
            run_nomaly([*words, *(word for name in overlay for word in ("--overlay", name))], target)
        return target / "calibration.json"


def run_nomaly(words: Sequence[str], folder: Path) -> None:
    """Run a command of nomaly in a process of its own; its output goes to a log in the folder.

    Raises:
        NomalyError: it failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / benchmark.LOG, "w", encoding="utf-8") as log:
        code, _ = measured([sys.executable, "-m", "custom.cli", *words], log)
    if code:
        raise NomalyError(f"`nomaly {words[0]} {words[1]}` failed: {benchmark.reason_of(folder, code)}")


def train(bundle: str, data_set: Path, folder: Path, seed: int, options: Sequence[str]) -> None:
    """Train a bundle unless it is done; a stopped training resumes."""
    done = folder / "trained.json"
    request = {"bundle": bundle, "set": data_set.name, "seed": seed, "options": list(options)}
    if done.is_file() and json.loads(done.read_text(encoding="utf-8")) == request:
        return
    print(f"training {bundle} on {data_set.name}, seed {seed}; log: {folder / benchmark.LOG}", flush=True)
    words = ["train", bundle, "--dataset_dir", str(data_set), "--output", str(folder), "--seed", str(seed)]
    run_nomaly([*words, *options], folder)
    with atomic_write(done) as file:
        json.dump(request, file)


def bundles_of(sets: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Sets with the bundles for them; says which method has none."""
    for name in sets:
        for method, title in METHODS.items():
            bundle = SETS[name].bundles.get(method)
            if bundle is None:
                print(f"{name}: no bundle applies {title} to these images, so it is skipped.")
            else:
                yield name, bundle


def shipped(data_set: str, bundle: str) -> Iterator[Unit]:
    """The weights that a bundle ships, if it does."""
    weights = BUNDLES / bundle / "models" / "model.pt"
    provenance = weights.with_name("provenance.json")
    if not (weights.is_file() and provenance.is_file()):
        print(f"{data_set}: {bundle} ships no weights with a provenance, so it is skipped.")
        return
    seed = json.loads(provenance.read_text(encoding="utf-8"))["seed"]
    yield Unit(data_set, bundle, "shipped", int(seed), weights)


def trained(data_set: str, bundle: str, folder: Path) -> list[Unit]:
    """The weights in FOLDER/BUNDLE/seed*/model.pt, or in the folder models/ of each, as `nomaly train` writes them."""
    files = [*(folder / bundle).glob("seed*/model.pt"), *(folder / bundle).glob("seed*/models/model.pt")]
    names = [(re.search(r"/seed(\d+)/", file.as_posix()), file) for file in files]
    found = {int(match[1]): file for match, file in names if match}
    if not found:
        print(f"{data_set}: {folder / bundle} has no seed*/model.pt, so {bundle} is skipped.")
    return [Unit(data_set, bundle, "trained", seed, file) for seed, file in sorted(found.items())]


def measure_all(measurement: Measurement, units: Sequence[Unit], jobs: int, again: bool) -> list[str]:
    """Measure the units that are not in the file, `jobs` bundles at a time; returns the failures."""
    pending = [unit for unit in units if again or not measurement.finished(unit)]
    print(f"{len(units)} measurements: {len(units) - len(pending)} kept, {len(pending)} to do", flush=True)
    groups: dict[tuple[str, str], list[Unit]] = {}
    for unit in pending:
        groups.setdefault((unit.data_set, unit.bundle), []).append(unit)
    started, failures, done = time.perf_counter(), [], itertools.count(1)

    def measure_one_by_one(group: Sequence[Unit]) -> None:
        for unit in group:
            try:
                text = measurement.measure(unit)
            except NomalyError as error:
                text = str(error)
                failures.append(text)
            minutes = (time.perf_counter() - started) / 60
            print(f"[{next(done)}/{len(pending)}, {minutes:.1f} min] {unit.name}: {text}", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        list(pool.map(measure_one_by_one, groups.values()))
    return failures


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _settings(bundle: str) -> str:
    """Checksum of what baselines depend on beside the data: the bundle's config of the evaluation."""
    return _digest(BUNDLES / bundle / "configs" / "evaluate.json")


def _commit() -> str:
    """The commit of the code, with a mark if files differ from it."""
    words = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude", "*"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def parse() -> tuple[Any, list[str]]:
    """Command line: options of this script, and options of `nomaly train`."""
    parser = OptionParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="folder of the sets")
    parser.add_argument("--sets", nargs="+", default=list(SETS), metavar="SET", help=f"of {', '.join(SETS)}")
    parser.add_argument("--bundles", nargs="+", metavar="BUNDLE", help="only these bundles (default: all)")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of a bundle (default 3)")
    add_switch(parser, "train", "train each bundle first")
    parser.add_argument("--from", dest="trained", type=Path, metavar="FOLDER", help="measure trained weights in FOLDER")
    parser.add_argument("--jobs", type=int, default=2, help="measurements at a time (default 2)")
    parser.add_argument("--work", type=Path, default=Path("results/measure"), metavar="FOLDER", help="(%(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="FILE", help="(default: docs/results.csv)")
    add_switch(parser, "no_peers", "without the nearest neighbours of ImageNet features")
    add_switch(parser, "again", "measure again what is in the file")
    args, words = parser.parse_known_args()
    if unknown := [name for name in args.sets if name not in SETS]:
        parser.error(f"--sets must be of {', '.join(SETS)}, got {unknown[0]}")
    if words and not args.train:
        parser.error(f"options of a training need --train, got {words[0]}")
    if min(args.seeds, args.jobs) < 1:
        parser.error("--seeds and --jobs must be at least 1")
    return args, words


def main() -> int:
    """Train if asked for, and measure."""
    args, options = parse()
    try:
        if missing := [name for name in args.sets if not (args.data / name / "datalist.json").is_file()]:
            raise NomalyError(f"--data must hold a folder with datalist.json for each set, but {missing[0]} has none.")
        words = [f"--sets {' '.join(args.sets)}"] if args.sets != list(SETS) else []
        words += [f"--train --seeds {args.seeds} {' '.join(options)}".strip()] if args.train else []
        words += ["--from TRAINED"] if args.trained and not args.train else []
        command = " ".join(["python scripts/measure_results.py --data DATA", *words])
        measurement = Measurement(args.data, args.work, args.output, not args.no_peers, command)
        pairs = [pair for pair in bundles_of(args.sets) if args.bundles is None or pair[1] in args.bundles]
        folder = args.trained or (args.work / "trained" if args.train else None)
        for name, bundle in pairs if args.train else ():
            for seed in range(args.seeds):
                train(bundle, args.data / name, folder / bundle / f"seed{seed}", seed, options)
        units = [unit for pair in pairs for unit in (trained(*pair, folder) if folder else shipped(*pair))]
        failures = measure_all(measurement, units, args.jobs, args.again)
    except Exception as error:
        report_mistake("measure_results", error)
        return 2
    print(f"{args.output}: now run python scripts/write_figures.py")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
