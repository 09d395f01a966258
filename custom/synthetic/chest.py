"""One synthetic frontal chest radiograph from a seed: a substitute for data that cannot be distributed, not a model of
anatomy.

Attenuations along the ray (body, air, heart, bones, vessels) are summed and mapped to grey levels by a contrast curve,
so that structures overlap as on a film. The frame of the thorax has u towards the right of the image (the patient's
left), v downwards, and its zero on the spine in the middle of the lungs; the film's half width is about 1.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from custom.errors import NomalyError
from custom.synthetic.film import Frame, curve, smooth_field, stroke, strokes

SIDES = (-1.0, 1.0)  # the left of the image (the patient's right) first
APEX = -0.70  # height of the first rib's arch


def chest_image(seed: int, size: int) -> np.ndarray:
    """One healthy chest, bones bright and air dark.

    Shoulders and arms, lung fields with their vessels, heart, great vessels, trachea, spine, ribs, collar bones,
    diaphragm, gas in the stomach, a side marker; scatter, noise and exposure. Place, size, tilt, build and shape are
    drawn from the seed.

    Args:
        seed: equal seeds give the same person, at any size.
        size: pixels along x and y, 32 to 512.

    Returns:
        (1, X, Y) float32 in [0, 1].

    Raises:
        NomalyError: the size is out of bounds.
    """
    return chest_with_lungs(seed, size)[0]


def chest_with_lungs(seed: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The image of :func:`chest_image` and its lung fields, boolean (2, X, Y), the left one of the image first."""
    if not 32 <= size <= 512:
        raise NomalyError(f"size must be 32 to 512 pixels, got {size}; resize the image afterwards.")
    rng = np.random.default_rng(seed)
    adult = rng.uniform(0.0, 1.0)  # from a child with raised arms to an adult with arms beside the body
    frame = _placed(rng, size, adult)
    cage = _cage(rng, frame)
    centre = _mediastinum(rng, frame)
    lungs = _lungs(rng, frame, cage, centre)
    arms = {side: _arm(rng, side, adult) for side in SIDES}
    density = _body(rng, frame, adult, arms) + _middle(rng, frame, centre, lungs) + _belly(rng, frame, cage, lungs)
    density -= _air(rng, frame, cage, lungs)
    density += _ribs(rng, frame, cage, adult) + _shoulders(rng, frame, adult, arms)
    density += _vessels(rng, frame) * np.maximum(lungs.sum(0), 0.3 * frame.step(0.3 - np.abs(frame.u)))
    return _developed(rng, density, frame)[None], lungs > 0.5


def _placed(rng: np.random.Generator, size: int, adult: float) -> Frame:
    """The thorax on the film: shifted, tilted, scaled, slightly sheared."""
    angle = np.deg2rad(np.clip(rng.normal(0.0, 2.2), -6.0, 6.0))
    scale = (0.97 + 0.13 * adult) * np.exp(0.05 * rng.standard_normal(2))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shear = np.array([[1.0, 0.03 * rng.standard_normal()], [0.0, 1.0]])
    origin = rng.normal(0.0, 0.04, 2) + (0.0, 0.03 + 0.03 * adult)
    frame = Frame.of((size, size), turn @ shear @ np.diag(scale), origin)
    bends = [0.012 * np.clip(smooth_field(rng, (size, size), 3), -3.0, 3.0) for _ in range(2)]  # no body is straight
    return replace(frame, u=frame.u + bends[0], v=frame.v + bends[1], bend=0.036)


def _cage(rng: np.random.Generator, frame: Frame) -> np.ndarray:
    """Half width (X, Y) of the rib cage at the height of each pixel; 0 above it."""
    t = (frame.v - APEX) / rng.uniform(1.08, 1.22)
    right, left = np.exp(0.02 * rng.standard_normal(2))
    side = np.where(frame.u < 0, right, left)
    arch = (1.0 - (1.0 - np.clip(t, 0.0, 1.0)) ** rng.uniform(2.1, 2.7)) ** rng.uniform(0.52, 0.70)
    return (rng.uniform(0.66, 0.73) * side * arch * (1.0 - 0.06 * np.maximum(t - 1.0, 0.0))).astype(np.float32)


