"""Read and check the `datalist.json` of a data set: sections training, validation, calibration and test.

The format follows the Medical Segmentation Decathlon.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from custom.errors import NomalyError
from custom.studies.formats import case_name
from custom.studies.items import StudyItem

DATALIST = "datalist.json"
SECTIONS = ("training", "validation", "test")
HEALTHY_SECTIONS = ("training", "validation", "calibration")
PATH_KEYS = ("image", "mask")


def load_datalist(
    dataset_dir: str | os.PathLike,
    required: Sequence[str] = ("training",),
    name_of: Callable[[str], str] = case_name,
) -> dict[str, list[StudyItem]]:
    """Read all sections of a data set and reject items that would invalidate training or evaluation.

    Args:
        dataset_dir: folder with `datalist.json`. Each item is {"image": path, "label": 0|1, "mask"?: path,
            "subject"?: id, "group"?: pathology, "case"?: id}, paths relative to the folder, with / or \\. An image is
            a file or the folder of a DICOM series. `label` may be omitted in training, validation and calibration,
            which are healthy.
        required: sections that must not be empty.
        name_of: derives the `case` of items without one from the absolute path of the image.

    Returns:
        section -> items (training, validation and test at least), with absolute paths, `label` (int), `case` (by
        `name_of` unless given) and `subject` (`case` unless given). Entries that are not lists are ignored.

    Raises:
        NomalyError: missing folder or datalist; invalid JSON, section or item; a misspelt section; an abnormal item
            in a healthy section; a missing file; a path outside the folder; a case that is not a valid file name or
            not unique; a subject in two sections.
    """
    root = Path(dataset_dir).absolute()
    content = _read(root)
    for name in dict.fromkeys((*SECTIONS, *HEALTHY_SECTIONS)):
        if not isinstance(content.get(name, []), list):
            raise NomalyError(
                f"{root / DATALIST}: section `{name}` must be a list of items, got {type(content[name]).__name__}; "
                "put the items in [ ]."
            )
    sections = {name: items for name, items in content.items() if isinstance(items, list)}
    for name in sections:
        near = difflib.get_close_matches(name, (*SECTIONS, *HEALTHY_SECTIONS), 1, 0.75)
        if near and near[0] != name:
            raise NomalyError(f"{root / DATALIST}: no section is called `{name}`; did you mean `{near[0]}`?")
    for name in required:
        if not sections.get(name):
            raise NomalyError(
                f"{root / DATALIST}: section `{name}` must list at least one study, got "
                f"{'none' if name in sections else 'no such section'}; add items to it."
            )
    sections = {**{name: [] for name in SECTIONS}, **sections}
    checked = {
        name: [_item(root, f"{name}[{i}]", item, name_of) for i, item in enumerate(items)]
        for name, items in sections.items()
    }
    _check_unique(checked)
    return checked


def datalist_hash(dataset_dir: str | os.PathLike) -> str:
    """First 16 hex digits of the SHA-256 of the datalist's content, independent of its layout and of the images."""
    canonical = json.dumps(_read(Path(dataset_dir).absolute()), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _read(root: Path) -> dict[str, Any]:
    """Content of the datalist, a non-empty object."""
    path = root / DATALIST
    if not root.is_dir():
        raise NomalyError(f"dataset_dir must be an existing folder, got {root}; check the path.")
    if not path.is_file():
        raise NomalyError(
            f"dataset_dir must contain {DATALIST}, but {root} does not; write one, "
            "or omit dataset_dir to use the synthetic phantom."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise NomalyError(f"{path} must be JSON: {error}; correct it.") from None
    if not isinstance(content, dict) or not content:
        raise NomalyError(
            f"{path} must be an object with sections training, validation and test, but it is empty or of another "
            "type; correct it."
        )
    return content


def _item(root: Path, place: str, item: Any, name_of: Callable[[str], str]) -> StudyItem:
    """Check one item by itself; return it with absolute paths and all identifiers."""
    section, where = place.partition("[")[0], f"{root / DATALIST}: {place}"
    if not isinstance(item, dict) or not isinstance(item.get("image"), str) or not item["image"]:
        raise NomalyError(f"{where} must be an object with a path in `image`, got {item!r}; correct the item.")
    label = item.get("label", 0 if section in HEALTHY_SECTIONS else None)
    if isinstance(label, bool) or label not in (0, 1):
        raise NomalyError(f"{where} ({item['image']}): label must be 0 (healthy) or 1 (abnormal), got {label!r}.")
    if section in HEALTHY_SECTIONS and label == 1:
        raise NomalyError(
            f"{where} ({item['image']}): section `{section}` must be healthy (label 0), got label 1; "
            "move the item to `test`."
        )
    item = {key: value for key, value in item.items() if value is not None}
    paths = {key: _path(root, where, key, item[key]) for key in PATH_KEYS if key in item}
    case = str(item.get("case") or name_of(paths["image"]))
    if not is_file_name(case):
        raise NomalyError(
            f"{where} ({item['image']}): case must be a valid file name, without / or \\, and must not "
            f"begin with a dot, got {case!r}; rename it."
        )
    subject = str(item.get("subject", case))
    return cast(StudyItem, {**item, **paths, "label": int(label), "case": case, "subject": subject})


def is_file_name(name: str) -> bool:
    """Whether a name is a valid file name on every system and not hidden."""
    return 0 < len(name.encode()) <= 200 and not name.startswith(".") and not set(name) & set('/\\:*?"<>|\0')


def _path(root: Path, where: str, key: str, path: Any) -> str:
    """Absolute path of an existing file or folder inside the data set."""
    # deliberately lexical: a data set may contain links to its images
    full = os.path.normpath(root / str(path))
    if "\\" in str(path) and not os.path.exists(full):  # written on Windows
        full = os.path.normpath(root / str(path).replace("\\", "/"))
    if os.path.commonpath([full, os.path.normpath(root)]) != os.path.normpath(root):
        raise NomalyError(
            f"{where}: {key} must be inside the folder of the data set, got {path}; move it or correct the path."
        )
    if not os.path.exists(full):
        raise NomalyError(f"{where}: {key} not found: {full}; restore it or remove the item.")
    return full


def _check_unique(sections: dict[str, list[StudyItem]]) -> None:
    """Reject a repeated case and a subject in two sections."""
    cases: dict[str, str] = {}
    subjects: dict[str, str] = {}
    for section, items in sections.items():
        for item in items:
            case, subject = item["case"], item["subject"]
            if case in cases:
                raise NomalyError(
                    f"case must be unique, but `{case}` names both {cases[case]} and {item['image']}; "
                    "rename a file, remove the duplicate, or give the items a `case`."
                )
            if subjects.setdefault(subject, section) != section:
                raise NomalyError(
                    f"a subject must be in one section only, but `{subject}` is in `{subjects[subject]}` and in "
                    f"`{section}` ({item['image']}); move all studies of the subject to one of them."
                )
            cases[case] = str(item["image"])
