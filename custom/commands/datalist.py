"""nomaly datalist: a data set from folders of images, each patient in one section, without moving or copying a file."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from custom.errors import NomalyError
from custom.files import atomic_write
from custom.reporting.wording import count
from custom.studies.case_names import UniqueNames, safe_name
from custom.studies.datalist import DATALIST, load_datalist
from custom.studies.discovery import find_studies
from custom.studies.formats import case_name
from custom.studies.privacy import files_of
from custom.studies.splitting import DECISIONS_FROM, SECTIONS, SHARES, Member, split, united
from custom.studies.subjects import compiled, subject_of

SERIES = "series"  # folder of links to the files of series that share a folder with others
MASK_ENDING = re.compile(r"[-_.](mask|masks|seg|segmentation|label|labels|lesion|gt|roi)$", re.IGNORECASE)
DERIVED = ("derivatives", "sourcedata")  # of a BIDS data set
SHOWN = 5
OPTIONS = {"masks": "lesion_masks"}  # of which the name differs: masks is a parameter of MemMC-MAE


@dataclass(frozen=True)
class Folders:
    """The folders of a user.

    Args:
        healthy: only healthy studies.
        abnormal: only abnormal studies; None = none.
        masks: lesion masks under the names of the abnormal studies; None = none.
    """

    healthy: Path
    abnormal: Path | None = None
    masks: Path | None = None

    def named(self) -> Iterator[tuple[str, Path]]:
        """Names and paths of those that were given."""
        for name in ("healthy", "abnormal", "masks"):
            if (path := getattr(self, name)) is not None:
                yield name, path


def folders_of(options: argparse.Namespace) -> Folders:
    """The folders that a command was given."""
    given = (options.healthy, options.abnormal, options.lesion_masks)
    healthy, abnormal, masks = (None if path is None else Path(path) for path in given)
    assert healthy is not None  # the command needs it
    return Folders(healthy, abnormal, masks)


@dataclass(frozen=True)
class Found:
    """A study of a folder.

    Args:
        files: its files.
        place: of its file, or of the folder of its series, within the user's folder.
        image: path within the data set.
        abnormal: whether it is of the abnormal folder.
    """

    files: tuple[str, ...]
    place: PurePosixPath
    image: str
    abnormal: bool


def make_datalist(
    folders: Folders,
    output: Path,
    subject: str | None = None,
    only: str | None = None,
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    overwrite: bool = False,
) -> str:
    """Write a data set: datalist.json with links to the folders, each patient and all near-duplicates in one section.

    Args:
        folders: of the images and masks.
        output: folder of the data set, outside the others.
        subject: regular expression that finds the patient in a study's path; None = BIDS label, PatientID, else each
            study is a patient of its own.
        only: pattern of the names or paths of the studies to use, such as "*_T1w.nii.gz"; None = all.
        shares: of training, validation, calibration and test among the healthy studies.
        seed: of the draw.
        overwrite: whether an earlier datalist.json is replaced.

    Returns:
        What was found, as text.

    Raises:
        NomalyError: a folder that does not exist or has a datalist.json of its own, no studies, masks that match no
            study, an existing data set, or as :func:`custom.studies.splitting.split`.
    """
    pattern = compiled(subject)
    check_folders(folders, output, overwrite)
    studies = listed(folders, "healthy", only)
    studies += listed(folders, "abnormal", only) if folders.abnormal is not None else []
    stated = [subject_of(study.files, study.place, pattern) for study in studies]
    own = [found or study.image for study, found in zip(studies, stated)]

    from custom.studies.duplicates import near_duplicates

    pairs = near_duplicates([list(study.files) if len(study.files) > 1 else study.files[0] for study in studies])
    members = [Member(study.image, name, study.abnormal) for study, name in zip(studies, united(own, pairs))]
    sections = split(members, shares, seed)
    masks = {} if folders.masks is None else masks_of(studies, folders.masks)
    link(folders, output, studies)
    write(output, members, sections, masks)
    load_datalist(output, required=())
    return summary(output, members, sections, masks, stated, [(studies[a], studies[b]) for a, b in pairs])


def check_folders(folders: Folders, output: Path, overwrite: bool) -> None:
    """Refuse folders that cannot be used together."""
    if folders.masks is not None and folders.abnormal is None:
        raise NomalyError("--lesion_masks needs --abnormal: masks belong to abnormal studies.")
    for name, path in folders.named():
        if not path.is_dir():
            raise NomalyError(
                f"--{OPTIONS.get(name, name)} must be a folder, but {path} is not one: check its spelling and mounts."
            )
        if (path / DATALIST).is_file():
            raise NomalyError(f"{path} already has a {DATALIST}: give it as --dataset_dir, or remove that file.")
        if output.resolve().is_relative_to(path.resolve()):
            raise NomalyError(f"--output must be outside of {path}, got {output}: give another folder.")
    if (output / DATALIST).exists() and not overwrite:
        raise NomalyError(f"{output} already has a {DATALIST}: give another --output, or --overwrite.")


def listed(folders: Folders, name: str, only: str | None) -> list[Found]:
    """The studies of the healthy or of the abnormal folder, without those of the other folders inside it.

    Raises:
        NomalyError: if there are none.
    """
    folder: Path = getattr(folders, name)
    others = [path.resolve() for other, path in folders.named() if other != name]
    bids = (folder / "dataset_description.json").is_file()
    found: list[Found] = []
    for item in find_studies(folder):
        files = tuple(files_of(item))
        whole = len(files) > 1 and _fills_its_folder(files)
        place = _place(os.path.dirname(files[0]) if whole else files[0], folder)
        real = Path(files[0]).resolve()
        if any(real.is_relative_to(o) and not folder.resolve().is_relative_to(o) for o in others):
            continue
        if (bids and place.parts[0] in DERIVED) or not _is_wanted(place, only):
            continue
        image = f"{name}/{place}" if len(files) == 1 or whole else f"{SERIES}/{safe_name(item['case'])}-{len(found)}"
        found.append(Found(files, place, image, name == "abnormal"))
    if not found:
        raise NomalyError(f"no study was found in {folder}{f' that matches --only {only}' if only else ''}: check it.")
    return found


def _place(path: str, folder: Path) -> PurePosixPath:
    """A path within a folder."""
    return PurePosixPath(Path(os.path.relpath(path, folder)).as_posix())


def _is_wanted(place: PurePosixPath, only: str | None) -> bool:
    """Whether a study matches the user's pattern by its name or path."""
    return only is None or fnmatch(place.name, only) or fnmatch(place.as_posix(), only)


