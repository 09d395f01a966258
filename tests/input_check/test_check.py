"""Which studies are refused, and in what words."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import nn

from custom.calibration.by_kind import Calibrations
from custom.input_check.check import USUAL, InputCheck
from custom.input_check.descriptors import describe
from custom.input_check.geometry import measure


class Detector(nn.Module):
    """A detector without a reconstructor, calibrated on scores."""

    def __init__(self) -> None:
        super().__init__()
        self.calibration = Calibrations()
        self.calibration.volume.fill_healthy([0.1, 0.2], [0.0, 0.0])


def study(picture: torch.Tensor, step: float = 1.0, normal: int = 2, **told: str | float) -> MetaTensor:
    """A study (1, X, Y, Z) in millimetres whose file's slices are `step` apart, perpendicular to a world axis."""
    affine = np.eye(4)
    affine[:3, :3] = np.roll(np.diag([1.0, 1.0, step]), normal - 2, axis=0)
    shown = np.diag([1.0, 1.0, step, 1.0])
    meta = {"original_affine": affine, "spacing_known": True} | told
    return MetaTensor(picture, affine=torch.from_numpy(shown), meta=meta)


def tower(number: int, depth: int = 1) -> torch.Tensor:
    """A bright block on the ground that differs a little from study to study."""
    generator = torch.Generator().manual_seed(number)
    picture = torch.zeros(1, 64, 64, depth)
    left, top = 16 + number % 5, 36 + number % 7
    picture[:, left : left + 28, top:62] = 0.7 + 0.02 * (number % 3)
    return (picture + 0.02 * torch.rand(picture.shape, generator=generator)).clamp(0, 1)


@pytest.fixture(scope="module")
def detector() -> Detector:
    """Calibrated on sixty towers of two slices, 1 mm apart."""
    network = Detector()
    healthy = [study(tower(number, 2)) for number in range(60)]
    network.calibration.volume.input_check.learn(
        [measure(each) for each in healthy], [describe(each, network) for each in healthy]
    )
    return network


def test_study_like_the_healthy_ones_may_be_scored(detector: Detector) -> None:
    input_check = InputCheck(detector, modalities=["MR"], body_parts=["HEAD"])
    new = study(tower(101, 2), modality="MR", body_part="BRAIN HEAD")
    assert input_check.reasons(new) == []


def test_lesion_does_not_make_a_study_foreign(detector: Detector) -> None:
    sick = tower(101, 2)
    sick[:, 24:34, 44:54] = 1.0
    assert InputCheck(detector).reasons(study(sick)) == []


def test_head_whose_slab_was_not_found_is_rejected_with_that_reason_only(detector: Detector) -> None:
    cut_off = study(tower(101, 2), head_cut_mm=float("nan"))
    assert InputCheck(detector).reasons(cut_off) == [
        "the top of the head is outside the volume, so the slab to analyse cannot be found: use a volume of the head "
        "up to its vertex"
    ]
    assert InputCheck(detector).reasons(study(tower(101, 2), head_cut_mm=24.0)) == []


def test_first_what_the_tags_tell_and_no_more(detector: Detector) -> None:
    input_check = InputCheck(detector, ["CR", "DX"], ["CHEST"], ["AP", "PA"])
    noise = study(torch.rand(1, 64, 64, 2), step=9.0, modality="MR", body_part="KNEE", view="LL")
    assert input_check.reasons(noise) == [
        "the modality is MR (DICOM Modality); this detector is made for CR, DX",
        "the body part is KNEE (DICOM BodyPartExamined); this detector is made for CHEST",
        "the view is LL (DICOM ViewPosition); this detector is made for AP, PA",
    ]


def test_slices_far_apart_are_told_in_millimetres(detector: Detector) -> None:
    reasons = InputCheck(detector).reasons(study(tower(101, 2), step=5.0))
    assert reasons == ["the slices are 5.0 mm apart; the healthy calibration studies have 1.0 mm", USUAL]


