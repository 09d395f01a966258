"""Detection with a detector whose map is |x - 0.5|: score, p-value and decision by hand; failures of single studies."""

from __future__ import annotations

import logging
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.data import MetaTensor
from monai.transforms import Compose

from custom.data.study_loader import StudyBatches, StudyDataset, StudyLoader
from custom.detector.anomaly_detector import AnomalyDetector
from custom.errors import NomalyError, root_cause
from custom.networks.reversed_autoencoder import ReversedAutoencoder
from custom.scoring.code_distance import CodeDistance
from custom.scoring.score import StudyScore
from custom.scoring.settings import scoring_settings
from maps import ResidualMap


def item(case: str = "a", slices: int = 2, **values: float) -> dict[str, Any]:
    """A mid grey study (1, 4, 4, slices) in which pixel (index, 0) of slice 0 has the value of each keyword."""
    image = torch.full((1, 4, 4, slices), 0.5)
    for index, value in enumerate(values.values()):
        image[0, index, 0, 0] = value
    return {"image": MetaTensor(image), "case": case, "label": 0}


def calibrate(detector, *scores: float, slices: int = 2, plane: int = 16, score: StudyScore | None = None) -> None:
    scoring = scoring_settings(score or StudyScore("mean"), detector)
    calibration = detector.calibration.of((1, 4, 4, slices))
    calibration.fill_healthy(scores, [0.0] * len(scores))
    calibration.fill(pixel_threshold=0.1, slices=(slices, slices), plane=(plane, plane))
    calibration.fill_scoring(scoring.stored())


# By hand


@pytest.mark.parametrize(
    ("mode", "q", "score"),
    [("mean", 1.0, (0.5 + 0.25) / 32), ("max", 1.0, 0.5), ("top_q", 2 / 32, 0.375), ("top_q", 3 / 32, 0.25)],
)
def test_score_is_that_of_the_map_over_the_whole_study(run_grey, mode: str, q: float, score: float) -> None:
    _, (study,) = run_grey([item(a=1.0, b=0.25)], score=StudyScore(mode, q))
    assert study["score"] == pytest.approx(score)
    assert study["pred"].shape == study["foreground"].shape == (1, 4, 4, 2)
    assert study["pred"][0, :3, 0, 0].tolist() == [0.5, 0.25, 0] and study["pred"].sum() == 0.75
    assert study["reconstruction"].unique().tolist() == [0.5]
    assert study["squared_error"] == pytest.approx((0.5**2 + 0.25**2) / 2)  # summed over a slice, mean of two
    assert study["label"] == 0 and study["seconds"] > 0


@pytest.mark.parametrize(
    ("value", "p_value", "decision"),
    [
        (1.0, 1 / 5, "flag"),
        (0.9, 1 / 5, "flag"),
        (0.8, 2 / 5, "uncertain"),
        (0.75, 3 / 5, "likely_normal"),
        (0.5, 1.0, "likely_normal"),
    ],
)
def test_p_value_counts_healthy_scores_at_or_above(run_grey, grey_detector, value, p_value, decision) -> None:
    maximum = StudyScore("max")
    calibrate(grey_detector, 0.0, 0.1, 0.26, 0.31, score=maximum)
    grey_detector.calibration.volume.fill(decision=(0.2, 0, 0.5))
    _, (study,) = run_grey([item(a=value)], score=maximum, alpha=None)
    assert (study["p_value"], study["decision"]) == (pytest.approx(p_value), decision)


def test_larger_alpha_flags_what_a_smaller_one_does_not(run_grey, grey_detector) -> None:
    calibrate(grey_detector, *(0.01 * number for number in range(1, 10)))  # p of the strangest study: 1 / 10
    decisions = [run_grey([item(a=99.0)], alpha=alpha)[1][0]["decision"] for alpha in (0.1, 0.2)]
    assert decisions == ["flag", "flag"]
    strange = item(a=0.5 + 32 * 0.085)  # score 0.085: one healthy study scores more, p = 2 / 10
    decisions = [run_grey([strange], alpha=alpha)[1][0]["decision"] for alpha in (0.1, 0.2)]
    assert decisions == ["uncertain", "flag"]


