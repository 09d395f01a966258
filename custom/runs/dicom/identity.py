"""The identification of a DICOM object: UIDs, series and equipment."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.sr import AlgorithmIdentification, DeviceObserverIdentifyingAttributes
from pydicom.dataset import Dataset
from pydicom.uid import UID, generate_uid

from custom.runs.dicom.codes import FAMILY, coding_schemes
from custom.runs.dicom.source import COPIED, DicomSource
from custom.runs.tables import RegionResult, StudyResult

MANUFACTURER = "Nomaly"
KINDS = ("segmentation", "map", "report")
FIRST_SERIES_NUMBER = 900_000  # scanners and other software count from 1, so six digits are free
USE = "Research use only, not for diagnosis"
LONG_STRING = 64  # maximum length of a value of type LO


class Identity:
    """Identifiers of all objects that a run makes of one study.

    UIDs are derived from a digest of everything in the objects (what is copied from the source, arrays, numbers, model)
    except the time: a repeated run writes the same UIDs, and different objects never share one.

    Args:
        source: the study's files.
        arrays: map and labels as they are written.
        result: the study's numbers; its `seconds` are not part of any object.
        regions: its regions.
        run: contains "nomaly", "bundle", "model_hash" and "alpha".
    """

    def __init__(
        self,
        source: DicomSource,
        arrays: Mapping[str, np.ndarray],
        result: StudyResult,
        regions: Sequence[RegionResult],
        run: Mapping[str, Any],
    ) -> None:
        self.bundle, self.version = str(run["bundle"]), str(run["nomaly"])
        self.model_hash, self.alpha = str(run["model_hash"])[:LONG_STRING], run["alpha"]
        content = {
            "run": [self.bundle, self.version, self.model_hash, self.alpha],
            "source": [[str(header.get(name)) for name in COPIED] for header in source.headers],
            "character_set": source.character_set,
            "result": {**asdict(result), "seconds": None},
            "regions": [asdict(region) for region in regions],
        }
        digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode())
        for name in sorted(arrays):
            digest.update(f"{name} {arrays[name].shape} {arrays[name].dtype}".encode())
            digest.update(np.ascontiguousarray(arrays[name]).tobytes())
        self.digest = digest.hexdigest()

    def uid(self, *names: Any) -> UID:
        """A reproducible UID for something within this result."""
        return generate_uid(entropy_srcs=["Nomaly", self.digest, *(f"/{name}" for name in names)])

    @property
    def device_uid(self) -> UID:
        """The UID of the software with this model as an observer, the same in all studies."""
        return generate_uid(entropy_srcs=["Nomaly", self.version, self.bundle, self.model_hash])

    @property
    def name(self) -> str:
        """Name of the algorithm."""
        return f"{MANUFACTURER} {self.bundle}"

    def description(self, kind: str) -> str:
        """One-line description of an object, such as "Nomaly map. Research use only, not for diagnosis"."""
        return f"{MANUFACTURER} {kind}. {USE}"

    def series(self, kind: str) -> dict[str, Any]:
        """Arguments of highdicom's constructors about series and equipment."""
        number = FIRST_SERIES_NUMBER + 10 * (int(self.digest, 16) % 9_999) + 1 + KINDS.index(kind)
        return {
            "series_instance_uid": self.uid(kind, "series"),
            "series_number": number,
            "series_description": self.description(kind),
            "sop_instance_uid": self.uid(kind, "instance"),
            "instance_number": 1,
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": self.bundle[:LONG_STRING],
            "software_versions": self.version[:LONG_STRING],
            "device_serial_number": self.model_hash,
            "coding_schemes": coding_schemes(self.version),
        }

    def algorithm(self) -> AlgorithmIdentificationSequence:
        """The algorithm, in the form for images."""
        return AlgorithmIdentificationSequence(
            self.name, FAMILY, self.version, source=MANUFACTURER, parameters=self._parameters()
        )

    def algorithm_items(self) -> AlgorithmIdentification:
        """The algorithm, in the form for reports."""
        parameters = [f"{name}={value}" for name, value in self._parameters().items()]
        return AlgorithmIdentification(self.name, self.version, parameters, manufacturer=MANUFACTURER)

    def observer(self) -> DeviceObserverIdentifyingAttributes:
        """The software as observer."""
        return DeviceObserverIdentifyingAttributes(
            self.device_uid, MANUFACTURER, MANUFACTURER, self.bundle, self.model_hash
        )

    def finish(self, dataset: Dataset, source: DicomSource, kind: str) -> Dataset:
        """Set the character set of the names, and replace highdicom's random UIDs by derived ones."""
        if source.character_set is not None:
            dataset.SpecificCharacterSet = source.character_set
        organisation = self.uid(kind, "dimensions")
        for sequence in ("DimensionOrganizationSequence", "DimensionIndexSequence"):
            for item in dataset.get(sequence, []):
                item.DimensionOrganizationUID = organisation
        return dataset

    def _parameters(self) -> dict[str, str]:
        """Further parameters that determine the numbers."""
        return {"model_hash": self.model_hash, "alpha": str(self.alpha)}