def test_sagittal_slice_is_refused_where_the_detector_looks_at_planes(detector: Detector) -> None:
    sagittal = study(tower(101), normal=0)
    assert InputCheck(detector, modalities=["MR"]).geometry_reasons(sagittal)[0] == (
        "the slice is tilted by 90 degrees from the required plane (limit 30): reformat the study, or use one in that "
        "plane"
    )
    assert InputCheck(detector, modalities=["CR", "DX"]).reasons(sagittal) == []  # a film has no plane in the body


def test_study_that_is_upside_down_or_a_negative_is_told_so(detector: Detector) -> None:
    input_check = InputCheck(detector)
    assert any(
        "the image seems to be upside down (pose" in reason
        for reason in input_check.reasons(study(tower(9, 2).flip(2)))
    )
    negative = input_check.reasons(study(1 - tower(9, 2)))
    assert any("the image seems to be inverted (polarity" in reason for reason in negative)
    assert any("export it in its usual presentation" in reason for reason in negative)


def test_mirror_image_may_be_scored(detector: Detector) -> None:
    assert InputCheck(detector).reasons(study(tower(9, 2).flip(1))) == []


def test_noise_is_unlike_in_several_ways_of_which_the_clearest_two_are_told(detector: Detector) -> None:
    noise = torch.rand(1, 64, 64, 2, generator=torch.Generator().manual_seed(0))
    reasons = InputCheck(detector).reasons(study(noise))
    limit = f"{detector.calibration.volume.input_check.limit('detail'):.3g}"
    assert any(
        reason.startswith("the fine detail differs from that of healthy studies (detail ")
        and reason.endswith(f"limit {limit}): perhaps noise, blur or another device")
        for reason in reasons
    )
    assert len(reasons) == 3 and reasons[-1].startswith(
        "if such studies are usual at your site, calibrate on healthy ones"
    )


def test_brightness_that_preprocessing_leaves_may_vary_but_not_to_white(detector: Detector) -> None:
    input_check = InputCheck(detector)
    assert input_check.reasons(study(tower(9, 2) * 0.97)) == []
    reason = input_check.reasons(study(tower(9, 2) * 0.3 + 0.7))[0]
    assert reason.startswith("the grey values differ from those of healthy studies (histogram ")


def test_calibration_before_the_gate_checks_tags_alone_and_says_so(caplog) -> None:
    input_check = InputCheck(Detector(), modalities=["MR"])
    assert "This calibration has no input check of images" in caplog.text
    assert "Calibrate again (nomaly calibrate)" in caplog.text
    assert input_check.reasons(study(torch.rand(1, 64, 64, 2), step=50.0)) == []
    assert input_check.reasons(study(tower(1), modality="CT")) == [
        "the modality is CT (DICOM Modality); this detector is made for MR"
    ]


def test_detector_that_is_not_calibrated_gets_no_warning(caplog) -> None:
    network = nn.Module()
    network.calibration = Calibrations()
    assert InputCheck(network).reasons(torch.rand(1, 64, 64, 1)) == [] and caplog.text == ""


def test_each_kind_of_study_is_compared_with_healthy_ones_of_its_kind() -> None:
    network = Detector()  # volumes of 1 mm slices, 2-D images of 3 mm pixels
    network.calibration.image.fill_healthy([0.1], [0.0])
    network.calibration.volume.input_check.learn([measure(study(tower(1, 2)))], [{}])
    coarse = study(tower(1), step=1.0)
    coarse.meta["original_affine"] = np.diag([3.0, 3.0, 1.0, 1.0])
    network.calibration.image.input_check.learn([measure(coarse)], [{}])
    coarser = study(tower(1), step=1.0)
    coarser.meta["original_affine"] = np.diag([4.0, 4.0, 1.0, 1.0])
    assert InputCheck(network).reasons(coarser) == []
    volume = study(tower(1, 2))
    volume.meta["original_affine"] = np.diag([4.0, 4.0, 1.0, 1.0])
    assert InputCheck(network).reasons(volume)[0] == (
        "the pixels are 4.0 mm wide; the healthy calibration studies have 1.0 mm"
    )
