"""Time RA's introspective training step, optionally next to the official implementation.

    python scripts/benchmarks/training_step.py
    python scripts/benchmarks/training_step.py --official_ra PATH --output training.json

Each variant trains in its own process on the same random images, at the architecture of the paper and with its loss
weights. The processes take turns, one step each, so that other load on the machine affects all of them equally; the
first turn is not counted. The output gives medians, the speed-up and the peak memory of each process. With the official
code, the loss terms of the first step are compared as well: same weights, same images, same noise.

The official code (GPL-3) is imported from its own folder, never copied. What its loop does besides the step is left
out: validation, figures and saving at the end of an epoch, and the second copy of the network for them.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, patch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # runs from a clone; inherited by the processes

from custom.commands.options import OptionParser  # noqa: E402

# torch, most of custom and the official code are imported in the processes that need them: each has its own memory.

OFFICIAL, OURS, OURS_AMP = "official, float32", "Nomaly, float32", "Nomaly, bfloat16 autocast"
LEARNING_RATE = 5e-5  # of the official configuration
TOLERANCE = 1e-5  # relative, of loss terms in float32
# Imports of the official modules that a step does not need: the real packages may log or download.
STUBS = "wandb torchinfo lpips umap umap.umap_ torchvision torchvision.transforms plotly seaborn torchio cv2".split()
STUBS += ["scipy.ndimage.filters"]  # gone from newer SciPy
# The official loop keeps its losses in local variables. Key: our name of the term.
OFFICIAL_NAMES = {
    "reconstruction": "loss_rec",
    "kl_real": "lossE_real_kl",
    "embedding": "loss_emb",
    "exp_elbo_reconstructed": "expelbo_rec",
    "exp_elbo_fake": "expelbo_fake",
    "kl_reconstructed": "lossD_rec_kl",
    "kl_fake": "lossD_fake_kl",
    "encoder": "lossE",
    "decoder": "lossD",
}
OFFICIAL_NOISE_ORDER = (1, 0, 2, 3, 4, 5)  # it draws the prior's noise before that of the images


class EndOfBatches(Exception):
    """Leaves a training loop before the end of its epoch."""


class Batches:
    """A data loader that repeats one batch and reports each request for it.

    Args:
        batch: as the training loop expects it from its loader.
        batch_size: number of images.
        on_request: called with the frame of the requesting loop; raises EndOfBatches to stop it.
    """

    def __init__(self, batch: Any, batch_size: int, on_request: Callable) -> None:
        self.batch = batch
        self.batch_size = batch_size
        self.on_request = on_request

    def __iter__(self) -> Iterator:
        return self

    def __len__(self) -> int:
        return 10**6

    def __next__(self) -> Any:
        self.on_request(sys._getframe(1))
        return self.batch


def our_trainer(args: argparse.Namespace, batches: Any, amp: bool) -> Any:
    """Our trainer with frozen norm, as the official code trains."""
    import torch

    from custom.detector.anomaly_detector import AnomalyDetector
    from custom.engines.ra_trainer import ReversedAutoencoderTrainer
    from custom.handlers.loss_log import LossLog
    from custom.losses.reversed_autoencoder import IntrospectiveObjective
    from custom.networks.reversed_autoencoder import ReversedAutoencoder

    model = ReversedAutoencoder(2, 1, args.size, args.channels, args.latent, norm="frozen")
    trainer = ReversedAutoencoderTrainer(
        device=torch.device(args.device),
        max_epochs=1,
        train_data_loader=batches,
        network=AnomalyDetector(model, torch.nn.Identity()),
        encoder_optimizer=torch.optim.Adam(model.encoder.parameters(), LEARNING_RATE),
        decoder_optimizer=torch.optim.Adam(model.decoder.parameters(), LEARNING_RATE),
        objective=IntrospectiveObjective(),
        amp=amp,
        train_handlers=[LossLog()],
    )
    trainer.logger.disabled = True  # it would report the end of the batches as an error
    return trainer


def official_trainer(args: argparse.Namespace, batches: Any) -> Any:
    """The trainer of the official checkout."""
    import torch

    sys.stdout = open(os.devnull, "w")  # it prints its layers and losses
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(args.official_ra))
    sys.modules.update({name: MagicMock() for name in STUBS})
    importlib.import_module("core.Trainer").PerceptualLoss = MagicMock()  # its VGG is for validation
    # It compares widths by identity: equal ones must be one object, or equal neighbours get a convolution more.
    widths = {width: width for width in args.channels}
    channels = [widths[width] for width in args.channels]
    model = importlib.import_module("model_zoo.ra").RA(1, args.latent, channels, args.size)
    settings = {
        "nr_epochs": 1,
        "input_size": (args.size, args.size),
        "optimizer_params": {"lr": LEARNING_RATE},
        "loss": {"module_name": "optim.losses.ln_losses", "class_name": "L2", "params": None},
    }
    data = MagicMock(**{"train_dataloader.return_value": batches, "val_dataloader.return_value": batches})
    module = importlib.import_module("projects.23_ra_midl.RA_Trainer")
    trainer = module.PTrainer(settings, model, data, torch.device(args.device))
    trainer.z_dim = args.latent
    trainer.test_model = None
    return trainer


def random_images(args: argparse.Namespace) -> Any:
    """Images (B, 1, H, W) in [0, 1], the same in every process."""
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    return torch.rand(args.batch_size, 1, args.size, args.size)


def train_in_turns(connection: Connection, variant: str, args: argparse.Namespace) -> None:
    """Process of one variant: a step for each True received, its seconds sent back; at False the peak memory in MiB."""
    import torch

    images = random_images(args)
    on_gpu = torch.device(args.device).type == "cuda"
    started = None

    def on_request(frame: Any) -> None:
        nonlocal started
        if started is not None:
            if on_gpu:
                torch.cuda.synchronize()
            connection.send(time.perf_counter() - started)
        if not connection.recv():
            raise EndOfBatches
        started = time.perf_counter()

    def loop() -> None:
        if variant == OFFICIAL:
            official_trainer(args, Batches((images,), args.batch_size, on_request)).train()
        else:
            our_trainer(args, Batches({"image": images}, args.batch_size, on_request), amp=variant == OURS_AMP).run()

    with suppress(EndOfBatches):
        loop()
    connection.send(torch.cuda.max_memory_allocated() / 2**20 if on_gpu else peak_resident_mib())


def peak_resident_mib() -> float:
    """Largest resident memory of this process so far; the system counts it in KiB, on macOS in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def compare_losses(connection: Connection, args: argparse.Namespace) -> None:
    """Process that sends the terms of the first step as {name: (ours, official)}."""
    import torch

    images = random_images(args)
    noise = torch.randn(6, args.batch_size, args.latent).to(args.device)
    draws = iter([noise[index] for index in OFFICIAL_NOISE_ORDER])
    theirs: dict[str, float] = {}
    requests = 0

    def on_request(frame: Any) -> None:
        nonlocal requests
        requests += 1
        if requests == 2:
            theirs.update({name: frame.f_locals[local].detach().item() for name, local in OFFICIAL_NAMES.items()})
            raise EndOfBatches

    ours = our_trainer(args, [{"image": images}], amp=False)
    official = official_trainer(args, Batches((images,), args.batch_size, on_request))
    copy_weights(official.model, ours.model)
    with patch("torch.randn", lambda size: next(draws)), patch("torch.randn_like", lambda like: next(draws)):
        with suppress(EndOfBatches):
            official.train()
    terms = ours.introspective_step(images.to(args.device), noise)[2]
    connection.send({name: (terms[name].item(), theirs[name]) for name in OFFICIAL_NAMES})


