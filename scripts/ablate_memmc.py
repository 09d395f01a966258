"""Measure the benefit and the cost of memory and multi-level cross-attention in a MemMC-MAE bundle.

    python scripts/ablate_memmc.py memmc_pneumonia --dataset_dir DATA --output results/ablation --max_epochs 40
    python scripts/ablate_memmc.py memmc_pneumonia --steps_only

Each variant is trained with the same seed and schedule, calibrated and evaluated on the data set's test section
(without --dataset_dir on a synthetic phantom). Training steps are timed separately: the variants take turns, one step
each, on random images, so that other load on the machine affects all of them equally. The results are ablation.md and
ablation.csv. Run it again to resume: trainings continue where they stopped, evaluations are repeated. Any parameter of
the bundle's config can be overridden, for example --mask_ratio 0.5.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from custom.commands.bundle import find_bundle, path_of, run_bundle
from custom.commands.demo import split_overrides
from custom.commands.options import OptionParser, add_switch
from custom.commands.overrides import parse_overrides
from custom.errors import find_mistake

VARIANTS: dict[str, dict[str, Any]] = {
    "plain masked autoencoder": {"memory_slots": 0, "levels": 0},
    "cross-attention to the last level": {"memory_slots": 0, "levels": 1},
    "memory": {"levels": 0},
    "multi-level": {"memory_slots": 0},
    "memory and multi-level (MemMC)": {},
}
REFERENCE = "cross-attention to the last level"  # the same network without memory and levels
COLUMNS = (
    "variant",
    "parameters",
    "step_seconds",
    "step_ratio",
    "validation_auroc",
    "healthy_error",
    "auroc",
    "low",
    "high",
)


def time_steps(bundle: str, overrides: dict[str, Any], batch_size: int | None, repeats: int) -> dict[str, dict]:
    """Median seconds per training step and number of parameters, by variant; the first turn is not counted."""
    import torch
    from monai.bundle import ConfigParser

    from custom.losses.masked_autoencoder import MaskedPatchLoss
    from custom.networks.patches import patchify

    networks = {}
    for name, parameters in VARIANTS.items():
        parser = ConfigParser()
        parser.read_config(str(path_of(find_bundle(bundle), "train")))
        parser.update({"device": "cpu", **overrides, **parameters})
        networks[name] = parser.get_parsed_content("network_def").reconstructor
        batch_size = batch_size or parser["batch_size"]
    optimizers = {name: torch.optim.AdamW(network.parameters(), fused=True) for name, network in networks.items()}
    loss = MaskedPatchLoss()
    first = networks[REFERENCE]
    images = torch.rand(batch_size, first.in_channels, *first.image_size)

    def step(name: str) -> float:
        started = time.perf_counter()
        network = networks[name]
        visible = network.draw_visible(batch_size)
        optimizers[name].zero_grad(set_to_none=True)
        loss(network(images, visible), patchify(images, network.patch_size), visible)[0].backward()
        optimizers[name].step()
        return time.perf_counter() - started

    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for _ in range(1 + repeats):
        for name in networks:
            seconds[name].append(step(name))
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    return {
        name: {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "step_seconds": medians[name],
            "step_ratio": medians[name] / medians[REFERENCE],
        }
        for name, network in networks.items()
    }


def train_and_evaluate(
    bundle: str, folder: Path, data: dict[str, Any], overrides: dict[str, Any], parameters: dict[str, Any]
) -> dict[str, float]:
    """Validation results of the best checkpoint, and image AUROC on the test section with its interval."""
    from custom.detector.weights import read_tensors

    models = {"ckpt_dir": str(folder / "models")}
    run_bundle(bundle, ["train"], {**data, **models, **overrides, **parameters, "output_dir": str(folder / "train")})
    shared = split_overrides(bundle, {**overrides, **parameters})
    calibration = {"calibration_file": str(folder / "calibration.json"), "overwrite": True}
    run_bundle(bundle, ["calibrate"], {**data, **models, **shared["calibrate"], **calibration})
    results = {**calibration, "output_dir": str(folder / "evaluation")}
    run_bundle(bundle, ["evaluate"], {**data, **models, **shared["evaluate"], **results})
    best = read_tensors(folder / "models" / "checkpoint.pt")["best"]
    auroc = json.loads((folder / "evaluation" / "metrics.json").read_text(encoding="utf-8"))["image"]["auroc"]
    return {
        "validation_auroc": best["synthetic_auroc"],
        "healthy_error": best["healthy_error"],
        "auroc": auroc["value"],
        "low": auroc["low"],
        "high": auroc["high"],
    }


def table(rows: list[dict[str, Any]], note: str) -> str:
    """Markdown table of the rows, with a note on data and settings."""
    lines = [
        "| variant | parameters | step, s | ratio | validation AUROC (synthetic) | healthy error | test AUROC |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        figures = [f"{row['parameters'] / 1e6:.2f} M", f"{row['step_seconds']:.3f}", f"{row['step_ratio']:.2f}"]
        if "auroc" in row:
            figures += [f"{row['validation_auroc']:.3f}", f"{row['healthy_error']:.1f}"]
            figures += [f"{row['auroc']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"]
        else:
            figures += ["-"] * 3
        lines.append(f"| {' | '.join([row['variant'], *figures])} |")
    return "\n".join([*lines, "", note])


def parse(arguments: list[str] | None = None) -> tuple[argparse.Namespace, dict[str, Any]]:
    """Command line: options of this script, and parameters of the bundle."""
    parser = OptionParser(description=__doc__)
    parser.add_argument("bundle", metavar="BUNDLE", help="a MemMC-MAE bundle, such as memmc_pneumonia")
    parser.add_argument("--dataset_dir", help="data set: folder with datalist.json (default: a synthetic phantom)")
    parser.add_argument(
        "--output", type=Path, default=Path("results/ablation"), metavar="FOLDER", help="(default: %(default)s)"
    )
    add_switch(parser, "steps_only", "only time training steps, without training")
    parser.add_argument("--repeats", type=int, default=11, help="counted steps of each variant (default 11)")
    parser.add_argument("--batch_size", type=int, help="images of a timed step (default: the bundle's batch_size)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    args, words = parser.parse_known_args(arguments)
    if min(args.repeats, args.batch_size or 1, args.threads) < 1:
        parser.error("--repeats, --batch_size and --threads must be at least 1")
    return args, parse_overrides(words)


def run(args: argparse.Namespace, overrides: dict[str, Any]) -> None:
    """Time, train, evaluate, print and write."""
    import torch

    torch.set_num_threads(args.threads)
    steps = time_steps(args.bundle, overrides, args.batch_size, args.repeats)
    data = {"dataset_dir": args.dataset_dir} if args.dataset_dir else {}
    rows = []
    for number, (name, parameters) in enumerate(VARIANTS.items()):
        row = {"variant": name, **steps[name]}
        if not args.steps_only:
            row |= train_and_evaluate(args.bundle, args.output / f"variant_{number}", data, overrides, parameters)
        rows.append(row)
    trained_on = f"data set {Path(args.dataset_dir).name}" if args.dataset_dir else "SYNTHETIC phantom"
    source = "timed on random images, not trained" if args.steps_only else f"{trained_on}, one seed each"
    note = f"{args.bundle}: {source}; parameters {overrides or 'unchanged'}; {args.threads} threads."
    text = table(rows, note)
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / "ablation.md").write_text(text + "\n", encoding="utf-8")
    with open(args.output / "ablation.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    print(text)


def main(arguments: list[str] | None = None) -> None:
    """Run; a mistake of the user is reported in one sentence."""
    try:
        run(*parse(arguments))
    except Exception as error:  # MONAI wraps a config component's error in its own
        mistake = find_mistake(error)
        if mistake is None:
            raise
        sys.exit(f"ablate_memmc: {mistake}")


if __name__ == "__main__":
    main()
