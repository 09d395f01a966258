"""Caricatures of five findings of colonoscopy, drawn into a synthetic or real image of mucosa.

Images are (3, X, Y) float32 in [0, 1], masks boolean (X, Y), lengths are pixels. All random values are in the
parameters (place, size, strength) and their seed (irregular border, texture), so that an effect is reproducible.
Colours and shading are factors on the mucosa's own colour around the place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from custom.errors import NomalyError
from custom.synthetic.colon import smooth_noise
from custom.synthetic.film import check_lesion, smooth_step

SIZES = (0.18, 0.45)  # longest extent of a lesion's body, as a fraction of the image's shorter side


@dataclass(frozen=True)
class LesionParameters:
    """All random values of a lesion, so that it can be reproduced.

    Attributes:
        centre: pixel indices of the middle.
        radii: half axes in pixels, the longer one first.
        angle: direction of the longer half axis in radians.
        light: direction from which the light comes, in radians.
        strength: above 0 (hardly visible) to 1 (clearly visible).
        variant: 0 or 1; a polyp or flat lesion is redder or paler, blood lies in a patch or a streak, the coat of an
            ulcer is whitish or yellow.
        seed: seed of the irregular border and the texture.
    """

    centre: tuple[float, float]
    radii: tuple[float, float]
    angle: float
    light: float
    strength: float
    variant: int
    seed: int


Effect = Callable[[np.ndarray, LesionParameters], tuple[np.ndarray, np.ndarray]]


def draw_lesion(
    image: np.ndarray, group: str, seed: int, strength: tuple[float, float] = (0.35, 1.0)
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one lesion into an image at a random, well lit place.

    Args:
        image: (3, X, Y) in [0, 1], red, green and blue; at least 32 pixels along both sides.
        group: name of the effect, a key of ``EFFECTS``.
        seed: equal seeds give equal lesions.
        strength: range of the drawn strength, within (0, 1]; small = subtle.

    Returns:
        The changed image (3, X, Y) float32 in [0, 1] and the mask (X, Y) of the lesion's body, never empty. Farther
        from the middle than twice the longer half axis, the image is unchanged.

    Raises:
        NomalyError: unknown group, an image or a strength out of bounds, or an image that is too dark or too bright
            everywhere.
    """
    check_lesion(group, EFFECTS, strength)
    if image.ndim != 3 or image.shape[0] != 3 or min(image.shape[1:]) < 32:
        raise NomalyError(
            f"image must be (3, X, Y) with at least 32 pixels a side, got {image.shape}; use an RGB image."
        )
    image = image.astype(np.float32)
    return EFFECTS[group](image, _draw_parameters(image, np.random.default_rng(seed), strength))


def sessile_polyp(image: np.ndarray, p: LesionParameters) -> tuple[np.ndarray, np.ndarray]:
    """A smooth dome: bright towards the light, dark at its far rim, a soft shadow behind, few vessels on it."""
    box, u, v, rho = _local(image, p, roughness=0.1)
    steep = 0.35 + 0.85 * p.strength
    body, shadow = _ramp(rho, 0.3), _ramp(_radius(*_shifted(u, v, p, 0.2)) / 0.9, 0.5)
    skin = _skin(image, box, p, body, _TINTS[p.variant]) * _shade(u, v, p, steep * np.minimum(rho, 1.2) ** 2)
    darker = (0.12 + 0.28 * p.strength) * shadow * _inside(rho)
    return _compose(image, box, p, 1.0 - darker, skin, body, wet=2)


