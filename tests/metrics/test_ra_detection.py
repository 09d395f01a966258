"""Box detection by hand and against direct counting."""

from __future__ import annotations

import numpy as np
import pytest

from custom.metrics.ra_detection import THRESHOLDS, BoxDetection, above
from custom.scoring.regions import label_components


def add(detection: BoxDetection, subject: str, values: np.ndarray, truth: np.ndarray | None = None) -> None:
    """Add a study with the regions of its own map over the threshold."""
    detection.add(subject, values, label_components(values > detection.threshold), truth)


def abnormal_study() -> tuple[np.ndarray, np.ndarray]:
    """A map (1, 20, 20, 1) with two lesions, one of a corner, of which the first is marked; two false regions."""
    values, truth = np.zeros((1, 20, 20, 1)), np.zeros((1, 20, 20, 1), dtype=bool)
    truth[0, 2:6, 2:7] = True  # box of 20 pixels
    truth[0, 10:14, 10] = truth[0, 13, 10:15] = True  # an L whose box has 4 x 5 pixels
    values[0, 2, 2:5] = 0.9  # 3 of 20 pixels
    values[0, 13, 10:12] = 0.9  # 2 of 20: a tenth is not more than a tenth
    values[0, 18, 2] = values[0, 18, 10] = 0.9
    return values, truth


def test_scale_free_numbers_are_the_hand_derived_ones() -> None:
    detection = BoxDetection(threshold=0.5)
    add(detection, "a", *abnormal_study())
    result = detection.result()["scale_free"]
    # box 1: TP 1, FP 2: precision 1/3, F1 = 2 * (1/3) / (4/3) = 1/2; box 2: not found
    assert (result["threshold"], result["n"]) == (0.5, 2)
    assert result["detection_rate"]["value"] == 1 / 2
    assert result["precision"] == pytest.approx((1 / 3 + 0) / 2)
    assert result["f1"] == pytest.approx((1 / 2 + 0) / 2)


def test_scale_free_numbers_do_not_change_with_the_scale_of_the_map() -> None:
    results = []
    for scale in (1.0, 0.01):
        detection = BoxDetection(threshold=0.5 * scale)
        values, truth = abnormal_study()
        add(detection, "a", values * scale, truth)
        add(detection, "b", np.full((1, 20, 20, 1), 0.001 * scale))
        results.append(detection.result())
    for key in ("detection_rate", "precision", "f1"):
        assert results[0]["scale_free"][key] == results[1]["scale_free"][key]


def test_published_false_positives_vanish_for_small_maps_as_documented() -> None:
    precisions = []
    for scale in (1.0, 0.1):
        detection = BoxDetection(threshold=0.5)
        values, truth = np.zeros((1, 10, 10, 1)), np.zeros((1, 10, 10, 1), dtype=bool)
        truth[0, 0:2, 0:2] = True
        values[0, 0, 0], values[0, 5, 0:4] = 0.8, 0.8
        add(detection, "a", values * scale, truth)
        add(detection, "b", np.zeros((1, 10, 10, 1)))
        precisions.append(detection.result()["published"]["precision"])
    # int(3.2 / max(0.8, 1)) = 3 false positives; int(0.32 / max(0.08, 1)) = 0
    assert precisions == [1 / 4, 1.0]


def test_published_threshold_is_the_smallest_that_keeps_five_percent_of_healthy_pixels() -> None:
    detection = BoxDetection(threshold=0.5)
    generator = np.random.default_rng(0)
    maps = [generator.random((1, 30, 30, 1)) ** 3 for _ in range(4)]
    for i, values in enumerate(maps):
        add(detection, str(i), values)
    shares = np.array([np.mean([np.mean(values > th) for values in maps]) for th in THRESHOLDS])
    assert detection.published_threshold() == THRESHOLDS[np.flatnonzero(shares <= 0.05)[0]]
    values, truth = abnormal_study()
    add(detection, "a", values, truth)
    result = detection.result()["published"]
    assert result["threshold"] == detection.published_threshold()
    assert result["threshold_set_on"] == "the healthy test studies"
    # sums over 0.9s: inside 2.7 and 1.8, outside both boxes 1.8: no box has a false positive
    assert (result["detection_rate"]["value"], result["precision"], result["f1"]) == (0.5, 0.5, 0.5)


def test_counts_and_sums_above_each_threshold_equal_direct_ones() -> None:
    values = np.r_[np.random.default_rng(0).normal(0.5, 0.5, 300), THRESHOLDS[[0, 7, 999]]]
    assert np.array_equal(above(values), [(values > th).sum() for th in THRESHOLDS])
    assert above(values, values) == pytest.approx([values[values > th].sum() for th in THRESHOLDS])


def test_missing_parts_are_none_and_do_not_fail() -> None:
    values, truth = abnormal_study()
    only_healthy, only_abnormal, loud = BoxDetection(0.5), BoxDetection(float("inf")), BoxDetection(0.5)
    add(only_healthy, "a", values)
    add(only_abnormal, "a", values, truth)
    add(loud, "a", values, truth)
    add(loud, "b", np.full((1, 20, 20, 1), 2.0))
    assert only_healthy.result() is None
    assert only_abnormal.result() == {"published": None, "scale_free": None}
    assert loud.result()["published"] is None and loud.result()["scale_free"] is not None


def test_boxes_of_one_subject_are_drawn_together() -> None:
    detection = BoxDetection(threshold=0.5)
    for i in range(3):
        add(detection, "a", *abnormal_study())
    rate = detection.result(50)["scale_free"]["detection_rate"]
    assert (rate["value"], rate["low"], rate["high"]) == (0.5, None, None)  # one patient tells nothing of others
    for subject in "bcde":
        add(detection, subject, *abnormal_study())
    rate = detection.result(50)["scale_free"]["detection_rate"]
    assert (rate["value"], rate["low"], rate["high"]) == (0.5, 0.5, 0.5)  # in every study one of two
