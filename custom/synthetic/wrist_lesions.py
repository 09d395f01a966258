"""Synthetic abnormalities for radiographs of a child's hand or wrist: six groups, based on the film's grey levels.

The groups are those of GRAZPEDWRI-DX (Nagy et al. 2022, Scientific Data 9:222). They are caricatures; results
that use them must be labelled synthetic. Lengths are fractions of the film's shorter side.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import ndimage

from custom.synthetic.film import ATTEMPTS, VISIBLE, Change, Effect, draw_visible, smooth_field, smooth_step
from custom.synthetic.limb import Limb, Site

MIN_CONTRAST = 0.06  # mean change inside the mask below which another place is tried


def draw_lesion(
    image: np.ndarray, group: str, seed: int, strength: tuple[float, float] = (0.35, 1.0)
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one lesion of a group of ``EFFECTS`` into a synthetic or real film of a hand or wrist, see
    :func:`custom.synthetic.film.draw_visible`.
    """
    return draw_visible(
        image,
        group,
        EFFECTS,
        seed,
        strength,
        Limb.of,
        MIN_CONTRAST,
        "a film with a bright hand",
        grain=lambda limb: 2 * (limb.size // 64) + 1,
        attempts=lambda limb: ATTEMPTS if limb.bone.sum() > 8 else 0,
    )


def _bar(u: np.ndarray, v: np.ndarray, half: tuple[ArrayLike, ArrayLike], pixel: float) -> np.ndarray:
    """1 in a bar of half sizes along u and v, 0 outside, with an edge of a pixel; no bar is thinner than a pixel."""
    long, wide = (np.maximum(h, 0.55 * pixel) for h in half)
    return smooth_step((long - np.abs(u)) / pixel + 0.5) * smooth_step((wide - np.abs(v)) / pixel + 0.5)


def _pushed(film: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Change of a film (X, Y) whose content moves by ``by`` (2, X, Y) pixels; exactly 0 where it does not move."""
    moved = ndimage.map_coordinates(film, np.indices(film.shape) - by, order=1, mode="nearest")
    return np.where((np.abs(by) > 1e-4).any(0), moved - film, 0.0)


def fracture(film: np.ndarray, limb: Limb, rng: np.random.Generator, strength: float) -> Change:
    """A dark line over a bone, often with a step: the bone beyond the line is shifted sideways."""
    place = limb.site(rng, limb.bone * np.clip(film - limb.soft, 0.05, None))
    half, pixel = place.half, 1.0 / limb.size
    line = place.along - rng.uniform(-0.7, 0.7) * place.across - 0.12 * half * smooth_field(rng, film.shape, 40)
    width = max(rng.uniform(0.004, 0.009), 0.6 * pixel)
    over = smooth_step((1.05 * half + 0.5 * pixel - np.abs(place.across)) / max(0.2 * half, pixel) + 0.5)
    end = rng.uniform(-0.3, 1.0) if rng.random() < 0.3 else 2.0  # some lines end inside the bone
    gap = (
        over * smooth_step((end * half - place.across) / max(0.3 * half, pixel) + 0.5) * np.exp(-((line / width) ** 2))
    )
    gap[gap < 0.02] = 0.0
    change = np.zeros_like(film)
    if rng.random() < 0.6:
        far = (
            (line > 0)
            * smooth_step((4.0 * half - line) / (3.0 * half))
            * smooth_step((2.0 * half - np.abs(place.across)) / half)
        )
        step = rng.choice([-1.0, 1.0]) * max(rng.uniform(0.25, 0.7) * half, 0.8 * pixel) * (0.4 + 0.6 * strength)
        change = _pushed(film, step * limb.size * far * place.normal[:, None, None])
    depth = np.maximum(film - limb.soft, 0.7 * limb.contrast)
    body = (gap > 0.3) | (np.abs(change) > 0.04)
    return change - (0.35 + 0.5 * strength) * depth * gap, body


def metal(film: np.ndarray, limb: Limb, rng: np.random.Generator, strength: float) -> Change:
    """A plate with screws, a screw or crossed wires: brighter than bone, in the dark halo of a sharpened film."""
    dim = np.clip(1.1 - film, 0.05, None) ** 2  # on a white bone, metal is not visible
    place = limb.site(rng, limb.bone * dim * (limb.depth > min(0.04, 0.5 * limb.depth.max())))
    half, pixel = float(np.clip(place.half, 0.018, 0.06)), 1.0 / limb.size
    canvas = (_plate, _screw, _wires)[rng.integers(3)](place, rng, half, pixel)
    halo = np.clip(ndimage.gaussian_filter(canvas, max(0.012 * limb.size, 0.8), truncate=2.5) - canvas, 0.0, None)
    change = (0.5 + 0.5 * strength) * canvas * (max(0.97, float(film.max())) - film)
    change -= (0.4 + 0.4 * strength) * limb.contrast * halo * (film > limb.air)
    return change, (canvas > 0.3) | (halo > 0.15)


def _plate(place: Site, rng: np.random.Generator, half: float, pixel: float) -> np.ndarray:
    """A plate along a bone with its screws across it."""
    length, broad = rng.uniform(2.5, 4.5) * half, rng.uniform(0.35, 0.5) * half
    canvas = 0.8 * _bar(place.along, place.across, (length, broad), pixel)
    for hole in np.linspace(-0.8, 0.8, int(rng.integers(4, 7))) * length:
        screw = _bar(place.along - hole, place.across, (0.12 * half, rng.uniform(0.9, 1.15) * half), pixel)
        canvas = np.maximum(canvas, screw)
    return canvas


def _screw(place: Site, rng: np.random.Generator, half: float, pixel: float) -> np.ndarray:
    """One screw at an angle to a bone, with its head."""
    u, v = place.turned(rng.uniform(0.15, 0.7))
    return np.maximum(_bar(u, v, (2.0 * half, 0.011), pixel), _bar(u - 2.0 * half, v, (0.012, 0.022), pixel))


def _wires(place: Site, rng: np.random.Generator, half: float, pixel: float) -> np.ndarray:
    """Two crossed wires."""
    canvas = np.zeros_like(place.along)
    for side in (-1.0, 1.0):
        u, v = place.turned(side * rng.uniform(0.15, 0.7))
        wire = _bar(u - rng.uniform(-0.5, 0.5) * half, v, (rng.uniform(2.5, 4.0) * half, 0.005), pixel)
        canvas = np.maximum(canvas, wire)
    return canvas


def bone_lesion(film: np.ndarray, limb: Limb, rng: np.random.Generator, strength: float) -> Change:
    """A round hole in a bone, with or without a dense rim, or a dense island."""
    place = limb.site(rng, limb.bone * np.clip(film - limb.soft, 0.05, None))
    radius = np.clip(rng.uniform(0.7, 1.1) * place.half, max(0.014, 1.6 / limb.size), 0.036)
    rho = np.hypot(place.along / rng.uniform(1.0, 1.7), place.across) / radius
    rho = rho * (1.0 + 0.08 * smooth_field(rng, film.shape, 30))
    blob = smooth_step((1.15 - rho) / 0.4)
    around = ndimage.gaussian_filter(film, 0.03 * limb.size)
    x, y = place.place
    if rng.random() < 0.35 and around[x, y] < 0.8:  # a white bone cannot become whiter
        return (0.35 + 0.55 * strength) * blob * (max(0.97, float(film.max())) - film), blob > 0.3
    change = -(0.35 + 0.55 * strength) * blob * np.maximum(film - limb.soft, 0.7 * limb.contrast)
    rim = np.zeros_like(film)
    if rng.random() < 0.5:
        rim = np.exp(-(((rho - 1.25) / max(0.18, 0.6 / (radius * limb.size))) ** 2)) * (rho > 0.9)
        rim[rim < 0.02] = 0.0
        change += (0.3 + 0.5 * strength) * rim * np.clip(0.97 - film, 0.0, limb.contrast)
    return change, (blob > 0.3) | (rim > 0.4)


def soft_tissue(film: np.ndarray, limb: Limb, rng: np.random.Generator, strength: float) -> Change:
    """A swelling: the limb's border bulges outwards and what lies under it is denser."""
    pixel = 1.0 / limb.size
    outward = -np.stack(np.gradient(ndimage.gaussian_filter(limb.depth, 0.02 * limb.size))) * limb.size
    x, y = limb.drawn(rng, _free_border(limb, outward))
    columns, rows = np.indices(film.shape)
    reach = rng.uniform(0.06, 0.11)
    hill = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) * (pixel / reach) ** 2 / 2.0)
    hill = (
        hill
        * smooth_step((hill - 0.03) / 0.1)
        * smooth_step((0.045 - limb.depth) / 0.04)
        * smooth_step((limb.depth + 0.12) / 0.05)
    )
    hill = hill * _own_side(limb, hill > 0.3, (x, y))
    bulge = max(0.018 + 0.027 * strength, 1.2 * pixel)
    change = _pushed(film, bulge * limb.size * hill * outward / np.maximum(np.hypot(*outward), 0.3))
    inside = smooth_step((limb.depth + bulge * hill) / (2.0 * pixel)) * hill
    tissue = limb.soft - limb.air
    level = limb.air + (0.75 + 0.35 * strength) * tissue
    change += (0.3 + 0.5 * strength) * inside * np.clip(level - film - change, 0.0, None)
    change += (0.1 + 0.15 * strength) * inside * max(tissue, 0.2)
    return change, (hill > 0.1) & (np.abs(change) > 2.0 * VISIBLE)


