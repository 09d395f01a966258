"""One synthetic radiograph of a child's left hand and wrist from a seed: a substitute for undistributable data.

It is not a model of anatomy. Attenuations along the ray (soft tissue, cortex, marrow) are summed and mapped to grey
levels by a contrast curve. The frame of the hand has u towards the right of the image (the thumb's side), v downwards,
and its zero at the wrist, between forearm and carpal bones; the film's half width is about 1. An age from 0 (two years)
to 1 (adult) determines the size of the hand, its growth plates and its carpal bones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from custom.errors import NomalyError
from custom.synthetic.film import Frame, smooth_field, stroke

# Rays from the thumb to the little finger: base of the metacarpal (u, v), lengths of its bones, heading of the
# metacarpal and the turn that spreads the finger, both in degrees to the thumb's side
RAYS = (
    ((0.165, -0.130), (0.24, 0.18, 0.13), 38.0, 2.0),
    ((0.090, -0.195), (0.37, 0.25, 0.145, 0.10), 9.0, 6.0),
    ((0.020, -0.205), (0.35, 0.28, 0.180, 0.11), 0.0, 0.5),
    ((-0.050, -0.190), (0.31, 0.26, 0.170, 0.11), -9.0, -5.0),
    ((-0.110, -0.165), (0.28, 0.20, 0.115, 0.10), -19.0, -10.0),
)
# Carpal bones in the order in which they appear: age of that, middle, half sizes, turn in degrees
CARPALS = (
    (-0.3, (0.012, -0.115), (0.038, 0.056), 0.0),  # capitate
    (-0.3, (-0.066, -0.108), (0.037, 0.046), 10.0),  # hamate
    (0.0, (-0.080, -0.048), (0.034, 0.031), -30.0),  # triquetrum
    (0.1, (-0.010, -0.038), (0.040, 0.033), 0.0),  # lunate
    (0.2, (0.078, -0.052), (0.034, 0.052), -35.0),  # scaphoid
    (0.22, (0.133, -0.105), (0.037, 0.033), 30.0),  # trapezium
    (0.25, (0.077, -0.133), (0.028, 0.033), 0.0),  # trapezoid
    (0.6, (-0.105, -0.070), (0.020, 0.020), 0.0),  # pisiform
)
BONE = 2.6  # attenuation of cortex, soft tissue being 1


def wrist_image(seed: int, size: int) -> np.ndarray:
    """One healthy hand, bones bright and air dark.

    Forearm, carpal bones, metacarpals and fingers with growth plates, soft tissue, side marker, collimation; noise and
    exposure. Place, size, tilt, spread of the fingers, age and build are drawn from the seed.

    Args:
        seed: equal seeds give the same child, at any size.
        size: pixels along x and y, 32 to 512.

    Returns:
        (1, X, Y) float32 in [0, 1].

    Raises:
        NomalyError: the size is out of bounds.
    """
    return wrist_with_bones(seed, size)[0]


def wrist_with_bones(seed: int, size: int, age: float | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The image of :func:`wrist_image` and its bones, boolean (X, Y); ``age`` in [0, 1] replaces the drawn one."""
    if not 32 <= size <= 512:
        raise NomalyError(f"size must be 32 to 512 pixels, got {size}; resize the image afterwards.")
    rng = np.random.default_rng(seed)
    drawn = float(rng.uniform(0.0, 1.0))
    age = drawn if age is None else age
    frame = _placed(rng, size, age)
    hand = _Hand.of(rng, age)
    bones = _bones(frame, hand, age)
    texture = 1.0 + 0.05 * smooth_field(rng, bones.shape, 40) + 0.06 * smooth_field(rng, bones.shape, 90)
    density = rng.uniform(0.85, 1.1) * BONE * bones * texture + _flesh(frame, hand)
    return _developed(rng, density, frame)[None], bones > 0.006


def _placed(rng: np.random.Generator, size: int, age: float) -> Frame:
    """The hand on the film: shifted, tilted, scaled, slightly sheared and bent."""
    angle = np.deg2rad(np.clip(rng.normal(-1.0, 8.0), -18.0, 18.0))
    scale = (0.93 + 0.17 * age) * np.exp(0.08 * rng.standard_normal() + 0.03 * rng.standard_normal(2)) * (1.06, 1.0)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[1.0, 0.04 * rng.standard_normal()], [0.0, 1.0]])
    origin = rng.normal(0.0, 0.06, 2) + (-0.10, 0.46)
    frame = Frame.of((size, size), turn @ shear @ np.diag(scale), origin)
    bends = [0.012 * np.clip(smooth_field(rng, (size, size), 3), -3.0, 3.0) for _ in range(2)]
    return replace(frame, u=frame.u + bends[0], v=frame.v + bends[1], bend=0.036)


