"""A command in a process of its own, with its peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

POLL_SECONDS = 0.05


def measured(command: Sequence[str], log: IO[str] | int) -> tuple[int, float]:
    """Run a command that can import this package, its output in `log`.

    Args:
        command: program and arguments.
        log: open file, or a constant of subprocess.

    Returns:
        Exit code (negative = number of the signal that ended the process) and peak memory in MiB.
    """
    paths = os.pathsep.join(filter(None, [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths}
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
    try:
        return _waited(process) if hasattr(os, "wait4") else _polled(process)
    except BaseException:
        process.kill()
        process.wait()
        raise


def _waited(process: subprocess.Popen) -> tuple[int, float]:
    """Exit code and peak memory from the system's own account."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes on macOS, KiB on Linux
    return process.returncode, usage.ru_maxrss / unit


def _polled(process: subprocess.Popen) -> tuple[int, float]:
    """The same on Windows, which has no such account: its own peak (``peak_wset``), read while the process runs."""
    import psutil

    peak = 0
    with suppress(psutil.Error):
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            memory = watched.memory_info()
            peak = max(peak, getattr(memory, "peak_wset", memory.rss))
            with suppress(subprocess.TimeoutExpired):
                process.wait(POLL_SECONDS)
    return process.wait(), peak / 2**20
