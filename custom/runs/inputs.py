"""The studies of a run: files and folders named by a user, or a section of a datalist."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from custom.errors import NomalyError
from custom.processes import world_and_rank
from custom.runs.records import StudyRecords
from custom.studies.datalist import DATALIST, load_datalist
from custom.studies.discovery import find_studies
from custom.studies.items import StudyItem
from custom.studies.privacy import files_of
from custom.synthetic.lesions import with_synthetic_twins

logger = logging.getLogger(__name__)

Items = list[StudyItem]
Sections = Mapping[str, Items]


def inference_items(
    studies: str | Sequence[str] | None, datalist: Sections | None, pseudonymise: bool = False
) -> Items:
    """The user's studies if given, else the test section.

    Args:
        studies: files, folders and lists as the user named them.
        datalist: sections of the data set.
        pseudonymise: whether each study gets a pseudonym; otherwise results name its file.
    """
    return section(datalist, "test") if studies is None else users_studies(studies, pseudonymise)


def users_studies(studies: str | Sequence[str], pseudonymise: bool = False) -> Items:
    """Studies that a user named; with pseudonyms they are private: paths may identify a patient."""
    return [{**item, "private": pseudonymise} for item in find_studies(studies, pseudonymise)]


def pending_items(items: Items, output_dir: str, resume: bool) -> Items:
    """The studies of this process: its share of those that no earlier run into the same folder has completed."""
    done = StudyRecords(output_dir).done(items) if resume else set()
    processes, rank = world_and_rank()
    return [item for item in items if item["case"] not in done][rank::processes]


def calibration_items(
    studies: str | Sequence[str] | None, datalist: Sections | None, pseudonymise: bool = False
) -> Items:
    """Healthy studies: of a folder with a datalist, of other files or folders, or of the data set.

    Raises:
        NomalyError: if there are no studies, none of their files exists, or some are from a test section.
    """
    named = Path(studies) if isinstance(studies, str) else None
    data_set = named.parent if named is not None and named.name == DATALIST else named
    if data_set is not None and (data_set / DATALIST).is_file():
        items = healthy_section(load_datalist(data_set, required=()))
    else:
        items = healthy_section(datalist) if studies is None else users_studies(studies, pseudonymise)
    if studies is not None and any("label" in item for item in items if "private" in item):
        raise NomalyError(
            f"healthy studies must not come from the test section of a {DATALIST}: name only the folder with the "
            "datalist, and its calibration section is used."
        )
    if not items:
        raise NomalyError(
            "calibration needs healthy studies, but none were found: fill the calibration section of datalist.json, "
            "or give --healthy DIR."
        )
    files = [file for item in items if "private" in item for file in files_of(item)]
    if files and not any(map(os.path.lexists, files)):
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        raise NomalyError(
            f"healthy studies not found: {', '.join(files[:3])}{more}. Check the paths for spelling and mounts."
        )
    return [{**item, "label": 0} for item in items]


def healthy_section(datalist: Sections | None) -> Items:
    """The ``calibration`` section, which is used for nothing else; without one, the validation section."""
    if datalist is not None and datalist.get("calibration"):
        return datalist["calibration"]
    logger.warning(
        "Calibrating on the validation section. The checkpoint was chosen on these studies, so their scores may be "
        "slightly too low and the false-alarm rate too high: for an exact rate, give separate healthy studies in a "
        "`calibration` section of datalist.json or with --healthy."
    )
    return section(datalist, "validation")


def evaluation_items(
    datalist: Sections,
    synthetic_lesions: bool | str,
    anatomy: str,
    lesion_groups: Sequence[str] | None = None,
    seed: int = 0,
) -> Items:
    """The test section, on request with a synthetic twin of each healthy study.

    Args:
        datalist: sections of the data set.
        synthetic_lesions: True, False, or "auto": only if the test section has no abnormal study.
        anatomy: the anatomy whose lesions are drawn.
        lesion_groups: kinds of lesions that are drawn; None = all.
        seed: seed of the lesions.

    Raises:
        NomalyError: if the test section is empty or ``synthetic_lesions`` has another value.
    """
    items = datalist["test"]
    if not items:
        raise NomalyError("evaluation needs studies in the test section of datalist.json, but it is empty.")
    if synthetic_lesions not in (True, False, "auto"):
        raise NomalyError(f'synthetic_lesions must be true, false or "auto", got {synthetic_lesions!r}.')
    abnormal = [item for item in items if item["label"]]
    if synthetic_lesions is True or (synthetic_lesions == "auto" and not abnormal):
        healthy = [item for item in items if not item["label"]]
        return [*with_synthetic_twins(healthy, anatomy, seed, lesion_groups), *abnormal]
    return items


def baseline_items(baselines_dir: str | None, datalist: Sections) -> Items:
    """Healthy training studies for fitting the baselines: of ``baselines_dir`` if given, else of the data set; may be
    empty.
    """
    return datalist["training"] if baselines_dir is None else load_datalist(baselines_dir)["training"]


def baseline_calibration_items(baselines_dir: str | None, datalist: Sections) -> Items:
    """Healthy studies for calibrating the baselines: the ``calibration`` section, without one the validation section;
    of ``baselines_dir`` if given, else of the data set; may be empty.
    """
    sections = datalist if baselines_dir is None else load_datalist(baselines_dir)
    return sections.get("calibration") or sections.get("validation") or []


def section(datalist: Sections | None, name: str) -> Items:
    """A section of the data set.

    Raises:
        NomalyError: if there is no data set.
    """
    if datalist is None:
        raise NomalyError("no studies were given: name files or folders, or give dataset_dir.")
    return datalist[name]
