"""Whether a study stands as healthy ones do, and is no negative: its edges compared with those of itself turned.

A study is its own control here: disease makes it less like the healthy ones both as it stands and turned, so that their
ratio hardly moves; what shows another part of the body, or nothing, is as strange one way as the other.
"""

from __future__ import annotations

import numpy as np

from custom.input_check.healthy_model import HealthyModel

CELLS, DIRECTIONS = 4, 8
# How a picture may be turned: mirrored left to right or not, and by quarter turns.
POSES = tuple((mirrored, turns) for mirrored in (False, True) for turns in range(4))
AS_SHOWN = (0, 4)  # the study as it is and its mirror image, which is left open: a heart on the right is no mistake
TURNED = tuple(index for index in range(len(POSES)) if index not in AS_SHOWN)
RATIOS = ("pose", "polarity")
MARGIN = 1.1
NO_USUAL = 0.9  # median ratio of healthy studies from which there is no usual pose, or polarity


def ratio(model: HealthyModel, poses: np.ndarray, check: str) -> np.ndarray:
    """(...) distance of a study's edges (..., 8, D) to the healthy ones, over that of the study changed.

    Far below 1 where it is as it should be, near 1 where it is like the healthy ones in no way, above 1 where it is
    more like them changed.

    Args:
        model: of the edges of healthy studies.
        poses: edges of the study in each of the :data:`POSES`.
        check: "pose" for the study turned, by the turn that fits best, or "polarity" for its negative.
    """
    own = model.distance(poses[..., AS_SHOWN, :]).min(-1)
    changed = poses[..., TURNED, :] if check == "pose" else of_negative(poses[..., AS_SHOWN, :])
    return own / np.maximum(model.distance(changed).min(-1), 1e-12)


def ratio_limit(healthy: np.ndarray) -> float:
    """Limit of a ratio by those of the healthy studies (n,).

    On a log scale it lies two thirds of the way from the largest to 1, and at least a tenth above the largest. Images
    that have no usual pose, such as views into the bowel, fit as well turned: then it is 0, the check is not made.
    """
    if np.median(healthy) > NO_USUAL:
        return 0.0
    largest = float(healthy.max())
    return max(float(np.cbrt(min(largest, 1.0))), MARGIN * largest)


def best_turn(model: HealthyModel, poses: np.ndarray) -> str:
    """How edges (8, D) must be turned to be most like the healthy ones, in words."""
    _, turns = POSES[TURNED[int(np.argmin(model.distance(poses[TURNED, :])))]]
    return "upside down" if turns == 2 else "turned by 90 degrees"


def of_negative(edges: np.ndarray) -> np.ndarray:
    """Edges (..., D) of the negative: each points the other way."""
    by_direction = edges.reshape(*edges.shape[:-1], DIRECTIONS, CELLS * CELLS)
    return np.roll(by_direction, DIRECTIONS // 2, axis=-2).reshape(edges.shape)
