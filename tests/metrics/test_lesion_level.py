"""Lesion-level metrics on maps whose regions can be counted by hand."""

from __future__ import annotations

import time

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from custom.metrics.intervals import bootstrap_weights
from custom.metrics.lesion_level import FALSE_POSITIVES, SIZES, THRESHOLD_MULTIPLES, LesionEvaluation, hits, read_off
from custom.scoring.regions import label_components


def line(*pixels: float) -> np.ndarray:
    """A map (1, n, 1, 1)."""
    return np.array(pixels, dtype=np.float32).reshape(1, -1, 1, 1)


def add(evaluation: LesionEvaluation, subject: str, values: np.ndarray, truth: np.ndarray | None = None) -> None:
    """Add a study with the regions of its own map over the threshold."""
    regions = label_components(values > evaluation.threshold, evaluation.minimum_size)
    evaluation.add(subject, values, regions, truth)


def test_lesion_is_hit_by_one_region_over_a_tenth_of_it() -> None:
    lesions = np.repeat([1, 2, 3], 20)  # three lesions of 20 pixels
    regions = np.zeros(60, dtype=np.int32)
    regions[18:21] = 1  # two pixels of the first lesion, one of the second
    regions[30] = 2  # another one of the second: no region has two of it
    assert hits(lesions, regions).tolist() == [True, False, False]


def test_lesions_and_false_regions_are_counted_as_by_hand() -> None:
    evaluation = LesionEvaluation(threshold=1.0)
    truth = line(1, 1, 0, 0, 0, 1, 1) > 0
    add(evaluation, "a", line(0, 2, 0, 3, 0, 0, 0), truth)  # the first of two lesions; 3 is not in a healthy study
    add(evaluation, "b", line(0, 0, 0, 0, 0, 2, 2), truth)  # the second one
    add(evaluation, "c", line(2, 2, 0, 2, 0, 0, 0))  # two regions in a healthy study
    add(evaluation, "d", line(0, 0, 0, 0, 0, 0, 0))
    add(evaluation, "e", line(0, 0, 2, 0, 0, 0, 0))
    result = evaluation.result()
    assert result["n"] == 4
    assert result["sensitivity"]["value"] == 2 / 4
    assert result["false_positives_per_study"] == {"value": (2 + 0 + 1) / 3, "low": None, "high": None}
    for subject in "fg":  # with five healthy patients there is an interval
        add(evaluation, subject, line(0, 0, 2, 0, 0, 0, 0))
    result = evaluation.result()["false_positives_per_study"]
    assert result["low"] < result["value"] == 1 < result["high"]


def test_froc_reads_sensitivity_at_each_number_of_false_positives() -> None:
    evaluation = LesionEvaluation(threshold=1.0)
    truth = line(1, 0, 1, 0, 1, 0, 1) > 0
    add(evaluation, "a", line(30, 0, 7, 0, 3, 0, 0.1), truth)  # 0.1 is below the whole sweep
    # a healthy study with one region of 5 and one of 2; a healthy study with none
    add(evaluation, "b", line(5, 0, 2, 0, 0, 0, 0))
    add(evaluation, "c", line(0, 0, 0, 0, 0, 0, 0))
    froc = evaluation.result(5)["froc"]
    # no false positive down to 5: two lesions; half a one down to 2: three; one below 2: three, and so for all beyond
    assert froc["false_positives_per_study"] == list(FALSE_POSITIVES)
    assert froc["sensitivity"] == [0.5, 0.5, 0.75, 0.75, 0.75, 0.75, 0.75]
    curve = froc["curve"]
    assert sorted(set(zip(curve["false_positives"], curve["sensitivity"]))) == [
        (0, 0), (0, 0.25), (0, 0.5), (0.5, 0.5), (0.5, 0.75), (1, 0.75)
    ]  # fmt: skip


