"""A data set with the published sections from the user's own download of a public one."""

from __future__ import annotations

import io
import json
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from tqdm import tqdm

from custom.errors import NomalyError
from custom.files import atomic_write
from custom.public_sets.fingerprint import digest, fingerprint, is_same_picture
from custom.public_sets.manifest import Row, datalist_of, read_manifest
from custom.public_sets.sets import PublicSet, public_set
from custom.studies.datalist import DATALIST, datalist_hash, load_datalist

MASKS = "masks"  # folders of this name never contain images
SHOWN = 3
EQUAL, ALIKE, OTHER = "equal", "alike", "other"
Index = dict[str, list[Path]]


def prepare(name: str, folder: Path, output: Path, overwrite: bool = False) -> str:
    """Write the images, masks and datalist.json of a data set; the download is only read.

    Args:
        name: of the public data set.
        folder: the download, unpacked.
        output: folder of the data set, outside the download.
        overwrite: whether an earlier data set there is replaced.

    Returns:
        What was made and how far it agrees with the published data set, as text.

    Raises:
        NomalyError: an unknown name, a folder that does not exist or has none of the files, an existing data set, or
            a file that cannot be read.
    """
    entry = public_set(name)
    check_folders(folder, output, overwrite)
    rows, index = read_manifest(name), index_of(folder, entry)
    found = {row.image: sources(entry, row, index, folder) for row in rows}
    usable = [row for row in rows if found[row.image] is not None]
    missing = [entry.original(row) for row in rows if found[row.image] is None]
    if not usable:
        raise NomalyError(f"{folder} has none of the {len(rows)} files of {name}: it must contain {entry.layout}.")
    states: Counter[str] = Counter()
    for row in tqdm(usable, desc="Preparing", unit="image", delay=2, disable=None):
        image, mask = found[row.image] or (None, None)
        assert image is not None
        states[save(row, output, entry.image(image))] += 1
        if mask is not None:
            write(output / row.mask, entry.mask(mask))
    with atomic_write(output / DATALIST) as file:
        json.dump(datalist_of(usable), file, indent=1)
    load_datalist(output, required=())
    return summary(entry, output, usable, missing, states)


def check_folders(folder: Path, output: Path, overwrite: bool) -> None:
    """Refuse folders that cannot be used."""
    if not folder.is_dir():
        raise NomalyError(f"FOLDER must be the unpacked download, but {folder} is not a folder: check its spelling.")
    if output.resolve().is_relative_to(folder.resolve()):
        raise NomalyError(f"--output must be outside of {folder}, got {output}: give another folder.")
    if (output / DATALIST).exists() and not overwrite:
        raise NomalyError(f"{output} already has a {DATALIST}: give another --output, or --overwrite.")


def index_of(folder: Path, entry: PublicSet) -> Index:
    """Files of the download by what they are found by; hidden ones, such as those of macOS, do not count."""
    index: Index = defaultdict(list)
    for place, folders, names in os.walk(folder.resolve()):
        folders.sort()
        for name in sorted(names):
            if not name.startswith(".") and (key := entry.key(name)):
                index[key].append(Path(place, name))
    return index


def sources(entry: PublicSet, row: Row, index: Index, folder: Path) -> tuple[Path, Path | None] | None:
    """The files of a study's image and mask; None if one of them was not found."""

    def within(path: Path) -> tuple[str, ...]:
        return path.relative_to(folder.resolve().parent).parts[:-1]  # the folder itself may be the one that is needed

    wanted = entry.folder(row)
    images = [
        path
        for path in index.get(entry.original(row), [])
        if MASKS not in within(path) and (not wanted or wanted in within(path))
    ]
    masks = index.get(entry.original_mask(row), []) if row.mask else []
    if entry.original(row) == entry.original_mask(row):
        masks = [path for path in masks if MASKS in within(path)]
    if not images or (row.mask and not masks):
        return None
    return images[0], masks[0] if masks else None


def save(row: Row, output: Path, content: bytes) -> str:
    """Write an image; whether it is equal to the published one, shows the same picture, or another one."""
    write(output / row.image, content)
    image = Image.open(io.BytesIO(content))
    if digest(image) == row.digest:
        return EQUAL
    return ALIKE if is_same_picture(fingerprint(image), row.fingerprint) else OTHER


def write(path: Path, content: bytes) -> None:
    """Write a file."""
    with atomic_write(path, "wb") as file:
        file.write(content)


def summary(entry: PublicSet, output: Path, rows: Sequence[Row], missing: Sequence[str], states: Counter[str]) -> str:
    """What was made, how it compares with the published data set, its terms, and what to run next."""
    lines = [f"{entry.title}. Terms: {entry.terms}; they also apply to what was made of it.", f"Data set: {output}"]
    for section, items in datalist_of(rows).items():
        abnormal = sum(item["label"] for item in items)
        lines.append(f"  {section:12} {len(items) - abnormal} healthy" + (f", {abnormal} abnormal" if abnormal else ""))
    if missing:
        shown = ", ".join(missing[:SHOWN]) + (" and others" if len(missing) > SHOWN else "")
        lines.append(
            f"{len(missing)} files were not found, so the sections are smaller than the published ones: {shown}."
        )
    else:
        lines.append(f"Sections: all studies of the published ones (datalist {datalist_hash(output)}).")
    lines.append(
        f"Images: of {len(rows)}, {states[EQUAL]} are equal to the published ones in each pixel, {states[ALIKE]} show "
        f"the same picture, {states[OTHER]} differ."
    )
    if entry.difference and states[EQUAL] < len(rows):
        lines.append(f"Note: {entry.difference}.")
    elif states[OTHER]:
        lines.append("Note: pictures that differ may come from another version of the set; figures on them may differ.")
    commands = [
        f"  nomaly evaluate {bundle} --dataset_dir {output} --output results/{bundle}" for bundle in entry.bundles
    ]
    return "\n".join([*lines, "Next:", *commands])
