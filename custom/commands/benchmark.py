"""Several models on one data set: each is evaluated in its own process, all are in one table."""

from __future__ import annotations

import csv
import io
import json
import platform
import signal
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from custom.commands.benchmark_entries import Entry, check_entry, check_names, entries_of, read_entries, with_seeds
from custom.commands.measured_process import measured
from custom.commands.next_step import step, to_open
from custom.commands.overrides import literal
from custom.errors import NomalyError
from custom.files import atomic_write
from custom.threads import available_cores

# Tables, and with them torch, are imported after all models have run: on Linux a process starts with the peak memory of
# its parent, so this process must stay smaller than those it measures.

RECORD = "benchmark.json"
LOG = "benchmark.log"
FAILED_STUDIES = "some studies failed"
LAST_FILES = ("metrics.json", "report.html")  # of a finished evaluation
# Parts of a detector beside its network.
FITTED = ("calibration", "normalisation", "code_distance", "patch_distance", "part_statistics")


def run(
    words: Sequence[str],
    dataset_dir: str,
    output: str,
    entries_file: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    seeds: Sequence[int] = (),
) -> int:
    """Evaluate all models, each into `output`/NAME, and write benchmark.csv, benchmark.md and benchmark.html.

    Finished models are kept if the request is the same. A model that fails gets a row with the reason.

    Args:
        words: each BUNDLE or BUNDLE=WEIGHTS.
        dataset_dir: folder with datalist.json.
        output: folder.
        entries_file: JSON list of models, see :func:`read_entries`.
        parameters: of all models; those of an entry override them.
        overwrite: evaluate all models again.
        seeds: each model is evaluated with each of them, see :func:`with_seeds`.

    Returns:
        0 = all done, 1 = a model or a study failed.

    Raises:
        NomalyError: no model, equal names, a folder with other results.
    """
    entries = [*entries_of(words), *(read_entries(entries_file) if entries_file else [])]
    entries = with_seeds(entries, seeds)
    check_names(entries)
    for entry in entries:
        check_entry(entry, dataset_dir, parameters or {})
    root = Path(output)
    requests = {entry.name: request_of(entry, dataset_dir, parameters or {}) for entry in entries}
    if not overwrite:
        for entry in entries:
            check_folder(root / entry.name, requests[entry.name])
    records = []
    for number, entry in enumerate(entries, 1):
        print(f"[{number}/{len(entries)}] {entry.name}: ", end="", flush=True)
        kept = None if overwrite else finished(root / entry.name, requests[entry.name])
        records.append(kept or evaluate(root / entry.name, requests[entry.name]))
        print(_outcome(records[-1], kept is not None), flush=True)
    tabulate(root, entries, records, dataset_dir)
    print(f"\n{(root / 'benchmark.md').read_text(encoding='utf-8')}")
    print(step("To open the page", to_open(root / "benchmark.html")))
    return int(any(record["exit_code"] != 0 for record in records))


