"""The studies of a public data set: a table of names, sections and checksums; no images."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

NAMES = ("ixi", "kermany", "hyperkvasir", "covid_radiography", "lgg", "mednist_hands")
SECTIONS = ("training", "validation", "calibration", "test")


@dataclass(frozen=True)
class Row:
    """A study.

    Args:
        image: path of the prepared image within the data set.
        section: of the datalist.
        label: 0 = healthy, 1 = abnormal.
        subject: patient, or number of a cluster of nearly equal images where no patient is known; "" = not stated.
        group: kind of images; "" = not stated.
        mask: path of the prepared mask within the data set; "" = none.
        digest: of the published image, by :func:`custom.public_sets.fingerprint.digest`.
        fingerprint: of the published image, by :func:`custom.public_sets.fingerprint.fingerprint`.
    """

    image: str
    section: str
    label: int
    subject: str
    group: str
    mask: str
    digest: str
    fingerprint: str

    @property
    def stem(self) -> str:
        """Name of the image without folder and suffix."""
        return PurePosixPath(self.image).stem


FIELDS = tuple(Row.__dataclass_fields__)


def read_manifest(name: str) -> list[Row]:
    """The rows of a data set, in the order of its datalist."""
    text = (resources.files("custom.public_sets") / "manifests" / f"{name}.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(text.splitlines())
    return [Row(**{**row, "label": int(row["label"])}) for row in rows]  # type: ignore[arg-type]


def datalist_of(rows: Sequence[Row]) -> dict[str, list[dict[str, Any]]]:
    """The content of datalist.json; for all rows, that behind the published figures."""
    content: dict[str, list[dict[str, Any]]] = {}
    for section in SECTIONS:
        items = [_item(row) for row in rows if row.section == section]
        content |= {section: items} if items or section != "calibration" else {}
    return content


def _item(row: Row) -> dict[str, Any]:
    """An item of a datalist, without what is not stated."""
    stated = {name: getattr(row, name) for name in ("subject", "group", "mask") if getattr(row, name)}
    return {"image": row.image, "label": row.label, **stated}
