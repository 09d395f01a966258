"""Several processes."""

from __future__ import annotations

import torch.distributed as dist


def is_main_process() -> bool:
    """Whether this process is the only one, or the first of several: the one that writes."""
    return not dist.is_initialized() or dist.get_rank() == 0
