"""Which studies a run is about: a user's files and folders, or a section of a datalist."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

from custom.data.datalist import load_datalist
from custom.errors import NomalyError
from custom.synthetic.lesions import with_synthetic_twins
from custom.transforms.study import STUDY_SUFFIXES, case_name

logger = logging.getLogger(__name__)

Items = list[dict[str, Any]]


def find_studies(studies: str | Sequence[str]) -> Items:
    """An item for each study: a file, every image file of a folder, or a folder of DICOM files as one series.

    Names that occur twice get a number, so that every study has its own row and folder. A path that does not exist
    stays in the list: it fails with its reason when it is read, and the others go on.

    Raises:
        NomalyError: if there is nothing to read.
    """
    paths = [studies] if isinstance(studies, (str, Path)) else list(studies)
    files = [found for path in paths for found in expand(Path(path))]
    if not files:
        raise NomalyError(
            f"studies must name at least one study, got {', '.join(map(str, paths)) or 'nothing'}: give image files "
            f"({', '.join(STUDY_SUFFIXES)}) or a folder of them."
        )
    items: Items = []
    taken: set[str] = set()
    for file in files:
        name = case_name(file)
        numbered = (f"{name}_{number}" for number in count(2))
        case = name if name not in taken else next(free for free in numbered if free not in taken)
        taken.add(case)
        items.append({"image": str(file), "case": case})
    return items


def expand(path: Path) -> list[Path]:
    """The studies at a path, in the order of their names."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
    if any(file.suffix.lower() == ".dcm" for file in files):
        return [path]
    return [file for file in files if file.name.lower().endswith(STUDY_SUFFIXES)]


def inference_items(studies: str | Sequence[str] | None, datalist: dict[str, Items] | None) -> Items:
    """The user's studies if given, else the test section."""
    return datalist["test"] if studies is None else find_studies(studies)


def calibration_items(studies: str | Sequence[str] | None, datalist: dict[str, Items] | None) -> Items:
    """Healthy studies: of a folder with a datalist, of other files or folders, or of the data set.

    Raises:
        NomalyError: if there is none.
    """
    if isinstance(studies, str) and (Path(studies) / "datalist.json").is_file():
        items = healthy_section(load_datalist(studies, required=()))
    else:
        items = healthy_section(datalist) if studies is None else find_studies(studies)
    if not items:
        raise NomalyError(
            "calibration needs healthy studies, got none: fill the section calibration of datalist.json, "
            "or give --healthy DIR."
        )
    return [{**item, "label": 0} for item in items]


def healthy_section(datalist: dict[str, Items]) -> Items:
    """The section ``calibration``, which nothing else uses; where there is none the validation section."""
    if datalist.get("calibration"):
        return datalist["calibration"]
    logger.warning(
        "Calibrating on the validation section, which has also chosen the checkpoint, so that its scores may be a "
        "little low: a section `calibration` in datalist.json, or --healthy, with healthy studies of its own makes the "
        "false-alarm rate exact."
    )
    return datalist["validation"]


def evaluation_items(
    datalist: dict[str, Items],
    synthetic_lesions: bool | str,
    anatomy: str,
    lesion_groups: Sequence[str] | None = None,
    seed: int = 0,
) -> Items:
    """The test section, with a synthetic twin of each healthy study where asked for.

    Args:
        datalist: of the data set.
        synthetic_lesions: True, False, or "auto": only if the test section has no abnormal study.
        anatomy: whose lesions are drawn.
        lesion_groups: which of them; None = all.
        seed: of the lesions.

    Raises:
        NomalyError: if the test section is empty or ``synthetic_lesions`` is none of these.
    """
    items = datalist["test"]
    if not items:
        raise NomalyError("evaluation needs studies in the test section of datalist.json, got none.")
    if synthetic_lesions not in (True, False, "auto"):
        raise NomalyError(f'synthetic_lesions must be true, false or "auto", got {synthetic_lesions!r}.')
    abnormal = [item for item in items if item["label"]]
    if synthetic_lesions is True or (synthetic_lesions == "auto" and not abnormal):
        healthy = [item for item in items if not item["label"]]
        return with_synthetic_twins(healthy, anatomy, seed, lesion_groups) + abnormal
    return items


def floor_items(floors_dir: str | None, datalist: dict[str, Items]) -> Items:
    """Healthy training studies that the floors are fitted on: of ``floors_dir`` if given, else of the data set; may
    be none.
    """
    return datalist["training"] if floors_dir is None else load_datalist(floors_dir)["training"]
