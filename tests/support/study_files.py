"""Fixtures: small studies on disk, and the preprocessing of the bundles, for tests of loading and of the way back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.transforms import Compose, Orientationd, Resized
from PIL import Image

from custom.studies.loading import LoadStudyd
from custom.transforms.head import CropHeadd
from custom.transforms.intensity import ScaleStudyIntensityd

KEYS = ["image", "mask"]


def _ellipsoid(shape: tuple[int, ...], centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    """Return a bool array that is True inside an ellipsoid, all in voxels."""
    index = np.indices(shape).astype(float)
    return sum(((i - c) / r) ** 2 for i, c, r in zip(index, centre, radii)) <= 1


@pytest.fixture
def head_array() -> Callable[..., np.ndarray]:
    """Make a head: a bright ellipsoid with a brighter rim on noise of 3 %, axes in voxels."""

    def make(shape=(41, 45, 30), centre=(20, 22, 12), radii=(14, 18, 14)) -> np.ndarray:
        noise = np.abs(np.random.default_rng(0).normal(0, 6, shape))
        inner = _ellipsoid(shape, centre, tuple(0.85 * radius for radius in radii))
        return (noise + 255.0 * _ellipsoid(shape, centre, radii) - 75.0 * inner).astype(np.float32)

    return make


@pytest.fixture
def save_volume(tmp_path: Path) -> Callable[..., Path]:
    """Save an array as NIfTI and return its path."""

    def save(array: np.ndarray, affine: np.ndarray | None = None, name: str = "study.nii.gz") -> Path:
        path = tmp_path / name
        nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
        return path

    return save


@pytest.fixture
def save_picture(tmp_path: Path) -> Callable[..., Path]:
    """Save an array indexed [y, x] or [y, x, channel] as a picture and return its path."""

    def save(array: np.ndarray, name: str = "study.png", mode: str | None = None) -> Path:
        path = tmp_path / name
        picture = Image.fromarray(array)
        (picture.convert(mode) if mode else picture).save(path)
        return path

    return save


@pytest.fixture
def preprocessing() -> Callable[..., Compose]:
    """The preprocessing of the bundles: load, LPS, crop, network grid, [0, 1]."""

    def build(size: int = 48, slab_mm: tuple[float, float] | None = (20.0, 60.0)) -> Compose:
        return Compose(
            [
                LoadStudyd(keys=KEYS, min_size=16),
                Orientationd(keys=KEYS, axcodes="LPS", labels=None, allow_missing_keys=True),
                CropHeadd(keys=KEYS, source_key="image", slab_mm=slab_mm),
                Resized(
                    keys=KEYS,
                    spatial_size=(size, size, -1),
                    mode=("trilinear", "nearest-exact"),
                    anti_aliasing=(True, False),
                    allow_missing_keys=True,
                ),
                ScaleStudyIntensityd(keys="image"),
            ]
        )

    return build
