"""Time training steps in several processes that average their gradients, and the share of the communication.

    python scripts/benchmarks/processes.py --processes 1 2
    python scripts/benchmarks/processes.py --processes 1 2 4 --device cuda

Each process has its own batch. CPUs communicate with gloo, GPUs (one per process) with NCCL.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from measure import Row, options, parsed, peak_mib, report, rows, smooth_images  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = options(__doc__)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], help="numbers of processes (1 2)")
    parser.add_argument("--batch_size", type=int, default=8, help="images of a step and process (8)")
    parser.add_argument("--size", type=int, default=96, help="side of the images (96)")
    args = parsed(parser, arguments)
    if args.smoke:
        args.batch_size, args.size = 2, 32
    found: list[Row] = []
    for number in args.processes:
        with mp.Manager() as manager:
            results = manager.dict()
            mp.spawn(train, (number, free_port(), args, results), nprocs=number)
            steps, shares, memory = results["steps"], results["communication"], results["memory"]
        found += rows(
            f"{number} processes, batch {args.batch_size} each",
            {"step": steps, "of it communication": shares},
            {"step": memory, "of it communication": memory},
            number * args.batch_size,
        )
    report("processes", found, args)


def train(rank: int, number: int, port: int, args: argparse.Namespace, results: Any) -> None:
    """Steps of one process; the first one stores their seconds."""
    from custom.networks.reversed_autoencoder import ReversedAutoencoder

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    on_gpu = args.device == "cuda"
    dist.init_process_group("nccl" if on_gpu else "gloo", rank=rank, world_size=number)
    torch.set_num_threads(args.threads)
    device = torch.device("cuda", rank) if on_gpu else torch.device("cpu")
    torch.manual_seed(0)
    network = ReversedAutoencoder(2, 1, args.size, [24, 48, 96, 192], 32).to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    x = smooth_images(args.batch_size, 1, args.size, seed=rank).to(device)
    steps, shares = [], []
    for _ in range(args.repeats + 1):
        dist.barrier()
        started = now(on_gpu)
        optimizer.zero_grad()
        (network(x) - x).square().mean().backward()
        computed = now(on_gpu)
        gradients = [weight.grad for weight in network.parameters() if weight.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, part in zip(gradients, flat.split([gradient.numel() for gradient in gradients])):
            gradient.copy_(part.view_as(gradient) / number)
        communicated = now(on_gpu)
        optimizer.step()
        steps.append(now(on_gpu) - started)
        shares.append(communicated - computed)
    weights = torch.cat([weight.detach().flatten() for weight in network.parameters()])
    highest, lowest = weights.clone(), weights.clone()
    dist.all_reduce(highest, dist.ReduceOp.MAX)
    dist.all_reduce(lowest, dist.ReduceOp.MIN)
    if not torch.equal(highest, lowest):
        sys.exit("the processes have different weights")
    if rank == 0:
        memory = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else peak_mib()
        results.update(steps=steps[1:], communication=shares[1:], memory=memory)
    dist.destroy_process_group()


def now(on_gpu: bool) -> float:
    """The clock, once the GPU has finished."""
    if on_gpu:
        torch.cuda.synchronize()
    return time.perf_counter()


def free_port() -> int:
    """A port that no program listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    main()
