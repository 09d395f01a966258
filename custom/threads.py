"""How many threads a run computes with, within the processor cores that it may use.

The 2-D networks of the bundles are small: a second thread gains little, and on a busy machine threads that wait for one
another make a run several times slower (docs/howto/several_processes.md).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from custom.errors import NomalyError

logger = logging.getLogger(__name__)

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
# The largest network that computes with one thread, as pixels of its input times channels of its widest level.
SMALL = 128 * 128 * 256
_chosen: int | None = None  # by the last automatic choice


def available_cores(system: Path = Path("/")) -> int:
    """Processor cores that this process may use: of its affinity and within the limits of its container, at least 1.

    Args:
        system: root of the file system that has /proc and /sys.
    """
    cores = _affinity() or os.cpu_count() or 1
    return max(1, int(min([cores, *container_limits(system)])))


def _affinity() -> int | None:
    """Cores that the system lets this process run on; None where it does not state them, as on Windows and macOS."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def container_limits(system: Path = Path("/")) -> Iterator[float]:
    """Limits of processor time in cores, of this process's control groups (versions 1 and 2) and all above them."""
    with suppress(OSError):  # no Linux, or no control groups
        for line in (system / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, group = line.split(":", 2)
            root = system / "sys/fs/cgroup" / ("" if not controllers else "cpu")
            if not controllers or "cpu" in controllers.split(","):
                own = root / group.lstrip("/")
                folders = [own, *(parent for parent in own.parents if root == parent or root in parent.parents)]
                yield from (limit for folder in dict.fromkeys([*folders, root]) if (limit := _limit(folder)))


def _limit(folder: Path) -> float | None:
    """Limit of one control group in cores; None without one."""
    with suppress(OSError, ValueError):
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            quota, period = (
                (folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period")
            )
        if float(quota) > 0 and float(period) > 0:  # "max" or -1: no limit
            return float(quota) / float(period)
    return None


def is_small(image_size: int | Sequence[int], widest: int) -> bool:
    """Whether a network is small enough for one thread.

    Args:
        image_size: side of a 2-D network's input in pixels; several numbers: the sides of a 3-D network's window.
        widest: channels of its widest level.
    """
    return isinstance(image_size, int) and image_size**2 * widest <= SMALL


def set_threads(threads: int | None, image_size: int | Sequence[int], widest: int) -> int:
    """Set the number of threads that PyTorch computes with in this process, and return it.

    Args:
        threads: number; None = automatic: unchanged where the user has set it (OMP_NUM_THREADS, MKL_NUM_THREADS or
            torch.set_num_threads), else 1 for a small network and the available physical cores for others.
        image_size: see :func:`is_small`.
        widest: see :func:`is_small`.

    Raises:
        NomalyError: if `threads` is not a positive whole number.
    """
    global _chosen
    import torch

    if threads is not None and (not isinstance(threads, int) or isinstance(threads, bool) or threads < 1):
        raise NomalyError(f"threads must be a whole number of 1 or more, or null (automatic), got {threads!r}.")
    if threads is None and is_set_by_user(torch.get_num_threads()):
        return torch.get_num_threads()
    number = threads or (1 if is_small(image_size, widest) else physical_cores())
    _chosen = number if threads is None else None
    torch.set_num_threads(number)
    logger.debug("PyTorch computes with %d of %d cores", number, available_cores())
    return number


def physical_cores() -> int:
    """Available cores, those with two hardware threads counted once: both compute with the same units."""
    import psutil

    return min(available_cores(), psutil.cpu_count(logical=False) or available_cores())


def is_set_by_user(number: int) -> bool:
    """Whether PyTorch's number of threads is the user's choice, not its default or our automatic one."""
    if any(os.environ.get(name) for name in VARIABLES):
        return True
    return number != _chosen and number not in default_numbers()


def default_numbers() -> set[int]:
    """Numbers of threads that PyTorch may begin with: all cores, physical ones, or those of the affinity."""
    import psutil

    return {number for number in (os.cpu_count(), psutil.cpu_count(logical=False), _affinity()) if number}
