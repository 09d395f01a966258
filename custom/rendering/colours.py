"""Colours of the anomaly map: one palette for grey images, one for colour images, both rising in brightness.

Inferno, from red to yellow, vanishes on mucosa, which is red itself. Colour images get blue to light cyan: opposite in
hue, and told from red also by readers who confuse red with green.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Palette = Literal["grey", "colour"]  # the images that it is for

# Neighbouring levels are indistinguishable, and images with few colours compress several times better.
_LEVELS = 64
_STOPS: dict[Palette, str] = {
    # The colour map inferno (CC0, N. Smith and S. van der Walt) without its dark end, which would hide the anatomy.
    "grey": "7f1e6c 8d2369 9d2964 ab2f5e b93556 c73e4c d34743 de5238 e8602d ef6e21 f57d15 f98e09 fc9f07 fcb014 fac42a "
    "f6d543 f2e661 f3f68a",
    # Brightness from below to above that of mucosa; ends before white, the colour of specular reflections.
    "colour": "10207a 1230a8 1648d8 1b68f0 2288fa 30a8fc 4cc4fd 74defd 9cf2fb",
}


def palette_of(channels: int) -> Palette:
    """The palette for images with so many channels."""
    return "colour" if channels == 3 else "grey"


def map_colours(field: NDArray[np.float32], vmax: float, palette: Palette = "grey") -> NDArray[np.uint8]:
    """Colour and opacity of map values: (Y, X) -> (Y, X, 4) in 0..255, an overlay for the input.

    Opacity rises smoothly with the value from 8 % to 70 % of `vmax`, so that the usual residual of healthy tissue does
    not veil the anatomy. Non-finite values are drawn as the largest value, so that they never appear normal.
    """
    share = np.nan_to_num(np.clip(field / max(vmax, 1e-8), 0, 1), nan=1.0)
    share = (share * (_LEVELS - 1)).round() / (_LEVELS - 1)
    rise = np.clip((share - 0.08) / 0.62, 0, 1)
    opacity = 0.92 * rise * rise * (3 - 2 * rise)
    return np.dstack([_colours(palette)[(share * 255).astype(int)], (opacity * 255).round()]).astype(np.uint8)


def colour_scale(palette: Palette = "grey") -> str:
    """The colours from 0 to vmax as a CSS gradient."""
    stops = map_colours(np.linspace(0, 1, 17, dtype=np.float32)[None], 1.0, palette)[0]
    return f"linear-gradient(90deg, {', '.join(f'rgb({r} {g} {b} / {a / 255:.2f})' for r, g, b, a in stops.tolist())})"


@lru_cache(maxsize=None)
def _colours(palette: Palette) -> NDArray[np.float32]:
    """256 colours in 0..255, (256, 3), interpolated between those of the palette."""
    stops = np.array([list(bytes.fromhex(colour)) for colour in _STOPS[palette].split()], dtype=np.float32)
    places = np.linspace(0, 255, len(stops))
    return np.stack([np.interp(np.arange(256), places, channel) for channel in stops.T], axis=1).astype(np.float32)
