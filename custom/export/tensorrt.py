"""TensorRT engines for the inference of a bundle, if TensorRT is installed."""

from __future__ import annotations

import functools
import logging

import torch
from ignite.engine import Engine
from monai.handlers import TrtHandler
from monai.networks import trt_compiler

logger = logging.getLogger(__name__)


class TensorRtHandler(TrtHandler):
    """MONAI's TrtHandler with a warning if engines cannot be built.

    MONAI logs this to ignite's logger, which the bundles silence. The network then runs in PyTorch, with the same
    results.

    Args:
        model: the detector.
        base_path: path of its weights; engines are stored next to them.
        args: arguments of monai.networks.trt_compile.
        submodule: name, or names, of the submodules to build engines for.
    """

    def __call__(self, engine: Engine) -> None:
        """Build the engines at the first study."""
        missing = missing_requirement()
        if missing is None:
            super().__call__(engine)
        else:
            warn_once(f"inference_trt has no effect: it needs {missing}. The network runs in PyTorch.")


def missing_requirement() -> str | None:
    """A requirement of TensorRT that is not met; None if all are."""
    if not torch.cuda.is_available():
        return "an NVIDIA GPU, but torch finds none"
    packages = {"tensorrt": trt_compiler.trt_imported, "polygraphy": trt_compiler.polygraphy_imported}
    missing = [name for name, found in packages.items() if not found]
    return f"the package {missing[0]}, which is not installed: run `pip install {missing[0]}`" if missing else None


@functools.cache
def warn_once(text: str) -> None:
    """Log a warning once, since a run has one handler per submodule."""
    logger.warning(text)