def test_curve_ends_before_the_regions_grow_into_one() -> None:
    evaluation = LesionEvaluation(threshold=1.0)
    # healthy: three regions over 1, which are one over 0.5; by then the lesion, 0.7, is covered by chance
    add(evaluation, "a", line(2, 0.9, 2, 0.9, 2))
    add(evaluation, "b", line(0.7, 0.7, 0.7, 0.7, 0.7), line(0, 0, 1, 0, 0) > 0)
    froc = evaluation.result(5)["froc"]
    assert max(froc["curve"]["false_positives"]) == 3 and max(froc["curve"]["sensitivity"]) == 0
    assert froc["sensitivity"] == [0] * 7


def test_of_thresholds_with_as_many_false_positives_the_lowest_counts() -> None:
    evaluation = LesionEvaluation(threshold=1.0)
    add(evaluation, "a", line(100, 0, 0))  # a hot speckle, over every threshold of the sweep
    add(evaluation, "b", line(0, 0, 2), line(0, 0, 1) > 0)
    result = evaluation.result(5)
    assert (result["sensitivity"]["value"], result["false_positives_per_study"]["value"]) == (1, 1)
    assert result["froc"]["sensitivity"] == [None, None, None, 1, 1, 1, 1]
    assert set(result["froc"]["curve"]["false_positives"]) == {1}
    assert result["froc"]["curve"]["sensitivity"] == [0.0] * 26 + [1.0] * 15  # from 64 down to 2, and below it to 1/4


def test_detector_without_any_false_region_has_a_curve_and_all_its_points() -> None:
    evaluation = LesionEvaluation(threshold=1.0)
    for subject in "abcde":
        add(evaluation, subject, line(0, 0, 0))
    add(evaluation, "f", line(0, 0, 2), line(0, 0, 1) > 0)
    froc = evaluation.result(5)["froc"]
    assert froc["sensitivity"] == [1] * 7
    assert froc["curve"]["false_positives"] == [0] * len(THRESHOLD_MULTIPLES)
    assert (froc["curve"]["sensitivity"][0], froc["curve"]["sensitivity"][-1]) == (0, 1)


def test_point_of_one_false_region_has_an_interval_over_patients() -> None:
    evaluation = LesionEvaluation(threshold=1.0)
    for subject, value in zip("abcdef", (9, 9, 9, 3, 3, 3)):
        add(evaluation, subject, line(0, 0, value), line(0, 0, 1) > 0)
    for subject in "ghijk":  # two false regions up to 5, so that only lesions above it are hit with at most one
        add(evaluation, subject, line(5, 0, 5))
    point = evaluation.result(200)["sensitivity_at_1_false_positive"]
    weights = bootstrap_weights(list("abcdefghijk"), 200)[:, :6]
    drawn = weights[:, :3].sum(1) / weights.sum(1)
    assert point["value"] == 0.5
    assert (point["low"], point["high"]) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))
    add(
        evaluation, "l", line(200, 0, 200, 0, 200, 0, 200, 0, 200, 0, 200, 0, 200, 0, 200)
    )  # 8 of them at any threshold
    assert evaluation.result(20)["sensitivity_at_1_false_positive"] is None


def test_lesions_are_grouped_by_size_with_fixed_limits() -> None:
    evaluation = LesionEvaluation(threshold=1.0)
    for subject, side in (("a", 5), ("b", 6), ("c", 11), ("d", 12)):  # 25, 36, 121 and 144 pixels
        truth = np.zeros((1, 40, 40, 1), dtype=bool)
        truth[:, 2 : 2 + side, 2 : 2 + side] = True
        add(evaluation, subject, np.where(truth & (side > 5), 2, 0).astype(float), truth)
    add(evaluation, "e", np.zeros((1, 40, 40, 1)))
    small, medium, large = evaluation.result(20)["by_size"]
    assert (small["name"], small["pixels"], small["n"], small["sensitivity"]["value"]) == ("small", [1, 31], 1, 0)
    assert (medium["pixels"], medium["n"], medium["sensitivity"]["value"]) == ([32, 127], 2, 1)
    assert (large["pixels"], large["n"], large["sensitivity"]["value"]) == ([128, None], 1, 1)
    assert [low for low, _ in SIZES.values()] == [1] + [high + 1 for _, high in list(SIZES.values())[:2]]


