from __future__ import annotations

import highdicom as hd
import numpy as np
import pydicom
import pytest
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes
from pydicom.uid import ComprehensiveSRStorage

from custom.runs.dicom import codes as own
from custom.runs.dicom import findings as findings_module
from dicom_results import SHAPE, anomaly_map, regions, result, sources, write


def read_report(paths):
    return hd.sr.srread(paths["report"]).content


def study_group(report):
    """The one group of the study as a whole."""
    groups = report.get_image_measurement_groups()
    assert len(groups) == 1
    return groups[0]


def numbers(group):
    """Values of a group by the code of what was measured, with the code of their units."""
    return {item.name.value: (item.value, item.unit.value) for item in group.get_measurements()}


def answers(group):
    return {item.name.value: item.value.value for item in group.get_qualitative_evaluations()}


def comments(group):
    return [item.TextValue for item in hd.sr.utils.find_content_items(group[0], name=codes.DCM.Comment)]


def test_the_study_has_score_p_value_and_decision_of_the_own_scheme(tmp_path):
    paths = write("series", tmp_path)
    group = study_group(read_report(paths))
    assert numbers(group) == {
        "anomaly-score": (1.25, "1"),
        "p-value": (0.03125, "1"),
        "finding-count": (2, "1"),
    }
    assert answers(group) == {"status": "assessed", "decision": "flag"}
    scheme = pydicom.dcmread(paths["report"]).CodingSchemeIdentificationSequence[0]
    assert (scheme.CodingSchemeDesignator, scheme.CodingSchemeName) == (own.SCHEME, "Nomaly")


def test_each_finding_of_a_volume_refers_to_its_segment(tmp_path):
    paths = write("series", tmp_path)
    segmentation = hd.seg.segread(paths["segmentation"])
    groups = read_report(paths).get_volumetric_roi_measurement_groups()
    assert len(groups) == 2
    for group, number, volume, peak in zip(groups, (1, 2), (500, 2500), (0.1, 0.3)):
        item = group.referenced_segment
        assert item.referenced_sop_instance_uid == segmentation.SOPInstanceUID
        assert item.referenced_segment_numbers == [number]
        assert group.tracking_uid == segmentation.get_segment_description(number).tracking_uid
        assert numbers(group) == {
            codes.SCT.Volume.value: (volume, "mm3"),  # of 0.5 and 2.5 ml
            "anomaly-value": (pytest.approx(peak), "1"),
            "p-value": (0.125, "1"),
        }


def test_each_finding_of_a_film_refers_to_its_frame(tmp_path):
    paths = write("film", tmp_path)
    segmentation = pydicom.dcmread(paths["segmentation"])
    groups = read_report(paths).get_planar_roi_measurement_groups()
    assert len(groups) == 2
    for group, area in zip(groups, (0.5, 2.5)):
        item = group.referenced_segmentation_frame
        frame = segmentation.PerFrameFunctionalGroupsSequence[item.referenced_frame_numbers[0] - 1]
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        assert segmentation.SegmentSequence[number - 1].TrackingUID == group.tracking_uid
        assert numbers(group)[codes.SCT.Area.value] == (area, "mm2")


def test_a_single_finding_of_a_film_refers_to_its_only_frame(tmp_path):
    arrays = {"labels": np.zeros(SHAPE[:2], int)}
    arrays["labels"][4, 5] = 2
    paths = write("film", tmp_path, arrays=arrays, regions=regions((2,), unit="px"))
    (group,) = read_report(paths).get_planar_roi_measurement_groups()
    assert group.referenced_segmentation_frame.referenced_frame_numbers == [1]
    assert numbers(group)[codes.SCT.Area.value] == (1.5, "{pixels}")


def test_a_study_without_findings_has_its_numbers_alone(tmp_path):
    found = result(p_value=0.5, decision="likely_normal", region_count=0)
    report = read_report(write("series", tmp_path, arrays={"map": anomaly_map()}, regions=[], result=found))
    assert numbers(study_group(report))["finding-count"] == (0, "1")
    assert answers(study_group(report))["decision"] == "likely-normal"
    assert report.get_volumetric_roi_measurement_groups() == []


