"""Synthetic abnormalities for frontal chest radiographs: seven groups, based only on grey levels and lung fields.

They are caricatures; results that use them must be labelled synthetic. Opacities add to the existing grey levels (ribs
stay visible, vessels disappear), relative to the film's own contrast between air and soft tissue.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from custom.synthetic.film import Change, Effect, Frame, curve, draw_visible, smooth_field, smooth_step, stroke
from custom.synthetic.lung_fields import LungFields

MIN_CONTRAST = 0.04  # mean change inside the mask below which a lesion is not visible


def draw_lesion(
    image: np.ndarray, group: str, seed: int, strength: tuple[float, float] = (0.35, 1.0)
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one lesion of a group of ``EFFECTS`` into a synthetic or real chest film, see
    :func:`custom.synthetic.film.draw_visible`.
    """
    return draw_visible(image, group, EFFECTS, seed, strength, LungFields.of, MIN_CONTRAST, "a film with darker lungs")


@dataclass(frozen=True)
class _Lung:
    """One lung's mask and its own coordinates.

    ``side`` is -1 for the one on the left of the image; ``t`` runs from 0 at the apex to 1 at the base, ``a`` from 0 at
    the heart to 1 at the chest wall; ``depth`` is the distance to the border as a part of the film, negative outside.
    """

    mask: np.ndarray
    side: float
    t: np.ndarray
    a: np.ndarray
    depth: np.ndarray

    @classmethod
    def of(cls, fields: LungFields, side: float) -> _Lung:
        """The lung on the left (-1) or right (1) of the image."""
        mask = fields.right if side < 0 else fields.left
        size = min(mask.shape)
        rows = np.flatnonzero(mask.any(0))
        t = np.broadcast_to((np.arange(mask.shape[1]) - rows[0] + 0.5) / len(rows), mask.shape)
        away = side * (np.arange(mask.shape[0])[:, None] + 0.5 - fields.middle)
        every = np.arange(mask.shape[1])
        inner = np.interp(every, rows, np.where(mask, away, np.inf).min(0)[rows])
        outer = np.interp(every, rows, np.where(mask, away, -np.inf).max(0)[rows]) + 1.0
        low = (every - rows[0]) > 0.75 * len(rows)  # the diaphragm is no heart: its border goes straight on downwards
        inner = np.where(low, np.minimum(inner, inner[~low].max()), inner)
        smooth = [ndimage.gaussian_filter1d(edge, 0.02 * size, mode="nearest") for edge in (inner, outer)]
        a = (away - smooth[0]) / np.maximum(smooth[1] - smooth[0], 1.0)
        depth = ndimage.distance_transform_edt(mask) - ndimage.distance_transform_edt(~mask)
        return cls(mask, side, t, a, depth / size)

    def inside(self, softness: float) -> np.ndarray:
        """1 in the lung, falling to 0 over ``softness`` (a part of the film) at its border."""
        return smooth_step(self.depth / softness)


def _any_lung(fields: LungFields, rng: np.random.Generator) -> _Lung:
    """One of the lungs, at random."""
    return _Lung.of(fields, float(rng.choice([-1.0, 1.0])))


def _opacity(film: np.ndarray, fields: LungFields, weight: np.ndarray, whole: float = 0.9) -> np.ndarray:
    """Change of a film where tissue of ``whole`` times the contrast replaces air; ribs show through a little."""
    size, usual = min(film.shape), fields.air + whole * fields.contrast
    outside = np.where(fields.both, 1e-3, 1.0)
    beside = ndimage.gaussian_filter(film * outside, 0.06 * size) / ndimage.gaussian_filter(outside, 0.06 * size)
    level = 0.4 * usual + 0.6 * np.clip(beside, usual - 0.2 * fields.contrast, usual + 0.4 * fields.contrast)
    ribs = np.clip(film - ndimage.gaussian_filter(film, 0.04 * size, mode="nearest"), -0.5 * fields.contrast, None)
    # near the lung's border that difference contains the border itself, which disappears
    ribs *= smooth_step(ndimage.distance_transform_edt(fields.both) / size / 0.035)
    return weight * (np.maximum(level - film, 0.0) + 0.6 * ribs)