def _ellipse(frame: Frame, centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0) -> np.ndarray:
    """Distance inside an ellipse, negative outside; exact on its border."""
    u, v = frame.u - centre[0], frame.v - centre[1]
    along, across = np.cos(angle) * u + np.sin(angle) * v, np.cos(angle) * v - np.sin(angle) * u
    return (1.0 - np.hypot(along / radii[0], across / radii[1])) * min(radii)


def _mediastinum(rng: np.random.Generator, frame: Frame) -> np.ndarray:
    """Distance inside the heart's and the great vessels' shadow, negative outside."""
    width, low = rng.uniform(0.105, 0.15), rng.uniform(0.0, 0.05)
    inlet = 0.12 * np.exp(-np.maximum(frame.v - APEX - 0.05, 0.0) / 0.09)
    band = width + inlet + 0.03 * np.clip(-frame.v - 0.1, 0.0, 0.3) - np.abs(frame.u - 0.02)
    size = np.exp(0.07 * rng.standard_normal())
    sagging = replace(frame, v=np.minimum(frame.v, 0.3 + 0.25 * (frame.v - 0.3)))  # the heart lies on the diaphragm
    apex = _ellipse(sagging, (0.12, 0.25 + low), (0.38 * size, 0.25 * size), rng.uniform(0.6, 0.95))
    atrium = _ellipse(sagging, (-0.03, 0.20 + low), (rng.uniform(0.13, 0.17) * size, 0.25))
    knob = _ellipse(frame, (0.08, -0.27 + low), (rng.uniform(0.05, 0.09), 0.13))
    trunk = _ellipse(frame, (0.10, -0.06 + low), (0.26, rng.uniform(0.06, 0.11)), 1.25)
    soft = 0.035  # shapes blend instead of meeting in corners
    parts = np.stack([band, apex, atrium, knob, trunk]) / soft
    return soft * np.log(np.exp(np.clip(parts, -30.0, 30.0)).sum(0)) - 0.3 * soft


def _dome(rng: np.random.Generator, frame: Frame, side: float, height: float) -> np.ndarray:
    """Height v (X, Y) of one side's diaphragm: a dome that falls steeply to the ribs."""
    out = side * frame.u - rng.uniform(0.26, 0.34)
    slope = np.where(out > 0, rng.uniform(1.0, 1.5), rng.uniform(0.2, 0.5))
    return height + slope * out**2 + 6.0 * np.maximum(out - 0.22, 0.0) ** 3


