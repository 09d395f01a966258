"""One synthetic colonoscopy view from a seed: a substitute for data that cannot be distributed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Integral

import numpy as np
from scipy import ndimage

from custom.errors import NomalyError

Noise = Callable[[float], np.ndarray]  # wavelength in image widths -> smooth field (X, Y) of unit variance

SMALLEST, LARGEST = 32, 512
_BLOOD = np.array([0.35, 1.0, 0.9], np.float32)[:, None, None]  # how strongly vessels take red, green and blue


def colon_image(seed: int, size: int) -> np.ndarray:
    """Healthy mucosa seen through a colonoscope.

    A tube with haustral folds around a lumen that lies inside or outside the view, lit from the camera; branching
    vessels, mottled mucosa, sometimes residue or the edge of the view, wet highlights, the camera's blur, sharpening
    and noise. Place, zoom, colour, exposure and the amount of everything are drawn from the seed.

    Args:
        seed: equal seeds give equal images; the same view at every size, except for the sensor's noise.
        size: pixels along both sides, 32 to 512.

    Returns:
        (3, X, Y) float32 in [0, 1], red, green and blue.

    Raises:
        NomalyError: the size is not a whole number from 32 to 512.
    """
    if not isinstance(size, Integral) or not SMALLEST <= size <= LARGEST:
        raise NomalyError(f"size must be a whole number from {SMALLEST} to {LARGEST} pixels, got {size!r}.")
    size = int(size)
    rng = np.random.default_rng(seed)
    noise = lambda wavelength: smooth_noise(rng, (size, size), wavelength * size)  # noqa: E731
    light = _light(rng, noise, size)
    image = _mucosa(rng, noise, light) * np.exp(-_vessels(rng, noise, size) * _BLOOD)
    image = _residue(rng, noise, image)
    image *= light * np.exp(rng.normal(0.05, 0.3))
    image /= (1.0 + image**4) ** 0.25  # the camera saturates gently, red first
    image = _highlights(rng, noise, image, light)
    return _camera(rng, image * _view(rng, size))


def smooth_noise(rng: np.random.Generator, shape: Sequence[int], wavelength: float) -> np.ndarray:
    """Smooth random field of unit variance.

    A coarse grid of normal values, one node per half wavelength, is interpolated by normalised Gaussians. Shape and
    wavelength scaled together give the same field on a finer grid.

    Args:
        rng: source of the random values.
        shape: pixels along both axes.
        wavelength: distance in pixels over which the field swings once.

    Returns:
        float32 (X, Y), mean about 0, standard deviation about 1.
    """
    node = wavelength / 2.0
    counts = [int(np.ceil(round(n / node, 6))) + 3 for n in shape]
    field = rng.standard_normal(counts, dtype=np.float32)
    for n, count in zip(shape, counts):
        offset = ((np.arange(n) + 0.5) / node + 1.0)[:, None] - np.arange(count)[None]
        weights = np.exp(-(offset**2) / 0.72)
        weights /= np.sqrt((weights**2).sum(1, keepdims=True))
        field = (weights.astype(np.float32) @ field).T  # contract one axis; after two turns the order is back
    return np.ascontiguousarray(field)


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Column and row of the pixels' middles in image widths, -0.5 to 0.5, broadcastable to (X, Y)."""
    line = ((np.arange(size) + 0.5) / size - 0.5).astype(np.float32)
    return line[:, None], line[None]