def consolidation(film: np.ndarray, fields: LungFields, rng: np.random.Generator, strength: float) -> Change:
    """A dense, soft-edged part of a lobe that ends at the lung's border."""
    lung = _any_lung(fields, rng)
    centre, radii = rng.uniform((0.15, 0.25), 0.85), rng.uniform((0.5, 0.17), (1.0, 0.32))
    rho = np.hypot((lung.a - centre[0]) / radii[0], (lung.t - centre[1]) / radii[1])
    rho = rho + 0.16 * smooth_field(rng, film.shape, 8) + 0.08 * smooth_field(rng, film.shape, 20)
    cloud = 1.0 + 0.12 * smooth_field(rng, film.shape, 24)
    weight = (0.4 + 0.55 * strength) * smooth_step((1.2 - rho) / 0.6) * lung.inside(0.025) * cloud
    return _opacity(film, fields, weight), weight > 0.4 * weight.max()


def ground_glass(film: np.ndarray, fields: LungFields, rng: np.random.Generator, strength: float) -> Change:
    """Faint patches in both lungs, mostly at the sides and the bases, as in viral pneumonia."""
    weight = np.zeros(film.shape, np.float32)
    patches = 0.55 * smooth_field(rng, film.shape, 7) + 0.3 * smooth_field(rng, film.shape, 16)
    grain = 1.0 + 0.2 * smooth_field(rng, film.shape, 36)
    for side in (-1.0, 1.0):
        lung = _Lung.of(fields, side)
        likely = patches + 0.7 * np.clip(lung.a, 0.0, 1.0) + 0.9 * np.clip(lung.t, 0.0, 1.0)
        free = np.quantile(likely[lung.mask], rng.uniform(0.15, 0.6))  # the part of this lung without haze
        weight += smooth_step((likely - free) / 0.9) * lung.inside(0.03) * grain
    weight *= 0.18 + 0.34 * strength
    return _opacity(film, fields, weight), weight > 0.4 * weight.max()


def effusion(film: np.ndarray, fields: LungFields, rng: np.random.Generator, strength: float) -> Change:
    """Fluid that fills the lung from below, its upper edge rising towards the chest wall."""
    lung = _any_lung(fields, rng)
    edge = np.clip(lung.a, 0.0, 1.0)
    level = rng.uniform(0.80, 0.92) - 0.4 * strength - rng.uniform(0.12, 0.25) * edge**3 + 0.03 * edge
    fluid = smooth_step((lung.t - level) / rng.uniform(0.08, 0.18)) * smooth_step(lung.depth / 0.035 + 0.7)
    weight = (0.65 + 0.3 * strength) * fluid
    return _opacity(film, fields, weight, 1.05), (fluid > 0.4) & lung.mask


def nodule(film: np.ndarray, fields: LungFields, rng: np.random.Generator, strength: float) -> Change:
    """A small round opacity."""
    lung = _any_lung(fields, rng)
    radius = max(rng.uniform(0.018, 0.05), 1.3 / min(film.shape))
    places = np.argwhere(lung.depth > min(0.8 * radius, 0.9 * lung.depth.max()))
    x, y = (places[rng.integers(len(places))] + rng.uniform(0.0, 1.0, 2)).astype(np.float32)
    columns, rows = (np.arange(n) + 0.5 for n in film.shape)
    rho = np.hypot(columns[:, None] - x, rows - y) / (radius * min(film.shape))
    rho *= 1.0 + 0.08 * smooth_field(rng, film.shape, 30)
    ball = np.sqrt(np.clip(1.0 - rho**2 / 1.3, 0.0, 1.0)) * smooth_step((1.15 - rho) / 0.5)
    weight = (0.3 + 0.5 * strength) * ball
    plain = ndimage.gaussian_filter(film, 0.03 * min(film.shape), mode="nearest")
    return weight * np.maximum(fields.air + 1.1 * fields.contrast - plain, 0.5 * fields.contrast), ball > 0.3


