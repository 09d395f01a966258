"""Full float32 while studies are scored, so that CPU and GPU decide alike.

By default PyTorch computes convolutions on recent NVIDIA GPUs in TF32, with 10 bits of mantissa instead of 23. A score
then differs from that of the CPU in the third or fourth digit: enough to change a p-value next to a healthy score.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import backends

FULL = "ieee"


@contextmanager
def full_float32() -> Iterator[None]:
    """Compute convolutions and products of float32 without TF32 or bfloat16, and restore the settings afterwards.

    An explicit autocast (parameter ``amp``) still applies.
    """
    settings: Any = backends  # PyTorch declares these objects as modules without attributes
    operations = (
        settings.cuda.matmul,
        settings.cudnn.conv,
        settings.mkldnn.matmul,
        settings.mkldnn.conv,
    )
    before = [operation.fp32_precision for operation in operations]
    try:
        for operation in operations:
            operation.fp32_precision = FULL
        yield
    finally:
        for operation, precision in zip(operations, before):
            operation.fp32_precision = precision
