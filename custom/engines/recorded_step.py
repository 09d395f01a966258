"""A training step recorded once on a GPU and replayed from then on."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import torch

from custom.errors import NomalyError
from custom.processes import world_and_rank

Step = Callable[[torch.Tensor], dict[str, Any]]


class RecordedStep:
    """Run a training step; on a GPU record it as one CUDA graph and replay that.

    A step launches hundreds of small kernels, and Python takes longer to launch them than the GPU to run them. A graph
    launches them all at once. The first steps of a phase run directly and are steps of the training like all others, so
    that memory and algorithms are settled before the recording. The numbers are those of direct steps: kernels, their
    order and their random numbers are the same.

    Several processes, whose steps exchange gradients, and a CPU run every step directly.

    Args:
        step: the step, from images (B, C, *S) to a dictionary of tensors; it must not wait for the device.
        optimizers: those that the step uses.
        device: on which it runs.
        enabled: whether to record at all.
        direct: number of direct steps at the start of a phase.
    """

    def __init__(
        self,
        step: Step,
        optimizers: Sequence[torch.optim.Optimizer],
        device: torch.device,
        enabled: bool = True,
        direct: int = 4,
    ) -> None:
        self.step = step
        self.optimizers = optimizers
        self.device = device
        self.enabled = enabled and device.type == "cuda" and world_and_rank()[0] == 1
        self.direct = direct
        self.phase: Hashable = None
        self.count = 0
        self.stream = torch.cuda.Stream(device) if self.enabled else None
        self.graph: Any = None
        self.images = torch.empty(0)
        self.results: dict[str, Any] = {}

    def __call__(self, images: torch.Tensor, phase: Hashable = None) -> dict[str, Any]:
        """Results of a step on images (B, C, *S); those of a replayed step are overwritten by the next.

        Args:
            images: training images; each of their shapes is recorded anew.
            phase: the part of the training; steps of another phase do something else and are recorded anew.
        """
        phase = (phase, images.shape)
        if phase != self.phase:
            self.phase, self.count, self.graph = phase, 0, None
            for optimizer in self.optimizers:
                set_capturable(optimizer, self.enabled, self.device)
        self.count += 1
        if self.stream is None:
            return self.step(images)
        if self.count <= self.direct:
            return self.aside(images)
        if self.graph is None:
            self.record(images)
        self.images.copy_(images)
        self.graph.replay()
        return self.results

    def aside(self, images: torch.Tensor) -> dict[str, Any]:
        """A direct step on the stream of the recording, to which autograd's nodes then belong."""
        assert self.stream is not None
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            results = self.step(images)
        current.wait_stream(self.stream)
        return results

    def record(self, images: torch.Tensor) -> None:
        """Record the step; nothing is computed yet."""
        self.images = images.clone()
        self.graph = torch.cuda.CUDAGraph()
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)  # gradients get places in the graph's memory
        try:
            with torch.cuda.graph(self.graph, stream=self.stream):
                self.results = self.step(self.images)
        except RuntimeError as error:
            raise NomalyError(
                "the training step could not be recorded as a CUDA graph: train with record_step false "
                f"({str(error).splitlines()[0]})."
            ) from error


def set_capturable(optimizer: torch.optim.Optimizer, capturable: bool, device: torch.device) -> None:
    """Let an optimiser be recorded, with its rate on the device, or not; also one resumed from another device."""
    for group in optimizer.param_groups:
        rate = float(group["lr"])
        if "capturable" in group:
            group["capturable"] = capturable
        group["lr"] = torch.tensor(rate, device=device) if capturable else rate
