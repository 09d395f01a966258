"""Lung fields on a frontal chest radiograph, from grey levels only: a template, then the dark regions near it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage

GRID = 40  # pixels per axis of the search for the template
FINE = 128  # pixels per axis of the outline
MIN_CONTRAST = 0.07  # grey levels between lungs and what surrounds them, below which no lungs are found
_CROSS = ndimage.generate_binary_structure(2, 1)


@dataclass(frozen=True)
class LungFields:
    """Lung fields of one film, all arrays (X, Y).

    Attributes:
        right: the patient's right lung, on the left of the image.
        left: the patient's left lung, on the right of the image.
        middle: column of the middle line, in pixels.
        air: usual grey level of the lungs.
        soft: usual grey level between the lungs (heart and great vessels).
        found: False if no lungs were found and two ellipses at the usual place replace them.
    """

    right: np.ndarray
    left: np.ndarray
    middle: float
    air: float
    soft: float
    found: bool

    @classmethod
    def of(cls, film: np.ndarray) -> LungFields:
        """Find the lungs of a film (X, Y) with values in [0, 1], air dark.

        A template of both lungs is moved and stretched until it covers the darkest inside with the brightest
        surroundings; the outline is then taken from the film, within a twentieth of its side.
        """
        body = np.where(_background(film), np.float32(np.median(film)), film)
        small = _resized(ndimage.gaussian_filter(body, [n / GRID / 2.5 for n in film.shape]), (GRID, GRID))
        contrast, template, middle = _best_template(small)
        found = contrast > MIN_CONTRAST
        fields = _outlined(body, template) if found else [_ellipse(side) for side in (-1.0, 1.0)]
        right, left = (_resized(field.astype(np.float32), film.shape) > 0.5 for field in fields)
        middle = (middle if found else 0.5) * film.shape[0]
        between = _between(right, left, middle)
        air = float(np.median(film[right | left]))
        soft = float(np.median(film[between])) if between.any() else air
        return cls(right, left, middle, air, soft, bool(found))

    @property
    def both(self) -> np.ndarray:
        """Right and left lung together."""
        return self.right | self.left

    @property
    def contrast(self) -> float:
        """Grey levels from air to soft tissue, at least 0.1, so that a lesion is visible on a pale film."""
        return max(self.soft - self.air, 0.1)


def _background(film: np.ndarray) -> np.ndarray:
    """The dark beside the body: what is connected to the film's left or right edge and a third as grey as usual."""
    dark = ndimage.gaussian_filter(film, [n / 100.0 for n in film.shape]) < 0.35 * np.median(film)
    labels, _ = ndimage.label(dark)
    edge = np.unique(labels[[0, -1]])
    return np.isin(labels, edge[edge > 0])


