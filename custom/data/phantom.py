"""A synthetic T1w-like head data set: healthy heads, the same kind of heads with lesions, all made from a seed.

It lets every bundle train, evaluate and demonstrate itself without a download. It shows that the software works; it is
no evidence about patients.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from tqdm import tqdm

from custom.data.datalist import DATALIST
from custom.data.head_phantom import DEFAULT_SHAPE, DEFAULT_SPACING, head_volume
from custom.errors import NomalyError
from custom.transforms.head import head_mask, vertex_slice
from custom.transforms.synthetic_lesions import GROUPS, SyntheticLesion

logger = logging.getLogger(__name__)


PARAMETERS = "phantom.json"
GENERATOR = 2  # raise it whenever the same seed gives other images, so that no old cache is taken for a new one
FULL_SCALE = 1.25  # head_volume's value that is stored as 1000; only the brightest fat is cut off
FOCAL_RADIUS = (0.08, 0.13)  # of the head's width: voxels of 2 to 3 mm show no smaller ones
UNSEEN_SPACING = (2.0, 2.4, 3.0)


def make_head_phantom(
    directory: str | os.PathLike,
    num_training: int = 96,
    num_validation: int = 24,
    num_calibration: int = 24,
    num_test_healthy: int = 20,
    num_test_abnormal: int = 32,
    shape: Sequence[int] = DEFAULT_SHAPE,
    spacing: Sequence[float] = DEFAULT_SPACING,
    slab_mm: Sequence[float] = (45.0, 75.0),
    strength: Sequence[float] = (0.5, 1.0),
    seed: int = 0,
) -> str:
    """Write a data set of synthetic heads, unless it is there already.

    Files: `images/*.nii.gz` (int16 magnitudes 0 to 1000, LPS), `masks/*.nii.gz` of the abnormal heads, `datalist.json`,
    `phantom.json` (the parameters) and, outside the list, `unseen/head_with_lesion.nii.gz` with its mask: oblique and
    of another resolution. The folder appears complete or not at all, also when several processes make it at once.

    Args:
        directory: folder to make.
        num_training: healthy heads to learn from.
        num_validation: healthy heads to choose a checkpoint on.
        num_calibration: healthy heads to calibrate on.
        num_test_healthy: healthy heads to test on.
        num_test_abnormal: heads with a synthetic lesion, the groups taking turns.
        shape: voxels along x, y, z.
        spacing: millimetres per voxel.
        slab_mm: lesions have their middle this far below the vertex, (nearest, farthest).
        strength: range of lesion strengths.
        seed: of everything.

    Returns:
        the folder's path.

    Raises:
        NomalyError: the folder holds something else, or a phantom of other parameters; a value is out of range.
    """
    counts = {
        "num_training": num_training,
        "num_validation": num_validation,
        "num_calibration": num_calibration,
        "num_test_healthy": num_test_healthy,
        "num_test_abnormal": num_test_abnormal,
    }
    for name, count in counts.items():
        if count < 0:
            raise NomalyError(f"{name} must be a number of heads >= 0, got {count}.")
    geometry = {"shape": list(shape), "spacing": list(spacing), "slab_mm": list(slab_mm), "strength": list(strength)}
    parameters = {"synthetic": True, "generator": GENERATOR, **counts, **geometry, "seed": seed}
    target = Path(directory).absolute()
    if _is_made(target, parameters):
        return str(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _build(building, parameters)
        _publish(building, target, parameters)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return str(target)


def dataset_or_phantom(dataset_dir: str | None, cache_dir: str, **kwargs: Any) -> str:
    """The user's data set, or a phantom below `cache_dir` with a warning that nothing learnt from it is about patients.

    Args:
        dataset_dir: the user's folder; None for the phantom.
        cache_dir: where phantoms are kept, each in a folder named by the hash of its parameters.
        **kwargs: passed to make_head_phantom.

    Raises:
        NomalyError: if `dataset_dir` is an empty text.
    """
    if dataset_dir is not None:
        if not str(dataset_dir).strip():
            raise NomalyError("dataset_dir must name a folder with datalist.json, got an empty text: give it, or leave it out.")
        return str(dataset_dir)
    content = json.dumps([GENERATOR, {key: kwargs[key] for key in sorted(kwargs)}])
    folder = Path(cache_dir) / f"heads-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    logger.warning(
        "NO dataset_dir WAS GIVEN: using SYNTHETIC heads in %s. Results are about this phantom, not about patients.",
        folder,
    )
    return make_head_phantom(folder, **kwargs)


def is_phantom(dataset_dir: str | os.PathLike) -> bool:
    """Whether the folder was written by make_head_phantom; results on it must be called synthetic."""
    return (Path(dataset_dir) / PARAMETERS).is_file()


def _is_made(target: Path, parameters: dict[str, Any]) -> bool:
    """Whether this very phantom is there; False for a new or empty folder, an error for anything else."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    if not is_phantom(target):
        raise NomalyError(
            f"directory must be new, empty or hold a phantom, but {target} holds something else; choose another."
        )
    found = json.loads((target / PARAMETERS).read_text(encoding="utf-8"))
    if found != parameters:
        differing = sorted(k for k in found.keys() | parameters.keys() if found.get(k) != parameters.get(k))
        raise NomalyError(
            f"{target} is a phantom of other parameters ({', '.join(differing)}); delete it or choose another folder."
        )
    return True


