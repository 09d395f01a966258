"""Shared tools for radiograph-like images: relative coordinates, smooth random fields, strokes and visible lesions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from custom.errors import NomalyError

ATTEMPTS = 8
VISIBLE = 0.015  # change of a pixel's grey level that belongs to a lesion's mask

Change = tuple[np.ndarray, np.ndarray]  # the change added to a film (X, Y), and the lesion's body (X, Y)
Place = TypeVar("Place")  # what an effect knows of the film's anatomy
Effect = Callable[[np.ndarray, Place, np.random.Generator, float], Change]


@dataclass(frozen=True)
class Frame:
    """Coordinates of a film's pixels in the frame of the anatomy drawn on it.

    Attributes:
        u: towards the right of the image, v: downwards; both (X, Y), 0 in the middle of the film and +-1 at its
            edges if the frame is not moved.
        axes: (2, 2) matrix from the frame to the film.
        origin: position of the frame's zero on the film (2,).
        pixel: pixel spacing in the frame's units.
        bend: largest deviation of u and v from the straight frame given by ``axes`` and ``origin``.
    """

    u: np.ndarray
    v: np.ndarray
    axes: np.ndarray
    origin: np.ndarray
    pixel: float
    bend: float = 0.0

    @classmethod
    def of(cls, shape: Sequence[int], axes: np.ndarray | None = None, origin: ArrayLike = (0.0, 0.0)) -> Frame:
        """Frame of a film of ``shape`` (X, Y); by default that of the film itself."""
        axes = np.eye(2) if axes is None else np.asarray(axes, float)
        zero = np.asarray(origin, float)
        x, y = ((np.arange(n) + 0.5) * 2.0 / n - 1.0 - o for n, o in zip(shape, zero))
        back = np.linalg.inv(axes)
        u, v = (back[i, 0] * x[:, None] + back[i, 1] * y[None] for i in (0, 1))
        pitch = 2.0 / min(shape) * float(np.sqrt(np.linalg.det(back)))
        return cls(u.astype(np.float32), v.astype(np.float32), axes, zero, pitch)

    def step(self, distance: np.ndarray, softness: float = 0.0) -> np.ndarray:
        """1 where ``distance`` is positive, 0 where it is negative; a smooth step over a pixel and ``softness``."""
        return smooth_step(distance / (softness + self.pixel) + 0.5)


def smooth_step(t: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, a smooth cubic between."""
    t = np.clip(t, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def stroke(canvas: np.ndarray, frame: Frame, points: np.ndarray, width: ArrayLike) -> None:
    """Draw a round tube along a line into ``canvas`` (X, Y), in place; where tubes overlap, the larger value is kept.

    Args:
        canvas: 1 in a tube's middle, 0 outside; a tube thinner than a pixel is proportionally fainter.
        frame: frame of the film.
        points: corners of the line (N, 2) in the frame's units.
        width: half width in the frame's units, one for all corners or one per corner.
    """
    widths = np.broadcast_to(np.asarray(width, float), len(points))
    strokes(canvas, frame, points[:-1], points[1:], (widths[:-1] + widths[1:]) / 2.0)


def strokes(canvas: np.ndarray, frame: Frame, starts: np.ndarray, ends: np.ndarray, widths: np.ndarray) -> None:
    """Draw many straight tubes at once, from ``starts`` to ``ends`` (N, 2) with half ``widths`` (N,); see `stroke`."""
    starts, ends, widths = (np.asarray(a, np.float32) for a in (starts, ends, widths))
    soft = np.hypot(widths, np.float32(0.6 * frame.pixel))
    x, y = _windows(frame, starts, ends, 1.5 * float(soft.max()))
    points = np.stack([frame.u[x, y], frame.v[x, y]], -1)  # (N, K, K, 2)
    along, away = ends - starts, points - starts[:, None, None]
    t = np.einsum("nijc,nc->nij", away, along) / ((along**2).sum(1) + 1e-12)[:, None, None]
    square = ((away - np.clip(t, 0.0, 1.0)[..., None] * along[:, None, None]) ** 2).sum(-1) / soft[:, None, None] ** 2
    value = (widths / soft)[:, None, None] * np.clip(1.0 - square / 2.0, 0.0, 1.0) ** 2
    np.maximum.at(canvas, (np.broadcast_to(x, value.shape), np.broadcast_to(y, value.shape)), value)


def _windows(frame: Frame, starts: np.ndarray, ends: np.ndarray, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Indices x (N, K, 1) and y (N, 1, L) of equally large windows around N line segments, clipped to the film."""
    size = np.array(frame.u.shape)
    film = (np.stack([starts, ends]) @ frame.axes.T + frame.origin + 1.0) / 2.0 * size
    reach = np.abs(film[0] - film[1]).max(0) / 2.0 + (margin + frame.bend) * np.abs(frame.axes).sum(1) / 2.0 * size
    corner = np.floor(film.mean(0) - reach).astype(int)
    x, y = (np.clip(corner[:, i, None] + np.arange(int(2.0 * reach[i]) + 2), 0, size[i] - 1) for i in (0, 1))
    return x[:, :, None], y[:, None, :]


def curve(corners: ArrayLike, count: int = 12) -> np.ndarray:
    """A smooth line (count, 2) from the first of two to four control points to the last, pulled towards the others."""
    points = list(np.asarray(corners, float))
    t = np.linspace(0.0, 1.0, count)[:, None]
    while len(points) > 1:  # de Casteljau: interpolate between neighbours until one point is left
        points = [(1.0 - t) * a + t * b for a, b in zip(points[:-1], points[1:])]
    return points[0]


def smooth_field(rng: np.random.Generator, shape: Sequence[int], nodes: int) -> np.ndarray:
    """Smooth random field (X, Y) of unit variance with about ``nodes`` independent values along an axis.

    The values are drawn independently of the pixels, so a seed gives the same field at every size.
    """
    field = rng.standard_normal((nodes + 2, nodes + 2))
    for n in shape:
        offset = ((np.arange(n) + 0.5) / n * nodes + 0.5)[:, None] - np.arange(nodes + 2)[None]
        weights = np.exp(-(offset**2) / 0.72)
        weights /= np.sqrt((weights**2).sum(1, keepdims=True))
        field = (weights @ field).T  # after two turns the axes are back in order
    return field.astype(np.float32)


def draw_visible(
    image: np.ndarray,
    group: str,
    effects: Mapping[str, Effect[Place]],
    seed: int,
    strength: tuple[float, float],
    find: Callable[[np.ndarray], Place],
    min_contrast: float,
    advice: str,
    grain: Callable[[Place], int] = lambda place: 1,
    attempts: Callable[[Place], int] = lambda place: ATTEMPTS,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one lesion into a film.

    Args:
        image: (C, X, Y) in [0, 1], bones bright and air dark.
        group: name of the effect.
        effects: effects by name.
        seed: equal seeds give equal lesions.
        strength: range of the drawn strength, within (0, 1]; small = subtle.
        find: finds the anatomy of a film (X, Y).
        min_contrast: see :func:`most_visible`.
        advice: which film to use if no lesion is visible in this one.
        grain, attempts: see :func:`most_visible`, as functions of the anatomy.

    Returns:
        changed image (C, X, Y) float32 in [0, 1]; boolean mask (X, Y) of the visible change, never empty.

    Raises:
        NomalyError: unknown group, a range out of bounds, or a film in which no lesion is visible.
    """
    check_lesion(group, effects, strength)
    film = np.asarray(image, np.float32).mean(0)
    place, rng = find(film), np.random.default_rng(seed)
    drawn = float(rng.uniform(*strength))
    change, mask = most_visible(
        film, lambda: effects[group](film, place, rng, drawn), min_contrast, grain(place), attempts(place)
    )
    if not mask.any():
        raise NomalyError(f"no {group} is visible at any of {ATTEMPTS} places tried in this film; use {advice}.")
    return np.clip(image + change, 0.0, 1.0).astype(np.float32), mask


def check_lesion(group: str, groups: Collection[str], strength: Sequence[float]) -> None:
    """Reject an unknown group and a strength out of bounds.

    Raises:
        NomalyError: with the known groups, or the allowed range.
    """
    if group not in groups:
        raise NomalyError(f"group must be one of {', '.join(groups)}, got {group!r}.")
    if not 0.0 < strength[0] <= strength[1] <= 1.0:
        raise NomalyError(f"strength must be an increasing range within (0, 1], got {tuple(strength)}.")


def most_visible(
    film: np.ndarray, draw: Callable[[], Change], min_contrast: float, grain: int = 1, attempts: int = ATTEMPTS
) -> Change:
    """Draw until a lesion is visible: the first with enough contrast, or the best of all attempts.

    Args:
        film: (X, Y) in [0, 1].
        draw: one attempt at another place.
        min_contrast: sufficient mean change of the grey level inside the mask.
        grain: a pixel of the body counts as changed if any pixel in a square of this side does, which avoids holes
            where the texture of a lesion crosses the original grey level.
        attempts: largest number of attempts.

    Returns:
        The change (X, Y), clipped so that the film stays in [0, 1], and the boolean mask (X, Y) of its visible part,
        which may be empty.
    """
    best = (0.0, film, np.zeros(film.shape, bool))
    for _ in range(attempts):
        change, body = draw()
        change = np.clip(film + change, 0.0, 1.0) - film
        mask = body & (ndimage.maximum_filter(np.abs(change), grain) > VISIBLE)
        contrast = float(np.abs(change[mask]).mean()) if mask.sum() > 2 else 0.0
        best = max(best, (contrast, change, mask), key=lambda attempt: attempt[0])
        if contrast > min_contrast:
            break
    return best[1], best[2]
