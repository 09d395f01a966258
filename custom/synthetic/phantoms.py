"""The phantoms by anatomy: healthy studies, their lesions, and how both are written.

A phantom lets a bundle be trained, evaluated and demonstrated without a download. It shows that the software works; it
is not evidence about patients.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from custom.errors import NomalyError
from custom.synthetic import chest, chest_lesions, colon, colon_lesions, wrist, wrist_lesions
from custom.synthetic.head import DEFAULT_SHAPE, DEFAULT_SPACING, head_volume
from custom.synthetic.head_lesions import GROUPS as HEAD_GROUPS
from custom.synthetic.head_lesions import HeadLesion
from custom.transforms.head import head_mask, vertex_slice

Settings = dict[str, Any]


class Phantom(ABC):
    """One anatomy.

    ``settings`` are the defaults of a data set: numbers of studies, ``groups`` of lesions, used in turn (None = all),
    and the geometry.
    """

    groups: tuple[str, ...]
    settings: Settings
    suffix: str
    unseen: str  # name of the extra study outside the data set

    @abstractmethod
    def study(self, seed: int, settings: Settings, lesion: tuple[str, int] | None) -> tuple[np.ndarray, Any]:
        """Image (C, X, Y, Z) in [0, 1] and mask (X, Y, Z) of a healthy study, or of one with a lesion (group, seed);
        the mask of a healthy study is None.
        """

    @abstractmethod
    def add_lesion(
        self,
        image: np.ndarray,
        group: str,
        seed: int,
        strength: Sequence[float],
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw a lesion into any image (C, X, Y, Z) of this anatomy, in [0, 1]; image and bool mask (X, Y, Z)."""

    @abstractmethod
    def write(self, path: Path, image: np.ndarray, settings: Settings) -> None:
        """Write an image (C, X, Y, Z) in [0, 1]."""

    @abstractmethod
    def write_mask(self, path: Path, mask: np.ndarray, settings: Settings) -> None:
        """Write a mask (X, Y, Z)."""

    @abstractmethod
    def write_unseen(self, folder: Path, seeds: tuple[int, int], settings: Settings) -> None:
        """Write a study of another geometry with a clearly visible lesion as ``unseen``, its mask as ``..._mask``."""

    def check_groups(self, groups: Sequence[str]) -> tuple[str, ...]:
        """The groups, after a check that all are known."""
        if not groups or set(groups) - set(self.groups):
            raise NomalyError(f"groups must be some of {', '.join(self.groups)}, got {list(groups)}.")
        return tuple(groups)


