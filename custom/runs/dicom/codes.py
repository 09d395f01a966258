"""Codes of the DICOM objects: standard ones where they exist, else those of Nomaly's private scheme."""

from __future__ import annotations

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.color import CIELabColor
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

SCHEME = "99NOMALY"  # PS3.16, 8: designators of private schemes begin with 99

# A region above the pixel threshold: an abnormality of unknown kind (CID 7150 and 7151 of PS3.16).
CATEGORY = codes.SCT.MorphologicallyAbnormalStructure
TYPE = codes.SCT.Lesion
FAMILY = codes.DCM.ArtificialIntelligence
PROCEDURE = codes.SCT.ImagingProcedure
ANOMALY_COLOUR = CIELabColor(65.0, 50.0, 65.0)  # orange, unlike any tissue

SCORE = Code("anomaly-score", SCHEME, "Anomaly score, larger is more abnormal")
P_VALUE = Code("p-value", SCHEME, "Conformal p-value, small is unlike healthy studies")
ANOMALY_VALUE = Code("anomaly-value", SCHEME, "Anomaly map value, larger is more abnormal")
FINDING_COUNT = Code("finding-count", SCHEME, "Number of findings")
DECISION = Code("decision", SCHEME, "Decision")
STATUS = Code("status", SCHEME, "Status of the assessment")
DECISIONS = {
    "flag": Code("flag", SCHEME, "Flagged"),
    "uncertain": Code("uncertain", SCHEME, "Uncertain"),
    "likely_normal": Code("likely-normal", SCHEME, "Likely normal"),
    None: Code("no-decision", SCHEME, "No decision"),
}
STATUSES = {
    "ok": Code("assessed", SCHEME, "Assessed"),
    "not_assessable": Code("not-assessable", SCHEME, "Not assessable"),
    "failed": Code("failed", SCHEME, "Failed"),
}

NO_UNIT = codes.UCUM.NoUnits
MAXIMUM = codes.SCT.Maximum
COMMENT = codes.DCM.Comment
# For each unit of a region's size: the quantity, its DICOM unit, and the factor to that unit.
SIZES = {
    "ml": (codes.SCT.Volume, codes.UCUM.CubicMillimeter, 1000.0),
    "mm2": (codes.SCT.Area, codes.UCUM.SquareMillimeter, 1.0),
    "px": (codes.SCT.Area, Code("{pixels}", "UCUM", "pixels"), 1.0),
}


def coding_schemes(version: str) -> list[CodingSchemeIdentificationItem]:
    """The description of the private scheme that every object using it must contain.

    Args:
        version: version of Nomaly.
    """
    return [CodingSchemeIdentificationItem(SCHEME, "Nomaly", version, responsible_organization="Nomaly")]