def _fills_its_folder(files: Sequence[str]) -> bool:
    """Whether a series is all that its folder contains."""
    folders = {os.path.dirname(file) for file in files}
    return len(folders) == 1 and {name for name in os.listdir(*folders) if not name.startswith(".")} == {
        os.path.basename(file) for file in files
    }


def masks_of(studies: Sequence[Found], folder: Path) -> dict[str, str]:
    """Mask of each abnormal study, by the study's image: of the same path, or of the same and unique name, in which
    an ending such as _mask does not count.

    Raises:
        NomalyError: if no mask matches.
    """
    places = [(_place(files_of(item)[0], folder), files_of(item)) for item in find_studies(folder)]
    by_path = {place.with_name(_stem(place)): f"masks/{place}" for place, files in places if len(files) == 1}
    names = [_stem(place) for place, _ in places]
    by_name = {_stem(place): f"masks/{place}" for place, _ in places if names.count(_stem(place)) == 1}
    found = {}
    for study in (study for study in studies if study.abnormal):
        mask = by_path.get(study.place.with_name(_stem(study.place))) or by_name.get(_stem(study.place))
        if mask is not None:
            found[study.image] = mask
    if not found:
        raise NomalyError(
            f"--lesion_masks must contain masks under the names of the abnormal studies, but none of {folder} "
            "matches: rename them, for example a.png and a_mask.png."
        )
    return found


def _stem(place: PurePosixPath) -> str:
    """Name of a study or mask without suffix and ending."""
    return MASK_ENDING.sub("", case_name(str(place)))


def link(folders: Folders, output: Path, studies: Sequence[Found]) -> None:
    """Link the folders of the user, and the files of series that share a folder, into the data set.

    Raises:
        NomalyError: if the system does not allow links, or other files are in the way.
    """
    links = {output / name: path.resolve() for name, path in folders.named()}
    for study in (study for study in studies if study.image.startswith(f"{SERIES}/")):
        links |= {output / study.image / f"{n:05}.dcm": Path(file).resolve() for n, file in enumerate(study.files)}
    try:
        for place, target in links.items():
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.is_symlink():
                place.unlink()
            place.symlink_to(target, target_is_directory=target.is_dir())
    except OSError as error:
        raise NomalyError(
            f"{output} must be an empty folder in which links can be made ({error}): give another --output; on "
            "Windows, enable developer mode."
        ) from error


def write(output: Path, members: Sequence[Member], sections: Sequence[str], masks: Mapping[str, str]) -> None:
    """Write datalist.json."""
    names = UniqueNames()
    content: dict[str, list[dict[str, Any]]] = {section: [] for section in SECTIONS}
    for member, section in zip(members, sections):
        item = {"image": member.image, "label": int(member.abnormal), "subject": member.subject}
        item |= {"mask": masks[member.image]} if member.image in masks else {}
        content[section].append({**item, "case": names(case_name(member.image))})
    with atomic_write(output / DATALIST) as file:
        json.dump(content, file, indent=1, ensure_ascii=False)


def summary(
    output: Path,
    members: Sequence[Member],
    sections: Sequence[str],
    masks: Mapping[str, str],
    stated: Sequence[str | None],
    pairs: Sequence[tuple[Found, Found]],
) -> str:
    """What the data set contains, and what its user must know."""
    lines = [f"Data set: {output / DATALIST}"]
    for name in SECTIONS:
        own = [member for member, section in zip(members, sections) if section == name]
        abnormal = sum(member.abnormal for member in own)
        text = f"{len(own) - abnormal} healthy"
        text += f", {abnormal} abnormal ({len(masks)} with a mask)" if abnormal else ""
        lines.append(f"  {name:12} {text}, of {count(len({m.subject for m in own}), 'patient', 'patients')}")
    if unknown := stated.count(None):
        lines.append(
            f"{count(unknown, 'study states', 'studies state')} no patient: each counts as a patient of its own. "
            "Give --subject PATTERN if a patient has several studies."
        )
    if sections.count("calibration") < DECISIONS_FROM:
        lines.append(f"Decisions with 5 % false alarms need {DECISIONS_FROM} calibration studies: add healthy studies.")
    return "\n".join([*lines, *_told(pairs)])


def _told(pairs: Sequence[tuple[Found, Found]]) -> Iterator[str]:
    """Lines about near-duplicates."""
    if not pairs:
        return
    yield (
        f"{count(len(pairs), 'pair', 'pairs')} of nearly the same image: kept in one section, as copies in two "
        "sections inflate every figure."
    )
    if mixed := sum(one.abnormal != other.abnormal for one, other in pairs):
        yield f"{count(mixed, 'of them is', 'of them are')} both healthy and abnormal: check these studies."
    yield from (f"  {one.image} = {other.image}" for one, other in pairs[:SHOWN])
    if len(pairs) > SHOWN:
        yield f"  and {len(pairs) - SHOWN} more"
