"""A synthetic data set of one anatomy: healthy studies and studies with lesions, generated from a seed."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from custom.errors import NomalyError
from custom.studies.datalist import DATALIST
from custom.synthetic.phantoms import Phantom, find_phantom

logger = logging.getLogger(__name__)

PARAMETERS = "phantom.json"
GENERATOR = 4  # raise it whenever a seed gives different images, so that no outdated cache is used


def make_phantom(directory: str | os.PathLike, anatomy: str, seed: int = 0, **settings: Any) -> str:
    """Write a synthetic data set, unless it already exists.

    Files: ``images/``, ``masks/`` of the abnormal studies, ``datalist.json``, ``phantom.json`` (the parameters) and,
    outside the list, ``unseen/`` with one study of another geometry and its mask. The folder appears complete or not at
    all, even if several processes make it at once.

    Args:
        directory: folder to make.
        anatomy: name in :data:`custom.synthetic.phantoms.PHANTOMS`.
        seed: seed of all studies and lesions.
        settings: num_training, num_validation, num_calibration, num_test_healthy, num_test_abnormal, groups
            (of lesions, used in turn) and the anatomy's geometry; see the phantoms for the defaults.

    Returns:
        the folder's path.

    Raises:
        NomalyError: the folder contains other files, or a phantom with other parameters; an unknown setting, or a
            value out of range.
    """
    phantom = find_phantom(anatomy)
    settings = checked_settings(anatomy, phantom, settings)
    parameters = {"synthetic": True, "generator": GENERATOR, "anatomy": anatomy, **settings, "seed": seed}
    target = Path(directory).absolute()
    if _is_made(target, parameters):
        return str(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _build(building, phantom, parameters)
        _publish(building, target, parameters)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return str(target)


def checked_settings(anatomy: str, phantom: Phantom, settings: dict[str, Any]) -> dict[str, Any]:
    """The phantom's settings, overridden by the given ones, as read back from JSON."""
    unknown = sorted(settings.keys() - phantom.settings.keys())
    if unknown:
        raise NomalyError(
            f"the phantom {anatomy} has no setting {', '.join(unknown)}: it has {', '.join(phantom.settings)}."
        )
    settings = json.loads(json.dumps({**phantom.settings, **settings}))
    if settings["groups"] is not None:
        phantom.check_groups(settings["groups"])
    for name, count in settings.items():
        if name.startswith("num_") and count < 0:
            raise NomalyError(f"{name} must be a number of studies >= 0, got {count}.")
    return settings


def dataset_or_phantom(dataset_dir: str | None, cache_dir: str, anatomy: str, **settings: Any) -> str:
    """The user's data set, or a phantom in `cache_dir`, with a warning that its results are not about patients.

    Args:
        dataset_dir: the user's folder; None for the phantom.
        cache_dir: folder of phantoms, each in a subfolder named by the hash of its parameters.
        anatomy: anatomy of the phantom.
        settings: passed to make_phantom.

    Raises:
        NomalyError: if `dataset_dir` is empty.
    """
    if dataset_dir is not None:
        if not str(dataset_dir).strip():
            raise NomalyError(
                "dataset_dir must be a folder with datalist.json, got an empty value: set it, or leave it out."
            )
        return str(dataset_dir)
    content = json.dumps([GENERATOR, anatomy, settings], sort_keys=True)
    folder = Path(cache_dir) / f"{anatomy}-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
    logger.warning(
        "NO dataset_dir WAS GIVEN: using SYNTHETIC images (%s) in %s. Results are about this phantom, not patients.",
        anatomy,
        folder,
    )
    return make_phantom(folder, anatomy, **settings)


def is_phantom(dataset_dir: str | os.PathLike) -> bool:
    """Whether the folder was written by make_phantom; results on it must be labelled synthetic."""
    return (Path(dataset_dir) / PARAMETERS).is_file()


def _is_made(target: Path, parameters: dict[str, Any]) -> bool:
    """Whether exactly this phantom exists; False for a new or empty folder, an error for anything else."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return False
    if not is_phantom(target):
        raise NomalyError(
            f"directory must be new, empty or a phantom, but {target} contains other files; choose another."
        )
    found = json.loads((target / PARAMETERS).read_text(encoding="utf-8"))
    if found != parameters:
        differing = sorted(k for k in found.keys() | parameters.keys() if found.get(k) != parameters.get(k))
        raise NomalyError(
            f"{target} is a phantom with other parameters ({', '.join(differing)}); delete it or choose another folder."
        )
    return True


def _publish(building: Path, target: Path, parameters: dict[str, Any]) -> None:
    """Rename the finished folder; if another process was faster, its equal folder is used."""
    building.chmod(0o755)  # mkdtemp's folder is private
    try:
        if target.is_dir():
            target.rmdir()
        building.rename(target)
    except OSError:
        if not _is_made(target, parameters):
            raise


def _build(root: Path, phantom: Phantom, parameters: dict[str, Any]) -> None:
    """Write all files of a phantom; each study has its own seed, given by its position in the plan."""
    for folder in ("images", "masks", "unseen"):
        (root / folder).mkdir()
    seeds = np.random.SeedSequence(parameters["seed"])
    plan = [("training", "train", parameters["num_training"], False)]
    plan += [("validation", "val", parameters["num_validation"], False)]
    plan += [("test", "healthy", parameters["num_test_healthy"], False)]
    plan += [("test", "abnormal", parameters["num_test_abnormal"], True)]
    plan += [("calibration", "cal", parameters["num_calibration"], False)]
    datalist: dict[str, list[dict[str, Any]]] = {section: [] for section, *_ in plan}
    groups = parameters["groups"] or phantom.groups
    for section, prefix, count, abnormal in plan:
        for number, child in enumerate(tqdm(seeds.spawn(count), f"Making {prefix} phantoms", mininterval=1.0)):
            name = f"{prefix}_{number:03d}"
            study_seed, lesion_seed = seed_pair(child)
            group = groups[number % len(groups)] if abnormal else None
            image, mask = phantom.study(study_seed, parameters, (group, lesion_seed) if group else None)
            item: dict[str, Any] = {"image": f"images/{name}{phantom.suffix}", "label": int(abnormal), "subject": name}
            phantom.write(root / item["image"], image, parameters)
            if group:
                item.update(mask=f"masks/{name}{phantom.suffix}", group=group)
                phantom.write_mask(root / item["mask"], mask, parameters)
            datalist[section].append(item)
    phantom.write_unseen(root / "unseen", seed_pair(seeds.spawn(1)[0]), parameters)
    for name, content in ((DATALIST, datalist), (PARAMETERS, parameters)):
        (root / name).write_text(json.dumps(content, indent=1), encoding="utf-8")


def seed_pair(seeds: np.random.SeedSequence) -> tuple[int, int]:
    """Seeds of a study and of its lesion."""
    first, second = seeds.generate_state(2)
    return int(first), int(second)
