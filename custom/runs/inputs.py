"""Which studies a run is about: a user's files and folders, or a section of a datalist."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from custom.errors import NomalyError
from custom.processes import world_and_rank
from custom.runs.records import StudyRecords
from custom.studies.datalist import DATALIST, load_datalist
from custom.studies.discovery import find_studies
from custom.synthetic.lesions import with_synthetic_twins

logger = logging.getLogger(__name__)

Items = list[dict[str, Any]]


def inference_items(
    studies: str | Sequence[str] | None, datalist: dict[str, Items] | None, keep_identifiers: bool = False
) -> Items:
    """The user's studies if given, else the test section.

    Args:
        studies: files, folders and lists as the user named them.
        datalist: of the data set.
        keep_identifiers: whether results may carry the names of files; else each is called by a hash.
    """
    return datalist["test"] if studies is None else users_studies(studies, keep_identifiers)


def users_studies(studies: str | Sequence[str], keep_identifiers: bool = False) -> Items:
    """Studies that a user named; their paths may tell who a patient is."""
    return [{**item, "private": not keep_identifiers} for item in find_studies(studies, keep_identifiers)]


def pending_items(items: Items, output_dir: str, resume: bool) -> Items:
    """What this process has to do: its share of the studies that an earlier run into the same folder has not done."""
    done = StudyRecords(output_dir).done(items) if resume else set()
    processes, rank = world_and_rank()
    return [item for item in items if item["case"] not in done][rank::processes]


def calibration_items(
    studies: str | Sequence[str] | None, datalist: dict[str, Items] | None, keep_identifiers: bool = False
) -> Items:
    """Healthy studies: of a folder with a datalist, of other files or folders, or of the data set.

    Raises:
        NomalyError: if there is none, or some are of a test section.
    """
    named = Path(studies) if isinstance(studies, str) else None
    data_set = named.parent if named is not None and named.name == DATALIST else named
    if data_set is not None and (data_set / DATALIST).is_file():
        items = healthy_section(load_datalist(data_set, required=()))
    else:
        items = healthy_section(datalist) if studies is None else users_studies(studies, keep_identifiers)
    if studies is not None and any("label" in item for item in items if "private" in item):
        raise NomalyError(
            f"healthy studies must not come from the test section of a {DATALIST}: give the folder that holds it by "
            "itself, of which the section calibration is then taken."
        )
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


def baseline_items(baselines_dir: str | None, datalist: dict[str, Items]) -> Items:
    """Healthy training studies that the baselines are fitted on: of ``baselines_dir`` if given, else of the data
    set; may be none.
    """
    return datalist["training"] if baselines_dir is None else load_datalist(baselines_dir)["training"]