@dataclass(frozen=True)
class _Bone:
    """A tubular bone: its ends (2,), half widths at the start, the middle and the end, and its growth plate.

    ``plate`` is the plate's place, 0 at the start and 1 at the end.
    """

    start: np.ndarray
    end: np.ndarray
    half: np.ndarray
    plate: float


@dataclass(frozen=True)
class _Hand:
    """Tubular bones; carpal bones as (middle, half sizes, turn); flesh as (corners, half widths, flatness)."""

    bones: list[_Bone]
    carpals: list[tuple[np.ndarray, np.ndarray, float]]
    flesh: list[tuple[np.ndarray, np.ndarray, float]]

    @classmethod
    def of(cls, rng: np.random.Generator, age: float) -> _Hand:
        """A hand of an age in a random pose."""
        slim, stout = np.exp(0.08 * rng.standard_normal(2)) * (0.88 + 0.14 * age, 1.06 - 0.06 * age)
        bones, flesh = _forearm(rng, slim, stout)
        spread, bow = np.clip(rng.normal(1.2, 0.55), -0.1, 2.2), rng.normal(0.0, 2.0)
        for number, (base, lengths, heading, turn) in enumerate(RAYS):
            heading = heading + bow + rng.normal(0.0, 2.0 if number else 8.0)
            turns = [0.0, spread * turn + rng.normal(0.0, 2.0), *rng.normal(0.0, 2.5, len(lengths) - 2)]
            angles = np.deg2rad(heading + np.cumsum(turns))
            steps = (
                np.array(lengths)[:, None]
                * np.exp(0.02 * rng.standard_normal())
                * np.stack([np.sin(angles), -np.cos(angles)], 1)
            )
            joints = np.array(base) + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])
            bones += _ray(joints, slim, age, thumb=number == 0)
            flesh += _finger(joints, stout, thumb=number == 0)
        carpals = []
        for first, middle, half, turn in CARPALS:
            grown = np.clip((age - first) / 0.55, 0.0, 1.0)
            radii = np.array(half) * (0.45 + 0.62 * grown) * np.exp(0.06 * rng.standard_normal(2))
            if age > first:
                carpals.append((np.array(middle) + rng.normal(0.0, 0.005, 2), radii, np.deg2rad(turn * grown)))
            else:
                rng.normal(0.0, 0.005, 2)  # the same random numbers are drawn at every age
        return cls(bones, carpals, flesh)


def _forearm(rng: np.random.Generator, slim: float, stout: float) -> tuple[list[_Bone], list]:
    """Radius and ulna with their flesh, bent against the hand."""
    angle = np.deg2rad(rng.normal(3.0, 5.0))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    bones = []
    for start, end, half in (
        ((0.045, 0.008), (0.035, 1.5), (0.086, 0.047, 0.05)),
        ((-0.088, 0.030), (-0.075, 1.5), (0.042, 0.036, 0.04)),
    ):
        bones.append(_Bone(turn @ start, turn @ end, slim * np.array(half), rng.uniform(0.028, 0.034)))
    corners = np.array([(0.01, -0.05), (-0.01, 0.10), (-0.015, 0.35), (-0.02, 0.8), (-0.02, 1.5)])
    return bones, [(corners @ turn.T, stout * np.array([0.195, 0.175, 0.19, 0.235, 0.28]), 0.85)]


def _ray(joints: np.ndarray, slim: float, age: float, thumb: bool) -> list[_Bone]:
    """Metacarpal and phalanges between ``joints`` (N, 2), with the gaps of cartilage between them."""
    widths = ((0.040, 0.030, 0.042), (0.039, 0.027, 0.032), (0.032, 0.022, 0.027), (0.028, 0.016, 0.019))
    bones, count = [], len(joints) - 1
    for i in range(count):
        start, end = joints[i], joints[i + 1]
        way = (end - start) / np.hypot(*(end - start))
        gap = 0.008 + 0.008 * (1.0 - age)
        half = widths[i if not thumb or i == 0 else i + (i == count - 1)]
        length = np.hypot(*(end - start))
        near = 0.026 / length  # how far from its end a bone has its growth plate
        plate = 1.0 - near if i == 0 and not thumb else near
        bones.append(_Bone(start + gap * way, end - gap * way, slim * np.array(half), plate))
    return bones


