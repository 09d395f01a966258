"""What a graph computes by whole numbers is the same in every format."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch import Tensor, nn

from custom.export import formats
from custom.export.formats import FILES, PACKAGES, load_runner, write_formats
from custom.scoring.clahe import equalize_adapthist

MISSING = [package for package in PACKAGES if importlib.util.find_spec(package) is None]


class Equalisation(nn.Module):
    """Adaptive equalisation alone."""

    def forward(self, image: Tensor) -> tuple[Tensor]:
        """(N, C, X, Y) -> the same."""
        return (equalize_adapthist(image),)


@pytest.mark.slow  # ten seconds
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("onnx", marks=pytest.mark.skipif(bool(MISSING), reason=f"{MISSING} not installed: .[export]")),
        "torchscript",
        "torch_export",
    ],
)
def test_exported_equalisation_of_the_same_image_is_exact(name: str, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(formats, "OUTPUTS", ("map",))
    write_formats(Equalisation(), torch.rand(3, 1, 32, 32), tmp_path, [name])
    run = load_runner(name, tmp_path / FILES[name])
    generator = torch.Generator().manual_seed(0)
    smooth = nn.functional.avg_pool2d(torch.rand(20, 1, 32, 32, generator=generator), 5, 1, 2)
    assert torch.equal(run(smooth)[0], equalize_adapthist(smooth))
    assert not torch.equal(run(smooth)[0], run(smooth + 1e-3 * smooth.sin())[0])
