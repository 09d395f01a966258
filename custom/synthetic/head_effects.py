"""How each group of synthetic lesions changes a head: pure functions (volume, anatomy, parameters) -> (volume, mask).

Volumes are (C, X, Y, Z) float32 in [0, 1], masks boolean (X, Y, Z). All random values are in the parameters (place,
size, strength) and their seed (irregular border, texture), so that an effect is reproducible. Lengths are millimetres.
Grey levels are relative to the head's own white matter and fluid, which suits T1w scans and the phantom alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from custom.synthetic.film import smooth_step
from custom.synthetic.head_anatomy import HeadAnatomy, smooth_noise

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class LesionParameters:
    """All random values of a lesion, so that it can be reproduced.

    Attributes:
        group: name of the effect.
        centre: voxel indices of the middle.
        radii: half axes in millimetres.
        angle: in-plane rotation of the half axes, or direction of a skull defect, in radians.
        strength: above 0 (hardly visible) to 1 (clearly visible).
        variant: 0 or 1; a mass is dark or bright, an artefact is ghosting or a zipper line.
        seed: seed of the irregular border and the texture.
    """

    group: str
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    angle: float
    strength: float
    variant: int
    seed: int


Effect = Callable[[np.ndarray, HeadAnatomy, LesionParameters], tuple[np.ndarray, np.ndarray]]


def hyperintense(volume: np.ndarray, anatomy: HeadAnatomy, p: LesionParameters) -> tuple[np.ndarray, np.ndarray]:
    """A spot brighter than white matter."""
    return _blend(volume, anatomy, p, min(1.0, 1.3 * anatomy.white), amount=p.strength, softness=0.5)


def hypointense(volume: np.ndarray, anatomy: HeadAnatomy, p: LesionParameters) -> tuple[np.ndarray, np.ndarray]:
    """A spot darker than grey matter."""
    return _blend(volume, anatomy, p, 0.3 * anatomy.white, amount=0.85 * p.strength, softness=0.5)


def resection(volume: np.ndarray, anatomy: HeadAnatomy, p: LesionParameters) -> tuple[np.ndarray, np.ndarray]:
    """A cavity at the brain's surface, filled with fluid."""
    return _blend(volume, anatomy, p, anatomy.dark, amount=0.7 + 0.3 * p.strength, softness=0.25)


def oedema(volume: np.ndarray, anatomy: HeadAnatomy, p: LesionParameters) -> tuple[np.ndarray, np.ndarray]:
    """A wide, soft darkening that takes white matter more than grey matter and leaves fluid unchanged."""
    box, rho, _ = _local(anatomy, p, reach=1.9, roughness=0.3)
    weight = _ramp(rho, softness=1.0) * _brain_weight(anatomy, box)
    tissue = np.clip(volume[(slice(None),) + box] / anatomy.white, 0.0, 1.0)
    drop = (0.12 + 0.38 * p.strength) * weight * tissue**1.5
    changed = volume.copy()
    changed[(slice(None),) + box] *= 1.0 - drop
    return changed, _placed(anatomy, box, weight > 0.35)


def mass(volume: np.ndarray, anatomy: HeadAnatomy, p: LesionParameters) -> tuple[np.ndarray, np.ndarray]:
    """A tumour: its surroundings are pushed outwards, its inside is darker with a bright rim, or bright."""
    box, rho, offsets = _local(anatomy, p, reach=2.8, roughness=0.12)
    # tissue between 1 and 2.6 radii is squeezed: a point at radius rho shows what lay nearer to the centre
    push = (0.3 + 0.5 * p.strength) * np.clip((2.6 - rho) / 1.6, 0.0, 1.0) * np.minimum(rho, 1.0)
    push *= np.clip(anatomy.depth[box] / (0.5 * p.radii[0]), 0.0, 1.0)  # the skull does not give way
    shrink = 1.0 - push / np.maximum(rho, 1e-3)
    changed = volume.copy()
    changed[(slice(None),) + box] = _sample(volume, anatomy, box, [o * (shrink - 1.0) for o in offsets])
    texture = 0.06 * smooth_noise(np.random.default_rng([p.seed, 1]), rho.shape, anatomy.spacing, 0.7 * p.radii[0])
    core, rim = ((0.48, 1.08), (1.15, 1.0))[p.variant]
    level = anatomy.white * (core + texture + (rim - core) * np.exp(-(((rho - 0.85) / 0.13) ** 2)))
    weight = _ramp(rho, softness=0.25) * _brain_weight(anatomy, box)
    patch = changed[(slice(None),) + box]
    patch += (0.45 + 0.5 * p.strength) * weight * (np.clip(level, 0.0, 1.0) - patch)
    return changed, _placed(anatomy, box, weight > 0.5)


