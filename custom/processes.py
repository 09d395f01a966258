"""Processes that share one run."""

from __future__ import annotations

from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")


def world_and_rank() -> tuple[int, int]:
    """Number of processes and rank of this one, from 0; (1, 0) without torch.distributed."""
    return (dist.get_world_size(), dist.get_rank()) if dist.is_initialized() else (1, 0)


def is_main_process() -> bool:
    """Whether this is the process that writes: the only one, or the first of several."""
    return world_and_rank()[1] == 0


def wait_for_all() -> None:
    """Wait until every process of the run has reached this point."""
    if dist.is_initialized():
        dist.barrier()


def of_the_main_process(value: T) -> T:
    """The value that the first process has, in every process."""
    if not dist.is_initialized():
        return value
    values = [value]
    dist.broadcast_object_list(values, src=0)
    return values[0]
