"""The numbers of a study as a DICOM Structured Report (TID 1500, Measurement Report)."""

from __future__ import annotations

from collections.abc import Sequence

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from custom.runs.dicom import codes as own
from custom.runs.dicom.findings import Finding
from custom.runs.dicom.identity import USE, Identity
from custom.runs.dicom.source import DicomSource
from custom.runs.tables import StudyResult

RegionGroup = sr.VolumetricROIMeasurementsAndQualitativeEvaluations | sr.PlanarROIMeasurementsAndQualitativeEvaluations


def make_report(
    source: DicomSource,
    result: StudyResult,
    findings: Sequence[Finding],
    images: dict[str, Dataset],
    identity: Identity,
) -> sr.ComprehensiveSR:
    """The report: one group for the study as a whole and one for each finding, which refers to its segment.

    Coordinates are only in the segmentation. A Comprehensive SR is therefore sufficient, which more viewers show than
    the 3D one.

    Args:
        source: the study's files.
        result: the study's numbers; those that are None are omitted.
        findings: findings in `images["segmentation"]`.
        images: the other objects, by kind.
        identity: identifiers of the objects.
    """
    observer = sr.ObserverContext(codes.DCM.Device, identity.observer())
    groups: list[sr.MeasurementsAndQualitativeEvaluations | RegionGroup] = [_study_group(source, result, identity)]
    groups += [_finding_group(finding, images["segmentation"], source, identity) for finding in findings]
    content = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=own.PROCEDURE,
        imaging_measurements=groups,
    )
    dataset = sr.ComprehensiveSR(
        evidence=[*source.headers, *images.values()],
        content=content[0],
        is_complete=True,  # the software has no more to add; the report stays unverified and preliminary
        **identity.series("report"),
    )
    _separate(dataset)
    identity.finish(dataset, source, "report")
    return dataset


def _separate(item: Dataset) -> None:
    """Declare that the entries of all containers stand for themselves: viewers omit the names of continuous text."""
    if item.get("ValueType") == "CONTAINER":
        item.ContinuityOfContent = "SEPARATE"
    for child in item.get("ContentSequence", ()):
        _separate(child)


def _study_group(
    source: DicomSource, result: StudyResult, identity: Identity
) -> sr.MeasurementsAndQualitativeEvaluations:
    """Score, p-value, decision and remarks of the study (TID 1501)."""
    numbers = [(own.SCORE, result.score), (own.P_VALUE, result.p_value), (own.FINDING_COUNT, result.region_count)]
    evaluations = [(own.STATUS, own.STATUSES[result.status])]
    if result.status == "ok":
        evaluations.append((own.DECISION, own.DECISIONS[result.decision]))
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(identity.uid("study"), "Study"),
        algorithm_id=identity.algorithm_items(),
        measurements=[_number(name, value) for name, value in numbers if value is not None],
        qualitative_evaluations=[sr.QualitativeEvaluation(name, value) for name, value in evaluations],
        source_images=[
            sr.SourceImageForMeasurementGroup(header.SOPClassUID, header.SOPInstanceUID) for header in source.headers
        ],
    )
    for text in (f"{USE}.", result.note, result.error):
        if text:
            group[0].ContentSequence.append(sr.TextContentItem(own.COMMENT, text, sr.RelationshipTypeValues.CONTAINS))
    return group


def _finding_group(finding: Finding, segmentation: Dataset, source: DicomSource, identity: Identity) -> RegionGroup:
    """Size, peak and p-value of a finding with its segment: TID 1411 of volumes, TID 1410 of single frames."""
    name, unit, factor = own.SIZES[finding.unit]
    peak = _number(own.ANOMALY_VALUE, finding.peak, derivation=own.MAXIMUM)
    measurements = [_number(name, finding.size * factor, unit), peak]
    if finding.p_value is not None:
        measurements.append(_number(own.P_VALUE, finding.p_value))
    if len(finding.regions) > 1:
        measurements.append(_number(own.FINDING_COUNT, len(finding.regions)))
    common = {
        "tracking_identifier": sr.TrackingIdentifier(identity.uid("finding", finding.segment), finding.label),
        "finding_category": own.CATEGORY,
        "finding_type": own.TYPE,
        "algorithm_id": identity.algorithm_items(),
        "measurements": measurements,
    }
    image, first = (segmentation.SOPClassUID, segmentation.SOPInstanceUID), source.headers[0]
    if source.frames > 1:
        series = sr.SourceSeriesForSegmentation(first.SeriesInstanceUID)
        segment = sr.ReferencedSegment(*image, finding.segment, source_series=series)
        return sr.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=segment, **common)
    origin = sr.SourceImageForSegmentation(first.SOPClassUID, first.SOPInstanceUID)
    # For a source with one frame, the segmentation has one frame per segment, in the same order.
    frame = sr.ReferencedSegmentationFrame(*image, finding.segment, finding.segment, origin)
    del frame[0].ReferencedSOPSequence[0].ReferencedSegmentNumber  # PS3.3, table 10-3: a frame or a segment, not both
    return sr.PlanarROIMeasurementsAndQualitativeEvaluations(referenced_segment=frame, **common)


def _number(name: Code, value: float, unit: Code = own.NO_UNIT, derivation: Code | None = None) -> sr.Measurement:
    """A measurement; counts stay integers."""
    return sr.Measurement(name, value if isinstance(value, int) else float(value), unit, derivation=derivation)