def test_a_study_without_calibration_has_no_p_value_and_no_decision(tmp_path):
    found = result(p_value=None, decision=None, region_count=None, note="The detector is not calibrated.")
    report = read_report(write("series", tmp_path, arrays={"map": anomaly_map()}, regions=[], result=found))
    group = study_group(report)
    assert numbers(group) == {"anomaly-score": (1.25, "1")}
    assert answers(group)["decision"] == "no-decision"
    assert "The detector is not calibrated." in comments(group)


def test_a_study_that_is_not_assessable_has_the_reason_alone(tmp_path):
    nothing = dict.fromkeys(("score", "p_value", "decision", "region_count"))
    found = result(status="not_assessable", note="This is no picture of a chest.", **nothing)
    paths = write("film", tmp_path, arrays={}, regions=[], result=found)
    assert set(paths) == {"report"}
    group = study_group(read_report(paths))
    assert numbers(group) == {}
    assert answers(group) == {"status": "not-assessable"}
    assert comments(group) == ["Research use only, not for diagnosis.", "This is no picture of a chest."]


def test_the_software_is_the_observer_and_the_algorithm_is_named(tmp_path):
    report = read_report(write("film", tmp_path))
    (context,) = report.get_observer_contexts(observer_type=codes.DCM.Device)
    attributes = context.observer_identifying_attributes
    assert (attributes.name, attributes.model_name, attributes.serial_number) == ("Nomaly", "ra_brain", "ab" * 32)
    name = CodedConcept("111001", "DCM", "Algorithm Name")
    items = hd.sr.utils.find_content_items(report[0], name=name, recursive=True)
    assert {item.TextValue for item in items} == {"Nomaly ra_brain"}


def test_the_report_lists_all_sources_and_the_objects_beside_it(tmp_path):
    files = sources("series", tmp_path)
    paths = write("series", tmp_path, files=files)
    evidence = {uid for _, _, uid, _ in hd.sr.srread(paths["report"]).get_evidence()}
    beside = [paths["segmentation"], paths["map"]]
    assert evidence == {pydicom.dcmread(path).SOPInstanceUID for path in (*files, *beside)}
    uids = {pydicom.dcmread(file).SOPInstanceUID for file in files}
    images = study_group(read_report(paths)).source_images
    assert {image.referenced_sop_instance_uid for image in images} == uids


def test_all_containers_are_separate_so_that_viewers_show_the_names_of_the_numbers(tmp_path):
    report = pydicom.dcmread(write("series", tmp_path)["report"])

    def containers(item):
        children = [container for child in item.get("ContentSequence", ()) for container in containers(child)]
        return [item, *children] if item.get("ValueType") == "CONTAINER" else children

    found = containers(report)
    assert len(found) > 4 and {container.ContinuityOfContent for container in found} == {"SEPARATE"}


def test_the_report_is_preliminary_and_of_a_class_that_viewers_know(tmp_path):
    report = pydicom.dcmread(write("series", tmp_path)["report"])
    assert report.SOPClassUID == ComprehensiveSRStorage
    assert (report.CompletionFlag, report.VerificationFlag, report.PreliminaryFlag) == (
        "COMPLETE",
        "UNVERIFIED",
        "PRELIMINARY",
    )
    assert report.SeriesDescription == "Nomaly report. Research use only, not for diagnosis"


def test_small_findings_of_a_study_with_very_many_share_one_group(tmp_path, monkeypatch):
    monkeypatch.setattr(findings_module, "MOST_SEGMENTS", 3)
    grid = np.zeros(SHAPE[:2], int)
    grid[::2, 4] = np.arange(1, 7)
    found = regions(range(1, 7), unit="mm2")
    paths = write("film", tmp_path, arrays={"labels": grid}, regions=found)
    *_, last = read_report(paths).get_planar_roi_measurement_groups()
    assert last.tracking_identifier == "Anomalies 3 to 6"
    assert numbers(last)["finding-count"] == (4, "1")
    assert numbers(last)[codes.SCT.Area.value] == (2.5 + 3.5 + 4.5 + 5.5, "mm2")
    assert "p-value" not in numbers(last)
    np.testing.assert_array_equal(pydicom.dcmread(paths["segmentation"]).pixel_array[2].T, grid >= 3)
