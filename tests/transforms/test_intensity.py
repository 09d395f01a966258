from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from custom.errors import NomalyError
from custom.transforms.intensity import (
    InvertFilm,
    InvertFilmd,
    ScaleStudyIntensity,
    ScaleStudyIntensityd,
    unscale_intensity,
)


def study(values):
    """A study of one row of voxels."""
    return MetaTensor(torch.as_tensor(values, dtype=torch.float32).reshape(1, -1, 1, 1))


def test_percentiles_become_zero_and_target():
    scaled = ScaleStudyIntensity(lower=10, upper=90, target=0.5)(study(np.arange(101)))
    # Percentile p of 0..100 is p: 10 -> 0, 90 -> 0.5, so 1 voxel step is 0.5 / 80 and the highest is 0.5625.
    assert float(scaled[0, 10]) == 0 and abs(float(scaled[0, 90]) - 0.5) < 1e-6
    assert abs(float(scaled[0, 50]) - 0.25) < 1e-6 and abs(float(scaled.max()) - 0.5625) < 1e-6


def test_values_beyond_zero_and_one_are_cut_off():
    values = np.arange(101.0)
    values[0], values[100] = -500, 1000
    scaled = ScaleStudyIntensity(lower=10, upper=90, target=0.5)(study(values))
    assert (float(scaled.min()), float(scaled.max())) == (0, 1)


def test_hot_pixels_and_gain_do_not_move_the_tissue():
    values = np.random.default_rng(0).uniform(0, 100, 2000)
    hot = values.copy()
    hot[:10] = 1e5
    plain, other = (ScaleStudyIntensity()(study(v)) for v in (values, 7 * hot + 30))
    assert (plain - other)[0, 10:].abs().max() < 0.02


def test_unscaling_gives_the_file_intensities_back():
    values = np.linspace(40, 90, 101)
    scaled = ScaleStudyIntensityd(keys="image", lower=0, upper=100, target=0.75)({"image": study(values)})["image"]
    np.testing.assert_allclose(unscale_intensity(scaled, scaled).flatten(), values, rtol=1e-5)


def test_nearly_empty_study_is_refused_with_its_value():
    values = np.full(1000, 3.0)
    values[:5] = 9
    with pytest.raises(NomalyError, match="at percentiles 1 and 95 must differ, but both are 3"):
        ScaleStudyIntensity()(study(values))


@pytest.mark.parametrize("options", [{"lower": 95}, {"upper": 101}, {"target": 0}, {"target": 1.5}])
def test_settings_out_of_range_are_refused(options):
    with pytest.raises(NomalyError, match="0 <= lower < upper <= 100 and 0 < target <= 1"):
        ScaleStudyIntensity(**options)


def test_unscaling_an_unscaled_study_is_refused():
    with pytest.raises(ValueError, match=r"meta\['intensity_range'\] of the image is missing"):
        unscale_intensity(torch.zeros(1), study([0, 1]))


def test_source_range_is_the_same_for_every_study():
    for values in ([0, 51, 255], [51, 102, 204]):
        scaled = ScaleStudyIntensity(source_range=(0, 255))(study(values))
        np.testing.assert_allclose(scaled.flatten(), np.array(values) / 255, rtol=1e-6)
        np.testing.assert_allclose(unscale_intensity(scaled, scaled).flatten(), values, rtol=1e-5)


def test_values_beyond_the_source_range_are_cut_off():
    scaled = ScaleStudyIntensityd(keys="image", source_range=[100, 200])({"image": study([50, 150, 300])})["image"]
    assert scaled.flatten().tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("source_range", [[255, 0], [7, 7], [255], [0, 1, 2]])
def test_source_range_that_is_no_range_is_refused(source_range):
    message = rf"source_range must be \(low, high\) with low < high, or null for percentiles, got \[{source_range[0]}"
    with pytest.raises(NomalyError, match=message):
        ScaleStudyIntensity(source_range=source_range)


def test_negative_film_is_inverted_within_its_own_range() -> None:
    assert InvertFilm()(study([200, 300, 4095])).flatten().tolist() == [4095, 3995, 200]


def test_pseudo_healthy_image_of_a_negative_film_is_a_negative_again() -> None:
    values = np.linspace(200, 4095, 101)
    negative = InvertFilm()(study(values))
    scaled = ScaleStudyIntensity(lower=0, upper=100, target=1.0)(negative)
    assert float(scaled[0, 0]) == 1  # lowest stored, brightest shown
    np.testing.assert_allclose(unscale_intensity(scaled, scaled).flatten(), values, rtol=1e-5)


def test_dictionary_version_inverts_only_the_image() -> None:
    found = InvertFilmd(keys="image")({"image": study([0, 1]), "mask": study([0, 1])})
    assert found["image"].flatten().tolist() == [1, 0] and found["mask"].flatten().tolist() == [0, 1]