def copy_weights(official: Any, ours: Any) -> None:
    """Copy the official weights, which have the same order, to our network, and make both normalisations equal.

    The layer of the posterior is scaled up first: float32 rounds the small divergences of a new network coarsely.
    """
    import torch

    with torch.no_grad():
        official.encoder.fc.weight.mul_(10)
        for module in official.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_var.fill_(1 - module.eps)
        for target, source in zip(ours.parameters(), official.parameters(), strict=True):
            if target.shape != source.shape:
                sys.exit(f"the official network differs: weights {tuple(source.shape)} for our {tuple(target.shape)}")
            target.copy_(source)


def start_process(target: Callable, *args: Any) -> Connection:
    """Start target(connection, *args) in a process of its own; returns the other end of the connection."""
    context = get_context("spawn")
    here, there = context.Pipe()
    context.Process(target=target, args=(there, *args), daemon=True).start()
    there.close()  # so that the end of the process is seen here
    return here


def measure(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Seconds of every step and peak memory, by variant."""
    variants = [OFFICIAL] * bool(args.official_ra) + [OURS, OURS_AMP]
    processes = {variant: start_process(train_in_turns, variant, args) for variant in variants}
    seconds: dict[str, list[float]] = {variant: [] for variant in variants}
    for _ in range(1 + args.repeats):
        for variant, process in processes.items():
            process.send(True)
            seconds[variant].append(process.recv())
    results = {}
    for variant, process in processes.items():
        process.send(False)
        counted = seconds[variant][1:]
        results[variant] = {"seconds": counted, "median": statistics.median(counted), "peak_mib": process.recv()}
    for result in results.values():
        result["speed_up"] = results[variants[0]]["median"] / result["median"]
    return results


def table(results: dict[str, dict[str, Any]]) -> str:
    """Markdown table of the results; speed-ups are against its first line."""
    lines = ["| Step | Median seconds | Range | Speed-up | Peak memory |", "|---|---|---|---|---|"]
    for variant, result in results.items():
        spread = f"{min(result['seconds']):.3f}-{max(result['seconds']):.3f}"
        figures = f"{result['median']:.3f} | {spread} | {result['speed_up']:.2f} | {result['peak_mib']:.0f} MiB"
        lines.append(f"| {variant} | {figures} |")
    return "\n".join(lines)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = OptionParser(description=__doc__)
    parser.add_argument(
        "--official_ra", type=Path, metavar="PATH", help="checkout of github.com/ci-ber/RA to compare with"
    )
    parser.add_argument("--threads", type=int, default=2, help="CPU threads of each process (default 2)")
    parser.add_argument("--repeats", type=int, default=5, help="counted steps of each variant (default 5)")
    parser.add_argument("--batch_size", type=int, default=8, help="images of a step (default 8)")
    parser.add_argument("--size", type=int, default=128, help="side length of the images (default 128)")
    parser.add_argument("--channels", type=int, nargs="+", default=[64, 128, 256, 512, 512], help="width of each level")
    parser.add_argument("--latent", type=int, default=128, help="latent dimensions (default 128)")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument("--output", type=Path, help="JSON file for the results")
    args = parser.parse_args(arguments)
    if args.official_ra and not (args.official_ra / "model_zoo" / "ra.py").is_file():
        parser.error(
            f"--official_ra must be a checkout of github.com/ci-ber/RA, but {args.official_ra} has no model_zoo/ra.py"
        )
    if min(args.threads, args.repeats, args.batch_size) < 1:
        parser.error("--threads, --repeats and --batch_size must be at least 1")
    return args


def main(arguments: list[str] | None = None) -> None:
    """Measure, compare, print and write."""
    args = parse(arguments)
    record = {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}
    report = {"settings": record, "machine": platform.platform(), "cpus": os.cpu_count()}
    try:
        report["steps"] = measure(args)
        if args.official_ra:
            report["first_step"] = start_process(compare_losses, args).recv()
    except (EOFError, ConnectionError):
        sys.exit("a measured process ended early: see its message above, or use more memory or a smaller --batch_size")
    print(table(report["steps"]))
    if args.official_ra:
        difference = max(abs(ours - theirs) / abs(theirs) for ours, theirs in report["first_step"].values())
        report["largest_relative_difference"] = difference
        print(f"\nLargest relative difference of a loss at the first step: {difference:.1e}, allowed {TOLERANCE:.0e}")
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if report.get("largest_relative_difference", 0) > TOLERANCE:
        sys.exit("the losses differ: the two implementations do not compute the same step")


if __name__ == "__main__":
    main()
