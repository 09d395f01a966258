"""A labelled run, study by study, next to the baselines."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from custom.calibration.by_kind import Calibrations
from custom.errors import NomalyError
from custom.metrics.study_evaluation import StudyEvaluation
from custom.metrics.table import table_markdown
from custom.scoring.score import StudyScore


def calibration(**values: object) -> Calibrations:
    """Calibrated on 19 healthy studies, threshold 0.3."""
    state = Calibrations()
    state.image.fill(
        **({"healthy_scores": range(19), "pixel_threshold": 0.3, "pixel_false_positive_rate": 0.01} | values)
    )
    return state


def disc(seed: int, lesion: bool = False) -> torch.Tensor:
    """A noisy disc (1, 20, 20, 1), with a bright square in it or without."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.linspace(-1, 1, 20)
    image = (x[:, None] ** 2 + x**2 < 0.8) * (0.4 + 0.02 * torch.randn(20, 20, generator=generator))
    if lesion:
        image[8:12, 8:13] += 0.5
    return image.reshape(1, 20, 20, 1)


def study(seed: int, lesion: bool, **changes: object) -> dict[str, Any]:
    """The evaluator's record of a disc whose pseudo-healthy image is the disc without its square."""
    image, healthy = disc(seed, lesion), disc(seed)
    anomaly_map, truth = (image - healthy).abs(), torch.zeros(1, 20, 20, 1)
    truth[:, 8:12, 8:13] = lesion
    return {
        "case": f"case{seed}",
        "image": image,
        "pred": anomaly_map,
        "reconstruction": healthy,
        "foreground": image > 0.05,
        "mask": truth,
        "label": int(lesion),
        "group": "square" if lesion else None,
        "score": float(anomaly_map.max()),
        "p_value": 0.05 if lesion else 0.5,
        "decision": "flag" if lesion else "likely_normal",
        "regions": (anomaly_map > 0.3).int(),
    } | changes


def evaluation(studies: list[dict], training: int = 0, **settings: object) -> dict:
    """Evaluate the studies with baselines fitted on so many discs."""
    items = [{"image": disc(100 + i)} for i in range(training)]
    arguments = {"score": StudyScore("max"), "calibration": calibration(), "alpha": None, "synthetic": True}
    handler = StudyEvaluation(items, lambda item: item, None, baseline_epochs=1, **(arguments | settings))
    handler.start()
    for item in studies:
        handler.add(item)
    return handler.result()


def test_volumes_beside_2d_images_are_measured_at_their_own_threshold() -> None:
    # twice the map, twice the threshold: the mask of the same lesion in three slices, and no more
    def deep(seed: int, lesion: bool) -> dict[str, Any]:
        flat = study(seed, lesion)
        names = ("image", "pred", "reconstruction", "foreground", "mask", "regions")
        return {
            **flat,
            **{name: flat[name].repeat(1, 1, 1, 3) for name in names},
            "pred": 2 * flat["pred"].repeat(1, 1, 1, 3),
        }

    calibrations = calibration()
    calibrations.volume.fill(healthy_scores=range(19), pixel_threshold=0.6, minimum_region=70)
    studies = [study(0, False), study(1, True), deep(2, False), deep(3, True)]
    result = evaluation(studies, calibration=calibrations)
    assert result["pixel"]["dice"]["value"] == result["pixel"]["ap"]["value"] == 1
    # the 60 voxels of the square are below the smallest region of volumes, the 20 pixels not below that of 2-D images
    assert max(result["lesions"]["froc"]["sensitivity"]) == 0.5


def test_perfect_detector_has_perfect_numbers_in_every_part() -> None:
    result = evaluation([study(seed, lesion=seed % 2 == 1) for seed in range(8)], training=6)
    assert result["image"]["auroc"]["value"] == 1 and result["image"]["fpr_at_95_tpr"]["value"] == 0
    assert result["false_alarm_rate"]["value"] == 0 and result["sensitivity"]["value"] == 1
    assert result["pixel"]["ap"]["value"] == result["pixel"]["dice"]["value"] == 1
    assert result["lesions"]["sensitivity"]["value"] == 1
    assert result["lesions"]["false_positives_per_study"]["value"] == 0
    assert result["ra_detection"]["scale_free"]["f1"] == 1
    assert result["reconstruction"]["healthy_mae"]["value"] == 0
    assert result["reconstruction"]["healthy_ssim"]["value"] == 1
    assert list(result["baselines"]) == ["brightness", "histogram", "intensity", "mean_image", "pca", "autoencoder"]
    assert [name for name, baseline in result["baselines"].items() if baseline["pixel_ap"] is None] == [
        "brightness",
        "histogram",
    ]
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert "square: AUROC | 1.000" in table_markdown(result)