def _light(rng: np.random.Generator, noise: Noise, size: int) -> np.ndarray:
    """Light on the wall (X, Y), 1 on well lit parts: it falls into the lumen and jumps down behind each fold."""
    zoom = np.exp(rng.uniform(np.log(0.45), np.log(1.5)))  # image width in radii of the near wall
    away, turn = 2.0 * rng.beta(2.0, 2.0), rng.uniform(0.0, 2.0 * np.pi)
    x, y = _grid(size)
    x = zoom * x - away * np.cos(turn) + 0.1 * zoom * noise(0.7)
    y = zoom * y - away * np.sin(turn) + 0.1 * zoom * noise(0.7)
    squash, tilt = rng.uniform(0.7, 1.0), rng.uniform(0.0, np.pi)
    a, b = np.cos(tilt) * x + np.sin(tilt) * y, (np.cos(tilt) * y - np.sin(tilt) * x) / squash
    # three muscle bands pull the folds towards a triangle
    angle = np.arctan2(b, a)
    radius = np.hypot(a, b) * (1.0 + rng.uniform(0.0, 0.12) * np.cos(3.0 * angle + rng.uniform(0.0, 6.0))) + 0.02
    falloff = rng.uniform(0.12, 0.4)
    light = radius**2 / (radius**2 + falloff**2)
    light *= _folds(rng, noise, -np.log(radius), rng.uniform(0.9, 2.0), rng.uniform(0.1, 0.75))
    light *= _folds(rng, noise, -np.log(radius), rng.uniform(2.5, 4.5), 0.35 * rng.beta(1.0, 3.0))
    slope, where = rng.uniform(0.0, 0.9), rng.uniform(0.0, 2.0 * np.pi)
    x, y = _grid(size)
    light *= np.exp(slope * (x * np.cos(where) + y * np.sin(where)) + 0.07 * noise(0.5) + 0.035 * noise(0.16))
    return (light / np.percentile(light, 60)).astype(np.float32)


def _folds(rng: np.random.Generator, noise: Noise, depth: np.ndarray, often: float, height: float) -> np.ndarray:
    """Factor on the light: each fold brightens towards its edge, behind which the wall lies deeper and darker."""
    phase = often * depth + 0.12 * noise(1.0) + rng.uniform(0.0, 1.0)
    strength = height * np.clip(0.45 + 0.6 * noise(0.7), 0.0, 1.2)  # folds run out sideways
    part = phase - np.floor(phase)
    pixel = np.hypot(*np.gradient(phase)) + 1e-6
    edge = np.clip((1.0 - part) / pixel, 0.0, 1.0)  # 1, and below 1 on the last pixel before the drop
    rise = np.where(part < 0.85, (part / 0.85) ** 0.8, 1.0 - 0.25 * ((part - 0.85) / 0.15) ** 2)  # the edge turns away
    return 1.0 - np.minimum(strength, 0.9) * (1.0 - edge * rise)


def _mucosa(rng: np.random.Generator, noise: Noise, light: np.ndarray) -> np.ndarray:
    """Reflectance (3, X, Y): a person's reddish pink, blotches, fine mottling, greyer where little light arrives."""
    green = rng.normal(0.485, 0.04)
    blue = green * np.clip(rng.normal(0.72, 0.09), 0.45, 0.95)
    red = 0.72 * np.ones_like(light)
    blotch = 0.05 * noise(0.6) + rng.uniform(0.02, 0.06) * noise(0.2)
    fine = rng.uniform(0.005, 0.03) * noise(0.09) + rng.uniform(0.005, 0.025) * noise(0.045)
    fine += (
        rng.uniform(0.01, 0.04) * noise(0.022) * min(1.0, light.shape[0] / 140.0)
    )  # finer than the pixels of small images
    grey = rng.uniform(0.0, 0.2) * np.clip(1.0 - light, 0.0, 1.0)
    shade = np.stack([0.25 * blotch + 0.4 * fine, blotch + fine, 0.9 * blotch + fine + 0.03 * noise(0.5)])
    colour = np.stack([red * (1.0 - 0.6 * grey), red * (green + 0.1 * grey), red * (blue + 0.3 * grey)])
    return colour * np.exp(shade)


def _vessels(rng: np.random.Generator, noise: Noise, size: int) -> np.ndarray:
    """Optical thickness (X, Y) of trees of vessels that branch three times, visible only in parts of the image."""
    contrast, width = 0.75 * rng.beta(1.2, 2.0), rng.uniform(0.008, 0.016)
    seen = np.clip(0.6 + 0.6 * noise(0.6), 0.0, 1.2)
    start = rng.uniform(-0.6, 0.6, (2, rng.integers(9, 18)))
    heading, length = rng.uniform(0.0, 2.0 * np.pi, start.shape[1]), rng.uniform(0.4, 0.8)
    thickness = np.zeros((size, size), np.float32)
    for children in (3, 2, 2, 0):
        bend = np.cumsum(rng.normal(0.0, 0.22, (20, start.shape[1])), 0)
        way = heading + bend
        path = start[:, None] + np.cumsum(length / 20.0 * np.stack([np.cos(way), np.sin(way)]), 1)
        thickness += _line(path, width, size)
        parent = np.repeat(np.arange(start.shape[1]), children)
        fork = rng.integers(3, 20, parent.size)
        start = path[:, fork, parent]
        heading = way[fork, parent] + rng.choice((-1.0, 1.0), parent.size) * rng.uniform(0.6, 1.4, parent.size)
        length, width = 0.6 * length, 0.75 * width
    return contrast * seen * np.minimum(thickness, 1.3)


