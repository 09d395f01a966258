"""TensorRT engines in a run of a bundle, where there is TensorRT."""

from __future__ import annotations

import functools
import logging

import torch
from ignite.engine import Engine
from monai.handlers import TrtHandler
from monai.networks import trt_compiler

logger = logging.getLogger(__name__)


class TensorRtHandler(TrtHandler):
    """MONAI's TrtHandler, which also says why there are no engines.

    MONAI says it to ignite's logger, which the bundles keep silent. The network then runs in PyTorch, with the same
    results.

    Args:
        model: the detector.
        base_path: of its weights; engines are kept beside them.
        args: of monai.networks.trt_compile.
        submodule: name, or names, of the parts of which engines are made.
    """

    def __call__(self, engine: Engine) -> None:
        """Have the engines made at the first study."""
        lacking = what_lacks()
        if lacking is None:
            super().__call__(engine)
        else:
            say_once(f"inference_trt has no effect: it needs {lacking}. The network runs in PyTorch.")


def what_lacks() -> str | None:
    """What TensorRT needs and this machine has not; None if it has all."""
    if not torch.cuda.is_available():
        return "an NVIDIA GPU, and torch finds none"
    packages = {"tensorrt": trt_compiler.trt_imported, "polygraphy": trt_compiler.polygraphy_imported}
    missing = [name for name, found in packages.items() if not found]
    return f"the package {missing[0]}, which is not installed: run `pip install {missing[0]}`" if missing else None


@functools.cache
def say_once(text: str) -> None:
    """A warning; a run has a handler for each part of the network."""
    logger.warning(text)