def test_decisions_come_with_the_studies_and_are_not_made_again() -> None:
    studies = [study(0, False, decision="flag"), study(1, True, decision="uncertain")]
    result = evaluation(studies)
    assert result["false_alarm_rate"]["value"] == 1 and result["sensitivity"]["value"] == 0
    assert [row["decision"] for row in result["scores"]] == ["flag", "uncertain"]


def test_rule_is_the_calibrated_one_unless_the_run_has_its_own_alpha() -> None:
    studies = [study(0, False), study(1, True)]
    state = calibration(decision=[0.1, 0.95, 0.3], healthy_scores=range(99))
    keys = ("alpha", "flag_level", "confidence", "likely_normal_p")
    told = [evaluation(studies, calibration=state, alpha=alpha) for alpha in (None, 0.05)]
    # by Clopper and Pearson 4 of 99 healthy scores may lie above the threshold at alpha 0.1, and 1 at 0.05
    assert [told[0][key] for key in keys] == [0.1, 0.05, 0.95, 0.3]
    assert [told[1][key] for key in keys] == [0.05, 0.02, 0.95, 0.3]


def test_regions_are_drawn_from_the_map_where_the_study_has_none() -> None:
    with_regions = evaluation([study(seed, seed == 1) for seed in range(2)])
    without = evaluation([study(seed, seed == 1, regions=None) for seed in range(2)])
    assert with_regions["lesions"] == without["lesions"]


def test_abnormal_study_without_a_mask_counts_for_ranking_only(caplog: pytest.LogCaptureFixture) -> None:
    nothing = torch.zeros(1, 20, 20, 1)
    studies = [study(0, False), study(1, True), study(2, True, mask=nothing)]
    result = evaluation(studies)
    assert result["n_abnormal"] == 2 and result["sensitivity"]["value"] == 1
    assert result["lesions"]["n"] == result["ra_detection"]["scale_free"]["n"] == 1
    assert result["pixel"]["prevalence"] == pytest.approx(20 / int((disc(0) > 0.05).sum() + (disc(1) > 0.05).sum()))
    assert (result["pixel"]["n_healthy"], result["pixel"]["n_abnormal"], result["n_without_mask"]) == (1, 1, 1)
    assert "left out of pixels, lesions and boxes | 1 |" in table_markdown(result)
    assert caplog.messages[-1] == (
        "Abnormal studies left out of pixel, lesion and box metrics, as they have no lesion mask or an empty one on "
        "the network's grid (1): case2."
    )


def test_dark_study_is_scored_by_every_baseline_and_does_not_end_the_evaluation() -> None:
    dark = {"image": torch.zeros(1, 20, 20, 1), "foreground": torch.ones(1, 20, 20, 1, dtype=torch.bool)}
    result = evaluation([study(0, False), study(1, True), study(2, False, **dark)], training=6)
    assert result["n_healthy"] == 2 and all(baseline["auroc"] is not None for baseline in result["baselines"].values())


@pytest.mark.parametrize("broken", ["pred", "reconstruction", "image"])
def test_study_that_fails_leaves_nothing_of_itself(broken: str) -> None:
    items = [{"image": disc(100 + i)} for i in range(6)]
    arguments = {"score": StudyScore("max"), "calibration": calibration(), "alpha": None, "synthetic": True}
    handlers = [StudyEvaluation(items, lambda item: item, None, baseline_epochs=1, **arguments) for _ in range(2)]
    for handler in handlers:
        handler.start()
        handler.add(study(0, False))
    with pytest.raises((NomalyError, ValueError)):
        handlers[0].add(study(1, True, **{broken: torch.full((1, 19, 20, 1), float("nan"))}))
    for handler in handlers:
        handler.add(study(1, True))
    first, second = (handler.result() for handler in handlers)
    assert first == second and len(first["scores"]) == 2


def test_lead_over_the_best_baseline_by_pixels_is_paired() -> None:
    result = evaluation([study(seed, lesion=seed % 2 == 1) for seed in range(10)], training=6)
    best = result["best_pixel_baseline"]
    aps = {
        name: baseline["pixel_ap"]["value"] for name, baseline in result["baselines"].items() if baseline["pixel_ap"]
    }
    assert best["name"] == max(aps, key=aps.get)
    assert best["ap_difference"]["value"] == pytest.approx(1 - max(aps.values()))
    assert best["ap_difference"]["low"] <= best["ap_difference"]["value"] <= best["ap_difference"]["high"]