def _line(path: np.ndarray, width: float, size: int) -> np.ndarray:
    """Curves (2, points, curves) in image widths, drawn ``width`` wide with soft edges; height 1 in the middle."""
    fine = ndimage.zoom(path, (1, 16, 1), order=1) if path.size else path
    step = np.zeros(fine.shape[1:])
    step[1:] = np.hypot(*np.diff(fine, axis=1)) * size
    places = ((fine + 0.5) * size).reshape(2, -1)
    column, row = np.floor(places).astype(int)
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    index = column[inside] * size + row[inside]
    drawn = np.bincount(index, step.ravel()[inside], minlength=size * size).reshape(size, size)
    sigma = max(0.4 * width * size, 0.55)
    # the blur of a line of weight 1 is 0.4 / sigma high; thinner than a pixel means fainter
    return (ndimage.gaussian_filter(drawn, sigma) * width * size).astype(np.float32)


def _residue(rng: np.random.Generator, noise: Noise, image: np.ndarray) -> np.ndarray:
    """Reflectance with, in one image of ten, thin yellowish green films of bile and stool."""
    amount, level = rng.uniform(0.2, 0.7), rng.uniform(0.8, 1.6)
    film = np.clip(noise(0.5) + 0.4 * noise(0.12) - level, 0.0, 1.0)
    if rng.uniform() > 0.1:
        return image
    stain = np.array([0.62, 0.46, 0.12], np.float32)[:, None, None]
    return image + amount * film * (stain - image)


def _highlights(rng: np.random.Generator, noise: Noise, image: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Image with clusters of small white reflections where the wet wall faces the light."""
    share = min(rng.exponential(0.02), 0.07)
    facing = noise(rng.uniform(0.05, 0.1)) + 1.1 * noise(0.35) + 0.7 * noise(0.04)
    facing += 0.6 * np.log(np.clip(light, 0.15, 1.5))
    weight = np.clip((facing - np.quantile(facing, 1.0 - share)) / 0.8 + 0.3, 0.0, 1.0)
    white = np.array([1.0, 0.98, 0.95], np.float32)[:, None, None]
    return image + weight * (white - image)


def _view(rng: np.random.Generator, size: int) -> np.ndarray:
    """1 inside the view (X, Y); in one image of twelve its straight black edge cuts a corner off."""
    away, turn = rng.uniform(0.4, 0.6), np.pi / 4.0 + np.pi / 2.0 * rng.integers(4)
    if rng.uniform() > 1.0 / 12.0:
        return np.ones((size, size), np.float32)
    x, y = _grid(size)
    return np.clip((away - x * np.cos(turn) - y * np.sin(turn)) * size, 0.0, 1.0)


def _camera(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Image (3, X, Y) after the lens' blur, the processor's sharpening and the sensor's noise, in [0, 1]."""
    size = image.shape[1]
    sigma = max(0.65, rng.uniform(0.003, 0.007) * size)
    sharpen, grain = rng.uniform(0.2, 0.7), rng.uniform(0.001, 0.007)
    soft = ndimage.gaussian_filter(image, (0, sigma, sigma))
    soft += sharpen * (soft - ndimage.gaussian_filter(soft, (0, 1.6 * sigma, 1.6 * sigma)))
    noise = ndimage.gaussian_filter(rng.standard_normal(image.shape, dtype=np.float32), (0, 0.6, 0.6)) * 1.9
    return np.clip(soft + grain * noise, 0.0, 1.0).astype(np.float32)