def pedunculated_polyp(image: np.ndarray, p: LesionParameters) -> tuple[np.ndarray, np.ndarray]:
    """A ball with a dark edge on a stalk, and the deep shadow of both on the wall."""
    box, u, v, rho = _local(image, p, roughness=0.1)
    v = v * p.radii[1] / p.radii[0]  # both coordinates in units of the longer half axis
    # the ball lies in front, the stalk widens towards the wall at the other end
    rough = (rho + 1e-3) / (np.hypot(u, v * p.radii[0] / p.radii[1]) + 1e-3)
    ball_radius = np.hypot(u - 0.35, v) / 0.65 * rough
    across = np.clip(v / (0.26 + 0.2 * np.clip(-0.3 - u, 0.0, 1.0) ** 2), -1.5, 1.5)
    stalk = _ramp(np.abs(across), 0.5) * np.clip((u + 1.0) / 0.4, 0.0, 1.0) * (u < 0.35)
    ball = _ramp(ball_radius, 0.2)
    slope = np.clip(ball_radius, 0.0, 0.9)
    lit = _shade(u - 0.35, v, p, (0.3 + 0.35 * p.strength) * slope / np.sqrt(1.0 - slope**2))
    stem = _shade(np.zeros_like(across), across, p, 0.7 * across**2) * (1.0 - 0.35 * _ramp(ball_radius - 0.25, 0.5))
    body = np.maximum(ball, stalk)
    skin = _skin(image, box, p, body, _TINTS[p.variant]) * (stem + ball * (lit - stem))
    turn = p.light - p.angle
    away = np.hypot(u - 0.35 + 0.2 * np.cos(turn), v + 0.2 * np.sin(turn)) / 0.6
    darker = (0.2 + 0.35 * p.strength) * _ramp(away, 0.5) * _inside(_radius(u, v))
    return _compose(image, box, p, 1.0 - darker, skin, body, wet=3)


def flat_lesion(image: np.ndarray, p: LesionParameters) -> tuple[np.ndarray, np.ndarray]:
    """A slightly raised, finely granular area of irregular border, redder or paler than the mucosa around it."""
    box, _, _, rho = _local(image, p, roughness=0.3)
    body = _ramp(rho, 0.4)
    rise = np.gradient(_ramp(rho, 0.6))
    facing = -(rise[0] * np.cos(p.light) + rise[1] * np.sin(p.light)) * p.radii[1]
    lit = 1.0 + np.clip((0.03 + 0.05 * p.strength) * facing, -0.2, 0.12) * _inside(rho)
    rng = np.random.default_rng([p.seed, 2])
    grains = smooth_noise(rng, rho.shape, max(2.5, 0.2 * p.radii[1]))
    patchy = 0.5 + 0.8 * p.strength * (1.0 + 0.3 * smooth_noise(rng, rho.shape, 0.8 * p.radii[0]))
    patch = image[(slice(None),) + box]
    skin = patch + 0.6 * (_mucosa(patch, 0.12 * p.radii[0]) - patch)
    skin = skin * _TINTS[p.variant] ** np.maximum(patchy, 0.2) * (1.0 + 0.04 * p.strength * grains)
    return _compose(image, box, p, lit, skin * lit, body, wet=0)


def bleeding(image: np.ndarray, p: LesionParameters) -> tuple[np.ndarray, np.ndarray]:
    """Dark red blood in a ragged patch or a winding streak; the wall shines through where it is thin."""
    box, u, v, rho = _local(image, p, roughness=0.25)
    rng = np.random.default_rng([p.seed, 3])
    if p.variant:
        wind = 0.5 * np.sin(rng.uniform(2.0, 4.0) * u + rng.uniform(0.0, 6.0)) * u
        rho *= _radius(u, 2.6 * v - wind * 2.6) / np.maximum(_radius(u, v), 1e-3)
    # the middle always belongs to the lesion
    tatters = np.clip(smooth_noise(rng, rho.shape, max(3.0, 0.45 * p.radii[0])), -2.0, 2.0)
    cover = _ramp(rho + 0.22 * tatters * np.minimum(rho, 1.0), 0.35) * _inside(rho)
    depth = (0.35 + 1.1 * p.strength) * (1.0 + 0.25 * smooth_noise(rng, rho.shape, max(3.0, 0.6 * p.radii[0])))
    wall = _without_highlights(image[(slice(None),) + box], 0.3 * p.radii[0])
    absorbed = np.array([0.42, 1.7, 1.5], np.float32)[:, None, None] * np.maximum(depth, 0.2)
    return _compose(image, box, p, np.ones_like(rho), wall * np.exp(-absorbed), cover, wet=2)


