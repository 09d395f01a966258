"""The benchmark of threads: what it refuses, its tables, and one run of the smallest training."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.scripts import load_script
from tiny import TINY_NETWORK

SCRIPT = Path(__file__).parents[3] / "scripts" / "benchmarks" / "threads.py"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module; trainings and busy processes are not started, speeds are the number of calls."""
    module = load_script("benchmarks/threads.py")
    calls: list[tuple] = []

    def run_once(*arguments: object) -> tuple[int, float]:
        calls.append(arguments)
        return 1, float(len(calls))

    monkeypatch.setattr(module, "run_once", run_once)
    monkeypatch.setattr(module, "keep_busy", lambda: None)
    monkeypatch.setattr(module, "make_data", lambda bundle, folder: str(folder))
    for name in module.VARIABLES:  # the script removes them
        monkeypatch.setenv(name, "1")
    return module


def test_numbers_of_threads_take_turns_and_their_medians_are_compared(benchmark, tmp_path: Path, capsys) -> None:
    words = ["ra_chest", "--busy", "0", "--threads", "1", "auto", "--rounds", "3", "--output", str(tmp_path)]
    assert benchmark.main(words) == 0
    with open(tmp_path / "threads.csv", newline="", encoding="utf-8") as file:
        one, auto = csv.DictReader(file)
    assert [one[key] for key in ("threads", "steps_per_second", "slowest", "fastest")] == ["1", "3.0", "1.0", "5.0"]
    assert [auto[key] for key in ("threads", "steps_per_second", "slowest", "fastest")] == ["auto", "4.0", "2.0", "6.0"]
    lines = (tmp_path / "threads.md").read_text().splitlines()
    assert lines[2] == "| 0 | 1 | 1 | 3.00 | 1.00-5.00 |" and lines[2] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ra_chest", "--threads", "0"], "--threads must be whole numbers of 1 or more, auto or default, got 0."),
        (["ra_chest", "--busy", "-1"], "--busy must be 0 or more, --steps and --rounds 1 or more"),
        (["ra_chest", "--batchsize", "2"], "no parameter is called batchsize: did you mean batch_size?"),
        (["ra_ches"], "BUNDLE must be a bundle's name or path, got ra_ches"),
    ],
)
def test_mistakes_are_reported_in_one_sentence(benchmark, words: list[str], message: str, capsys) -> None:
    assert benchmark.main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"threads.py: {message}") and error.count("\n") == 1


@pytest.mark.slow
def test_smallest_training_is_measured_beside_a_busy_process(tmp_path: Path) -> None:
    parameters = [f"--{name}={json.dumps(value)}" for name, value in TINY_NETWORK["ra"].items()]
    words = ["--busy", "1", "--threads", "1", "auto", "--steps", "2", "--rounds", "1", "--output", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(SCRIPT.parents[2])}
    command = [sys.executable, str(SCRIPT), "ra_chest", *words, *parameters]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "threads.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["threads"], row["used"]) for row in rows] == [("1", "1"), ("auto", "1")]
    assert all(float(row["steps_per_second"]) > 0 for row in rows)
