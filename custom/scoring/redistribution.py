"""The last step of a clipped histogram, in which what is left of the excess goes out in rounds, as skimage does it.

Round i serves every step-th bin from bin i on, with as large a step as the excess of that histogram allows, and the
next round follows as long as there is excess and a bin below the limit. How many rounds there are depends on the
values, so that each way to record a graph of the computation needs a loop of its own kind; the rounds are the same.
"""

from __future__ import annotations

import torch
from torch import Tensor


def redistribute(histogram: Tensor, excess: Tensor, limit: int) -> Tensor:
    """Hand out the excess of every histogram.

    Args:
        histogram: (T, nbins) int64, no bin above `limit`; may be written over.
        excess: (T, 1) int64 counts to hand out; <= 0 = none.
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
    """One round from bin `start` (): the counts (T, nbins), what is left (T, 1) and the start of the next round."""
    position = torch.arange(counts.shape[1], device=counts.device) - start
    below = counts < limit
    step = torch.floor_divide(below.sum(1, keepdim=True), left).clamp_(min=1)
    served = below & (position >= 0) & (torch.remainder(position, step) == 0)
    return counts + served, left - served.sum(1, keepdim=True), torch.remainder(start + 1, counts.shape[1])


def serve_unfinished(counts: Tensor, left: Tensor, start: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """One round for the histograms that are not done; the others stay."""
    going_on = unfinished(counts, left, limit)
    new_counts, new_left, start = serve(counts, left.clamp(min=1), start, limit)
    return torch.where(going_on, new_counts, counts), torch.where(going_on, new_left, left), start


def unfinished(counts: Tensor, left: Tensor, limit: int) -> Tensor:
    """(T, 1) which histograms take another round."""
    return (left > 0) & (counts < limit).any(1, keepdim=True)


def _compacted(histogram: Tensor, excess: Tensor, limit: int) -> Tensor:
    """With fewer histograms from round to round: most are done soon."""
    active = unfinished(histogram, excess, limit).squeeze(1).nonzero().squeeze(1)
    counts, left, start = histogram[active], excess[active], active.new_zeros(())
    while active.shape[0]:
        counts, left, start = serve(counts, left, start, limit)
        going_on = unfinished(counts, left, limit).squeeze(1)
        histogram[active] = counts  # finished rows keep this value: they are not written again
        active, counts, left = active[going_on], counts[going_on], left[going_on]
    return histogram


def _exported(histogram: Tensor, excess: Tensor, limit: int) -> Tensor:
    """As a loop of torch.export, of which ONNX makes a loop of its own."""

    def going_on(counts: Tensor, left: Tensor, start: Tensor) -> Tensor:
        return unfinished(counts, left, limit).any()

    def body(counts: Tensor, left: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return serve_unfinished(counts, left, start, limit)

    start = torch.zeros((), dtype=torch.long, device=histogram.device)
    return torch.while_loop(going_on, body, (histogram, excess, start))[0]


def _scripted(histogram: Tensor, excess: Tensor, start: Tensor, limit: int) -> Tensor:
    """As a loop of TorchScript, which its tracer keeps."""
    start = start.to(histogram.device)
    while bool(unfinished(histogram, excess, limit).any()):
        histogram, excess, start = serve_unfinished(histogram, excess, start, limit)
    return histogram
