"""Mutated files and a reader process that survives what they do: crashes and hangs are outcomes like any other.

As a program it reads studies below folders, given one per line on standard input, and prints one JSON object for each:
folder, outcome, seconds of processor time, and memory (MiB) by which the process grew.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np

LENGTHS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
FREE_MEMORY = 64 * 2**20  # that the reader is made to believe
SECONDS = 60  # a worker without a result for so long is stopped
ADDRESS_SPACE = 2**30  # of a worker beyond what it starts with: a damaged length may ask for 4 GiB


def mutate(content: bytes, header: int, rng: np.random.Generator) -> bytes:
    """Flip bits of the header, overwrite a length in it, or cut the file off.

    Args:
        content: of a valid file.
        header: number of bytes before its pixels.
        rng: source of randomness.
    """
    changed = bytearray(content)
    kind = rng.integers(3)
    if kind == 0:
        for _ in range(rng.integers(1, 9)):
            changed[rng.integers(header)] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        width = int(rng.choice([1, 2, 4]))
        at = int(rng.integers(header - width))
        value = int(rng.choice(LENGTHS)) % 256**width
        changed[at : at + width] = value.to_bytes(width, str(rng.choice(["little", "big"])))
    else:
        del changed[int(rng.integers(1, len(changed))) :]
    return bytes(changed)


def read_folders(folders: Sequence[Path], working_directory: Path) -> list[dict]:
    """Outcome of every folder, in order, from a process that runs, and has its temporary files, in a directory."""
    paths = {"TMPDIR": str(working_directory), "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, __file__],
        input="\n".join(map(str, folders)),
        env=os.environ | {"OMP_NUM_THREADS": "1"} | paths,
        cwd=working_directory,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def outcome(folder: Path) -> str:
    """Read all studies below a folder: "ok", "refused", or the exception that should not occur."""
    from custom.errors import NomalyError
    from custom.studies.discovery import find_studies
    from custom.studies.loading import LoadStudy

    try:
        for item in find_studies(folder):
            LoadStudy(1, min_size=1)(item["image"])
    except NomalyError:
        return "refused"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "ok"


def work(folders: Sequence[Path], log: int) -> None:
    """Read folders and write a line for each to the log."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ADDRESS_SPACE, hard))
    for folder in folders:
        memory, started = peak_memory(), time.process_time()
        result = outcome(folder)
        seconds = round(time.process_time() - started, 3)
        report(log, folder, result, seconds, peak_memory() - memory)


def report(log: int, folder: Path, result: str, seconds: float, memory: int) -> None:
    """Write one line to the log."""
    line = {"folder": str(folder), "outcome": result, "seconds": seconds, "memory": memory}
    os.write(log, json.dumps(line).encode() + b"\n")


def peak_memory() -> int:
    """Peak memory of this process, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**10


def supervise(folders: Sequence[Path], log: Path) -> None:
    """Let workers read all folders; the folder that stops a worker is reported by the signal that ended it."""
    stream = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    done = 0
    while done < len(folders):
        worker = os.fork()
        if worker == 0:
            work(folders[done:], stream)
            os._exit(0)
        status = wait(worker, log)
        done = len(log.read_text().splitlines())
        if done < len(folders):
            name = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {status}"
            report(stream, folders[done], f"process ended: {name}", 0, 0)
            done += 1


def wait(worker: int, log: Path) -> int:
    """Wait for a worker's end and return its status; stop it if its log does not grow."""
    size, since = 0, time.monotonic()
    while True:
        pid, status = os.waitpid(worker, os.WNOHANG)
        if pid:
            return status
        if log.stat().st_size != size:
            size, since = log.stat().st_size, time.monotonic()
        elif time.monotonic() - since > SECONDS:
            os.kill(worker, signal.SIGXCPU)
        time.sleep(0.05)


def main() -> None:
    """Read the folders of standard input."""
    folders = [Path(line) for line in sys.stdin.read().splitlines()]
    import itk

    from custom.studies import formats, loading  # noqa: F401  # imported once, before the workers are forked

    itk.GDCMImageIO.New()  # loads the modules of ITK
    formats.psutil = SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=FREE_MEMORY))
    log = folders[0].parent.parent / "outcomes.jsonl"
    supervise(folders, log)
    print(log.read_text())


if __name__ == "__main__":
    main()
