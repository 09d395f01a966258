"""Run the benchmarks one after another; one that fails does not stop the others.

    python scripts/benchmarks/all.py --output DIR
    python scripts/benchmarks/all.py --device cuda --output DIR     # on a GPU, in about 90 seconds
    python scripts/benchmarks/all.py --smoke

Each writes its table as CSV to the folder; at the end stands which of them failed.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from measure import options, parsed  # noqa: E402

# Names with their arguments; those of the first list also have a meaning on a GPU, the most important first.
ON_EACH_DEVICE = [
    ("training.py",),
    ("scoring.py", "ra_brain"),
    ("scoring.py", "memmc_pneumonia"),
    ("masks.py",),
    ("detect.py", "ra_brain"),
    ("maps.py",),
    ("growth.py",),
    ("processes.py",),
]
ON_CPUS = [("detect.py", "ra_brain", "--volume", "150"), ("pixels.py",), ("startup.py",)]
LIMIT = 600  # seconds of one benchmark


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all and say which failed."""
    parser = options(__doc__, repeats=3)
    parser.add_argument("--official_ra", metavar="PATH", help="checkout of github.com/ci-ber/RA for the training step")
    args = parsed(parser, arguments)
    on_gpu = args.device != "cpu"
    shared = ["--device", args.device, "--threads", str(args.threads), "--repeats", str(args.repeats)]
    if args.smoke:
        shared.append("--smoke")
    if args.output:
        shared += ["--output", str(args.output)]
    failed = []
    for name, *words in [*ON_EACH_DEVICE, *([] if on_gpu else ON_CPUS)]:
        if name == "processes.py" and on_gpu:
            words += ["--processes", "1"]
        failed += run([name, *words, *shared])
    failed += run(["training_step.py", *training_words(args)])
    print(f"failed: {', '.join(failed) or 'none'}", flush=True)
    sys.exit(bool(failed))


def training_words(args: argparse.Namespace) -> list[str]:
    """Arguments of the benchmark of the training step."""
    words = ["--device", args.device, "--threads", str(args.threads), "--repeats", str(args.repeats)]
    if args.smoke:
        words += "--batch_size 2 --size 16 --channels 4 8 --latent 8".split()
    if args.official_ra:
        words += ["--official_ra", args.official_ra]
    if args.output:
        words += ["--output", str(args.output / "training_step.json")]
    return words


def run(words: Sequence[str]) -> list[str]:
    """Run one benchmark; its name if it failed."""
    print(f"\n## {' '.join(words)}\n", flush=True)
    started = time.perf_counter()
    try:
        code = subprocess.run([sys.executable, HERE / words[0], *words[1:]], timeout=LIMIT).returncode
    except subprocess.TimeoutExpired:
        code = 124
    print(f"({time.perf_counter() - started:.0f} s)", flush=True)
    return [words[0]] if code else []


if __name__ == "__main__":
    main()