def ulcer(image: np.ndarray, p: LesionParameters) -> tuple[np.ndarray, np.ndarray]:
    """A slightly sunken patch under a whitish or yellow coat, with a red rim that fades into the mucosa."""
    box, u, v, rho = _local(image, p, roughness=0.2)
    patch = image[(slice(None),) + box]
    mucosa = _mucosa(patch, 0.4 * p.radii[0])
    coat = mucosa.max(0) * (np.array([1.14, 0.98, 0.74]), np.array([1.1, 0.9, 0.48]))[p.variant][:, None, None]
    rng = np.random.default_rng([p.seed, 2])
    slough = smooth_noise(rng, rho.shape, max(3.0, 0.5 * p.radii[0]))
    coat = coat * (1.0 + 0.06 * slough + 0.04 * smooth_noise(rng, rho.shape, max(2.5, 0.15 * p.radii[0])))
    coat *= _shade(u, v, p, -0.35 * p.strength * np.minimum(rho, 1.0) ** 2)
    red = (0.4 + 0.6 * p.strength) * _ramp(rho - 0.15, 0.7)
    rim = patch * np.array([1.03, 0.62, 0.64], np.float32)[:, None, None] ** red
    inner = (0.45 + 0.5 * p.strength) * _ramp(rho + 0.22 + 0.06 * slough, 0.3)
    changed = image.copy()
    changed[(slice(None),) + box] = np.clip(rim + inner * (coat - rim), 0.0, 1.0)
    return changed, _placed(image, box, rho < 1.0)


EFFECTS: dict[str, Effect] = {
    effect.__name__: effect for effect in (sessile_polyp, pedunculated_polyp, flat_lesion, bleeding, ulcer)
}
_TINTS = np.array([[1.08, 0.82, 0.85], [1.1, 1.14, 1.1]], np.float32)[:, :, None, None]  # redder, paler


def _draw_parameters(image: np.ndarray, rng: np.random.Generator, strength: tuple[float, float]) -> LesionParameters:
    """Random parameters of one lesion; if a large one does not fit anywhere, a smaller one is tried."""
    side = min(image.shape[1:])
    drawn, aspect, twist = rng.uniform(*SIZES), rng.uniform(0.7, 1.0), rng.normal(0.0, 0.4)
    angle, power = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(*strength)
    variant, lesion_seed, where = int(rng.integers(2)), int(rng.integers(2**31)), rng.uniform()
    bright = ndimage.gaussian_filter(image.mean(0), 0.15 * side)
    for size in (drawn, 0.5 * (drawn + SIZES[0]), SIZES[0]):
        radius = 0.5 * size * side
        places = np.argwhere(_suitable(image, radius))
        if len(places):
            centre = places[int(where * len(places))]
            column, row = (g[tuple(centre)] for g in np.gradient(bright))
            light = float(np.arctan2(row, column) + twist)
            middle = (float(centre[0]), float(centre[1]))
            return LesionParameters(middle, (radius, aspect * radius), angle, light, power, variant, lesion_seed)
    raise NomalyError("image must have a lit, not overexposed part for a lesion, but has none; use another image.")


def _suitable(image: np.ndarray, radius: float) -> np.ndarray:
    """True (X, Y) where a lesion of this radius lies inside the image, on wall that is neither dark nor white."""
    luminance = image.mean(0)
    bad = (luminance < max(0.06, 0.35 * float(np.median(luminance)))) | (image.min(0) > 0.85)
    share = ndimage.uniform_filter(bad.astype(np.float32), 2 * int(radius) + 1, mode="nearest")
    good, edge = np.zeros(bad.shape, bool), int(np.ceil(radius))
    good[edge : bad.shape[0] - edge, edge : bad.shape[1] - edge] = True
    return good & (share < 0.12)


def _local(
    image: np.ndarray, p: LesionParameters, roughness: float
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray, np.ndarray]:
    """Box of twice the extent, coordinates along the half axes in half axes, and the radius, 1 on the rough border."""
    reach = 2.0 * p.radii[0]
    columns, rows = (
        slice(max(0, int(c - reach)), min(n, int(c + reach) + 2)) for c, n in zip(p.centre, image.shape[1:])
    )
    box = columns, rows
    x, y = (np.arange(b.start, b.stop, dtype=np.float32) - c for b, c in zip(box, p.centre))
    x, y = np.meshgrid(x, y, indexing="ij")
    cos, sin = np.float32(np.cos(p.angle)), np.float32(np.sin(p.angle))
    u, v = (cos * x + sin * y) / p.radii[0], (cos * y - sin * x) / p.radii[1]
    wobble = smooth_noise(np.random.default_rng(p.seed), x.shape, 1.2 * p.radii[0])
    # the border varies about the half axes from below, so that rough lesions are not larger than smooth ones
    border = (1.0 + roughness * np.clip(wobble, -1.5, 1.5)) / (1.0 + 1.2 * roughness)
    return box, u, v, _radius(u, v) / border


