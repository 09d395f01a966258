"""Scoring uses full float32 on every device, and leaves the settings of PyTorch as they were."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import backends

from custom.scoring.precision import full_float32

OPERATIONS = {
    "cuda matmul": backends.cuda.matmul,
    "cudnn conv": backends.cudnn.conv,
    "mkldnn matmul": backends.mkldnn.matmul,
    "mkldnn conv": backends.mkldnn.conv,
}


def precisions() -> dict[str, str]:
    """Current settings."""
    return {name: operation.fp32_precision for name, operation in OPERATIONS.items()}


@pytest.fixture(autouse=True)
def reduced() -> Iterator[dict[str, str]]:
    """TF32 wherever it is possible, as a user may set it; the settings before are restored."""
    before = precisions()
    for operation in OPERATIONS.values():
        operation.fp32_precision = "tf32"
    yield precisions()
    for name, operation in OPERATIONS.items():
        operation.fp32_precision = before[name]


def test_all_operations_are_in_full_float32_inside_and_as_before_outside(reduced) -> None:
    assert set(reduced.values()) == {"tf32"}
    with full_float32():
        assert set(precisions().values()) == {"ieee"}
    assert precisions() == reduced


def test_settings_are_restored_after_an_error(reduced) -> None:
    with pytest.raises(RuntimeError), full_float32():
        raise RuntimeError
    assert precisions() == reduced


def test_network_and_handlers_of_an_evaluation_compute_in_full_float32(
    run_grey, grey_detector, monkeypatch: pytest.MonkeyPatch, reduced
) -> None:
    seen = []
    predict = grey_detector.predict

    def spy(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen.append(precisions())
        return predict(x)

    monkeypatch.setattr(grey_detector, "predict", spy)
    run_grey([{"case": "a", "image": torch.full((1, 4, 4, 2), 0.5)}])
    assert [set(found.values()) for found in seen] == [{"ieee"}]
    assert precisions() == reduced