def enlarged_ventricles(volume: np.ndarray, anatomy: HeadAnatomy, p: LesionParameters) -> tuple[np.ndarray, np.ndarray]:
    """The dark cavities in the middle of the brain grow; the tissue beside them is pushed aside."""
    box = _box(anatomy, (anatomy.centre[0], anatomy.centre[1], p.centre[2]), (0.4 * anatomy.width,) * 2 + (35.0,))
    inner = anatomy.ventricles[box]
    if not inner.any():  # nothing to widen: open a pair of slits
        inner = _slits(anatomy, box)
    growth = (0.014 + 0.043 * p.strength) * anatomy.width * np.exp(-((_axes(anatomy, box, p.centre)[2] / 22.0) ** 2))
    growth = np.broadcast_to(np.maximum(growth, 1e-3), inner.shape)
    distance, nearest = _nearest_in_slice(inner, anatomy.spacing)
    # tissue between 1 and 4 growths from the wall is squeezed: each point shows what lay nearer to the wall
    source = np.where(distance < 4.0 * growth, np.maximum(distance - growth, 0.0) * 4.0 / 3.0, distance)
    pull = (source / np.maximum(distance, 1e-3) - 1.0) * _brain_weight(anatomy, box)
    shifts = [pull * (g - near) * s for g, near, s in zip(np.indices(inner.shape), nearest, anatomy.spacing)]
    patch = volume[(slice(None),) + box]
    grown = _sample(volume, anatomy, box, [*shifts, np.zeros_like(pull)])
    fluid = min(float(np.percentile(patch.mean(0)[inner], 20)), 0.35 * anatomy.white)
    filled = np.clip((growth - distance) / anatomy.spacing[0] + 0.5, 0.0, 1.0)
    grown += filled * (np.minimum(grown, fluid) - grown)
    changed = volume.copy()
    changed[(slice(None),) + box] = grown
    moved = (np.abs(grown - patch).mean(0) > 0.1 * anatomy.white) & (distance < 1.5 * growth)
    return changed, _placed(anatomy, box, ndimage.binary_closing(moved, _CROSS))


def missing_skull(volume: np.ndarray, anatomy: HeadAnatomy, p: LesionParameters) -> tuple[np.ndarray, np.ndarray]:
    """A sector of skull and scalp fades into the background."""
    x, y, z = _axes(anatomy, None, (anatomy.centre[0], anatomy.centre[1], p.centre[2]))
    half = 2.0 * p.radii[0] / anatomy.width  # radians
    away = np.abs(np.angle(np.exp(1j * (np.arctan2(y, x) - p.angle)))).astype(np.float32)
    weight = _ramp(away / half, softness=0.2) * _ramp(np.abs(z) / (1.5 * p.radii[2] + anatomy.spacing[2]), softness=0.3)
    ring = ndimage.binary_dilation(anatomy.head, _CROSS, 2) & ~anatomy.brain
    weight = weight * ndimage.gaussian_filter(ring.astype(np.float32), (0.6, 0.6, 0.0)) * ring
    outside = volume[:, ~anatomy.head]
    background = float(np.median(outside)) if outside.size else 0.0
    changed = volume + (0.5 + 0.5 * p.strength) * weight * (background - volume)
    gone = (np.abs(changed - volume).mean(0) > 0.04) & ring
    return changed, ndimage.binary_closing(gone, _CROSS, 2) & ring


def artefact(volume: np.ndarray, anatomy: HeadAnatomy, p: LesionParameters) -> tuple[np.ndarray, np.ndarray]:
    """Motion ghosts (shifted faint copies) or a zipper (a line of alternating dots) over a few slices."""
    axis = int(np.sin(p.angle) > 0)
    near = np.abs(_axes(anatomy, None, p.centre)[2]) <= p.radii[2] + 0.5 * anatomy.spacing[2]
    effect = (_ghosts, _zipper)[p.variant]
    changed = np.where(near, effect(volume, anatomy, p, axis), volume)
    return changed, ndimage.binary_closing(np.abs(np.clip(changed, 0.0, 1.0) - volume).max(0) > 0.03, _CROSS)


EFFECTS: dict[str, Effect] = {
    effect.__name__: effect
    for effect in (
        hyperintense,
        hypointense,
        mass,
        enlarged_ventricles,
        resection,
        oedema,
        missing_skull,
        artefact,
    )
}
_CROSS = ndimage.generate_binary_structure(2, 1)[:, :, None]


def _axes(anatomy: HeadAnatomy, box: Box | None, centre: Sequence[float] | np.ndarray) -> list[np.ndarray]:
    """Millimetres from ``centre`` along each axis, broadcastable over the box (or the whole volume)."""
    spans = box or [slice(0, n) for n in anatomy.head.shape]
    lines = [(np.arange(b.start, b.stop) - c) * s for b, c, s in zip(spans, centre, anatomy.spacing)]
    return list(np.ix_(*(line.astype(np.float32) for line in lines)))


def _box(anatomy: HeadAnatomy, centre: Sequence[float], reach: Sequence[float]) -> Box:
    """Voxels within ``reach`` millimetres of the centre, clipped to the image."""
    low = [max(0, int(c - r / s)) for c, r, s in zip(centre, reach, anatomy.spacing)]
    high = [int(c + r / s) + 2 for c, r, s in zip(centre, reach, anatomy.spacing)]
    x, y, z = (slice(a, min(b, n)) for a, b, n in zip(low, high, anatomy.head.shape))
    return x, y, z