@pytest.mark.parametrize(("alpha", "groups", "named"), [(0.05, None, ""), (0.1, ["A"] * 9 + ["B"], "group B: ")])
def test_alpha_that_the_calibration_can_never_reach_is_refused(
    run_grey, grey_detector, alpha: float, groups: list[str] | None, named: str
) -> None:
    calibrate(grey_detector, 0.1)
    scores = [0.01 * number for number in range(10)]
    grey_detector.calibration.volume.fill_healthy(scores, [0.0] * 10, groups, groups and "scanner")
    needed, found = (19, 10) if groups is None else (9, 1)
    message = (
        f"^{named}calibration needs at least {needed} healthy studies for alpha = {alpha}, got {found}: add healthy"
    )
    with pytest.raises(NomalyError, match=message):
        run_grey([item()], alpha=alpha)


@pytest.mark.parametrize(
    ("calibration", "reason"),
    [
        ({}, None),
        ({"slices": 9}, None),  # volumes of other lengths are still volumes
        ({"slices": 1}, "No p-value: calibrated on 2-D images, but this is a volume."),
        ({"plane": 15}, None),  # of 15 pixels a tenth more is 16.5
        ({"plane": 64}, "No p-value: calibrated on slices of 64 pixels, but the slices of this study have 16."),
        ({"score": StudyScore("max")}, "No p-value: calibrated with other settings of score, map or ensemble"),
        ({"score": StudyScore("top_q", 0.5)}, "No p-value: calibrated with other settings of score, map or ensemble"),
    ],
)
def test_studies_of_another_kind_than_calibrated_get_a_reason_and_no_p_value(
    run_grey, grey_detector, calibration, reason: str | None
) -> None:
    calibrate(grey_detector, 0.1, 0.2, 0.3, 0.4, **calibration)
    _, (study,) = run_grey([item(a=0.9)])
    if reason is None:
        assert (study["p_value"], study["decision"], study["note"]) == (1.0, "likely_normal", "")
    else:
        assert (study["p_value"], study["decision"], study["region_p_values"]) == (None, None, None)
        assert study["note"].startswith(reason)
        if "slices" in calibration:  # no threshold for volumes
            assert (study["regions"], study["pixel_threshold"]) == (None, None)
        else:
            assert study["regions"].sum() == 1  # marked, though without a p-value


def test_regions_are_numbered_weighed_and_compared_with_healthy_ones(run_grey, grey_detector) -> None:
    calibrate(grey_detector, 0.1, 0.2, 0.3, 0.4)
    grey_detector.calibration.volume.fill(healthy_masses=[0.0, 0.1, 0.3, 0.5])
    image = torch.full((1, 4, 4, 2), 0.5)
    image[0, 0, 0, 0], image[0, 3, 3, 1] = 0.7, 1.0  # over the threshold of 0.1 by 0.1 and 0.4
    _, (study,) = run_grey([{"image": image, "case": "a", "label": 0}])
    assert study["regions"].dtype == torch.int32 and study["regions"].shape == (1, 4, 4, 2)
    assert (study["regions"][0, 3, 3, 1], study["regions"][0, 0, 0, 0], study["regions"].sum()) == (1, 2, 3)
    assert study["region_masses"] == pytest.approx([0.4, 0.1])
    # by hand: 0.5 alone is at least 0.4; 0.1 is just below the float32 difference 0.7 - 0.5 - 0.1
    assert study["region_p_values"][0] == 2 / 5
    grey_detector.calibration.volume.fill(minimum_region=2)
    _, (study,) = run_grey([{"image": image, "case": "a", "label": 0}])
    assert study["regions"].sum() == 0 and study["region_masses"] == []


@pytest.mark.parametrize(
    ("fields", "study_group", "p_value", "group"),
    [
        ({"scanner": "7"}, None, 1.0, "7"),
        ({"scanner": 7.0}, None, 1.0, "7"),  # as a table may give the number
        ({"scanner": "B"}, "7", 1 / 5, "B"),  # what the study says goes before what is said of all
        ({}, "B", 1 / 5, "B"),
        ({}, None, None, None),
        ({"scanner": "C"}, None, None, None),
    ],
)
def test_p_value_is_that_of_the_studys_own_group(
    run_grey, grey_detector, fields: dict, study_group: str | None, p_value: float | None, group: str | None
) -> None:
    calibrate(grey_detector, 0.0)
    scores = [0.2, 0.3, 0.4, 0.5, 0.01, 0.01, 0.01, 0.01]
    grey_detector.calibration.volume.fill_healthy(scores, [0] * 8, ["7"] * 4 + ["B"] * 4, "scanner")
    _, (study,) = run_grey([{**item(a=1.0), **fields}], study_group=study_group)  # score 0.5 / 32
    assert (study["p_value"], study["calibration_group"]) == (p_value, group)
    assert study["note"].startswith("No p-value: ") is (p_value is None)


