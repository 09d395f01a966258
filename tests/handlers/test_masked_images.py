"""What TensorBoard shows of a masked autoencoder, on a picture of four patches."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.utils.enums import CommonKeys as Keys

from custom.handlers import masked_images
from custom.handlers.masked_images import MaskedImages
from custom.networks.patches import patchify

MODEL = SimpleNamespace(patch_size=(2, 2), grid=(2, 2), num_patches=4)


class Writer:
    """What TensorBoard's writer is told."""

    def __init__(self) -> None:
        self.images: dict[int, np.ndarray] = {}

    def add_image(self, name: str, image: np.ndarray, step: int, dataformats: str) -> None:
        assert (name, dataformats) == ("training/masked_filled_difference", "HWC")
        self.images[step] = image


def trainer(count: int = 1, channels: int = 1) -> Engine:
    """A trainer of mid-grey images whose patch 2 is seen, and whose reconstruction is 0.8 everywhere."""
    image = torch.full((count, channels, 4, 4), 0.5)
    output = {
        Keys.IMAGE: image,
        "visible": torch.full((count, 1), 2),
        Keys.PRED: torch.full((count, 4, 4 * channels), 0.8),
    }
    engine = Engine(lambda engine, batch: [output])
    engine.model = MODEL
    return engine


def patch_values(images: torch.Tensor) -> list[float]:
    """The one value of each patch of the first picture."""
    values = [patch.unique().tolist() for patch in patchify(images, MODEL.patch_size)[0]]
    return [value for (value,) in values]


def test_seen_patches_are_the_images_and_hidden_ones_the_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    monkeypatch.setattr(masked_images, "image_grid", lambda *parts, max_cases: drawn.append((parts, max_cases)))
    engine = trainer()
    MaskedImages(Writer(), interval=1).attach(engine)
    engine.run([0])
    (((masked, filled, difference), most),) = drawn
    assert patch_values(masked) == [0, 0, 0.5, 0]
    assert patch_values(filled) == pytest.approx([0.8, 0.8, 0.5, 0.8])
    assert patch_values(difference) == pytest.approx([0.3, 0.3, 0, 0.3])
    assert most == 8


def test_grid_is_written_once_an_interval() -> None:
    writer, engine = Writer(), trainer()
    MaskedImages(writer, interval=2).attach(engine)
    engine.run([0], max_epochs=5)
    assert list(writer.images) == [2, 4]


@pytest.mark.parametrize("channels", [1, 3])
def test_grid_shows_the_first_images_only(channels: int) -> None:
    widths = []
    for count, max_images in ((1, 8), (2, 8), (5, 2)):
        writer, engine = Writer(), trainer(count, channels)
        MaskedImages(writer, interval=1, max_images=max_images).attach(engine)
        engine.run([0])
        assert writer.images[1].shape[2] == 3
        widths.append(writer.images[1].shape[1])
    assert widths[0] < widths[1] == widths[2]


def test_process_without_a_writer_draws_nothing() -> None:
    engine = trainer()
    MaskedImages(None, interval=1).attach(engine)
    engine.run([0])
    assert engine.state.epoch == 1
