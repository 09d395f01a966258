from __future__ import annotations

import numpy as np
import pytest

from custom.runs.dicom.findings import MOST_SEGMENTS, number_findings, segment_labels
from dicom_results import regions


def test_segments_count_without_gaps_and_labels_keep_the_lesion_numbers():
    findings = number_findings(regions((4, 1, 3)))
    assert [(finding.segment, finding.label) for finding in findings] == [
        (1, "Anomaly 1"),
        (2, "Anomaly 3"),
        (3, "Anomaly 4"),
    ]


def test_as_many_findings_as_segments_stand_alone():
    findings = number_findings(regions(range(1, MOST_SEGMENTS + 1)))
    assert len(findings) == MOST_SEGMENTS
    assert findings[-1].label == f"Anomaly {MOST_SEGMENTS}"


def test_beyond_that_the_smallest_share_the_last_segment():
    findings = number_findings(regions(range(1, MOST_SEGMENTS + 3)))  # 52
    assert len(findings) == MOST_SEGMENTS
    last = findings[-1]
    assert (last.label, last.p_value) == ("Anomalies 50 to 52", None)
    assert last.size == 49.5 + 50.5 + 51.5
    assert last.peak == 5.2


def test_lesion_numbers_become_segment_numbers():
    findings = number_findings(regions((2, 5)))
    np.testing.assert_array_equal(segment_labels(np.array([[0, 5], [2, 5]]), findings), [[0, 2], [1, 2]])


def test_labels_of_other_lesions_are_refused():
    with pytest.raises(ValueError, match=r"labels must contain the regions \[1, 3\], got \[1, 2\]"):
        segment_labels(np.array([0, 1, 2]), number_findings(regions((1, 3))))