def _finger(joints: np.ndarray, stout: float, thumb: bool) -> list[tuple[np.ndarray, np.ndarray, float]]:
    """Flesh of a ray: a part of the palm, which ends in the web between the fingers, and a finger."""
    web = joints[1] + (0.1 if thumb else 0.32) * (joints[2] - joints[1])
    palm = np.stack([joints[0] * (0.8, 0.5), joints[0], joints[1], web])
    tip = joints[-1] + 0.3 * (joints[-1] - joints[-2])
    finger = np.stack([*joints[1:-1], (joints[-2] + joints[-1]) / 2.0, tip])
    broad = np.linspace(0.082, 0.056, len(finger)) * (1.05 if thumb else 1.0)
    parts = [(palm, stout * np.array([0.12, 0.11, 0.098, 0.06]), 1.0), (finger, stout * broad, 0.85)]
    if thumb:  # the ball of the thumb, up to the index finger
        ball = np.stack([(0.08, -0.14), 0.55 * joints[1] + (0.03, -0.10), 0.75 * joints[1] + (0.02, -0.06)])
        parts.append((ball, stout * np.array([0.13, 0.11, 0.07]), 0.8))
    return parts


def _near(frame: Frame, points: np.ndarray, margin: float) -> tuple[tuple[slice, slice], Frame]:
    """The part of the film within ``margin`` of a box around ``points`` (N, 2), and its frame."""
    size = np.array(frame.u.shape)
    film = (points @ frame.axes.T + frame.origin + 1.0) / 2.0 * size
    reach = (margin + frame.bend) * np.abs(frame.axes).sum(1) / 2.0 * size + 2.0
    low, high = np.clip([film.min(0) - reach, film.max(0) + reach], 0, size).astype(int)
    part = (slice(low[0], high[0] + 1), slice(low[1], high[1] + 1))
    return part, replace(frame, u=frame.u[part], v=frame.v[part])


def _bones(frame: Frame, hand: _Hand, age: float) -> np.ndarray:
    """Attenuation (X, Y) of all bones."""
    total = np.zeros_like(frame.u)
    for bone in hand.bones:
        part, near = _near(frame, np.stack([bone.start, bone.end]), max(bone.half))
        total[part] += _tube(near, bone, age)
    for middle, radii, turn in hand.carpals:
        part, near = _near(frame, middle[None], 1.2 * float(radii.max()))
        total[part] += _pebble(near, middle, radii, turn)
    return total


def _tube(frame: Frame, bone: _Bone, age: float) -> np.ndarray:
    """Attenuation of a tubular bone: dense cortex around darker marrow, spongy ends, a gap where it grows."""
    way = bone.end - bone.start
    length = float(np.hypot(*way))
    u, v = frame.u - bone.start[0], frame.v - bone.start[1]
    x, y = (u * way[0] + v * way[1]) / length, (v * way[0] - u * way[1]) / length
    reach = 4.0 * max(bone.half[0], bone.half[2])  # how far its broad ends go
    first, last = (np.clip(1.0 - d / min(reach, 0.5 * length), 0.0, 1.0) ** 1.6 for d in (x, length - x))
    half = bone.half[1] + (bone.half[0] - bone.half[1]) * first + (bone.half[2] - bone.half[1]) * last
    near = x - bone.plate * length
    outer = np.sign(bone.plate - 0.5) * near > 0  # the epiphysis, a cap that grows later than the shaft
    half = half * np.where(outer, 0.45 + 0.55 * np.clip(age / 0.6, 0.0, 1.0), 1.0)
    half = np.hypot(half, 0.3 * frame.pixel)
    end = np.clip((np.abs(x - length / 2.0) - length / 2.0) / (0.35 * half) + 1.0, 0.0, None)
    rho = np.sqrt((y / half) ** 2 + end**2)
    lumen = 0.70 + 0.22 * np.maximum(first, last)
    wall = np.sqrt(np.clip(1.0 - rho**2, 0.0, 1.0)) - 0.62 * np.sqrt(np.clip(lumen**2 - rho**2, 0.0, 1.0))
    gap = 0.003 + 0.011 * (1.0 - age)
    soft = np.hypot(gap, 0.4 * frame.pixel)
    open_plate = np.clip(1.5 - 1.4 * age, 0.05, 1.0) * gap / soft
    return (half * 1.25 * wall * (1.0 - open_plate * np.exp(-((near / soft) ** 2)))).astype(np.float32)