def request_of(entry: Entry, dataset_dir: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an evaluation, as plain JSON values."""
    return {
        "bundle": entry.bundle,
        "weights": entry.weights,
        "overlay": list(entry.overlay),
        "parameters": {**parameters, **entry.parameters},
        "dataset_dir": str(dataset_dir),
    }


def stamps_of(folder: Path, request: Mapping[str, Any]) -> dict[str, list[int]]:
    """Size and time of the files that an evaluation used: weights, datalist, and files named by parameters."""
    used = [(_read(folder / "run.json") or {}).get("weights"), f"{request['dataset_dir']}/datalist.json"]
    paths = [
        Path(path).resolve() for path in [*used, *request["parameters"].values()] if path and isinstance(path, str)
    ]
    return {str(path): stamp for path in paths if (stamp := _stamp(path)) is not None}


def check_folder(folder: Path, request: Mapping[str, Any]) -> None:
    """Refuse to overwrite other results.

    Raises:
        NomalyError: the folder contains other results.
    """
    record = _read(folder / RECORD)
    if record is None and (folder / "results.csv").exists():
        raise NomalyError(f"{folder} already contains results of another run: give another --output, or --overwrite.")
    if record is None or not whole(folder, record["exit_code"]):
        return
    changed = [key for key, value in request.items() if record["request"].get(key) != value]
    # A file that was removed has not changed: what was measured with it remains valid.
    changed += [path for path, stamp in record.get("stamps", {}).items() if _stamp(Path(path)) not in (None, stamp)]
    if changed:
        raise NomalyError(
            f"{folder} contains results for other settings ({', '.join(changed)} changed): give another --output or "
            "name, or --overwrite."
        )


def finished(folder: Path, request: Mapping[str, Any]) -> dict[str, Any] | None:
    """Record of an earlier evaluation that need not be repeated; None if there is none."""
    record = _read(folder / RECORD)
    return record if record and record["request"] == request and whole(folder, record["exit_code"]) else None


def whole(folder: Path, code: int | None) -> bool:
    """Whether an evaluation finished; exit code 1 means failed studies, but also a crash."""
    if not all((folder / name).is_file() for name in LAST_FILES):
        return False
    return code == 0 or (code == 1 and any(row.get("status") == "failed" for row in rows_of(folder)))


def evaluate(folder: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """Run `nomaly evaluate` in its own process; its output goes to benchmark.log.

    Returns:
        The record that is written beside the results: request, exit_code, reason (of a failure, else ""), peak_mib,
        seconds, stamps of the files that were used.
    """
    record: dict[str, Any] = {"request": dict(request), "exit_code": None, "reason": "stopped"}
    _write(folder / RECORD, record)  # so that a stopped run is recognised
    for name in LAST_FILES:
        (folder / name).unlink(missing_ok=True)
    started = time.perf_counter()
    with open(folder / LOG, "w", encoding="utf-8") as log:
        code, peak = measured(command_of(folder, request), log)
    done = whole(folder, code)
    reason = reason_of(folder, code) if not done else FAILED_STUDIES if code else ""
    record |= {"exit_code": code if done else code or 1, "reason": reason, "peak_mib": peak}
    record["seconds"] = round(time.perf_counter() - started, 2)
    record["stamps"] = stamps_of(folder, request)
    _write(folder / RECORD, record)
    return record


def command_of(folder: Path, request: Mapping[str, Any]) -> list[str]:
    """The command line of one evaluation."""
    words = [sys.executable, "-m", "custom.cli", "evaluate", request["bundle"], "--output", str(folder)]
    words += ["--dataset_dir", request["dataset_dir"], "--overwrite"]
    for overlay in request["overlay"]:
        words += ["--overlay", overlay]
    if request["weights"] is not None:
        words += ["--weights", request["weights"]]
    for name, value in request["parameters"].items():
        # Text that would be read as a number or list is quoted, so that it remains text.
        plain = isinstance(value, str) and literal(value) == value
        words.append(f"--{name}={value if plain else json.dumps(value)}")
    return words


def reason_of(folder: Path, code: int) -> str:
    """Why an evaluation failed: the message of the user's mistake, else the error that ended it."""
    log = folder / LOG
    if code < 0:
        name = signal.Signals(-code).name
        memory = ", often for lack of memory" if name == "SIGKILL" else ""
        return f"ended by {name}{memory}; see {log}"
    if code == 1 and (folder / "report.html").is_file() and not (folder / "metrics.json").is_file():
        return f"all studies failed; see {log}"
    lines = [line.rstrip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    mistakes = [line.removeprefix("nomaly: ") for line in lines if line.startswith("nomaly: ")]
    return mistakes[-1] if mistakes else f"{_error_of(lines) or f'exit code {code}'}; see {log}"


def _error_of(lines: Sequence[str]) -> str:
    """The error of the last traceback in an output, which may continue after it; without a traceback the last line."""
    pairs = enumerate(zip(["", *lines], lines), 1)
    starts = [i for i, (above, line) in pairs if line.startswith("Traceback") and "Exception ignored" not in above]
    rest = lines[starts[-1] :] if starts else lines[-1:]
    return next((line.strip() for line in rest if not (starts and line.startswith(" "))), "")


def tabulate(root: Path, entries: Sequence[Entry], records: Sequence[Mapping[str, Any]], dataset_dir: str) -> None:
    """Write the tables from the results in the models' folders."""
    from custom.reporting.benchmark_page import write_benchmark
    from custom.reporting.benchmark_seeds import over_seeds
    from custom.reporting.benchmark_table import auroc_difference, benchmark_row

    evaluations = [
        _read(root / entry.name / "metrics.json") if _has_result(record) else None
        for entry, record in zip(entries, records)
    ]
    rows = []
    for entry, record, evaluation in zip(entries, records, evaluations):
        folder = root / entry.name
        run = (_read(folder / "run.json") if evaluation else None) or {}
        row = benchmark_row(
            entry.name,
            entry.bundle,
            evaluation,
            run,
            seconds=median_seconds(folder) if evaluation else None,
            peak_mib=record.get("peak_mib") if evaluation else None,
            threads=run.get("threads"),
            parameters=count_parameters(entry.weights or run.get("weights")) if evaluation else None,
            note=record["reason"],
        )
        first = evaluations[first_of(entries, entry)]
        if evaluation and first and evaluation is not first:
            row["auroc_difference"] = auroc_difference(evaluation, first)
        rows.append(row)
    models = [entry.model for entry in entries]
    machine = f"{platform.system()}, {platform.machine()}, {available_cores()} cores"
    write_benchmark(root, rows, f"Data set {dataset_dir}", machine, over_seeds(rows, models) if any(models) else ())


def first_of(entries: Sequence[Entry], entry: Entry) -> int:
    """Position of the model that an entry is compared with: the first one, with the same seed."""
    seed = entry.parameters.get("seed") if entry.model else None
    same = (i for i, other in enumerate(entries) if not entry.model or other.parameters.get("seed") == seed)
    return next(same)


def rows_of(folder: Path) -> list[dict[str, str]]:
    """Rows of a results.csv of any version; empty if the file does not exist."""
    table = folder / "results.csv"
    return list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8")))) if table.is_file() else []


def median_seconds(folder: Path) -> float | None:
    """Median seconds per study, over those that did not fail."""
    times = [float(row["seconds"]) for row in rows_of(folder) if row.get("status") == "ok" and row.get("seconds")]
    return statistics.median(times) if times else None


def count_parameters(weights: str | None) -> int | None:
    """Number of floating-point values of the network in a weights file, without what was fitted to healthy studies."""
    from custom.detector.weights import read_tensors

    if weights is None or not Path(weights).is_file():
        return None
    tensors = read_tensors(weights).items()
    learned = [tensor for name, tensor in tensors if name.split(".")[0] not in FITTED]
    return sum(tensor.numel() for tensor in learned if tensor.is_floating_point())


def _has_result(record: Mapping[str, Any]) -> bool:
    return record["exit_code"] in (0, 1) and record["reason"] in ("", FAILED_STUDIES)


def _outcome(record: Mapping[str, Any], kept: bool) -> str:
    """The end of the progress line of a model."""
    word = "kept, evaluated" if kept else "done" if _has_result(record) else "failed"
    return f"{word} in {record['seconds']:.0f} s" + (f", {record['reason']}" if record["reason"] else "")


def _stamp(path: Path) -> list[int] | None:
    """Size and time of change of a file; None if it does not exist."""
    return [path.stat().st_size, path.stat().st_mtime_ns] if path.is_file() else None


def _read(path: Path) -> dict[str, Any] | None:
    """Content of a JSON file; None if it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write(path: Path, record: Mapping[str, Any]) -> None:
    with atomic_write(path) as file:
        json.dump(record, file, indent=2)
