"""Regions and map of a study as DICOM images on the frames of its files."""

from __future__ import annotations

from collections.abc import Sequence

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pydicom.valuerep import format_number_as_ds

from custom.runs.dicom.codes import ANOMALY_COLOUR, ANOMALY_VALUE, CATEGORY, NO_UNIT, TYPE
from custom.runs.dicom.findings import Finding, segment_labels
from custom.runs.dicom.identity import Identity
from custom.runs.dicom.source import OPTIONAL, PATIENT, STUDY, DicomSource

GREY_LEVELS = 65535


def make_segmentation(
    source: DicomSource, labels: np.ndarray, findings: Sequence[Finding], identity: Identity
) -> hd.seg.Segmentation:
    """A binary segmentation with one segment per finding; frames without findings are omitted.

    Args:
        source: the study's files.
        labels: (X, Y) or (X, Y, Z), 0 = background, n = region number.
        findings: findings of all regions in `labels`.
        identity: identifiers of the objects.
    """
    segments = [
        hd.seg.SegmentDescription(
            segment_number=finding.segment,
            segment_label=finding.label,
            segmented_property_category=CATEGORY,
            segmented_property_type=TYPE,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=identity.algorithm(),
            tracking_uid=identity.uid("finding", finding.segment),
            tracking_id=finding.label,
            display_color=ANOMALY_COLOUR,
        )
        for finding in findings
    ]
    headers = source.headers
    if not source.placed:  # readers reject a pixel size without a slice thickness, which radiographs do not have
        headers = [Dataset({e.tag: e for e in headers[0] if e.keyword != "PixelSpacing"})]
    dataset = hd.seg.Segmentation(
        source_images=headers,
        pixel_array=source.as_frames(segment_labels(labels, findings)),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        content_label="ANOMALIES",
        content_description=identity.description("segmentation"),
        **identity.series("segmentation"),
    )
    _finish(dataset, source, identity, "segmentation")
    return dataset


def make_map(source: DicomSource, values: np.ndarray, identity: Identity) -> Dataset:
    """The image of an anomaly map.

    Frames with a position in the patient give a Parametric Map (float32, unchanged values) from the first to the last
    frame that was analysed. This class requires a position (PS3.3, A.75: Frame of Reference is mandatory), and few
    viewers show it. A radiograph gives a Secondary Capture (grey, 16 bit), which every viewer shows; RescaleSlope and
    RescaleIntercept convert its pixels to map values.

    Args:
        source: the study's files.
        values: (X, Y) or (X, Y, Z), larger = more abnormal.
        identity: identifiers of the objects.
    """
    frames = source.as_frames(values).astype(np.float32)
    dataset = _parametric_map(source, frames, identity) if source.placed else _capture(source, frames[0], identity)
    side = source.headers[0].get("Laterality") or source.headers[0].get("ImageLaterality")
    dataset.Laterality = side if side in ("L", "R") else None
    return _finish(dataset, source, identity, "map")


def _finish(dataset: Dataset, source: DicomSource, identity: Identity, kind: str) -> Dataset:
    """Add the orientation of a radiograph, which highdicom omits, then as `Identity.finish`."""
    if not source.placed:
        dataset.PatientOrientation = source.headers[0].get("PatientOrientation")
    return identity.finish(dataset, source, kind)


def _parametric_map(source: DicomSource, frames: np.ndarray, identity: Identity) -> Dataset:
    """Map of frames (frame, row, column) that have positions in the patient."""
    headers = source.headers
    if len(headers) > 1:
        analysed = np.flatnonzero(frames.any(axis=(1, 2)))
        kept = slice(analysed[0], analysed[-1] + 1) if len(analysed) else slice(None)
        headers, frames = headers[kept], frames[kept]
    low, high = _value_range(frames)
    mapping = hd.pm.RealWorldValueMapping(
        lut_label="ANOMALY",
        lut_explanation=ANOMALY_VALUE.meaning,
        unit=NO_UNIT,
        value_range=(low, high),
        slope=1.0,
        intercept=0.0,
        quantity_definition=ANOMALY_VALUE,
    )
    return hd.pm.ParametricMap(
        source_images=headers,
        pixel_array=frames,
        contains_recognizable_visual_features=True,  # not checked: a map may show the outline of a face
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[
            hd.VOILUTTransformation((low + high) / 2, high - low, voi_lut_function="LINEAR_EXACT")
        ],
        content_label="ANOMALY_MAP",
        content_description=identity.description("map"),
        **identity.series("map"),
    )


def _capture(source: DicomSource, values: np.ndarray, identity: Identity) -> Dataset:
    """Map of one frame (row, column) without a position, as grey levels."""
    first = source.headers[0]
    study = {name: first[name].value for name in (*PATIENT, *STUDY)}
    capture = hd.base.SOPClass(
        study_instance_uid=first.StudyInstanceUID,
        sop_class_uid=SecondaryCaptureImageStorage,
        modality="OT",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        patient_id=study["PatientID"],
        patient_name=study["PatientName"],
        patient_birth_date=study["PatientBirthDate"],
        patient_sex=study["PatientSex"],
        accession_number=study["AccessionNumber"],
        study_id=study["StudyID"],
        study_date=study["StudyDate"],
        study_time=study["StudyTime"],
        referring_physician_name=study["ReferringPhysicianName"],
        **identity.series("map"),
    )
    for name in (*OPTIONAL, "PixelSpacing"):
        if name in first:
            capture[name] = first[name]
    capture.ConversionType = "SYN"
    capture.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    capture.DerivationDescription = f"{ANOMALY_VALUE.meaning}. {identity.description('map')}"
    capture.SourceImageSequence = [_reference(first)]
    _add_grey(capture, values)
    return capture


def _add_grey(capture: Dataset, values: np.ndarray) -> None:
    """Add the pixels and their scale: value = RescaleIntercept + RescaleSlope * pixel."""
    low, high = _value_range(values)
    capture.RescaleIntercept = format_number_as_ds(low)
    capture.RescaleSlope = format_number_as_ds((high - low) / GREY_LEVELS)
    capture.RescaleType = "US"  # no unit
    capture.WindowCenter = format_number_as_ds((low + high) / 2)
    capture.WindowWidth = format_number_as_ds(high - low)
    capture.VOILUTFunction = "LINEAR_EXACT"  # LINEAR requires a width of at least 1
    levels = (values.astype(np.float64) - float(capture.RescaleIntercept)) / float(capture.RescaleSlope)
    pixels = np.clip(np.round(levels), 0, GREY_LEVELS).astype("<u2")
    capture.Rows, capture.Columns = pixels.shape
    capture.SamplesPerPixel, capture.PhotometricInterpretation = 1, "MONOCHROME2"
    capture.BitsAllocated = capture.BitsStored = 16
    capture.HighBit, capture.PixelRepresentation = 15, 0
    capture.PixelData = pixels.tobytes()


def _value_range(values: np.ndarray) -> tuple[float, float]:
    """Minimum and maximum of the values and 0; never equal."""
    low, high = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    return low, high if high > low else 1.0


def _reference(header: Dataset) -> Dataset:
    """An item that refers to a source image."""
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = header.SOPClassUID, header.SOPInstanceUID
    purpose = codes.DCM.SourceImageForImageProcessingOperation
    item.PurposeOfReferenceCodeSequence = [hd.sr.CodedConcept.from_code(purpose)]
    return item