def pneumothorax(film: np.ndarray, fields: LungFields, rng: np.random.Generator, strength: float) -> Change:
    """Air beside a lung that has come off the chest wall: a dark crescent without vessels, ended by a fine line."""
    lung = _any_lung(fields, rng)
    size = min(film.shape)
    rows = np.flatnonzero(lung.mask.any(0))
    hilum = np.argwhere(lung.mask & (np.abs(lung.a) < 0.3))[:, 0]
    hilum = np.array([hilum.mean() if len(hilum) else fields.middle, rows[0] + rng.uniform(0.6, 0.9) * len(rows)])
    keep = rng.uniform(0.86, 0.93) - 0.22 * strength  # what is left of the lung's length
    source = [h + (index - h) / keep for h, index in zip(hilum, np.indices(film.shape, np.float32))]
    collapsed = keep * ndimage.map_coordinates(ndimage.gaussian_filter(lung.depth, 0.01 * size), source, order=1)
    where = (
        lung.inside(0.015)
        * smooth_step((0.9 - lung.t) / 0.25)
        * smooth_step((lung.a + 0.1) / 0.4 + smooth_step((0.3 - lung.t) / 0.2))
    )
    free = where * smooth_step(0.5 - collapsed / 0.015)
    line = where * np.exp(-((collapsed / max(0.006, 0.6 / size)) ** 2))
    plain = ndimage.gaussian_filter(film, 0.008 * size, mode="nearest")
    change = 0.6 * free * (plain - film) - (0.08 + 0.24 * strength) * fields.contrast * free
    change += (0.15 + 0.25 * strength) * fields.contrast * line * (0.4 + 0.6 * (1.0 - free))
    return change * (where > 0), (free > 0.4) | (line > 0.5)


def enlarged_heart(film: np.ndarray, fields: LungFields, rng: np.random.Generator, strength: float) -> Change:
    """A heart whose shadow is wider on both sides, mostly towards the patient's left."""
    weight, grown = np.zeros(film.shape), np.zeros(film.shape, bool)
    middle, half = rng.uniform(0.66, 0.8), rng.uniform(0.30, 0.40)
    for side, share in ((-1.0, rng.uniform(0.2, 0.6)), (1.0, 1.0)):
        lung = _Lung.of(fields, side)
        reach = (0.22 + 0.48 * strength) * share * np.exp(-(((lung.t - middle) / half) ** 2)) + 0.02
        shadow = smooth_step((reach - lung.a) / 0.12 + 0.5) * (lung.t < 1.15) * (lung.t > 0.0)
        weight += shadow * smooth_step(lung.depth / 0.02 + 1.0) * 0.9
        grown |= (shadow > 0.5) & lung.mask
    return _opacity(film, fields, weight, 0.95), grown


def device(film: np.ndarray, fields: LungFields, rng: np.random.Generator, strength: float) -> Change:
    """A bright line: central venous line, tracheal tube, pacemaker with its lead, chest drain or a wire on the skin."""
    both = fields.both
    columns, rows = np.flatnonzero(both.any(1)), np.flatnonzero(both.any(0))
    half = np.array([len(columns) / 2.0, len(rows) / 2.0]) / np.array(film.shape) * 2.0
    centre = np.array([fields.middle / film.shape[0], (rows[0] + rows[-1] + 1) / 2.0 / film.shape[1]]) * 2.0 - 1.0
    side, frame, canvas = float(rng.choice([-1.0, 1.0])), Frame.of(film.shape), np.zeros(film.shape, np.float32)
    lines, width = _DEVICES[int(rng.integers(len(_DEVICES)))]
    width *= rng.uniform(0.8, 1.3)
    for line in lines:
        corners = np.array(line) * (side, 1.0) + rng.normal(0.0, 0.04, (1, 2)) + rng.normal(0.0, 0.02, (len(line), 2))
        stroke(canvas, frame, centre + half * curve(corners, 24), width)
    top = max(0.95, float(film.max()))
    weight = (0.25 + 0.55 * strength) * canvas
    return weight * (top - film), canvas > 0.4 * canvas.max()


# corners of smooth lines, in half sizes of both lungs' box from its middle, and the half width on the film
_DEVICES = (
    ([[(0.55, -1.15), (0.2, -0.8), (-0.2, -0.9), (-0.14, 0.05)]], 0.007),  # venous line
    ([[(-0.02, -1.7), (0.02, -1.0), (-0.01, -0.5)], [(0.05, -1.7), (0.09, -1.0), (0.05, -0.5)]], 0.007),  # tube
    ([[(0.62, -0.85), (0.75, -0.8)], [(0.62, -0.8), (-0.45, -1.2), (-0.3, 0.4), (0.3, 0.65)]], 0.008),  # pacemaker
    ([[(1.25, 0.55), (0.7, 0.4), (0.75, -0.2), (0.45, -0.75)]], 0.015),  # drain
    ([[(1.3, -0.9), (0.2, -0.3), (0.9, 0.5), (-0.6, 1.3)]], 0.006),  # wire
)

EFFECTS: dict[str, Effect[LungFields]] = {
    effect.__name__: effect
    for effect in (consolidation, ground_glass, effusion, nodule, pneumothorax, enlarged_heart, device)
}