def _publish(building: Path, target: Path, parameters: dict[str, Any]) -> None:
    """Give the finished folder its name; if another process was faster, its equal folder is taken."""
    building.chmod(0o755)  # mkdtemp's folder is private
    try:
        if target.is_dir():
            target.rmdir()
        building.rename(target)
    except OSError:
        if not _is_made(target, parameters):
            raise


def _build(root: Path, parameters: dict[str, Any]) -> None:
    """Write all files of a phantom; each head has a seed of its own, by its place in the plan."""
    for folder in ("images", "masks", "unseen"):
        (root / folder).mkdir()
    seeds = np.random.SeedSequence(parameters["seed"])
    plan = [("training", "train", parameters["num_training"], False)]
    plan += [("validation", "val", parameters["num_validation"], False)]
    plan += [("test", "healthy", parameters["num_test_healthy"], False)]
    plan += [("test", "abnormal", parameters["num_test_abnormal"], True)]
    plan += [("calibration", "cal", parameters["num_calibration"], False)]
    datalist: dict[str, list[dict[str, Any]]] = {section: [] for section, *_ in plan}
    affine = _lps_affine(parameters["shape"], parameters["spacing"])
    for section, prefix, count, abnormal in plan:
        for number, child in enumerate(tqdm(seeds.spawn(count), f"Making heads for {prefix}", mininterval=1.0)):
            name = f"{prefix}_{number:03d}"
            group = GROUPS[number % len(GROUPS)] if abnormal else None
            volume, mask = _head(child, parameters, group)
            item = {"image": f"images/{name}.nii.gz", "label": int(abnormal), "subject": name}
            _save(root / item["image"], np.round(volume * 1000.0).astype(np.int16), affine)
            if group:
                item.update(mask=f"masks/{name}.nii.gz", group=group)
                _save(root / item["mask"], mask.astype(np.uint8), affine)
            datalist[section].append(item)
    _build_unseen(root / "unseen", seeds.spawn(1)[0], parameters)
    for name, content in ((DATALIST, datalist), (PARAMETERS, parameters)):
        (root / name).write_text(json.dumps(content, indent=1), encoding="utf-8")


def _head(
    seeds: np.random.SeedSequence, parameters: dict[str, Any], group: str | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Volume (X, Y, Z) in [0, 1] and mask of a head, with a lesion in the slab if a group is named."""
    head_seed, lesion_seed = (int(s) for s in seeds.generate_state(2))
    volume = head_volume(head_seed, parameters["shape"], parameters["spacing"])
    volume = np.clip(volume / FULL_SCALE, 0.0, 1.0)
    if group is None:
        return volume[0], None
    spacing = parameters["spacing"]
    vertex = vertex_slice(head_mask(volume[0], spacing))
    near, far = (round(vertex - mm / spacing[2]) for mm in parameters["slab_mm"])
    radius = FOCAL_RADIUS if group in ("hyperintense", "hypointense", "mass") else None
    lesion = SyntheticLesion(group, tuple(parameters["strength"]), radius)
    # one slice inside the slab's ends, so that at least half of the lesion is assessed
    volume, mask = lesion(volume, lesion_seed, spacing, slices=(max(far + 1, 0), max(near, far + 2)))
    return volume[0], mask[0]


def _build_unseen(folder: Path, seeds: np.random.SeedSequence, parameters: dict[str, Any]) -> None:
    """A plain dark lesion in a head of another resolution whose scanner axes are turned by 12 and 7 degrees."""
    extent = [n * s for n, s in zip(parameters["shape"], parameters["spacing"])]
    shape = [round(e / s) for e, s in zip(extent, UNSEEN_SPACING)]
    other = {**parameters, "shape": shape, "spacing": UNSEEN_SPACING, "strength": (0.95, 1.0)}
    volume, mask = _head(seeds, other, "hypointense")
    affine = _lps_affine(shape, UNSEEN_SPACING)
    cx, sx, cz, sz = np.cos(0.209), np.sin(0.209), np.cos(0.122), np.sin(0.122)
    about_x = np.array([[1, 0, 0, 0], [0, cx, -sx, 0], [0, sx, cx, 0], [0, 0, 0, 1]])
    about_z = np.array([[cz, -sz, 0, 0], [sz, cz, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    oblique = about_z @ about_x @ affine
    _save(folder / "head_with_lesion.nii.gz", np.round(volume * 1000.0).astype(np.int16), oblique)
    _save(folder / "head_with_lesion_mask.nii.gz", mask.astype(np.uint8), oblique)


def _lps_affine(shape: Sequence[int], spacing: Sequence[float]) -> np.ndarray:
    """RAS world millimetres of an LPS array whose middle lies at the origin."""
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2.0)
    return affine


def _save(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    nib.save(image, path)