def test_regions_below_the_least_size_are_no_regions_in_the_whole_sweep() -> None:
    evaluation = LesionEvaluation(threshold=1.0, minimum_size=2)
    truth = line(1, 1, 1, 0, 0, 0) > 0
    add(evaluation, "a", line(0, 9, 0, 0, 0, 0), truth)
    add(evaluation, "b", line(0, 9, 0, 5, 5, 0))
    result = evaluation.result(5)
    assert result["sensitivity"]["value"] == 0 and result["false_positives_per_study"]["value"] == 1
    assert (
        set(result["froc"]["curve"]["false_positives"]) == {0, 1} and max(result["froc"]["curve"]["sensitivity"]) == 0
    )


def test_interval_of_the_sensitivity_draws_whole_subjects() -> None:
    evaluation = LesionEvaluation(threshold=1.0)
    truth = line(1, 0, 1) > 0
    add(evaluation, "a", line(2, 0, 2), truth)
    for subject in "bcde":
        add(evaluation, subject, line(0, 0, 2), truth)
    result = evaluation.result(50, seed=1)["sensitivity"]
    drawn = bootstrap_weights(list("abcde"), 50, 1) @ [2, 1, 1, 1, 1] / 10  # two lesions each
    assert (result["low"], result["high"]) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])))


def test_sets_of_one_class_keep_what_can_be_computed() -> None:
    healthy, abnormal = LesionEvaluation(1.0), LesionEvaluation(1.0)
    add(healthy, "a", line(2, 0, 2))
    add(abnormal, "a", line(2, 0, 2), line(1, 0, 0) > 0)
    of_healthy, of_abnormal = healthy.result(5), abnormal.result(5)
    assert (of_healthy["n"], of_healthy["sensitivity"], of_healthy["false_positives_per_study"]["value"]) == (
        0,
        None,
        2,
    )
    assert (of_abnormal["sensitivity"]["value"], of_abnormal["false_positives_per_study"]) == (1, None)
    for result in (of_healthy, of_abnormal):
        assert result["froc"]["sensitivity"] == [None] * 7 and result["froc"]["curve"]["sensitivity"] == []


def test_without_a_threshold_or_a_study_nothing_is_reported() -> None:
    uncalibrated = LesionEvaluation(float("inf"))
    add(uncalibrated, "a", line(2, 0, 2))
    assert uncalibrated.result() is None and LesionEvaluation(1.0).result() is None


def test_threshold_of_zero_allows_no_sweep_but_a_sensitivity() -> None:
    evaluation = LesionEvaluation(0.0)
    add(evaluation, "a", line(2, 0, 0), line(1, 0, 0) > 0)
    add(evaluation, "b", line(0, 0, 0))
    result = evaluation.result(5)
    assert result["sensitivity"]["value"] == 1 and result["froc"]["sensitivity"] == [None] * 7


def test_sweep_holds_the_calibrated_threshold_and_is_evenly_spaced_in_the_logarithm() -> None:
    multiples = np.array(THRESHOLD_MULTIPLES)
    assert 1.0 in multiples and (multiples[0], multiples[-1]) == (0.25, 64)
    np.testing.assert_allclose(multiples[1:] / multiples[:-1], 2**0.2)


def test_sensitivity_is_read_off_from_where_the_curve_begins_and_stays_where_it_ends() -> None:
    assert read_off([0.2, 1.0, 3.0], [0.4, 0.3, 0.9]) == [None, 0.4, 0.4, 0.4, 0.4, 0.9, 0.9]
    assert read_off([9.0, 10.0], [0.4, 0.5]) == [None] * 7
    assert read_off([], []) == [None] * 7


def test_volume_of_many_lesions_takes_under_a_third_of_a_second() -> None:
    generator = np.random.default_rng(0)
    values = gaussian_filter(generator.random((96, 96, 12)), 1)[None]
    truth = gaussian_filter(generator.random((96, 96, 12)), 2)[None] > 0.53
    evaluation = LesionEvaluation(float(np.quantile(values, 0.95)))
    regions = label_components(values > evaluation.threshold)
    start = time.process_time()
    evaluation.add("a", values, regions, truth)
    assert time.process_time() - start < 0.3
    assert len(evaluation.studies[0].sizes) > 50 and regions.max() > 100
