"""Which tags of DICOM are accepted."""

from __future__ import annotations

import pytest

from custom.input_check.tags import tag_reason

HEAD = ["HEAD", "BRAIN"]
HAND = ["HAND", "WRIST", "UPPER EXTREMITY"]


@pytest.mark.parametrize("found", ["BRAIN", "HEADNECK", "Head & Neck", "HEAD_TO_TOE", "", "UNKNOWN", "WHOLEBODY"])
def test_part_that_names_the_head_or_nothing_is_accepted(found: str) -> None:
    assert tag_reason("body_part", found, HEAD) is None


@pytest.mark.parametrize("found", ["EXTREMITY", "UPPER EXTREMITY", "UPPEREXTREMITY", "LEFT HAND", "WRISTS"])
def test_part_that_may_be_the_hand_is_accepted(found: str) -> None:
    assert tag_reason("body_part", found, HAND) is None


@pytest.mark.parametrize("found", ["LOWER EXTREMITY", "CHEST", "KNEE"])
def test_other_part_is_refused_by_its_name(found: str) -> None:
    assert tag_reason("body_part", found, HAND) == (
        f"the body part is {found} (DICOM BodyPartExamined); this detector is made for HAND, WRIST, UPPER EXTREMITY"
    )


@pytest.mark.parametrize(("found", "accepted"), [("DX", True), ("dx", True), ("OT", True), ("", True), ("CT", False)])
def test_modality_must_be_one_of_the_list_where_it_is_told(found: str, accepted: bool) -> None:
    reason = tag_reason("modality", found, ["CR", "DX"])
    assert reason == (None if accepted else "the modality is CT (DICOM Modality); this detector is made for CR, DX")


@pytest.mark.parametrize(("found", "accepted"), [("PA", True), ("AP ERECT", True), ("LL", False), ("LATERAL", False)])
def test_lateral_view_is_refused(found: str, accepted: bool) -> None:
    reason = tag_reason("view", found, ["AP", "PA"])
    assert reason == (
        None if accepted else f"the view is {found} (DICOM ViewPosition); this detector is made for AP, PA"
    )


@pytest.mark.parametrize("found", ["KOPF", "TETE", "CABEZA", "Smith, John", "THORAXE", "NEAR"])
def test_part_in_words_that_are_no_terms_is_not_told(found: str) -> None:
    assert tag_reason("body_part", found, HAND) is None


@pytest.mark.parametrize("found", ["FRONTAL", "VON VORNE", "Smith, John", "UNKNOWN"])
def test_view_in_words_that_are_no_terms_is_not_told(found: str) -> None:
    assert tag_reason("view", found, ["AP", "PA"]) is None


@pytest.mark.parametrize(
    ("name", "found", "told"),
    [
        ("body_part", "Chest Smith, John", "the body part is CHEST (DICOM"),
        ("body_part", "LEFT_KNEES", "the body part is KNEE (DICOM"),
        ("view", "RL John Smith", "the view is RL (DICOM"),
        ("view", "OBL", "the view is OBL (DICOM"),
        ("modality", "ct", "the modality is CT (DICOM"),
    ],
)
def test_reason_prints_terms_of_dicom_alone(name: str, found: str, told: str) -> None:
    reason = tag_reason(name, found, ["HEAD"])
    assert reason.startswith(told) and "John" not in reason


def test_nothing_is_asked_without_a_list() -> None:
    assert tag_reason("modality", "CT", None) is None
