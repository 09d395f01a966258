"""One synthetic T1w-like head from a seed: a substitute for data that cannot be distributed, not a model of anatomy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from custom.errors import NomalyError
from custom.synthetic.head_anatomy import smooth_noise

Head = tuple[np.ndarray, np.ndarray]  # millimetres in the head's frame (3, X*Y*Z), and its half axes

DEFAULT_SHAPE = (80, 96, 56)
DEFAULT_SPACING = (2.2, 2.2, 3.0)
SMALLEST_FIELD = (165.0, 200.0, 100.0)  # millimetres that contain any head, from the vertex to below the ventricles


def head_volume(
    seed: int, shape: Sequence[int] = DEFAULT_SHAPE, spacing: Sequence[float] = DEFAULT_SPACING
) -> np.ndarray:
    """One healthy head.

    Scalp, skull with marrow, CSF rim, folded cortex, white matter, lateral ventricles, deep grey nuclei and the midline
    fissure, with a smooth receive field and Rician noise. Size, aspect, tilt, ventricles, cortex, folding and asymmetry
    are drawn from the seed.

    Args:
        seed: equal seeds give equal heads.
        shape: voxels along x, y, z.
        spacing: millimetres per voxel.

    Returns:
        (1, X, Y, Z) float32 in LPS order (x to the left, y to the back, z up), about [0, 1] with fat near 1.

    Raises:
        NomalyError: the grid is too small for a head.
    """
    field_of_view = [n * s for n, s in zip(shape, spacing)]
    if len(field_of_view) != 3 or any(f < least for f, least in zip(field_of_view, SMALLEST_FIELD)):
        raise NomalyError(
            f"shape x spacing must cover at least {SMALLEST_FIELD} mm, got {tuple(shape)} x {tuple(spacing)}; "
            "use more voxels or a wider spacing."
        )
    rng = np.random.default_rng(seed)
    points, vertex = _head_coordinates(rng, shape, spacing)
    volume = _tissue(rng, points, shape, spacing)
    field = np.exp(0.08 * smooth_noise(rng, shape, spacing, 180.0))
    sigma = rng.uniform(0.012, 0.028)
    real, imaginary = sigma * rng.standard_normal((2, *shape), dtype=np.float32)
    return np.sqrt((volume * field + real) ** 2 + imaginary**2)[None]


def _head_coordinates(rng: np.random.Generator, shape: Sequence[int], spacing: Sequence[float]) -> tuple[Head, float]:
    """Millimetres of each voxel in the head's own frame (3, X*Y*Z): shifted, tilted, slightly bent; and the vertex."""
    axes = [(np.arange(n) - (n - 1) / 2.0) * s for n, s in zip(shape, spacing)]
    top = axes[2][-1] - rng.uniform(5.0, 11.0)
    size = np.exp(0.025 * rng.standard_normal())
    semi = np.array([74.0, 91.0, 80.0]) * size * np.exp(0.015 * rng.standard_normal(3))
    centre = np.array([*rng.normal(0.0, 1.5, 2), top - semi[2]])
    points = np.stack(np.meshgrid(*(a - c for a, c in zip(axes, centre)), indexing="ij")).astype(np.float32)
    points = np.tensordot(_rotation(np.deg2rad(rng.normal(0.0, (2.5, 1.5, 1.5)))), points, axes=(1, 0))
    for axis in range(3):
        points[axis] += 0.6 * smooth_noise(rng, shape, spacing, 100.0)
    return (points.reshape(3, -1), semi.astype(np.float32)), top


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Rotation matrix for turns about x, then y, then z (radians)."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return (about_z @ about_y @ about_x).astype(np.float32)