class HeadPhantom(Phantom):
    """T1w-like heads: NIfTI volumes of int16 magnitudes 0 to 1000, LPS.

    Settings: ``shape`` in voxels, ``spacing`` in millimetres, ``slab_mm``, the range below the vertex of the lesions'
    centres, and ``strength``, the range of the lesions' strengths.
    """

    groups = HEAD_GROUPS
    settings = {
        "num_training": 96,
        "num_validation": 24,
        "num_calibration": 24,
        "num_test_healthy": 20,
        "num_test_abnormal": 32,
        "groups": None,
        "shape": list(DEFAULT_SHAPE),
        "spacing": list(DEFAULT_SPACING),
        "slab_mm": [45.0, 75.0],
        "strength": [0.5, 1.0],
    }
    suffix = ".nii.gz"
    unseen = "head_with_lesion"

    FULL_SCALE = 1.25  # value of head_volume stored as 1000; only the brightest fat is clipped
    FOCAL_RADIUS = (0.08, 0.13)  # of the head's width: smaller ones are not visible in voxels of 2 to 3 mm
    UNSEEN_SPACING = (2.0, 2.4, 3.0)

    def study(self, seed: int, settings: Settings, lesion: tuple[str, int] | None) -> tuple[np.ndarray, Any]:
        """A head, see :meth:`Phantom.study`; lesions lie in the slab."""
        volume = np.clip(head_volume(seed, settings["shape"], settings["spacing"]) / self.FULL_SCALE, 0.0, 1.0)
        if lesion is None:
            return volume, None
        group, lesion_seed = lesion
        spacing = settings["spacing"]
        vertex = vertex_slice(head_mask(volume[0], spacing))
        near, far = (round(vertex - mm / spacing[2]) for mm in settings["slab_mm"])
        radius = self.FOCAL_RADIUS if group in ("hyperintense", "hypointense", "mass") else None
        # one slice inside the slab's ends, so that at least half of the lesion is scored
        draw = HeadLesion(group, settings["strength"], radius)
        volume, mask = draw(volume, lesion_seed, spacing, slices=(max(far + 1, 0), max(near, far + 2)))
        return volume, mask[0] > 0

    def add_lesion(
        self,
        image: np.ndarray,
        group: str,
        seed: int,
        strength: Sequence[float],
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> tuple[np.ndarray, np.ndarray]:
        """A lesion in any head; `spacing` in millimetres."""
        changed, mask = HeadLesion(group, strength)(image, seed, spacing)
        return changed, mask[0] > 0

    def write(self, path: Path, image: np.ndarray, settings: Settings) -> None:
        """Write int16 NIfTI with the values 0 to 1000."""
        self._save(path, np.round(image[0] * 1000.0).astype(np.int16), lps_affine(image.shape[1:], settings["spacing"]))

    def write_mask(self, path: Path, mask: np.ndarray, settings: Settings) -> None:
        """Write uint8 NIfTI with the values 0 and 1."""
        self._save(path, mask.astype(np.uint8), lps_affine(mask.shape, settings["spacing"]))

    def write_unseen(self, folder: Path, seeds: tuple[int, int], settings: Settings) -> None:
        """A clearly visible dark lesion in a head of another resolution with axes turned by 12 and 7 degrees."""
        extent = [n * s for n, s in zip(settings["shape"], settings["spacing"])]
        shape = [round(e / s) for e, s in zip(extent, self.UNSEEN_SPACING)]
        other = {**settings, "shape": shape, "spacing": self.UNSEEN_SPACING, "strength": (0.95, 1.0)}
        volume, mask = self.study(seeds[0], other, ("hypointense", seeds[1]))
        cx, sx, cz, sz = np.cos(0.209), np.sin(0.209), np.cos(0.122), np.sin(0.122)
        about_x = np.array([[1, 0, 0, 0], [0, cx, -sx, 0], [0, sx, cx, 0], [0, 0, 0, 1]])
        about_z = np.array([[cz, -sz, 0, 0], [sz, cz, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
        oblique = about_z @ about_x @ lps_affine(shape, self.UNSEEN_SPACING)
        self._save(folder / f"{self.unseen}.nii.gz", np.round(volume[0] * 1000.0).astype(np.int16), oblique)
        self._save(folder / f"{self.unseen}_mask.nii.gz", mask.astype(np.uint8), oblique)

    @staticmethod
    def _save(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
        """Write NIfTI in millimetres."""
        image = nib.Nifti1Image(array, affine)
        image.header.set_xyzt_units("mm")
        nib.save(image, path)


class ImagePhantom(Phantom):
    """Square 8-bit 2-D images as PNG, grey or RGB.

    Settings: ``size``, the side in pixels, and ``strength``, the range of the lesions' strengths.

    Args:
        unseen: name of the extra study outside the data set, ``unseen_scale`` times as large.
        healthy_image: (seed, size) -> healthy image (C, X, Y) in [0, 1].
        groups: groups of lesions.
        draw_lesion: (image, group, seed, strength) -> image and bool mask (X, Y).
        unseen_scale: see ``unseen``.
    """

    suffix = ".png"

    def __init__(
        self,
        unseen: str,
        healthy_image: Callable[..., np.ndarray],
        groups: Sequence[str],
        draw_lesion: Callable[..., tuple[np.ndarray, np.ndarray]],
        unseen_scale: int = 2,
    ) -> None:
        self.unseen = unseen
        self.healthy_image = healthy_image
        self.groups = tuple(groups)
        self.draw_lesion = draw_lesion
        self.unseen_scale = unseen_scale
        self.settings = {
            "num_training": 400,
            "num_validation": 60,
            "num_calibration": 60,
            "num_test_healthy": 60,
            "num_test_abnormal": 12 * len(self.groups),
            "groups": None,
            "size": 64,
            "strength": [0.7, 1.0],
        }

    def study(self, seed: int, settings: Settings, lesion: tuple[str, int] | None) -> tuple[np.ndarray, Any]:
        """A 2-D image (C, X, Y, 1), see :meth:`Phantom.study`."""
        image = self.healthy_image(seed, settings["size"])[..., None]
        return (image, None) if lesion is None else self.add_lesion(image, *lesion, settings["strength"])

    def add_lesion(
        self,
        image: np.ndarray,
        group: str,
        seed: int,
        strength: Sequence[float],
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
    ) -> tuple[np.ndarray, np.ndarray]:
        """A lesion in any 2-D image (C, X, Y, 1); `spacing` is not used.

        Raises:
            NomalyError: `image` is not a single 2-D image.
        """
        if image.ndim != 4 or image.shape[3] != 1:
            raise NomalyError(f"image must be a single 2-D image (C, X, Y, 1), got the shape {image.shape}.")
        changed, mask = self.draw_lesion(image[..., 0], group, seed, tuple(strength))
        return changed[..., None], mask[..., None]

    def write(self, path: Path, image: np.ndarray, settings: Settings) -> None:
        """Write an 8-bit PNG."""
        pixels = np.round(image[..., 0] * 255).astype(np.uint8).T
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path)

    def write_mask(self, path: Path, mask: np.ndarray, settings: Settings) -> None:
        """Write an 8-bit PNG with the values 0 and 255."""
        Image.fromarray(mask[..., 0].astype(np.uint8).T * 255).save(path)

    def write_unseen(self, folder: Path, seeds: tuple[int, int], settings: Settings) -> None:
        """A larger image with a clearly visible lesion of the first group."""
        larger = {**settings, "size": self.unseen_scale * settings["size"], "strength": (0.95, 1.0)}
        image, mask = self.study(seeds[0], larger, ((settings["groups"] or self.groups)[0], seeds[1]))
        self.write(folder / f"{self.unseen}.png", image, settings)
        self.write_mask(folder / f"{self.unseen}_mask.png", mask, settings)


PHANTOMS: dict[str, Phantom] = {
    "head": HeadPhantom(),
    "colon": ImagePhantom(
        "frame_with_polyp", colon.colon_image, tuple(colon_lesions.EFFECTS), colon_lesions.draw_lesion, unseen_scale=4
    ),
    "chest": ImagePhantom(
        "film_with_opacity", chest.chest_image, tuple(chest_lesions.EFFECTS), chest_lesions.draw_lesion
    ),
    "wrist": ImagePhantom("film_with_cast", wrist.wrist_image, tuple(wrist_lesions.EFFECTS), wrist_lesions.draw_lesion),
}


def find_phantom(anatomy: str) -> Phantom:
    """The phantom of an anatomy.

    Raises:
        NomalyError: unknown anatomy.
    """
    if anatomy not in PHANTOMS:
        raise NomalyError(f"anatomy must be one of {', '.join(PHANTOMS)}, got {anatomy!r}.")
    return PHANTOMS[anatomy]


def lps_affine(shape: Sequence[int], spacing: Sequence[float]) -> np.ndarray:
    """Affine (4, 4) to RAS millimetres of an LPS array centred at the origin."""
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2.0)
    return affine
