"""The training benchmark at tiny size, its processes as threads; the official code is replaced by a stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from multiprocessing import Pipe
from pathlib import Path
from threading import Thread
from types import ModuleType

import pytest
import torch

from tests.support.scripts import load_script

SCRIPT = Path(__file__).parents[3] / "scripts" / "benchmarks" / "training_step.py"
TINY = "--threads 1 --repeats 2 --batch_size 2 --size 16 --channels 4 8 --latent 8".split()


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script as a module; its processes are threads, which start at once."""
    module = load_script("benchmarks/training_step.py")

    def start_thread(target, *args):
        here, there = Pipe()
        Thread(target=target, args=(there, *args), daemon=True).start()
        return here

    monkeypatch.setattr(module, "start_process", start_thread)
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)


def test_without_official_code_only_our_steps_are_timed(benchmark, tmp_path, capsys) -> None:
    benchmark.main([*TINY, "--output", str(tmp_path / "new" / "training.json")])
    report = json.loads((tmp_path / "new" / "training.json").read_text())
    assert list(report["steps"]) == ["Nomaly, float32", "Nomaly, bfloat16 autocast"]
    for result in report["steps"].values():
        assert len(result["seconds"]) == 2 and min(result["seconds"]) > 0
        assert result["median"] == pytest.approx(sum(result["seconds"]) / 2)
        assert result["peak_mib"] > 50
    assert report["settings"]["channels"] == [4, 8] and "first_step" not in report
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4 and all(line.count("|") == 6 for line in lines)


def test_table_gives_medians_range_and_speed_up(benchmark) -> None:
    results = {"a": {"seconds": [2.0, 1.0, 4.0], "median": 2.0, "speed_up": 1.0, "peak_mib": 99.6}}
    assert benchmark.table(results).splitlines()[2] == "| a | 2.000 | 1.000-4.000 | 1.00 | 100 MiB |"


def test_losses_that_differ_from_the_official_ones_are_an_error(benchmark, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "model_zoo").mkdir()
    (tmp_path / "model_zoo" / "ra.py").touch()
    steps = {"official, float32": {"seconds": [1.0], "median": 1.0, "speed_up": 1.0, "peak_mib": 1.0}}
    monkeypatch.setattr(benchmark, "measure", lambda args: steps)
    terms = {"encoder": (1.0, 1.0), "decoder": (2.0002, 2.0)}
    monkeypatch.setattr(benchmark, "compare_losses", lambda connection, args: connection.send(terms))
    arguments = ["--official_ra", str(tmp_path), "--output", str(tmp_path / "training.json")]
    with pytest.raises(SystemExit, match="the losses differ"):
        benchmark.main(arguments)
    assert "first step: 1.0e-04, allowed 1e-05" in capsys.readouterr().out
    assert json.loads((tmp_path / "training.json").read_text())["largest_relative_difference"] == pytest.approx(1e-4)
    terms["decoder"] = (2.000002, 2.0)
    benchmark.main(arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--official-ra", "nowhere"],
            "must be a checkout of github.com/ci-ber/RA, but nowhere has no model_zoo/ra.py",
        ),
        (["--repeats", "0"], "--threads, --repeats and --batch_size must be at least 1"),
    ],
)
def test_wrong_arguments_are_refused_by_name(benchmark, capsys, arguments: list, message: str) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_script_runs_its_processes_from_the_command_line() -> None:
    command = [sys.executable, str(SCRIPT), *TINY]
    result = subprocess.run(command, capture_output=True, text=True, cwd=SCRIPT.parents[2], env=environment())
    assert result.returncode == 0, result.stderr
    assert "| Nomaly, bfloat16 autocast |" in result.stdout


@pytest.mark.slow
def test_failing_process_ends_the_script_with_its_reason() -> None:
    command = [sys.executable, str(SCRIPT), *TINY, "--size", "18"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=SCRIPT.parents[2], env=environment())
    assert result.returncode == 1
    assert "image_size must be divisible by" in result.stderr and "a measured process ended early" in result.stderr


def environment() -> dict[str, str]:
    """This environment, with the repository importable."""
    return os.environ | {"PYTHONPATH": str(SCRIPT.parents[2])}
