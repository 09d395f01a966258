"""The last step of histogram clipping: the remaining excess is distributed over the bins in rounds, as in skimage.

Round i adds one count to every step-th bin from bin i on, with a step that depends on the excess of that histogram;
rounds continue while there is excess and a bin below the limit. The number of rounds depends on the values, so each
way of recording the computation as a graph needs its own kind of loop; the rounds are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor


def redistribute(histogram: Tensor, excess: Tensor, limit: int) -> Tensor:
    """Distribute the excess of every histogram.

    Args:
        histogram: (T, nbins) int64, no bin above `limit`; may be overwritten.
        excess: (T, 1) int64 counts to distribute; <= 0 = none.
        limit: count at which a bin is full.

    Returns:
        (T, nbins); equal in the graphs that torch.export and torch.jit.trace record.
    """
    if torch.compiler.is_exporting():
        return _exported(histogram, excess, limit)
    if torch.jit.is_tracing():
        return torch.jit.script(_scripted)(histogram, excess, torch.zeros((), dtype=torch.long), limit)
    return _compacted(histogram, excess, limit)


def serve(counts: Tensor, left: Tensor, start: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """One round from bin `start` (): the counts (T, nbins), the remaining excess (T, 1) and the next round's start."""
    position = torch.arange(counts.shape[1], device=counts.device) - start
    below = counts < limit
    step = torch.floor_divide(below.sum(1, keepdim=True), left).clamp_(min=1)
    served = below & (position >= 0) & (torch.remainder(position, step) == 0)
    return counts + served, left - served.sum(1, keepdim=True), torch.remainder(start + 1, counts.shape[1])


def serve_unfinished(counts: Tensor, left: Tensor, start: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """One round for the unfinished histograms; the others stay unchanged."""
    pending = unfinished(counts, left, limit)
    new_counts, new_left, start = serve(counts, left.clamp(min=1), start, limit)
    return torch.where(pending, new_counts, counts), torch.where(pending, new_left, left), start


def unfinished(counts: Tensor, left: Tensor, limit: int) -> Tensor:
    """(T, 1), True for histograms that need another round."""
    return (left > 0) & (counts < limit).any(1, keepdim=True)


def _compacted(histogram: Tensor, excess: Tensor, limit: int) -> Tensor:
    """Plain loop over the histograms that are not finished yet: most finish early."""
    active = unfinished(histogram, excess, limit).squeeze(1).nonzero().squeeze(1)
    counts, left, start = histogram[active], excess[active], active.new_zeros(())
    while active.shape[0]:
        counts, left, start = serve(counts, left, start, limit)
        pending = unfinished(counts, left, limit).squeeze(1)
        histogram[active] = counts  # finished rows keep this value: they are not written again
        active, counts, left = active[pending], counts[pending], left[pending]
    return histogram


def _exported(histogram: Tensor, excess: Tensor, limit: int) -> Tensor:
    """As a while_loop for torch.export, which becomes a Loop in ONNX."""

    def _pending(counts: Tensor, left: Tensor, start: Tensor) -> Tensor:
        return unfinished(counts, left, limit).any()

    def _body(counts: Tensor, left: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return serve_unfinished(counts, left, start, limit)

    start = torch.zeros((), dtype=torch.long, device=histogram.device)
    return torch.while_loop(_pending, _body, (histogram, excess, start))[0]


def _scripted(histogram: Tensor, excess: Tensor, start: Tensor, limit: int) -> Tensor:
    """As a TorchScript loop, which tracing preserves."""
    start = start.to(histogram.device)
    while bool(unfinished(histogram, excess, limit).any()):
        histogram, excess, start = serve_unfinished(histogram, excess, start, limit)
    return histogram
