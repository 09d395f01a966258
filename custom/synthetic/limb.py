"""The limb on a radiograph of a hand or wrist and its bones, found by grey levels only, and places on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError
from skimage.filters import threshold_otsu

MAX_HALF = 0.05  # of the film's side: half the width of the broadest bone; carpals and a white forearm merge
FULL_BOX = 0.95  # a bright part that fills this much of its convex hull is an exposed field or a panel, not a hand


@dataclass(frozen=True)
class Site:
    """A place on a limb and its own coordinates, both as fractions of the film's side.

    ``along`` (X, Y) runs in the direction of the bone, ``across`` (X, Y) over it; both are 0 in its middle, whose pixel
    is ``place``; ``half`` is half its width and ``normal`` the direction of ``across`` on the film.
    """

    along: np.ndarray
    across: np.ndarray
    half: float
    normal: np.ndarray
    place: tuple[int, int]

    def turned(self, angle: float) -> tuple[np.ndarray, np.ndarray]:
        """The coordinates of something that lies at an angle (radians) to the bone."""
        sine, cosine = np.sin(angle), np.cos(angle)
        return cosine * self.along + sine * self.across, cosine * self.across - sine * self.along


@dataclass(frozen=True)
class Limb:
    """Hand and forearm on a film, found by their grey levels.

    Attributes:
        mask: of the limb, bone: of the bones in it; both (X, Y) boolean.
        depth: (X, Y) distance to the limb's border as a fraction of the film's side, negative outside.
        slope: (2, X, Y) of the film smoothed; bones run at right angles to it.
        air, soft, dense: grey levels around the limb, in its soft tissue and in its bones.
    """

    mask: np.ndarray
    bone: np.ndarray
    depth: np.ndarray
    slope: np.ndarray
    air: float
    soft: float
    dense: float

    @classmethod
    def of(cls, film: np.ndarray) -> Limb:
        """Find the limb of a film (X, Y)."""
        size = min(film.shape)
        smooth = ndimage.gaussian_filter(film, 0.008 * size)
        mask = _silhouette(smooth)
        depth = (ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)) / size
        weight = np.where(mask, 1.0, 1e-3)
        around = ndimage.gaussian_filter(smooth * weight, 0.04 * size) / ndimage.gaussian_filter(weight, 0.04 * size)
        bone = mask & (smooth > around) & (depth > 1.2 / size)
        bone = ndimage.binary_opening(bone, iterations=size // 128) if size >= 128 else bone
        levels = [np.median(film[where]) if where.any() else 0.0 for where in (~mask, mask & ~bone)]
        dense = np.quantile(film[bone], 0.8) if bone.any() else 0.0
        slope = np.stack(np.gradient(ndimage.gaussian_filter(film, 0.012 * size))) * (depth > -0.02)
        return cls(mask, bone, depth, slope, *(float(level) for level in (*levels, dense)))

    @property
    def size(self) -> int:
        """The film's shorter side in pixels."""
        return min(self.mask.shape)

    @property
    def contrast(self) -> float:
        """Grey levels from soft tissue to bone, at least 0.2."""
        return max(self.dense - self.soft, 0.2)

    def drawn(self, rng: np.random.Generator, likely: np.ndarray) -> np.ndarray:
        """A pixel (2,) drawn from a density (X, Y)."""
        total = np.cumsum(likely, dtype=float)
        index = min(int(np.searchsorted(total, rng.uniform() * total[-1], "right")), total.size - 1)
        return np.array(np.unravel_index(index, self.mask.shape))

    def site(self, rng: np.random.Generator, likely: np.ndarray) -> Site:
        """A place drawn from a density (X, Y), moved to the middle of its bone or finger."""
        place = self.drawn(rng, likely)
        normal = self._normal(place)
        steps, ends = np.arange(0.0, 0.12 * self.size, 0.5), []
        for sign in (-1.0, 1.0):
            line = place[:, None] + sign * normal[:, None] * steps
            inside = ndimage.map_coordinates(self.bone.astype(np.float32), line, order=1) > 0.5
            ends.append(sign * steps[np.argmin(inside) if not inside.all() else -1])
        middle = place + normal * sum(ends) / 2.0
        half = float(np.clip((ends[1] - ends[0]) / 2.0 / self.size, 1.2 / self.size, MAX_HALF))
        away = (np.indices(self.mask.shape) - middle[:, None, None]) / self.size
        along, across = normal[1] * away[0] - normal[0] * away[1], normal[0] * away[0] + normal[1] * away[1]
        corner = np.array(self.mask.shape) - 1
        return Site(along, across, half, normal, tuple(np.clip(middle.round().astype(int), 0, corner)))

    def axis(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the forearm leaves the film (2,), in pixels, and the direction (2,) from there to the limb's middle."""
        middle = np.argwhere(self.mask).mean(0)
        rim = np.pad(np.zeros([n - 4 for n in self.mask.shape], bool), 2, constant_values=True)
        labels, count = ndimage.label(self.mask & rim)
        if count:  # the broadest part that touches the film's edge
            start = np.argwhere(labels == 1 + int(np.argmax(np.bincount(labels.ravel())[1:]))).mean(0)
        else:
            start = np.array([middle[0], np.argwhere(self.mask)[:, 1].max()], float)  # films are hung fingers up
        axis = middle - start
        return start, axis / max(float(np.hypot(*axis)), 1e-6)

    def _normal(self, place: np.ndarray) -> np.ndarray:
        """Direction (2,) in which the film changes most around a pixel: across the bone."""
        distance = ((np.indices(self.mask.shape) - place[:, None, None]) ** 2).sum(0) / (0.045 * self.size) ** 2
        weight = np.exp(-distance / 2.0)
        return np.linalg.eigh(np.einsum("ixy,jxy,xy->ij", self.slope, self.slope, weight))[1][:, 1]


def _silhouette(film: np.ndarray) -> np.ndarray:
    """The largest bright part (X, Y) that is not a panel: the limb, without strips along the film's edges."""
    size, inside = min(film.shape), np.ones(film.shape, bool)
    rim = np.pad(np.zeros([n - 2 * (size // 16) for n in film.shape], bool), size // 16, constant_values=True)
    level, panel = _panel(film)
    body = np.zeros(film.shape, bool)
    for _ in range(3):  # film, exposed field in it, and once more for a field in a panel
        if not inside.any() or np.ptp(film[inside]) < 1e-3:
            break
        threshold = threshold_otsu(film[inside])
        dark = np.median(film[inside & (film <= threshold)])
        bright = inside & (film > dark + 0.6 * (threshold - dark))  # below Otsu's threshold: fingertips are thin
        if level > threshold:
            bright &= ~panel
        deep = ndimage.distance_transform_edt(bright)
        bright &= ~rim | (ndimage.distance_transform_edt(deep < 0.06 * size) < 0.1 * size)
        labels, count = ndimage.label(bright)
        if not count:
            break
        volume = ndimage.sum(deep**2, labels, np.arange(1, count + 1))
        largest = np.argsort(volume)[:-4:-1]
        fills = [_fill(labels == 1 + part) for part in largest]
        best = int(np.argmax(volume[largest] * (1.02 - np.array(fills))))
        body = labels == 1 + largest[best]
        if fills[best] < FULL_BOX:
            break
        inside = ndimage.binary_erosion(ndimage.binary_fill_holes(body), iterations=max(1, size // 32))
    return body


def _panel(film: np.ndarray) -> tuple[float, np.ndarray]:
    """Padding around a film: its grey level and its mask (X, Y), including adjacent pixels."""
    edge = np.pad(np.zeros([n - 2 for n in film.shape], bool), 1, constant_values=True)
    level = float(np.median(film[edge]))
    flat = ndimage.binary_opening(np.pad(np.abs(film - level) < 0.05, 1, mode="edge"))[1:-1, 1:-1]  # no contour lines
    panel = ndimage.binary_propagation(edge & flat, mask=flat)
    return level, ndimage.binary_dilation(panel, iterations=max(1, min(film.shape) // 40))


def _fill(part: np.ndarray) -> float:
    """Share of a part's (X, Y) convex hull that it covers, including enclosed holes."""
    try:
        return min(1.0, ndimage.binary_fill_holes(part).sum() / ConvexHull(np.argwhere(part)).volume)
    except QhullError:  # fewer than three pixels or all in a line
        return 1.0