def test_baselines_have_thresholds_of_their_own_from_other_healthy_studies() -> None:
    studies = [study(seed, lesion=seed % 2 == 1) for seed in range(10)]
    healthy = [{"image": disc(200 + i)} for i in range(20)]
    result = evaluation(studies, training=6, healthy=healthy)
    for name, baseline in result["baselines"].items():
        assert baseline["auroc_difference"]["value"] == pytest.approx(1 - baseline["auroc"]["value"])
        assert len(baseline["scores"]) == 10 and baseline["peer"] is False, name
    found = result["baselines"]["mean_image"]  # a square of 0.5 above discs of 0.4 with noise of 0.02
    assert found["false_alarm_rate"]["value"] <= 0.2 and found["sensitivity"]["value"] == 1
    assert found["dice"]["value"] > 0.7 and found["sensitivity_at_1_false_positive"]["value"] == 1
    assert result["baselines"]["brightness"]["dice"] is None
    without = evaluation(studies, training=6)["baselines"]["mean_image"]
    assert without["false_alarm_rate"] is None and without["dice"] is None


def test_baselines_can_be_left_out_and_other_choices_are_refused() -> None:
    assert evaluation([study(0, False), study(1, True)], training=6, baselines="none")["baselines"] == {}
    with pytest.raises(NomalyError, match="baselines must be one of simple, all, none, got 'every'"):
        evaluation([], training=6, baselines="every")


@pytest.mark.parametrize("lesion", [False, True])
def test_sets_of_one_class_are_evaluated_without_an_error(lesion: bool) -> None:
    result = evaluation([study(seed, lesion) for seed in range(3)], training=3)
    assert result["image"]["auroc"] is None and "image.auroc" in result["not_computable"]
    assert (result["pixel"] is None) == (not lesion)
    json.dumps(result, allow_nan=False)


def test_uncalibrated_detector_is_ranked_and_decides_nothing() -> None:
    undecided = {"p_value": None, "decision": None, "regions": None}
    studies = [study(seed, seed == 1, **undecided) for seed in range(3)]
    result = evaluation(studies, calibration=Calibrations())
    assert result["image"]["auroc"]["value"] == 1 and result["n_without_p_value"] == 3
    assert result["false_alarm_rate"] is None and result["lesions"] is None and result["triage"] is None
    assert result["pixel"]["ap"]["value"] == 1 and result["pixel"]["dice"] is None


def test_starting_again_forgets_the_studies() -> None:
    handler = StudyEvaluation([], lambda item: item, None, StudyScore("max"), calibration(), 0.05, False)
    for seed in (0, 1):
        handler.start()
        handler.add(study(seed, False))
    assert [row["case"] for row in handler.result()["scores"]] == ["case1"]


def test_failed_studies_are_counted_and_reported() -> None:
    handler = StudyEvaluation([], lambda item: item, None, StudyScore("max"), calibration(), None, True)
    handler.start()
    for seed in range(6):
        handler.add(study(seed, lesion=False))
    for label in (1, 1, 0):
        handler.fail({"label": label, "error": "broken"})
    result = handler.result()
    assert result["n_failed"] == {"healthy": 1, "abnormal": 2} and result["n_healthy"] == 6
    assert result["not_computable"]["image.auroc"] == "all 2 abnormal studies failed"
    table = table_markdown(result)
    assert "| Failed studies, not counted below | 3 | 1 healthy, 2 abnormal |" in table
    assert "| AUROC | not computable: all 2 abnormal studies failed |" in table


def test_share_that_the_input_check_rejects_is_reported_and_counted_elsewhere() -> None:
    studies = [study(seed, lesion=seed > 3, refusals=["too dark"] if seed == 1 else []) for seed in range(8)]
    result = evaluation(studies)
    # by hand: one of four healthy studies, none of four abnormal ones; Clopper and Pearson's bounds of 1/4
    assert result["input_check"]["healthy"] == {
        "value": 0.25,
        "low": pytest.approx(0.0063, abs=1e-4),
        "high": pytest.approx(0.8059, abs=1e-4),
    }
    assert result["input_check"]["abnormal"]["value"] == 0 and result["n_healthy"] == 4
    assert (
        "| Share of healthy studies that the input check rejects | 0.250 [0.006, 0.806] | 4 healthy; counted in"
        in table_markdown(result)
    )
    assert evaluation([study(0, False), study(1, True)])["input_check"] is None
