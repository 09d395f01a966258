"""Synthetic lesions of heads: eight reproducible groups.

The groups follow those that unsupervised brain MRI papers report (Bercea et al., arXiv 2401.10637, on fastMRI+ labels).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from monai.utils import convert_to_dst_type

from custom.errors import NomalyError
from custom.synthetic.head_anatomy import HeadAnatomy
from custom.synthetic.head_effects import EFFECTS, LesionParameters

GROUPS = tuple(EFFECTS)  # hyperintense, hypointense, mass, ..., artefact: the order of the reports
ATTEMPTS = 12
MIN_CONTRAST = 0.05  # mean change inside the mask below which a lesion is not visible


class HeadLesion:
    """Add one lesion of a group to a head.

    Args:
        group: one of ``GROUPS``.
        strength: range of the drawn strength, within (0, 1]; small = subtle.
        radius: range of the radius as a fraction of the head's width; ``None`` = the group's default (4-12 % for
            focal lesions).

    Raises:
        NomalyError: unknown group or a range out of bounds; image of a wrong shape or without a head.
    """

    RADIUS = {"resection": (0.10, 0.18), "oedema": (0.12, 0.2), "mass": (0.06, 0.13), "missing_skull": (0.1, 0.28)}

    def __init__(
        self, group: str, strength: Sequence[float] = (0.35, 1.0), radius: tuple[float, float] | None = None
    ) -> None:
        if group not in GROUPS:
            raise NomalyError(f"group must be one of {', '.join(GROUPS)}, got {group!r}")
        self.group = group
        self.strength = _checked_range("strength", strength)
        self.radius = _checked_range("radius", radius or self.RADIUS.get(group, (0.04, 0.12)))

    def __call__(
        self,
        image: np.ndarray | torch.Tensor,
        seed: int,
        pixdim: Sequence[float] | None = None,
        slices: tuple[int, int] | None = None,
    ) -> tuple[Any, Any]:
        """Draw and apply a lesion.

        Args:
            image: (C, H, W) or (C, X, Y, Z), values in [0, 1]; slices lie along Z.
            seed: equal seeds give equal lesions.
            pixdim: millimetres per voxel; ``None`` = 1 everywhere.
            slices: first and last + 1 slice that may contain the lesion's centre; ``None`` = all.

        Returns:
            changed image of the same type and shape in [0, 1]; mask (1, ...) of float 0/1, never empty.
        """
        volume, spacing, restore = _as_volume(image, pixdim)
        low, high = slices or (0, volume.shape[3])
        # the lesion may extend beyond these slices, its centre may not
        anatomy = HeadAnatomy.of(volume.mean(0), spacing)
        rng = np.random.default_rng(seed)
        best = (-1.0, volume, np.zeros(volume.shape[1:], bool))
        for _ in range(ATTEMPTS):
            changed, mask = self.apply(volume, anatomy, self.draw(anatomy, rng, (low, high)))
            contrast = float(np.abs(changed - volume).mean(0)[mask].mean()) if mask.any() else -1.0
            if contrast > best[0]:
                best = (contrast, changed, mask)
            if contrast >= MIN_CONTRAST:
                break
        if not best[2].any():
            raise NomalyError(
                f"no {self.group} lesion could be placed in {ATTEMPTS} attempts (slices {low} to {high}); "
                "use a slice through the brain or another group."
            )
        return restore(best[1]), restore(best[2][None].astype(np.float32))

    def draw(self, anatomy: HeadAnatomy, rng: np.random.Generator, slices: tuple[int, int]) -> LesionParameters:
        """Draw place, size and strength, without changing the image."""
        radius = rng.uniform(*self.radius) * anatomy.width
        radii = radius * np.exp(0.18 * rng.standard_normal(3))
        depth = (0.0, 0.35) if self.group == "resection" else (0.55, np.inf)
        inside = (anatomy.depth > depth[0] * radius) & (anatomy.depth <= depth[1] * radius) & anatomy.brain
        if self.group == "enlarged_ventricles" and anatomy.ventricles[:, :, slices[0] : slices[1]].any():
            inside = anatomy.ventricles.copy()
        inside[:, :, : slices[0]] = inside[:, :, slices[1] :] = False
        places = np.flatnonzero(inside)
        if len(places) == 0:  # a small brain: take its deepest voxel
            places = np.array([np.argmax(anatomy.depth)])
        centre = np.unravel_index(places[rng.integers(len(places))], inside.shape)
        return LesionParameters(
            group=self.group,
            centre=_triple(centre),
            radii=_triple(radii),
            angle=float(rng.uniform(0.0, 2.0 * np.pi)),
            strength=float(rng.uniform(*self.strength)),
            variant=int(rng.integers(2)),
            seed=int(rng.integers(2**31)),
        )

    def apply(
        self, volume: np.ndarray, anatomy: HeadAnatomy, parameters: LesionParameters
    ) -> tuple[np.ndarray, np.ndarray]:
        """Apply drawn parameters to (C, X, Y, Z); returns the changed volume in [0, 1] and a boolean mask (X, Y, Z)."""
        changed, mask = EFFECTS[self.group](volume, anatomy, parameters)
        return np.clip(changed, 0.0, 1.0).astype(np.float32), mask


def _checked_range(name: str, bounds: Sequence[float]) -> tuple[float, float]:
    """(low, high) after a check that 0 < low <= high <= 1."""
    if len(bounds) != 2 or not 0.0 < bounds[0] <= bounds[1] <= 1.0:
        raise NomalyError(f"{name} must be a range (low, high) with 0 < low <= high <= 1, got {tuple(bounds)}")
    return float(bounds[0]), float(bounds[1])


def _triple(values: Iterable[float]) -> tuple[float, float, float]:
    """Three values as plain numbers."""
    x, y, z = (float(value) for value in values)
    return x, y, z


def _as_volume(
    image: np.ndarray | torch.Tensor, pixdim: Sequence[float] | None
) -> tuple[np.ndarray, tuple[float, float, float], Callable[[np.ndarray], Any]]:
    """(C, X, Y, Z) float32 array, its spacing, and a function that restores the image's type and shape."""
    array = np.asarray(image.detach().cpu() if isinstance(image, torch.Tensor) else image, dtype=np.float32)
    if array.ndim not in (3, 4):
        raise NomalyError(f"image must have shape (C, H, W) or (C, X, Y, Z), got {tuple(array.shape)}")
    if not np.isfinite(array).all() or array.min() < -1e-3 or array.max() > 1.0 + 1e-3:
        raise NomalyError(
            f"image must have values in [0, 1], got [{array.min()}, {array.max()}]; scale its intensities first"
        )
    flat = array.ndim == 3
    sides = [1.0 if p is None else float(p) for p in (pixdim if pixdim is not None else (1.0, 1.0, 1.0))]
    spacing = _triple((sides + [1.0])[:3])

    def _restore(result: np.ndarray) -> Any:
        result = result[..., 0] if flat else result
        return convert_to_dst_type(result, image, dtype=np.float32)[0]

    return np.clip(array[..., None] if flat else array, 0.0, 1.0), spacing, _restore