def test_group_is_refused_where_there_are_none(run_grey, grey_detector) -> None:
    calibrate(grey_detector, 0.1, 0.2, 0.3, 0.4)
    with pytest.raises(
        NomalyError, match="study_group requires calibration groups, but this calibration has none, got 'A'"
    ):
        run_grey([item()], study_group="A")


def test_confident_mode_with_too_few_studies_stops_before_the_first_one(run_grey, grey_detector) -> None:
    calibrate(grey_detector, *(0.01 * number for number in range(58)))
    grey_detector.calibration.volume.fill(decision=(0.05, 0.95, 0.2))
    with pytest.raises(
        NomalyError,
        match="calibration needs at least 59 healthy studies for alpha = 0.05 with confidence 0.95, got 58",
    ):
        run_grey([item()], alpha=None)


def test_uncalibrated_detector_scores_without_a_decision(run_grey) -> None:
    _, (study,) = run_grey([item(a=1.0)])
    assert study["score"] > 0 and (study["p_value"], study["decision"], study["regions"]) == (None, None, None)


def test_air_counts_only_where_health_has_a_body(run_grey, grey_detector, monkeypatch: pytest.MonkeyPatch) -> None:
    study = item()
    study["image"][:, :2] = 0.0  # half of the study is air

    def predict(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        healthy = x.clone()
        healthy[:, :, 0, 0] = 0.4  # where one row of pixels ought to be bright
        return torch.ones_like(x), healthy

    monkeypatch.setattr(grey_detector, "predict", predict)
    _, (found,) = run_grey([study])
    assert int(found["foreground"].sum()) == 2 * 4 * 2 + 2


def test_map_is_nothing_where_both_images_are_black(run_grey, grey_detector, monkeypatch: pytest.MonkeyPatch) -> None:
    def predict(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        # dissimilarity of black and black means nothing, and need not even be a number
        return torch.full_like(x, 0.7).where(x > 0, torch.nan), torch.zeros_like(x)

    monkeypatch.setattr(grey_detector, "predict", predict)
    image = torch.zeros(1, 4, 4, 1)
    image[:, :2] = 0.5
    _, (study,) = run_grey([{"image": image, "case": "a", "label": 0}])
    assert study["pred"][:, :2].unique().tolist() == pytest.approx([0.7])
    assert study["pred"][:, 2:].unique().tolist() == [0]
    assert study["score"] == pytest.approx(0.7)


def test_network_is_set_to_evaluation_and_needs_no_gradients(run_grey, grey_detector) -> None:
    grey_detector.train()
    _, (study,) = run_grey([item()])
    assert not grey_detector.training and not study["pred"].requires_grad


# Studies that fail


def prepare(entry: dict[str, Any]) -> dict[str, Any]:
    if entry["case"] == "mistake":
        raise NomalyError("Study x.png: the image must be grey.")
    if entry["case"] == "reader":
        raise OSError("disk gone")
    return entry


def test_failed_study_is_handed_on_with_its_reason(run_grey, caplog: pytest.LogCaptureFixture) -> None:
    items = [item("first"), {"image": "m.png", "case": "mistake"}, {"image": "r.png", "case": "reader"}, item("last")]
    with caplog.at_level(logging.ERROR, "custom.engines.detection_evaluator"):
        _, outputs = run_grey(items, Compose([prepare]))
    assert [study["case"] for study in outputs] == ["first", "mistake", "reader", "last"]
    reasons = [study.get("error") for study in outputs]
    assert reasons == [None, "Study x.png: the image must be grey.", "OSError: disk gone", None]
    assert all("pred" not in study for study in outputs if "error" in study)
    assert [record.message for record in caplog.records] == [
        "Study mistake failed: Study x.png: the image must be grey.",
        "Study reader failed: OSError: disk gone",
    ]


def test_study_that_cannot_be_scored_fails_with_the_reason(run_grey) -> None:
    broken = item("nan", a=float("nan"))
    _, outputs = run_grey([broken, item("good")])
    assert [study.get("error", "")[:40] for study in outputs] == ["anomaly_map must have finite values, got", ""]


def test_error_of_the_software_ends_the_run(run_grey, grey_detector, monkeypatch: pytest.MonkeyPatch) -> None:
    def predict(x: torch.Tensor) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(grey_detector, "predict", predict)
    with pytest.raises(RuntimeError, match="a bug"):
        run_grey([item()])


@pytest.mark.parametrize(
    ("errors", "text"),
    [
        ([ValueError("only")], "ValueError: only"),
        ([RuntimeError("outer"), ValueError("inner")], "ValueError: inner"),
        ([RuntimeError("outer"), NomalyError("the rule"), ValueError("inner")], "the rule"),
    ],
)
def test_cause_is_the_users_mistake_or_the_innermost_error(errors: list[Exception], text: str) -> None:
    for outer, inner in zip(errors, errors[1:]):
        outer.__cause__ = inner
    assert root_cause(errors[0]) == text


# Data


@pytest.mark.parametrize(("cache", "times"), [(True, 1), (False, 2)])
def test_cached_studies_are_prepared_once(cache: bool, times: int) -> None:
    prepared = []
    dataset = StudyDataset([item("a")], lambda entry: prepared.append(entry) or entry, cache=cache)
    first, second = dataset[0], dataset[0]
    assert len(prepared) == times and torch.equal(first["image"], second["image"])


def test_loader_gives_studies_of_different_sizes_as_they_are() -> None:
    items = [item("a", slices=1), item("b", slices=3)]
    loaded = list(StudyLoader(StudyDataset(items, lambda entry: entry)))
    assert [[(study["case"], study["image"].shape[-1]) for study in batch] for batch in loaded] == [
        [("a", 1)],
        [("b", 3)],
    ]
    assert all(isinstance(study["image"], MetaTensor) and "seconds" in study for study in chain(*loaded))
    (both,) = StudyLoader(StudyDataset(items, lambda entry: entry), batch_size=2)
    assert [study["case"] for study in both] == ["a", "b"]


def test_only_what_may_be_a_large_volume_is_loaded_alone(tmp_path: Path) -> None:
    sizes = {"a.png": 9, "b.dcm": 2**24, "c.dcm": 2**24 + 1, "d.nii.gz": 2**20, "e.nii.gz": 2**20 + 1, "f.png": 9}
    for name, size in sizes.items():
        with open(tmp_path / name, "wb") as file:
            file.truncate(size)
    (tmp_path / "series").mkdir()
    sources = [str(tmp_path / name) for name in [*sizes, "missing.png", "g.png", "series"]]
    items = [{"image": source, "case": source} for source in sources]
    items += [{"image": [sources[0]], "case": "one"}, {"image": sources[:2], "case": "two"}]
    assert list(StudyBatches(items, 3)) == [[0, 1], [2], [3], [4], [5, 6, 7], [8], [9], [10]]


# Several studies at once


def in_batches(items: list[dict], size: int) -> StudyLoader:
    return StudyLoader(StudyDataset(items, Compose([prepare])), batch_size=size)


def test_studies_of_a_batch_get_the_results_of_single_ones_whatever_their_shapes(run_grey, grey_detector) -> None:
    calibrate(grey_detector, 0.0, 0.01, 0.02, 0.03)
    items = [item("a", a=1.0), item("b", slices=3, a=0.9), item("c", a=0.25, b=0.8), item("nan", a=float("nan"))]
    items.insert(2, {"image": "m.png", "case": "mistake"})
    _, alone = run_grey(items, Compose([prepare]))
    _, together = run_grey(items, val_data_loader=in_batches(items, 3))
    assert [study["case"] for study in together] == ["a", "b", "mistake", "c", "nan"]
    for one, other in zip(alone, together):
        assert one.get("error") == other.get("error")
        assert [one.get(key) for key in ("score", "p_value", "decision")] == [
            other.get(key) for key in ("score", "p_value", "decision")
        ]
        assert "pred" not in one or torch.equal(one["pred"], other["pred"])
    assert sum("error" in study for study in together) == 2


def test_studies_of_one_shape_go_through_the_network_together(run_grey, grey_detector, monkeypatch) -> None:
    seen = []
    predict = grey_detector.predict
    monkeypatch.setattr(grey_detector, "predict", lambda x: seen.append(len(x)) or predict(x))
    items = [item(case, slices=1) for case in "abcde"]
    run_grey(items, val_data_loader=in_batches(items, 4))
    assert seen == [4, 1]


def test_shape_that_the_inferer_refuses_fails_its_studies_alone(run_grey) -> None:
    class Inferer:
        def __call__(self, x, network):
            if x.shape[-1] == 3:
                raise NomalyError("each side must fit")
            return network(x[..., 0])[0].unsqueeze(-1), x

    items = [item("a", slices=1), item("b", slices=3), item("c", slices=3)]
    _, studies = run_grey(items, val_data_loader=in_batches(items, 3), inferer=Inferer())
    assert [study.get("error") for study in studies] == [None, "each side must fit", "each side must fit"]


def test_handlers_learn_of_a_run_without_studies(run_grey) -> None:
    class Handler:
        events: list[str] = []

        def attach(self, engine) -> None:
            engine.add_event_handler(Events.STARTED, lambda: self.events.append("started"))
            engine.add_event_handler(Events.COMPLETED, lambda: self.events.append("completed"))

    run_grey([], val_handlers=[Handler()])
    assert Handler.events == ["started", "completed"]


# The input check


class RefuseBright:
    """Refuses bright images; keeps the codes that it is given."""

    def __init__(self) -> None:
        self.codes: list[torch.Tensor | None] = []

    def reasons_of_file(self, image: torch.Tensor) -> list[str]:
        return ["it is too deep"] if image.shape[-1] > 8 else []

    def reasons_of_images(self, images: torch.Tensor, codes: torch.Tensor | None = None) -> list[list[str]]:
        self.codes.extend([None] * len(images) if codes is None else codes)
        if images.max() > 2:
            raise NomalyError("no such image can be compared")
        return [["it is too bright", "it is too large"] if image.max() > 0.9 else [] for image in images]


def test_what_its_file_says_keeps_a_study_from_the_network(run_grey, grey_detector, monkeypatch) -> None:
    monkeypatch.setattr(grey_detector, "predict", None)
    _, (deep,) = run_grey([item("deep", slices=9)], input_check=RefuseBright())
    assert deep["refusals"] == ["it is too deep"] and "error" not in deep


def test_input_check_gets_the_code_that_the_network_computes_anyway(run_grey) -> None:
    torch.manual_seed(0)
    network = ReversedAutoencoder(2, 1, 4, [4, 8], 6)
    detector = AnomalyDetector(network, ResidualMap(), code_distance=CodeDistance(6)).eval()
    items, check = [item("a", a=0.6), item("b", a=0.7)], RefuseBright()
    run_grey(items, network=detector, input_check=check)
    for entry, code in zip(items, check.codes, strict=True):
        slices = entry["image"].as_tensor()[0].movedim(-1, 0).unsqueeze(1)
        torch.testing.assert_close(code, network.latent(slices).mean(0))


@pytest.mark.parametrize(("score_all", "scored"), [(False, [False, True]), (True, [True, True])])
def test_refused_study_is_scored_only_if_all_are(run_grey, caplog, score_all: bool, scored: list[bool]) -> None:
    items = [item("bright", a=1.0), item("grey", a=0.6)]
    with caplog.at_level(logging.WARNING, "custom.engines.detection_evaluator"):
        _, studies = run_grey(items, input_check=RefuseBright(), score_all=score_all)
    assert ["score" in study for study in studies] == scored
    assert [study["refusals"] for study in studies] == [["it is too bright", "it is too large"], []]
    warned = [] if score_all else ["Study bright is not assessable: it is too bright; it is too large"]
    assert [record.message for record in caplog.records] == warned


def test_study_that_the_input_check_cannot_compare_fails_alone(run_grey) -> None:
    _, studies = run_grey([item("odd", a=9.0), item("grey")], input_check=RefuseBright())
    assert [study.get("error") for study in studies] == ["no such image can be compared", None]