def _free_border(limb: Limb, outward: np.ndarray) -> np.ndarray:
    """How likely (X, Y) a swelling starts at a pixel: at the limb's border, rather not towards the next finger."""
    border = limb.mask & (limb.depth < 1.6 / limb.size)
    x, y = np.indices(border.shape)
    margin = np.minimum(np.minimum(x, x[::-1]), np.minimum(y, y[:, ::-1])) / limb.size
    beyond = ndimage.map_coordinates(limb.depth, np.stack([x, y]) + 0.08 * limb.size * outward, order=1)
    likely = border * (margin > 0.06) * np.clip(-beyond, 0.002, None) ** 2
    return likely if likely.any() else border


def _own_side(limb: Limb, near: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    """Where (X, Y) a pixel is nearer to the part of the limb that holds ``place`` than to another, as a finger is."""
    labels = ndimage.label(limb.mask & near)[0]
    own = labels == labels[place]
    rest = limb.mask & ~own
    if not rest.any():
        return np.ones(own.shape, bool)
    return ndimage.distance_transform_edt(~own) < ndimage.distance_transform_edt(~rest)


def cast(film: np.ndarray, limb: Limb, rng: np.random.Generator, strength: float) -> Change:
    """A sleeve of plaster around the forearm and a part of the hand: dense at its sides, woven, with a fuzzy end."""
    start, axis = limb.axis()
    away = (np.indices(film.shape) - start[:, None, None]) / limb.size
    along, across = axis[0] * away[0] + axis[1] * away[1], axis[0] * away[1] - axis[1] * away[0]
    end, thick = rng.uniform(0.30, 0.58) * np.quantile(along[limb.mask], 0.97), rng.uniform(0.022, 0.045)
    middle, half = _trunk(limb, along, across, end)
    half = half + thick
    x, ratio = (across - middle) / half, 1.0 - 1.3 * thick / half
    path = np.sqrt(np.clip(1.0 - x**2, 0.0, 1.0)) - np.sqrt(np.clip(ratio**2 - x**2, 0.0, 1.0))
    path = 0.45 * smooth_step((1.0 - np.abs(x)) / 0.06) + 0.55 * path / np.sqrt(1.0 - ratio**2)
    weave = 0.10 * np.sin(2.0 * np.pi * (along / 0.045 + 4.0 * across + 0.3 * smooth_field(rng, film.shape, 9)))
    grain = 1.0 + weave + 0.08 * smooth_field(rng, film.shape, 14) + 0.10 * smooth_field(rng, film.shape, 50)
    fuzzy = smooth_step((end - along + 0.012 * smooth_field(rng, film.shape, 12)) / 0.02)
    # plaster adds to what is there, and the stronger exposure it needs takes contrast from the bones
    sleeve = (0.35 + 0.5 * strength) * path * fuzzy
    return sleeve * (rng.uniform(0.80, 0.92) * grain - film), sleeve > 0.1


def _trunk(limb: Limb, along: np.ndarray, across: np.ndarray, end: float) -> tuple[np.ndarray, np.ndarray]:
    """Middle and half width (X, Y), across the limb's axis, of the limb below ``end`` without thumb and fingers."""
    part = limb.mask & (along < end)
    core = np.quantile(limb.depth[part], 0.98) if part.any() else 0.0
    part &= ndimage.distance_transform_edt(limb.depth < 0.55 * core) < 0.6 * core * limb.size
    bins = np.floor(along * limb.size).astype(int)
    rim = np.pad(np.zeros([n - 2 for n in part.shape], bool), 1, constant_values=True)
    rows, cut = np.unique(bins[part]), np.unique(bins[part & rim])
    rows = np.setdiff1d(rows, cut) if len(rows) > len(cut) + 3 else rows  # where the film's edge cuts the limb
    low, high = (f(across[part], bins[part], rows) for f in (ndimage.minimum, ndimage.maximum))
    order, inside = min(2, len(rows) - 1), np.clip(along, rows[0] / limb.size, rows[-1] / limb.size)
    low_fit, high_fit = (np.polyval(np.polyfit(rows / limb.size, edge, order), inside) for edge in (low, high))
    narrow = max(float(np.quantile((high - low) / 2.0, 0.3)), 0.03)  # the forearm; at the palm a little broader
    return (low_fit + high_fit) / 2.0, np.clip((high_fit - low_fit) / 2.0, 0.9 * narrow, 1.3 * narrow)


def foreign_body(film: np.ndarray, limb: Limb, rng: np.random.Generator, strength: float) -> Change:
    """Something small, sharp and bright: a ring on a finger, a piece of wire, a splinter of glass or a pellet."""
    kind, pixel = int(rng.integers(4)), 1.0 / limb.size
    dim = np.clip(1.1 - film, 0.05, None) ** 2
    if kind == 0:
        thin = limb.bone & (limb.depth < 0.5 * limb.depth.max())
        place = limb.site(rng, dim * (thin if thin.any() else limb.bone))
        u = place.along - rng.uniform(-0.15, 0.15) * place.across
        body = _bar(u, place.across, (0.009, 1.9 * place.half), pixel)
    else:
        place = limb.site(rng, dim * limb.mask * (limb.depth > pixel))
        u, v = place.turned(rng.uniform(0.0, np.pi))
        long, thick = rng.uniform(0.015, 0.03), max(rng.uniform(0.010, 0.018), 1.2 * pixel)
        if kind == 1:
            body = _bar(u, v - rng.uniform(-6.0, 6.0) * u**2, (1.7 * long, 0.004), pixel)
        elif kind == 2:
            body = _bar(u, v, (long, 0.5 * np.clip(long - u, 0.0, 2.0 * long)), pixel)
        else:
            body = smooth_step((thick - np.hypot(u, v)) / pixel + 0.5)
    return (0.4 + 0.6 * strength) * body * (max(0.97, float(film.max())) - film), body > 0.3


EFFECTS: dict[str, Effect[Limb]] = {
    effect.__name__: effect for effect in (cast, metal, fracture, bone_lesion, soft_tissue, foreign_body)
}