def _local(
    anatomy: HeadAnatomy, p: LesionParameters, reach: float, roughness: float
) -> tuple[Box, np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Box around a lesion, its normalised radius there (1 on its irregular border), and the offsets in millimetres."""
    box = _box(anatomy, p.centre, [reach * max(p.radii)] * 3)
    x, y, z = _axes(anatomy, box, p.centre)
    cos, sin = np.cos(p.angle), np.sin(p.angle)
    u, v = cos * x + sin * y, cos * y - sin * x
    rho = np.sqrt((u / p.radii[0]) ** 2 + (v / p.radii[1]) ** 2 + (z / p.radii[2]) ** 2).astype(np.float32)
    wobble = smooth_noise(np.random.default_rng(p.seed), rho.shape, anatomy.spacing, 1.3 * p.radii[0])
    # no wobble in the middle, so the centre always belongs to the lesion
    return box, rho * (1.0 + roughness * np.clip(wobble, -2.0, 2.0)), (x, y, z)


def _ramp(rho: np.ndarray, softness: float) -> np.ndarray:
    """1 inside rho = 1, 0 outside, a smooth step of relative width ``softness`` between."""
    return smooth_step((1.0 - rho) / softness + 0.5)


def _brain_weight(anatomy: HeadAnatomy, box: Box) -> np.ndarray:
    """1 in the brain, falling to 0 over the last voxel and a half at its surface."""
    return np.clip(anatomy.depth[box] / (1.5 * anatomy.spacing[0]), 0.0, 1.0)


def _placed(anatomy: HeadAnatomy, box: Box, local: np.ndarray) -> np.ndarray:
    """Mask of the whole volume from the mask of a box."""
    mask = np.zeros(anatomy.head.shape, bool)
    mask[box] = local
    return mask


def _blend(
    volume: np.ndarray, anatomy: HeadAnatomy, p: LesionParameters, level: float, amount: float, softness: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pull an irregular ellipsoid towards one grey level."""
    box, rho, _ = _local(anatomy, p, reach=1.7, roughness=0.18)
    weight = _ramp(rho, softness) * _brain_weight(anatomy, box)
    changed = volume.copy()
    patch = changed[(slice(None),) + box]
    patch += amount * weight * (level - patch)
    return changed, _placed(anatomy, box, weight > 0.5)


def _sample(volume: np.ndarray, anatomy: HeadAnatomy, box: Box, shifts: Sequence[np.ndarray]) -> np.ndarray:
    """Values of the box read at places shifted by ``shifts`` millimetres (three arrays); linear interpolation."""
    grid = np.ogrid[box]
    places = np.stack([g + s / step for g, s, step in zip(grid, np.broadcast_arrays(*shifts), anatomy.spacing)])
    places = places.astype(np.float32)
    return np.stack([ndimage.map_coordinates(c, places, order=1, mode="nearest") for c in volume])


def _nearest_in_slice(inner: np.ndarray, spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Distance to ``inner`` in millimetres and the indices (x, y) of its nearest voxel, per slice."""
    distance, nearest = ndimage.distance_transform_edt(
        ~inner, sampling=(spacing[0], spacing[1], 1e4), return_indices=True
    )
    distance = np.where(distance > 5e3, 5e3, distance)  # a slice without ventricles stays unchanged
    return distance.astype(np.float32), nearest[:2]


def _slits(anatomy: HeadAnatomy, box: Box) -> np.ndarray:
    """A pair of narrow slits beside the brain's middle, if no ventricle is visible."""
    x, y, _ = _axes(anatomy, box, anatomy.centre)
    side = (np.abs(x) - 0.05 * anatomy.width) / (0.02 * anatomy.width + anatomy.spacing[0])
    slit = np.sqrt(side**2 + (y / (0.15 * anatomy.width)) ** 2) < 1.0
    return np.broadcast_to(slit, anatomy.head[box].shape)


def _ghosts(volume: np.ndarray, anatomy: HeadAnatomy, p: LesionParameters, axis: int) -> np.ndarray:
    """The volume with two faint copies shifted along an in-plane axis, as motion causes."""
    share = 0.08 + 0.24 * p.strength
    shift = round(np.random.default_rng(p.seed).uniform(0.1, 0.3) * volume.shape[1 + axis])
    copies = np.roll(volume, shift, 1 + axis) + np.roll(volume, -shift, 1 + axis)
    return (1.0 - share) * volume + 0.6 * share * copies


def _zipper(volume: np.ndarray, anatomy: HeadAnatomy, p: LesionParameters, axis: int) -> np.ndarray:
    """The volume with a line of random dots across an in-plane axis, as radio-frequency interference causes."""
    rng = np.random.default_rng(p.seed)
    away = np.abs(_axes(anatomy, None, p.centre)[axis])
    thick = max(anatomy.spacing[axis], rng.uniform(0.008, 0.02) * anatomy.width)
    dots = rng.uniform(0.0, 1.0, [1 if a == axis else n for a, n in enumerate(anatomy.head.shape)]).astype(np.float32)
    return volume + (0.15 + 0.75 * p.strength) * (away <= thick) * (dots - volume)
