"""Colours of the anomaly map: visible on the images that they are for, to every reader."""

from __future__ import annotations

import numpy as np
import pytest

from custom.rendering.colours import map_colours, palette_of
from custom.rendering.images import image_grid

MUCOSA = np.array([(178, 84, 58), (205, 120, 88), (140, 50, 38), (224, 150, 120)], float) / 255
# Simulation of deuteranopia in linear RGB: Viénot, Brettel and Mollon 1999.
DEUTERANOPIA = np.array([[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]])


def linear(rgb: np.ndarray) -> np.ndarray:
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray, blind: bool) -> np.ndarray:
    """CIELAB of sRGB (N, 3) in [0, 1], as seen with normal vision or with deuteranopia."""
    values = linear(rgb)
    values = np.clip(values @ DEUTERANOPIA.T, 0, 1) if blind else values
    xyz = values @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    f = np.cbrt(xyz / [0.9505, 1.0, 1.089])
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], 1)


def colours(palette: str) -> np.ndarray:
    """The colours of strong map values, (N, 3) in [0, 1]."""
    return map_colours(np.linspace(0.5, 1, 20, dtype=np.float32)[None], 1.0, palette)[0, :, :3] / 255


@pytest.mark.parametrize("blind", [False, True])
def test_map_stands_out_from_mucosa_in_its_own_palette_and_not_in_that_of_grey_images(blind: bool) -> None:
    tissue = lab(MUCOSA, blind)
    nearest = {
        palette: np.linalg.norm(lab(colours(palette), blind)[:, None] - tissue[None], axis=-1).min()
        for palette in ("grey", "colour")
    }
    assert nearest["colour"] > 50 > 1.5 * nearest["grey"]


@pytest.mark.parametrize("palette", ["grey", "colour"])
def test_stronger_values_are_brighter_also_without_colour_vision(palette: str) -> None:
    values = map_colours(np.linspace(0, 1, 40, dtype=np.float32)[None], 1.0, palette)[0, :, :3] / 255
    assert (np.diff(lab(values, False)[:, 0]) > -0.5).all() and np.ptp(lab(values, True)[:, 0]) > 50


def test_palette_is_chosen_by_the_channels_of_the_image() -> None:
    assert [palette_of(channels) for channels in (1, 3)] == ["grey", "colour"]
    anomaly = np.ones((1, 1, 8, 8), np.float32)
    for channels, strongest in ((1, 0), (3, 2)):  # red in grey images, blue in colour images
        image = np.zeros((1, channels, 8, 8), np.float32)
        tile = image_grid(image, image, anomaly)[-5, 5]
        assert tile[strongest] >= tile.max() - 4 and tile[2 - strongest] < tile[strongest]
