"""The two kinds of study; each has its own statistics, since scores of 2-D images and volumes are not comparable."""

from __future__ import annotations

from collections.abc import Sequence

IMAGE, VOLUME = "image", "volume"
KINDS = (IMAGE, VOLUME)
PLURALS = {IMAGE: "2-D images", VOLUME: "volumes"}


def kind_of(shape: Sequence[int]) -> str:
    """Kind of a study of shape (..., X, Y, Z): "image" with one slice, "volume" with several."""
    return IMAGE if shape[-1] == 1 else VOLUME