def _radius(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Distance from the middle in half axes."""
    return np.sqrt(u**2 + v**2)


def _shifted(u: np.ndarray, v: np.ndarray, p: LesionParameters, by: float) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates whose middle lies ``by`` half axes away from the light, where a shadow falls."""
    turn = p.light - p.angle
    return u + by * np.cos(turn), v + by * np.sin(turn) * p.radii[0] / p.radii[1]


def _ramp(rho: np.ndarray, softness: float) -> np.ndarray:
    """1 inside rho = 1, 0 outside, a smooth step of relative width ``softness`` between."""
    return smooth_step((1.0 - rho) / softness + 0.5)


def _inside(rho: np.ndarray) -> np.ndarray:
    """1 on the lesion, falling to 0 at 1.6 half axes: no change reaches the box's border."""
    return _ramp(rho - 0.35, 0.5)


def _shade(u: np.ndarray, v: np.ndarray, p: LesionParameters, slope: np.ndarray) -> np.ndarray:
    """Factor on the light where the wall falls off outwards with this slope, lit from the camera and one side."""
    turn = p.light - p.angle
    towards = (u * np.cos(turn) + v * np.sin(turn)) / np.maximum(_radius(u, v), 1e-3)
    return np.maximum((1.0 + 0.5 * slope * towards) / np.sqrt(1.0 + slope**2), 0.1)


def _without_highlights(patch: np.ndarray, sigma: float) -> np.ndarray:
    """Patch with white reflections replaced by the mucosa around them."""
    white = np.clip((patch.min(0) - 0.6) / 0.2, 0.0, 1.0)
    return patch + white * (_mucosa(patch, sigma) - patch)


def _mucosa(patch: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth colour of the wall (3, X, Y) without vessels, texture and reflections."""
    weight = 1.01 - np.clip((patch.min(0) - 0.6) / 0.2, 0.0, 1.0)
    blur = (0.0, sigma, sigma)
    return ndimage.gaussian_filter(patch * weight, blur) / ndimage.gaussian_filter(weight, blur[1:])


def _skin(
    image: np.ndarray, box: tuple[slice, slice], p: LesionParameters, body: np.ndarray, tint: np.ndarray
) -> np.ndarray:
    """A polyp's own surface (3, X, Y): the wall's colour, tinted, with fine pits and no fold or vessel below."""
    mucosa = _mucosa(image[(slice(None),) + box], 0.4 * p.radii[0])
    mean = (mucosa * body).sum((1, 2), keepdims=True) / body.sum()
    rng = np.random.default_rng([p.seed, 2])
    pits = smooth_noise(rng, body.shape, max(2.5, 0.25 * p.radii[0]))
    blotches = smooth_noise(rng, body.shape, max(4.0, 0.8 * p.radii[0]))
    return np.sqrt(mucosa * mean) * tint**p.strength * (1.0 + 0.035 * p.strength * pits + 0.04 * blotches)


def _compose(
    image: np.ndarray,
    box: tuple[slice, slice],
    p: LesionParameters,
    around: np.ndarray,
    skin: np.ndarray,
    body: np.ndarray,
    wet: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Image with ``around`` as factor on the wall, the lesion laid over it, and at most ``wet`` white reflections."""
    changed = image.copy()
    patch = changed[(slice(None),) + box] * around
    patch += (0.55 + 0.45 * p.strength) * body * (skin - patch)
    rng = np.random.default_rng([p.seed, 4])
    x, y = np.meshgrid(*(np.arange(b.start, b.stop) - c for b, c in zip(box, p.centre)), indexing="ij")
    for _ in range(rng.integers(wet + 1)):
        turn, away = p.light + rng.normal(0.0, 0.8), rng.uniform(0.1, 0.55) * p.radii[1]
        spot = max(0.9, rng.uniform(0.05, 0.13) * p.radii[0])
        distance = np.hypot(x - away * np.cos(turn), (y - away * np.sin(turn)) * rng.uniform(0.6, 1.4)) / spot
        patch += 0.9 * _ramp(distance, 0.8) * body * (0.97 - patch)
    changed[(slice(None),) + box] = np.clip(patch, 0.0, 1.0)
    return changed, _placed(image, box, body > 0.5)


def _placed(image: np.ndarray, box: tuple[slice, slice], local: np.ndarray) -> np.ndarray:
    """Mask of the whole image from the mask of a box."""
    mask = np.zeros(image.shape[1:], bool)
    mask[box] = local
    return mask
