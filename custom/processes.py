"""Several processes that share one run."""

from __future__ import annotations

import torch.distributed as dist


def world_and_rank() -> tuple[int, int]:
    """Number of processes, and which of them this is, counted from 0; (1, 0) for a process alone."""
    return (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)


def is_main_process() -> bool:
    """Whether this process is the only one, or the first of several: the one that writes."""
    return world_and_rank()[1] == 0


def wait_for_all() -> None:
    """Wait until every process of the run is here."""
    if dist.is_initialized():
        dist.barrier()