def _resized(film: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The film read at the centres of another grid's pixels, linearly."""
    lines = [(np.arange(n) + 0.5) * m / n - 0.5 for n, m in zip(shape, film.shape)]
    grid = np.meshgrid(*lines, indexing="ij")
    return ndimage.map_coordinates(film, grid, order=1, mode="nearest")


def _centres(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres (size, 1) and (1, size) as parts of the film."""
    line = (np.arange(size, dtype=np.float32) + 0.5) / size
    return line[:, None], line[None]


def _ellipse(side: float) -> np.ndarray:
    """A lung's usual place (FINE, FINE)."""
    x, y = _centres(FINE)
    return ((x - 0.5 - 0.19 * side) / 0.13) ** 2 + ((y - 0.5) / 0.28) ** 2 < 1.0


def _template(size: int, middle: float, width: float, top: float, height: float) -> np.ndarray:
    """Both lungs (2, size, size): within the cage's arch, beside spine and heart, above the domes."""
    x, y = _centres(size)
    t = (y - top) / height
    cage = (1.0 - (1.0 - np.clip(t, 0.0, 1.0)) ** 2.4) ** 0.65
    lungs = []
    for side in (-1.0, 1.0):
        a = side * (x - middle) / width
        heart = (0.10 if side < 0 else 0.38) * np.clip((t - 0.35) / 0.4, 0.0, 1.0)
        dome = 0.88 + 0.35 * np.maximum(a - 0.5, 0.0)
        lungs.append((a > 0.22 + heart) & (a < 0.95 * cage) & (t < dome))
    return np.stack(lungs)


def _placements() -> Iterator[tuple[float, float, float, float]]:
    """Middle, half width, top and height of all templates tried, as parts of the film."""
    for middle in np.arange(0.40, 0.61, 0.033):
        for width in np.arange(0.24, 0.47, 0.03):
            for top in np.arange(0.04, 0.34, 0.05):
                for height in np.arange(0.40, 0.84, 0.06):
                    if top + height < 1.05:
                        yield float(middle), float(width), float(top), float(height)


@lru_cache(maxsize=1)
def _kernels() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Placements (N, 4); per lung the weights of the mean around less that inside (2, N, GRID * GRID); priors (N,)."""
    placements = np.array(list(_placements()))
    lungs = np.stack([_template(GRID, *placement) for placement in placements], 1)
    near = ndimage.binary_dilation(lungs, _CROSS[None, None])
    around = ndimage.binary_dilation(near, _CROSS[None, None], 2) & ~near
    areas = lungs.sum((2, 3), keepdims=True, dtype=np.float32)
    kernels = around / around.sum((2, 3), keepdims=True, dtype=np.float32) - lungs / areas
    # of equal contrasts the larger lungs are right, and those in the middle of the film
    priors = areas.sum((0, 2, 3)) ** 0.3 * np.exp(-(((placements[:, 0] - 0.5) / 0.17) ** 2))
    return placements, kernels.reshape(2, len(placements), -1), priors.astype(np.float32)


def _best_template(small: np.ndarray) -> tuple[float, np.ndarray, float]:
    """Contrast, both lungs (2, FINE, FINE) and middle line of the template whose worse lung fits best."""
    placements, kernels, priors = _kernels()
    contrast = (kernels @ small.ravel().astype(np.float32)).min(0)
    best = int(np.argmax(contrast * priors))
    return float(contrast[best]), _template(FINE, *placements[best]), float(placements[best, 0])


def _outlined(film: np.ndarray, template: np.ndarray) -> list[np.ndarray]:
    """Lungs (FINE, FINE) cut out of the film near each lung of the template."""
    plain = _resized(ndimage.gaussian_filter(film, [0.4 * n / FINE for n in film.shape]), (FINE, FINE))
    plain = ndimage.gaussian_filter(ndimage.grey_opening(plain, (5, 7)), 1.5)  # without the ribs
    return [_dark_part(plain, lung) for lung in template]


def _dark_part(plain: np.ndarray, lung: np.ndarray) -> np.ndarray:
    """The dark part near one lung of the template, in one piece without holes."""
    core = ndimage.binary_erosion(lung, _CROSS, 8)
    reach = ndimage.binary_dilation(lung, _CROSS, 6)
    rim = reach & ~ndimage.binary_dilation(lung, _CROSS, 2)
    level = 0.5 * (np.median(plain[lung]) + np.percentile(plain[rim], 65))
    part = ndimage.binary_opening((plain < level) & reach, _CROSS, 2) | core
    part = ndimage.binary_fill_holes(ndimage.binary_closing(np.pad(part, 8), _CROSS, 6)[8:-8, 8:-8])
    labels, count = ndimage.label(part)
    if count > 1:
        part = labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))
    part = ndimage.gaussian_filter(part.astype(np.float32), 2.0) > 0.5
    return part if part.sum() > 0.3 * lung.sum() else lung


def _between(right: np.ndarray, left: np.ndarray, middle: float) -> np.ndarray:
    """Pixels between the lungs, right of the patient's right one and left of the left one, in rows with both."""
    columns = np.arange(right.shape[0])[:, None]
    inner_right = np.where(right, columns, -1).max(0)
    inner_left = np.where(left, columns, right.shape[0]).min(0)
    rows = right.any(0) & left.any(0)
    return (columns > inner_right) & (columns < inner_left) & rows