def _lungs(rng: np.random.Generator, frame: Frame, cage: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Weights (2, X, Y) of the lung fields beside the heart and above the diaphragm."""
    height = rng.uniform(0.36, 0.50)
    wall = 0.97 * cage - 0.012 - np.abs(frame.u)
    fields = []
    for side, lower in zip(SIDES, (0.0, rng.uniform(0.0, 0.07))):
        dome = _dome(rng, frame, side, height + lower)
        shape = np.minimum(np.minimum(wall, -centre), frame.v - APEX - 0.05)
        fields.append(frame.step(shape, 0.022) * frame.step(dome - frame.v, 0.02) * (side * frame.u > 0))
    return np.stack(fields).astype(np.float32)


def _body(rng: np.random.Generator, frame: Frame, adult: float, arms: dict[float, np.ndarray]) -> np.ndarray:
    """Soft tissue: trunk, neck, shoulders, arms and, above a child's film, the chin."""
    flank = rng.uniform(0.76, 0.86) + 0.06 * adult
    waist = flank + 0.25 * np.clip(-frame.v - 0.30, 0.0, 0.5) + 0.04 * np.clip(frame.v, 0.0, 1.0)
    top = -0.62 - 0.22 * np.exp(-((frame.u / 0.32) ** 2)) + 0.10 * np.abs(frame.u)  # the line of the shoulders
    trunk = np.clip(1.0 - np.abs(frame.u / waist) ** rng.uniform(2.5, 4.0), 0.0, 1.0) ** 0.5
    shoulders = frame.step(frame.v - top + 0.10, 0.25)
    tissue = rng.uniform(0.42, 0.54) * trunk * (0.25 + 0.75 * shoulders)
    flare = rng.uniform(0.24, 0.32) + 0.25 * np.clip((frame.v + 1.0) / 0.5, 0.0, 1.0) ** 2
    neck = frame.step(flare - np.abs(frame.u), 0.12) * frame.step(-0.50 - frame.v, 0.30)
    tissue = np.maximum(tissue, 0.50 * neck) + 0.08 * neck
    limbs = np.zeros_like(tissue)
    for side in SIDES:
        stroke(limbs, frame, arms[side], rng.uniform(0.22, 0.28) * np.linspace(1.2, 0.8, 5))
    limbs = rng.uniform(0.28, 0.40) * limbs**0.5
    tissue = np.maximum(tissue, limbs) + 0.3 * np.minimum(tissue, limbs)
    if rng.random() < 0.9 - 0.8 * adult:
        chin = _ellipse(frame, (rng.normal(0.0, 0.05), -1.22 - rng.uniform(0.0, 0.12)), (0.40, 0.36))
        tissue += 0.28 * frame.step(chin, 0.04)
    return tissue


def _arm(rng: np.random.Generator, side: float, adult: float) -> np.ndarray:
    """The middle line (N, 2) of an upper arm: raised in a child, hanging in an adult."""
    angle = np.deg2rad(rng.normal(-65.0 + 130.0 * (adult > 0.5), 14.0))
    joint = np.array([0.80 + 0.08 * adult, -0.66])
    elbow = joint + 0.75 * np.array([np.cos(angle), np.sin(angle)])
    return curve([joint, (joint + elbow) / 2.0 + (0.05, 0.0), elbow], 5) * (side, 1.0)


def _middle(rng: np.random.Generator, frame: Frame, centre: np.ndarray, lungs: np.ndarray) -> np.ndarray:
    """Heart and great vessels, spine with its discs, and the air of trachea and main bronchi."""
    inside = frame.step(centre, 0.03) * (1.0 - lungs.sum(0)) * frame.step(frame.v - APEX - 0.1, 0.4)
    heart = rng.uniform(0.03, 0.08) * inside * (1.0 + 0.6 * np.clip(centre / 0.15, 0.0, 1.0))
    half, period = rng.uniform(0.075, 0.10), rng.uniform(0.115, 0.135)
    discs = np.cos(2.0 * np.pi * (frame.v / period + rng.uniform()))
    column = frame.step(half * (1.0 + 0.10 * discs) - np.abs(frame.u), 0.02)
    bow = 0.55 + 0.45 * np.clip(np.abs(frame.u) / half, 0.0, 1.0) ** 2 + 0.3 * frame.step(0.02 - np.abs(frame.u), 0.02)
    spine = rng.uniform(0.07, 0.15) * column * (1.0 + 0.25 * discs) * bow
    air = np.zeros_like(heart)
    fork = np.array([0.015, rng.uniform(-0.24, -0.17)])
    stroke(air, frame, curve(np.stack([(0.0, -1.1), (-0.02, -0.6), fork])), 0.042)
    for side, drop in zip(SIDES, (0.14, 0.10)):
        stroke(air, frame, curve([fork, fork + (0.08 * side, 0.04), fork + (0.19 * side, drop)]), 0.028)
    return heart + spine - rng.uniform(0.06, 0.13) * air


def _belly(rng: np.random.Generator, frame: Frame, cage: np.ndarray, lungs: np.ndarray) -> np.ndarray:
    """Liver and spleen under the diaphragm, and often gas in the stomach under the left one."""
    below = frame.step(frame.v - 0.10, 0.30) * frame.step(cage + 0.03 - np.abs(frame.u), 0.08)
    organs = rng.uniform(0.15, 0.28) * below * (1.0 - lungs.sum(0)) * frame.step(frame.v - 0.30, 0.45)
    gas = np.zeros_like(organs)
    if rng.random() < 0.6:
        middle = (rng.uniform(0.22, 0.42), rng.uniform(0.70, 0.85))
        bubble = _ellipse(frame, middle, (rng.uniform(0.07, 0.18), rng.uniform(0.05, 0.10)), rng.normal(0.0, 0.4))
        bubble += 0.02 * smooth_field(rng, bubble.shape, 14)
        gas = rng.uniform(0.10, 0.30) * frame.step(bubble, 0.04)
    return organs - gas * (1.0 - lungs.sum(0))


def _air(rng: np.random.Generator, frame: Frame, cage: np.ndarray, lungs: np.ndarray) -> np.ndarray:
    """Attenuation that the lungs subtract from the body: most where they are thick."""
    s = np.abs(frame.u) / np.maximum(cage, 0.05)
    thick = np.sqrt(np.clip(1.0 - s**4, 0.0, 1.0)) * np.clip(0.75 + 0.3 * (frame.v - APEX), 0.0, 1.0)
    mottle = 1.0 + 0.06 * smooth_field(rng, s.shape, 9) + 0.04 * smooth_field(rng, s.shape, 40)
    share = np.exp(0.05 * rng.standard_normal(2))
    weight = share[0] * lungs[0] + share[1] * lungs[1]
    return rng.uniform(0.20, 0.36) * (0.35 + 0.65 * thick) * mottle * weight


def _ribs(rng: np.random.Generator, frame: Frame, cage: np.ndarray, adult: float) -> np.ndarray:
    """Posterior ribs, arched and plain, and anterior ribs, steep and faint, that meet them at the chest wall."""
    spacing, half = rng.uniform(0.110, 0.128), rng.uniform(0.020, 0.026)
    drop = rng.uniform(0.12, 0.22) + 0.10 * np.clip(frame.v, -0.6, 0.6)
    slant, (right, left) = rng.uniform(0.26, 0.40), rng.uniform(0.0, 0.03, 2)
    s = np.abs(frame.u) / np.maximum(cage, 0.02)
    start = APEX + 0.02 + np.where(frame.u < 0, right, left)
    edge = frame.step(1.035 - s, 0.015) / np.sqrt(np.clip(1.0 - s**2, 0.0, 1.0) + 0.25)
    posterior = start + drop * s**2.4 - 0.045 * np.sin(np.pi * np.clip(s, 0.0, 1.0))
    anterior = start + drop + slant * np.clip(1.0 - s, 0.0, 1.0) ** 0.85
    strong, ends = rng.uniform(0.07, 0.125), rng.uniform(0.35, 0.5)
    back = (
        _bands(frame, frame.v - posterior, spacing, half, 11)
        * np.clip(1.9 - 2.0 * frame.v, 0.3, 1.0)
        * frame.step(np.abs(frame.u) - 0.06, 0.04)
    )
    front = _bands(frame, frame.v - anterior, spacing, 1.1 * half, 7) * frame.step(s - ends, 0.06)
    return edge * strong * (back + rng.uniform(0.35, 0.7) * front)


def _bands(frame: Frame, height: np.ndarray, spacing: float, half: float, count: int) -> np.ndarray:
    """Equally spaced tubes with a dense rim along the lines where ``height`` is 0, 1, ... spacings."""
    number = np.clip(np.round(height / spacing), 0, count)
    rise = np.hypot(*np.gradient(height, frame.pixel))
    away = np.abs(height - number * spacing) / np.clip(rise, 1.0, 2.5)
    rim = np.clip(away / half, 0.0, 1.0) ** 2
    return frame.step(half - away, 0.5 * half) * (0.75 + 0.5 * rim)


def _shoulders(rng: np.random.Generator, frame: Frame, adult: float, arms: dict[float, np.ndarray]) -> np.ndarray:
    """Collar bones, shoulder blades and upper arm bones."""
    clavicles, blades, shafts = np.zeros((3, *frame.u.shape), np.float32)
    plate = np.zeros_like(blades)
    for side in SIDES:
        raised = rng.normal(0.16 * (1.0 - adult), 0.03)
        line = [(0.08, -0.52), (0.24, -0.50), (0.36, -0.68 - raised), (0.60, -0.66 - raised)]
        stroke(clavicles, frame, curve(line) * (side, 1.0), rng.uniform(0.017, 0.025))
        tip = np.array([0.70 + 0.06 * adult, rng.uniform(-0.28, -0.08)])
        rim = curve(np.stack([(0.76, -0.68), (0.70 + 0.1 * adult, -0.50), tip])) * (side, 1.0)
        stroke(blades, frame, rim, 0.02)
        stroke(plate, frame, rim - (0.06 * side, 0.02), 0.10 * np.linspace(1.2, 0.5, len(rim)))
        stroke(shafts, frame, arms[side], np.array([0.10, 0.065, 0.055, 0.055, 0.06]))
    wall = np.sqrt(shafts) * (1.4 - 0.7 * shafts)  # dense around the marrow
    flat = rng.uniform(0.03, 0.07) * blades + rng.uniform(0.02, 0.05) * plate
    return rng.uniform(0.12, 0.20) * clavicles + flat + rng.uniform(0.08, 0.14) * wall


def _vessels(rng: np.random.Generator, frame: Frame) -> np.ndarray:
    """Pulmonary vessels: cloudy hila and trees that branch, taper and fade towards the chest wall."""
    canvas, hila = np.zeros((2, *frame.u.shape), np.float32)
    pieces = []
    for side, height in zip(SIDES, (0.0, -0.05)):
        hilum = np.array([rng.uniform(0.13, 0.17) * side, height + rng.normal(0.0, 0.03)])
        cloud = [hilum + (0.0, -0.10), hilum + (0.06 * side, 0.0), hilum + (0.04 * side, 0.22)]
        stroke(hila, frame, curve(cloud, 6), 0.08)
        for heading in np.linspace(-1.3, 1.45, 8) + rng.normal(0.0, 0.17, 8):
            pieces += _branch(rng, hilum, (side, heading), rng.uniform(0.010, 0.019), 4)
    starts, ends, widths = (np.stack(column) for column in zip(*pieces))
    strokes(canvas, frame, starts, ends, widths)
    fade = np.exp(-np.maximum(np.hypot(frame.u, frame.v) - 0.2, 0.0) / rng.uniform(0.2, 0.4))
    return rng.uniform(0.03, 0.07) * hila + rng.uniform(0.09, 0.17) * canvas * fade


def _branch(rng: np.random.Generator, start: np.ndarray, way: tuple[float, float], width: float, order: int) -> list:
    """One vessel and those that leave its end, as (start, end, half width); ``way``: side, angle to the horizontal."""
    side, heading = way
    turns = heading + np.cumsum(rng.normal(0.0, 0.15, 2))
    steps = rng.uniform(0.04, 0.075, (2, 1)) * np.stack([side * np.cos(turns), np.sin(turns)], 1)
    middle, end = start + steps[0], start + steps[0] + steps[1]
    pieces = [(start, middle, 0.95 * width), (middle, end, 0.8 * width)]
    for fork in (-1.0, 1.0)[: 2 if order > 1 else 0]:
        turn = turns[-1] + fork * rng.uniform(0.1, 0.6)
        pieces += _branch(rng, end, (side, turn), rng.uniform(0.5, 0.75) * width, order - 1)
    return pieces


def _developed(rng: np.random.Generator, density: np.ndarray, frame: Frame) -> np.ndarray:
    """The film (X, Y): scattered light, exposure, contrast curve, noise, and the side marker."""
    size = density.shape[0]
    texture = sum(a * smooth_field(rng, density.shape, n) for a, n in ((0.03, 5), (0.03, 14), (0.025, 40), (0.02, 90)))
    density = np.maximum(density, 0.0) * (1.0 + texture)
    spread = ndimage.gaussian_filter(density, 0.06 * size, mode="nearest")
    density = density + rng.uniform(-0.15, 0.15) * (spread - density)
    low, gain = rng.uniform(0.0, 0.05), rng.uniform(0.97, 1.12)
    film = 1.0 - np.exp(-np.maximum(density, 0.0) * gain * 2.1)  # saturates in dense parts
    film = low + rng.uniform(1.02, 1.10) * np.maximum(film, 0.0) ** rng.uniform(1.1, 1.5)
    if rng.random() < 0.7:
        _marker(rng, film)
    grain = ndimage.gaussian_filter(rng.standard_normal(density.shape), 0.5)
    return np.clip(film + rng.uniform(0.004, 0.014) * grain, 0.0, 1.0).astype(np.float32)


def _marker(rng: np.random.Generator, film: np.ndarray) -> None:
    """Draw an R on the left of the image, the patient's right side, in place."""
    place = np.array([rng.uniform(-0.97, -0.75), rng.uniform(-0.95, 0.35)])
    letter = np.zeros_like(film)
    bow = [(0, 1), (0, 0), (0.4, 0), (0.55, 0.14), (0.55, 0.36), (0.4, 0.5), (0, 0.5), (0.3, 0.5), (0.6, 1)]
    stroke(letter, Frame.of(film.shape), place + 0.075 * np.array(bow), 0.009)
    np.maximum(film, 0.95 * letter, out=film)
