"""What the inferers share: a study covered by windows, in the memory that there is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import SlidingWindowInferer
from monai.utils import BlendMode, ensure_tuple_rep

from custom.errors import NomalyError

logger = logging.getLogger(__name__)

# What the allocators of torch, its back ends and MONAI say; of CUDA's it is torch.OutOfMemoryError, too.
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "Seems to be OOM")


class WindowInferer(SlidingWindowInferer):
    """Cover (B, C, X, Y, Z) by overlapping windows whose results are blended with Gaussian weights.

    Where one window covers all, it goes through the network exactly once and its values come out bit for bit. A
    network may return one tensor (N, C', *window) or a tuple of them; the inferer then returns one tensor
    (B, C', X, Y, Z) or a tuple of them. The tensors of a tuple are stitched as channels of one, so that a single map of
    weights serves them all.

    Where the memory does not hold a batch of windows, the study is begun again with half of them, and this stays for
    later studies; so the result is that of the smaller batch.

    Args:
        dims: axes that a window has: 2 (X, Y) or 3 (X, Y, Z).
        window: its sides in pixels, one number for equal sides; None = any, each study is one window.
        overlap: share of a window that its neighbour covers, too; one number, or one for each axis of the window.
        sw_batch_size: number of windows in one call of the network.
        kwargs: further options of monai.inferers.SlidingWindowInferer: `sw_device`, to which windows are sent,
            `device`, on which results are stitched (both: the input's own), `buffer_steps`.

    Raises:
        NomalyError: if the study is smaller than the window, or the memory does not hold a single one.
        ValueError: if the input does not have five axes.
    """

    def __init__(
        self,
        dims: int,
        window: int | Sequence[int] | None = None,
        overlap: float | Sequence[float] = 0.5,
        sw_batch_size: int = 8,
        **kwargs: Any,
    ) -> None:
        super().__init__(roi_size=(1,) * dims, sw_batch_size=sw_batch_size, overlap=overlap, **kwargs)
        self.dims = dims
        self.window = None if window is None else ensure_tuple_rep(window, dims)

    def __call__(
        self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> torch.Tensor | tuple[torch.Tensor, ...]:
        self._fit_window(inputs)
        before, widths = self.sw_batch_size, []
        while True:
            try:
                stitched = self.stitch(inputs, joined(network, widths), *args, **kwargs)
                break
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self.sw_batch_size == 1:
                    self.sw_batch_size = before  # a smaller study may fit
                    raise NomalyError(self._too_large(inputs)) from error
            # not before the handler has ended: until then the error holds what the failed pass had in memory
            self.sw_batch_size //= 2
            torch.cuda.empty_cache()
        if self.sw_batch_size < before:
            message = "The memory does not hold %d windows at once: %d are taken, here and for the studies to come."
            logger.warning(message, before, self.sw_batch_size)
        return tuple(stitched.split(widths, 1)) if widths else stitched

    def stitch(self, inputs: torch.Tensor, network: Callable[..., torch.Tensor], *args: Any, **kwargs: Any) -> Any:
        """Results (B, C', X, Y, Z) of all windows, blended."""
        return super().__call__(inputs, network, *args, **kwargs)

    def _fit_window(self, inputs: torch.Tensor) -> None:
        """Set the window and the blending for this study, after a check of its size."""
        if inputs.ndim != 5:
            raise ValueError(
                f"{type(self).__name__} needs (B, C, X, Y, Z), got shape {tuple(inputs.shape)}. Add a Z axis."
            )
        sides = tuple(inputs.shape[2 : 2 + self.dims])
        window = self.window or sides
        if any(side < least for side, least in zip(sides, window)):
            what, unit = ("slice", "pixels") if self.dims == 2 else ("volume", "voxels")
            raise NomalyError(
                f"each side of a {what} must have at least the window's {list(window)} {unit}, got {list(sides)}: cut "
                "less off, bring the study to a larger size, or lower image_size."
            )
        self.roi_size = window
        # one window needs no blending: its values come out bit for bit
        self.mode = BlendMode.CONSTANT if window == sides else BlendMode.GAUSSIAN

    def _too_large(self, inputs: torch.Tensor) -> str:
        """The error where not even one window fits."""
        size, device = " x ".join(map(str, self.roi_size)), torch.device(self.sw_device or inputs.device).type
        elsewhere = "" if device == "cpu" else ", or device cpu"
        return (
            f"the memory of the device {device} must hold the network with one window of {size} at least, but does "
            f"not: choose a smaller image_size, for MemMC-MAE fewer masks_per_pass{elsewhere}."
        )


def joined(network: Callable[..., Any], widths: list[int]) -> Callable[..., torch.Tensor]:
    """The network with a tuple (N, C_i, ...) of results as one tensor; `widths` gets their numbers of channels."""

    def call(windows: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        answer = network(windows, *args, **kwargs)
        single = isinstance(answer, torch.Tensor)
        parts = (answer,) if single else tuple(answer)
        widths[:] = [] if single else [part.shape[1] for part in parts]
        # a copy in any case: MONAI weighs in place, and an answer may be the study itself
        return torch.cat(parts, 1)

    return call


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out, on whatever device."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in OUT_OF_MEMORY)
