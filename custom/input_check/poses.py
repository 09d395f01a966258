"""Detects rotated and inverted studies: the edges of a study compared with those of the same study rotated.

A study is its own control here: disease makes it less similar to healthy studies in every orientation, so the ratio
hardly changes; an image of another body part, or of nothing, fits equally badly in every orientation.
"""

from __future__ import annotations

import numpy as np

from custom.input_check.healthy_model import HealthyModel

CELLS, DIRECTIONS = 4, 8
# The orientations of an image: mirrored left to right or not, and rotated by quarter turns.
POSES = tuple((mirrored, turns) for mirrored in (False, True) for turns in range(4))
AS_SHOWN = (0, 4)  # the study and its mirror image, which is accepted: a heart on the right is possible
TURNED = tuple(index for index in range(len(POSES)) if index not in AS_SHOWN)
RATIOS = ("pose", "polarity")
MARGIN = 1.1
NO_USUAL = 0.9  # median ratio of healthy studies above which they have no usual orientation or polarity


def ratio(model: HealthyModel, poses: np.ndarray, check: str) -> np.ndarray:
    """(...) distance of a study's edges (..., 8, D) from the healthy ones, divided by that of the changed study.

    Well below 1 for a correct image, near 1 for one that does not resemble the healthy ones at all, above 1 for one
    that resembles them more when changed.

    Args:
        model: model of the edges of healthy studies.
        poses: edges of the study in each of the :data:`POSES`.
        check: "pose" compares with the best-fitting rotation, "polarity" with the negative.
    """
    own = model.distance(poses[..., AS_SHOWN, :]).min(-1)
    changed = poses[..., TURNED, :] if check == "pose" else of_negative(poses[..., AS_SHOWN, :])
    return own / np.maximum(model.distance(changed).min(-1), 1e-12)


def ratio_limit(healthy: np.ndarray) -> float:
    """Limit of a ratio, from those of the healthy studies (n,).

    On a log scale it is two thirds of the way from the largest ratio to 1, and at least 10 % above the largest. Images
    without a usual orientation, such as views into the bowel, fit equally well when rotated: the limit is then 0, and
    the check is skipped.
    """
    if np.median(healthy) > NO_USUAL:
        return 0.0
    largest = float(healthy.max())
    return max(float(np.cbrt(min(largest, 1.0))), MARGIN * largest)


def best_turn(model: HealthyModel, poses: np.ndarray) -> str:
    """The rotation in which edges (8, D) resemble the healthy ones most, in words."""
    _, turns = POSES[TURNED[int(np.argmin(model.distance(poses[TURNED, :])))]]
    return "upside down" if turns == 2 else "rotated by 90 degrees"


def in_all_poses(edges: np.ndarray) -> np.ndarray:
    """(..., 8, D) edges of an image in each of the :data:`POSES`, from its edges (..., D) as it is.

    Mirroring and quarter turns move the cells and change the direction of all edges alike, so the image itself need not
    be turned.
    """
    cells = edges.reshape(*edges.shape[:-1], DIRECTIONS, CELLS, CELLS)
    opposite = (DIRECTIONS // 2 - np.arange(DIRECTIONS)) % DIRECTIONS  # of each direction, mirrored along x
    found = []
    for mirrored, turns in POSES:
        own = cells[..., opposite, ::-1, :] if mirrored else cells
        found.append(np.rot90(np.roll(own, turns * DIRECTIONS // 4, axis=-3), turns, (-2, -1)).reshape(edges.shape))
    return np.stack(found, axis=-2)


def of_negative(edges: np.ndarray) -> np.ndarray:
    """Edges (..., D) of the negative image: each has the opposite direction."""
    by_direction = edges.reshape(*edges.shape[:-1], DIRECTIONS, CELLS * CELLS)
    return np.roll(by_direction, DIRECTIONS // 2, axis=-2).reshape(edges.shape)