def _surface(points: np.ndarray, semi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Radius (1 on the scalp) and millimetres below the scalp of an egg, wider at the back and flat on top."""
    x, y, z = points
    a = semi[0] * (1.0 + 0.07 * y / semi[1])
    c = np.where(z > 0, semi[2], 1.45 * semi[2])
    up = np.abs(z) / c
    r = np.sqrt((x / a) ** 2 + (y / semi[1]) ** 2 + up**2.5) + 1e-4
    slope = np.sqrt((x / a**2) ** 2 + (y / semi[1] ** 2) ** 2 + (1.25 * up**1.5 / c) ** 2) / r
    return r, (1.0 - r) / np.maximum(slope, 0.3 / semi[1])


def _sheets(
    rng: np.random.Generator, points: np.ndarray, wavelength: float, template: int, count: int = 16
) -> np.ndarray:
    """Distance in millimetres to the zero level of band-limited noise: a labyrinth of walls, as sulci are.

    The labyrinth is common to all (`template`); each person shifts its walls a little, as with the main sulci.
    """
    species = np.random.default_rng(template)
    direction = species.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    scale = np.exp(0.2 * species.standard_normal((count, 1)))
    waves = (direction * 2.0 * np.pi / wavelength * scale).astype(np.float32)
    shift = species.uniform(0.0, 2.0 * np.pi, (count, 1)) + 0.08 * rng.standard_normal((count, 1))
    phase = waves @ points + shift.astype(np.float32)
    value, slope = np.cos(phase).sum(0), np.linalg.norm(waves.T @ np.sin(phase), axis=0)
    return np.abs(value) / (slope + 0.1 * np.sqrt(count) * 2.0 * np.pi / wavelength)


def _hypot(wall: np.ndarray, beyond: np.ndarray) -> np.ndarray:
    """Distance to a wall that ends where ``beyond`` becomes positive."""
    return np.sqrt(wall**2 + np.maximum(beyond, 0.0) ** 2)


def _tissue(rng: np.random.Generator, head: Head, shape: Sequence[int], spacing: Sequence[float]) -> np.ndarray:
    """Intensities (X, Y, Z) without field and noise: tissues are drawn in order, from the inside to the scalp."""
    points, semi = head
    radius, depth = _surface(points, semi)
    inside = np.flatnonzero(depth > -4.0)
    points, radius, depth = points[:, inside], radius[inside], depth[inside]
    noise = lambda wavelength: smooth_noise(rng, shape, spacing, wavelength).ravel()[inside]  # noqa: E731
    soft = float(np.mean(spacing[:2]))
    ramp = lambda d: np.clip(d / soft + 0.5, 0.0, 1.0)  # noqa: E731  partial volume of one voxel

    age = rng.uniform(0.0, 0.7)  # atrophy: wider ventricles, sulci and rim, thinner cortex, together
    scalp = rng.uniform(4.0, 6.5) * (1.0 + 0.25 * noise(70.0))
    skull = rng.uniform(5.5, 8.0) * (1.0 + 0.15 * noise(70.0))
    rim = (1.2 + 1.6 * age) * (1.0 + 0.25 * noise(50.0))
    below = np.minimum(depth - scalp - skull, points[2] + 58.0)  # the brain ends at the skull base
    csf_distance = _cortex_distance(rng, points, radius, below - np.maximum(rim, 0.3), age, noise)

    grey, white, fluid = rng.normal(0.64, 0.015), rng.normal(0.82, 0.015), rng.normal(0.15, 0.02)
    thickness = rng.uniform(2.4, 3.3) - 0.5 * age
    value = np.full(inside.shape, white, np.float32) * (1.0 + 0.012 * noise(25.0))
    for distance, level in _nuclei(rng, points, grey, white):
        value += (level - value) * ramp(distance)
    value += (grey - value) * (1.0 - ramp(csf_distance - thickness))
    value += (fluid - value) * np.maximum(1.0 - ramp(csf_distance), ramp(_ventricles(rng, points, age)))
    marrow = 0.06 + rng.uniform(0.15, 0.35) * np.exp(-(((depth - scalp - 0.5 * skull) / (0.22 * skull)) ** 2))
    value += (marrow - value) * (1.0 - ramp(below))
    fat = rng.uniform(0.75, 1.0) * (1.0 - 0.18 * np.clip(noise(30.0), -1.0, 1.5) ** 2)
    value += (fat - value) * (1.0 - ramp(depth - scalp))
    value *= ramp(depth)
    volume = np.zeros(int(np.prod(shape)), np.float32)
    volume[inside] = value
    return volume.reshape(shape)


def _cortex_distance(
    rng: np.random.Generator,
    points: np.ndarray,
    radius: np.ndarray,
    below: np.ndarray,
    age: float,
    noise: Callable[[float], np.ndarray],
) -> np.ndarray:
    """Signed millimetres to the nearest outer CSF (rim, sulci, Sylvian and midline fissures); negative inside it."""
    x, y, z = points
    gap = 0.1 + 0.4 * age
    # walls that keep their direction along the radius stand upright on the surface
    on_surface = points / radius**0.9 + 0.4 * np.stack([noise(26.0) for _ in range(3)])
    sulci = radius * _sheets(rng, on_surface, 33.0, template=1)
    reach = rng.uniform(9.0, 11.0) * (1.0 + 0.15 * noise(30.0))
    outer = _hypot(sulci, below - reach) - gap
    sylvian = y - 0.9 * z + 8.0 + 3.0 * noise(40.0)
    sylvian = _hypot(_hypot(sylvian, below - 24.0), np.abs(z - 4.0) - 26.0) - 0.8 - gap
    middle = np.abs(x + 1.6 * noise(50.0))
    callosum = np.sqrt(((y - 3.0) / 40.0) ** 2 + ((z - 12.0) / 24.0) ** 2)
    arch = 25.0 * (1.0 - callosum)
    fissure = _hypot(middle, arch) - 0.4 - gap
    medial = _sheets(rng, points * np.array([[0.2], [1.0], [1.0]], np.float32), 30.0, template=2)
    medial = _hypot(_hypot(medial, middle - 7.0 * (1.0 + 0.2 * noise(30.0))), arch + 4.0) - gap
    return np.minimum.reduce([below, outer, sylvian, fissure, medial])


def _ventricles(rng: np.random.Generator, points: np.ndarray, age: float) -> np.ndarray:
    """Millimetres inside the lateral ventricles (paired crescents) and the third one; negative outside."""
    x, y, z = points
    best = np.full(x.shape, -1e3, np.float32)
    width, length = 2.2 + 4.6 * age**1.5 + rng.uniform(0.0, 1.0), 25.0 + 7.0 * age + rng.uniform(-2.0, 3.0)
    height, spread = rng.uniform(12.0, 16.0) + 3.0 * age, rng.uniform(0.8, 1.3)
    for side in (-1.0, 1.0):
        half = width * np.exp(0.15 * rng.standard_normal())
        t = (y - 1.0 - rng.normal(0.0, 1.0)) / length
        front, back = np.maximum(-t, 0.0), np.maximum(t, 0.0)
        axis = 1.2 + half + spread * (4.0 * front**1.5 + 12.0 * back**1.7)
        swell = 1.0 + 0.35 * front + 0.5 * back
        rho = np.sqrt(((side * x - axis) / (half * swell)) ** 2 + t**4 + ((z - 17.0 + 5.0 * t**2) / height) ** 2)
        best = np.maximum(best, (1.0 - rho) * half)
    third = np.sqrt((x / (1.2 + 1.5 * age)) ** 2 + ((y - 4.0) / 13.0) ** 2 + ((z + 8.0) / 10.0) ** 2)
    return np.maximum(best, (1.0 - third) * (1.2 + 1.5 * age))


def _nuclei(
    rng: np.random.Generator, points: np.ndarray, grey: float, white: float
) -> Iterator[tuple[np.ndarray, float]]:
    """Caudate, lentiform nucleus and thalamus of both sides: (millimetres inside, grey level)."""
    x, y, z = points
    tone = grey + (white - grey) * rng.uniform(0.2, 0.45)
    for (cx, cy, cz), (rx, ry, rz) in (
        ((13.0, -15.0, 13.0), (5.0, 11.0, 13.0)),
        ((25.0, -3.0, 2.0), (7.0, 17.0, 13.0)),
        ((11.0, 12.0, 3.0), (9.0, 14.0, 11.0)),
    ):
        cx, cy, cz = np.array([cx, cy, cz]) + rng.normal(0.0, 1.0, 3)
        rho = np.sqrt(((np.abs(x) - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2)
        yield (1.0 - rho) * rx, tone
