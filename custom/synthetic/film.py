"""What drawings on a film share: relative coordinates, smooth random fields, strokes, and lesions that can be seen."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from custom.errors import NomalyError

ATTEMPTS = 8
VISIBLE = 0.015  # change of a pixel's grey level that belongs to a lesion's mask

Change = tuple[np.ndarray, np.ndarray]  # what is added to a film (X, Y), and the lesion's body (X, Y)


@dataclass(frozen=True)
class Frame:
    """Coordinates of a film's pixels in the frame of what is drawn on it.

    Attributes:
        u: to the picture's right, v: downwards; both (X, Y), 0 in the middle of the film and +-1 at its edges
            where the frame is not moved.
        axes: (2, 2) matrix from the frame to the film.
        origin: the frame's zero on the film (2,).
        pixel: the pitch of the pixels in the frame's units.
        bend: how far u and v may lie from the straight frame that ``axes`` and ``origin`` describe.
    """

    u: np.ndarray
    v: np.ndarray
    axes: np.ndarray
    origin: np.ndarray
    pixel: float
    bend: float = 0.0

    @classmethod
    def of(cls, shape: Sequence[int], axes: np.ndarray | None = None, origin: Sequence[float] = (0.0, 0.0)) -> Frame:
        """Frame of a film of ``shape`` (X, Y); by default the film's own one."""
        axes = np.eye(2) if axes is None else np.asarray(axes, float)
        x, y = ((np.arange(n) + 0.5) * 2.0 / n - 1.0 - o for n, o in zip(shape, origin))
        back = np.linalg.inv(axes)
        u, v = (back[i, 0] * x[:, None] + back[i, 1] * y[None] for i in (0, 1))
        pitch = 2.0 / min(shape) * float(np.sqrt(np.linalg.det(back)))
        return cls(u.astype(np.float32), v.astype(np.float32), axes, np.asarray(origin, float), pitch)

    def step(self, distance: np.ndarray, softness: float = 0.0) -> np.ndarray:
        """1 where ``distance`` is positive, 0 where it is negative; a smooth step over a pixel and ``softness``."""
        t = np.clip(distance / (softness + self.pixel) + 0.5, 0.0, 1.0)
        return t * t * (3.0 - 2.0 * t)


def stroke(canvas: np.ndarray, frame: Frame, points: np.ndarray, width: float | Sequence[float]) -> None:
    """Draw a round tube along a line into ``canvas`` (X, Y), in place; where tubes meet the larger value stays.

    Args:
        canvas: 1 in a tube's middle, 0 outside; a tube thinner than a pixel gets as much fainter as it is thinner.
        frame: of the film.
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
    """Indices x (N, K, 1) and y (N, 1, L) of equally large windows around N pieces of lines, kept on the film."""
    size = np.array(frame.u.shape)
    film = (np.stack([starts, ends]) @ frame.axes.T + frame.origin + 1.0) / 2.0 * size
    reach = np.abs(film[0] - film[1]).max(0) / 2.0 + (margin + frame.bend) * np.abs(frame.axes).sum(1) / 2.0 * size
    corner = np.floor(film.mean(0) - reach).astype(int)
    x, y = (np.clip(corner[:, i, None] + np.arange(int(2.0 * reach[i]) + 2), 0, size[i] - 1) for i in (0, 1))
    return x[:, :, None], y[:, None, :]


def curve(corners: Sequence[Sequence[float]], count: int = 12) -> np.ndarray:
    """A smooth line (count, 2) from the first of two to four corners to the last one, drawn towards the others."""
    points = np.asarray(corners, float)
    t = np.linspace(0.0, 1.0, count)[:, None]
    while len(points) > 1:  # de Casteljau: straight lines between neighbours, halved in number until one point is left
        points = [(1.0 - t) * a + t * b for a, b in zip(points[:-1], points[1:])]
    return points[0]


def smooth_field(rng: np.random.Generator, shape: Sequence[int], nodes: int) -> np.ndarray:
    """Smooth random field (X, Y) of unit variance with about ``nodes`` independent values along an axis.

    The values are drawn before the pixels are looked at, so a seed gives the same field at every size.
    """
    field = rng.standard_normal((nodes + 2, nodes + 2))
    for n in shape:
        offset = ((np.arange(n) + 0.5) / n * nodes + 0.5)[:, None] - np.arange(nodes + 2)[None]
        weights = np.exp(-(offset**2) / 0.72)
        weights /= np.sqrt((weights**2).sum(1, keepdims=True))
        field = (weights @ field).T  # after two turns the axes are back in order
    return field.astype(np.float32)


def check_lesion(group: str, groups: Collection[str], strength: Sequence[float]) -> None:
    """Refuse an unknown group and a strength out of bounds.

    Raises:
        NomalyError: with the known groups, or the range that is allowed.
    """
    if group not in groups:
        raise NomalyError(f"group must be one of {', '.join(groups)}, got {group!r}")
    if not 0.0 < strength[0] <= strength[1] <= 1.0:
        raise NomalyError(f"strength must be an increasing range within (0, 1], got {tuple(strength)}")


def most_visible(
    film: np.ndarray, draw: Callable[[], Change], min_contrast: float, grain: int = 1, attempts: int = ATTEMPTS
) -> Change:
    """Draw until a lesion can be seen: the first with enough contrast, or the best of all attempts.

    Args:
        film: (X, Y) in [0, 1].
        draw: one attempt at another place.
        min_contrast: mean change of the grey level inside the mask that is enough.
        grain: a pixel of the body counts as changed if one in a square of this side does: no holes where the grain of a
            lesion crosses the old grey level.
        attempts: number of attempts at most.

    Returns:
        The change (X, Y), cut off where the film would leave [0, 1], and the boolean mask (X, Y) of what can be seen of
        it; empty if nothing can.
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