def _pebble(frame: Frame, middle: np.ndarray, radii: np.ndarray, turn: float) -> np.ndarray:
    """Attenuation of a carpal bone: a rounded block with a dense rim."""
    u, v = frame.u - middle[0], frame.v - middle[1]
    x, y = np.cos(turn) * u + np.sin(turn) * v, np.cos(turn) * v - np.sin(turn) * u
    rho = (np.abs(x / radii[0]) ** 2.6 + np.abs(y / radii[1]) ** 2.6) ** (1.0 / 2.6)
    rim = np.exp(-(((rho - 0.88) / 0.12) ** 2))
    return 0.42 * float(radii.min()) * frame.step((1.0 - rho) * float(radii.min()), 0.008) * (1.0 + 0.5 * rim)


def _flesh(frame: Frame, hand: _Hand) -> np.ndarray:
    """Attenuation of the soft tissue, whose parts blend."""
    total = np.zeros_like(frame.u)
    for corners, halves, flat in hand.flesh:
        place, near = _near(frame, corners, float(halves.max()))
        part = np.zeros_like(near.u)
        for a, b, wide, narrow in zip(corners[:-1], corners[1:], halves[:-1], halves[1:]):
            way = b - a
            t = np.clip(((near.u - a[0]) * way[0] + (near.v - a[1]) * way[1]) / (way**2).sum(), 0.0, 1.0)
            square = (near.u - a[0] - t * way[0]) ** 2 + (near.v - a[1] - t * way[1]) ** 2
            half = wide + t * (narrow - wide)
            part = np.maximum(part, flat * half * np.sqrt(np.clip(1.0 - square / half**2, 0.0, 1.0)))
        total[place] += part**4
    return 0.95 * total**0.25


def _developed(rng: np.random.Generator, density: np.ndarray, frame: Frame) -> np.ndarray:
    """The film (X, Y): exposure, contrast curve, collimation, side marker and noise."""
    size = density.shape[0]
    density = density * (1.0 + 0.02 * smooth_field(rng, density.shape, 14))
    scatter = ndimage.gaussian_filter(density, 0.05 * size, mode="nearest")
    density = density + rng.uniform(0.02, 0.14) * scatter
    film = 1.0 - np.exp(-density * rng.uniform(4.5, 7.5))
    film = rng.uniform(1.15, 1.40) * np.maximum(film, 0.0) ** rng.uniform(1.0, 1.4)
    low, veil = rng.uniform(0.01, 0.06), rng.uniform(0.25, 0.55) * (rng.random() < 0.07)
    film = low + veil + (1.0 - low - veil) * film
    _marker(rng, film)
    _collimate(rng, film)
    grain = ndimage.gaussian_filter(rng.standard_normal(density.shape), 0.5)
    return np.clip(film + rng.uniform(0.004, 0.012) * grain, 0.0, 1.0).astype(np.float32)


def _collimate(rng: np.random.Generator, film: np.ndarray) -> None:
    """Blacken what lies outside the exposed field, with or without a bright line around it, in place."""
    angle, half, kind = rng.normal(0.0, 0.03), rng.uniform(0.90, 1.0, 2), rng.random()
    shift, line = rng.normal(0.0, 0.02, 2), rng.uniform(0.2, 0.95) * (rng.random() < 0.5)
    if kind < 0.5:
        return
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    field = Frame.of(film.shape, turn, shift)
    inside = np.minimum(half[0] - np.abs(field.u), half[1] - np.abs(field.v))
    film *= field.step(inside)
    np.maximum(film, line * field.step(0.012 - np.abs(inside)), out=film)


def _marker(rng: np.random.Generator, film: np.ndarray) -> None:
    """Draw the letter L on its little plate beside the wrist, in place."""
    place, tall = np.array([rng.uniform(-0.92, -0.62), rng.uniform(-0.1, 0.7)]), rng.uniform(0.09, 0.16)
    angle, plate = rng.normal(0.0, 0.25), rng.uniform(0.0, 0.22)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    frame = Frame.of(film.shape, turn, place)
    box = frame.step(0.8 * tall - np.abs(frame.u)) * frame.step(tall - np.abs(frame.v))
    letter = np.zeros_like(film)
    stroke(letter, frame, tall * np.array([(-0.3, -0.6), (-0.3, 0.5), (0.35, 0.5)]), 0.02)
    film += plate * box * np.clip(1.0 - film, 0.0, 1.0)
    np.maximum(film, 0.95 * letter, out=film)
