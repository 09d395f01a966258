"""Time `nomaly detect` with all of its files against the bare network over the same number of images, or of slices.

    python scripts/benchmarks/detect.py ra_brain --images 1000 --num_workers 1
    python scripts/benchmarks/detect.py ra_brain --volume 150

Images are random PNG files of 224 x 224 pixels, a volume is one random NIfTI file; every study is scored. The rate of
`nomaly detect` counts from the first to the last study on disk, without the start of the program and the report; the
whole command is another row. Peak memory is that of `nomaly detect`; runs with several `--images` show whether it grows
with their number.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from measure import ROOT, Row, options, parsed, peak_mib, report, rows, smooth_images  # noqa: E402
from scoring import channels_of, evaluator_of  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = options(__doc__, repeats=1)
    parser.add_argument("bundle", nargs="?", default="ra_brain", help="name of a bundle (ra_brain)")
    parser.add_argument("--images", type=int, default=1000, help="number of 2-D images (1000)")
    parser.add_argument("--volume", type=int, metavar="SLICES", help="one volume of so many slices instead")
    parser.add_argument("--num_workers", type=int, default=1, help="processes that read (1)")
    args = parsed(parser, arguments)
    if args.smoke:
        args.images = 3
    report(f"detect_{args.bundle}{'_volume' if args.volume else ''}", measure(args), args)


def measure(args: argparse.Namespace) -> list[Row]:
    """Rows of the bare network, of the studies, and of the whole command."""
    number = args.volume or args.images
    bare: list[float] = []
    peak = 0.0
    inside: list[float] = []
    whole: list[float] = []
    network = evaluator_of(args.bundle, args.device).detector.reconstructor
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder) / "in", args, channels_of(network))
        for turn in range(args.repeats):
            bare.append(network_seconds(network, number, args))
            seconds, found, mib = detect(Path(folder) / "in", Path(folder) / f"out{turn}", args)
            peak = max(peak, mib)
            whole.append(seconds)
            inside.append(found)
    memory = {"bare network": peak_mib(), "studies": peak, "whole command": peak}
    seconds = {"bare network": bare, "studies": inside, "whole command": whole}
    if args.volume:
        del seconds["studies"]
    what = f"a volume of {number} slices" if args.volume else f"{number} images"
    return rows(f"{what}, {args.bundle}, {args.num_workers} readers", seconds, memory, number)


def write_inputs(folder: Path, args: argparse.Namespace, channels: int) -> None:
    """Write the studies."""
    folder.mkdir()
    if args.volume:
        volume = smooth_images(args.volume, 1, 192)[:, 0].permute(1, 2, 0).numpy()
        nibabel.save(nibabel.Nifti1Image(volume.astype(np.float32), np.eye(4)), folder / "head.nii.gz")
        return
    for number, image in enumerate(smooth_images(args.images, channels, 224)):
        pixels = (image * 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels[..., 0] if channels == 1 else pixels).save(folder / f"{number:05}.png")


def network_seconds(network: torch.nn.Module, number: int, args: argparse.Namespace) -> float:
    """Seconds of the network over so many slices, in batches of 64."""
    x = smooth_images(min(number, 64), channels_of(network), network.image_size[0]).to(args.device)
    with torch.no_grad():
        network.reconstruct(x[:2])
        started = time.perf_counter()
        for at in range(0, number, 64):
            network.reconstruct(x[: number - at]).sum().item()
    return time.perf_counter() - started


# In a small process of its own: the peak memory of a process begins with that of the one that starts it.
MEASURED = "import sys; from custom.commands.measured_process import measured; print(*measured(sys.argv[1:], 2))"


def detect(studies: Path, output: Path, args: argparse.Namespace) -> tuple[float, float, float]:
    """Seconds of the whole command and of its studies, and peak memory in MiB."""
    command = [sys.executable, "-c", MEASURED]
    command += [sys.executable, "-m", "custom.cli", "detect", args.bundle, str(studies), "--output", str(output)]
    command += ["--num_workers", str(args.num_workers), "--device", f"$torch.device({args.device!r})"]
    command += ["--evaluator#score_all", "true", "--threads", str(args.threads)]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
    seconds = time.perf_counter() - started
    code, peak = done.stdout.split() or ("1", "0")
    if code != "0":
        sys.exit(f"nomaly detect failed: {done.stderr[-500:]}")
    times = sorted(path.stat().st_mtime for path in (output / "records").glob("*.json"))
    span = times[-1] - times[0] if len(times) > 1 else seconds
    return seconds, max(span * len(times) / max(len(times) - 1, 1), 1e-3), float(peak)


if __name__ == "__main__":
    main()
