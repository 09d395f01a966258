"""What the inferers share: covering a study with windows, within the available memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer
from monai.utils import BlendMode, ensure_tuple_rep

from custom.errors import NomalyError
from custom.scoring.score import filled

logger = logging.getLogger(__name__)

# Messages of the allocators of torch, its back ends and MONAI; CUDA also raises torch.OutOfMemoryError.
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "Seems to be OOM")


class WindowInferer(SlidingWindowInferer):
    """Cover (B, C, X, Y, Z) with overlapping windows whose results are blended with Gaussian weights.

    A study covered by one window passes through the network exactly once, and its values are returned unchanged. A
    network may return one tensor (N, C', *window) or a tuple of them; the inferer then returns one tensor
    (B, C', X, Y, Z) or a tuple of them. The tensors of a tuple are stitched as channels of one, so that they share a
    single weight map. Vectors (N, L) may follow them; of these the mean over the windows of each study is returned,
    (B, L).

    With `full_batches`, the network always sees exactly `sw_batch_size` windows: a smaller batch is filled up with
    copies of its last window, whose results are dropped. The results of a window then do not depend on what else is in
    its batch, bit for bit, because the kernels of convolutions and matrix products are chosen by the batch size.

    If a batch of windows does not fit into memory, the study is started again with half the batch size, which is kept
    for later studies; the result is that of the smaller batch.

    Args:
        dims: number of axes of a window: 2 (X, Y) or 3 (X, Y, Z).
        window: its sides in pixels, one number for equal sides; None = each study is one window.
        overlap: fraction of a window that its neighbour also covers; one number, or one per axis of the window.
        sw_batch_size: number of windows in one call of the network.
        full_batches: fill up each batch.
        kwargs: further arguments of monai.inferers.SlidingWindowInferer: `sw_device`, where the network runs,
            `device`, where results are stitched (both default to the input's device), `buffer_steps`.

    Raises:
        NomalyError: if the study is smaller than the window, or not even one window fits into memory.
        ValueError: if the input does not have five axes.
    """

    def __init__(
        self,
        dims: int,
        window: int | Sequence[int] | None = None,
        overlap: float | Sequence[float] = 0.5,
        sw_batch_size: int = 8,
        full_batches: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(roi_size=(1,) * dims, sw_batch_size=sw_batch_size, overlap=overlap, **kwargs)
        self.dims = dims
        self.full_batches = full_batches
        self.window = None if window is None else ensure_tuple_rep(window, dims)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor | tuple[torch.Tensor, ...]:
        self._fit_window(inputs)
        before = self.sw_batch_size
        widths: list[int] = []
        vectors: list[tuple[torch.Tensor, ...]] = []
        while True:
            try:
                least = self.sw_batch_size if self.full_batches else 1
                stitched = self.stitch(inputs, joined(network, widths, vectors, least), *args, **kwargs)
                break
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self.sw_batch_size == 1:
                    self.sw_batch_size = before  # a smaller study may fit
                    raise NomalyError(self._too_large(inputs)) from error
            vectors.clear()
            # only after the except block: until then the error keeps the memory of the failed pass alive
            self.sw_batch_size //= 2
            torch.cuda.empty_cache()
        if self.sw_batch_size < before:
            message = "A batch of %d windows does not fit into memory: using %d for this study and all later ones."
            logger.warning(message, before, self.sw_batch_size)
        if not widths:
            return stitched
        means = [torch.cat(parts).unflatten(0, (len(inputs), -1)).mean(1) for parts in zip(*vectors)]
        return *stitched.split(widths, 1), *means

    def stitch(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Results (B, C', X, Y, Z) of all windows, blended."""
        return super().__call__(inputs, network, *args, **kwargs)

    def _fit_window(self, inputs: torch.Tensor) -> None:
        """Check the size of this study and set its window and blending."""
        if inputs.ndim != 5:
            raise ValueError(
                f"{type(self).__name__} needs (B, C, X, Y, Z), got shape {tuple(inputs.shape)}. Add a Z axis."
            )
        sides = tuple(inputs.shape[2 : 2 + self.dims])
        window = self.window or sides
        if any(side < least for side, least in zip(sides, window)):
            what, unit = ("slice", "pixels") if self.dims == 2 else ("volume", "voxels")
            raise NomalyError(
                f"each side of a {what} must have at least the window's {list(window)} {unit}, got {list(sides)}: crop "
                "less, resize the study to a larger size, or lower image_size."
            )
        self.roi_size = window
        # one window needs no blending: its values are returned unchanged
        self.mode = BlendMode.CONSTANT if window == sides else BlendMode.GAUSSIAN

    def _too_large(self, inputs: torch.Tensor) -> str:
        """Error text when not even one window fits."""
        sides = ensure_tuple_rep(self.roi_size, self.dims)
        size, device = " x ".join(map(str, sides)), torch.device(self.sw_device or inputs.device).type
        elsewhere = "" if device == "cpu" else ", or device cpu"
        return (
            f"the network with one window of {size} must fit into the memory of the device {device}, but does not: "
            f"choose a smaller image_size, for MemMC-MAE fewer masks_per_pass{elsewhere}."
        )


def joined(
    network: Callable[..., Any], widths: list[int], vectors: list[tuple[torch.Tensor, ...]], least: int = 1
) -> Callable[..., torch.Tensor]:
    """Wrap a network to return its results (N, C_i, ...) as one tensor, their widths in `widths`; its results (N, L)
    are added to `vectors`.

    The network sees at least `least` windows; copies of the last one fill up smaller batches.
    """

    def _call(windows: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        count = len(windows)
        if count < least:
            windows = filled(windows, least)
        answer = network(windows, *args, **kwargs)
        single = isinstance(answer, torch.Tensor)
        parts = (answer,) if single else tuple(part for part in answer if part.ndim > 2)
        widths[:] = [] if single else [part.shape[1] for part in parts]
        vectors.append(() if single else tuple(part[:count] for part in answer if part.ndim == 2))
        # always a copy: MONAI applies weights in place, and an answer may be the study itself
        return torch.cat([part[:count] for part in parts], 1)

    return _call


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a device ran out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in OUT_OF_MEMORY)
