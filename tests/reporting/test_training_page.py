"""The page about a training: its figures by hand, its pictures, and the command that follows."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from trainings import TRAINING, history, picture

from custom.commands.bundle import BUNDLES
from custom.reporting.training_curves import epochs_svg
from custom.reporting.training_history import FittedStatistics, TrainingHistory
from custom.reporting.training_page import (
    changed_settings,
    picture_columns,
    training_sentence,
    write_training_page,
)
from custom.reporting.wording import duration
from pages import Page

VALIDATIONS = {2: (0.6, 20.0), 4: (0.9, 8.0), 6: (0.8, 9.0), 8: (0.7, 8.5)}


def page(tmp_path: Path, made: TrainingHistory, finished: bool = True, **changes) -> Page:
    write_training_page(tmp_path / "training.html", replace(TRAINING, **changes), made, finished)
    return Page((tmp_path / "training.html").read_text())


def test_page_is_one_file_that_loads_nothing(tmp_path: Path) -> None:
    shown = page(tmp_path, history(VALIDATIONS, pictures=[picture(), picture("opacity")]))
    sources = [attributes["src"] for _, attributes in shown.elements if "src" in attributes]
    assert sources and all(source.startswith("data:image/webp;base64,") for source in sources)
    assert not [attributes for _, attributes in shown.elements if "href" in attributes]
    assert "script" not in {name for name, _ in shown.elements}


def test_training_whose_epochs_are_done_says_that_the_statistics_are_fitted() -> None:
    made = history(VALIDATIONS)  # 8 epochs
    assert training_sentence(made, 8, False).startswith("Running: 8 of 8 epochs in 16 s. The comparison with healthy ")
    assert training_sentence(made, 9, False).startswith("Running: 8 of 9 epochs in 16 s. Best is")


def test_sentence_and_cards_name_the_chosen_epoch_its_figures_and_the_time(tmp_path: Path) -> None:
    shown = page(tmp_path, history(VALIDATIONS))
    # 8 epochs of 1 s and 4 validations of 2 s
    assert (
        "Finished: 8 epochs in 16 s. Best is the network of epoch 4: healthy error 8 (PCA with eight components: "
        "10), synthetic AUROC 0.900." in shown.text
    )
    words = " ".join(shown.text.split())
    assert "Chosen epoch 4 8 of 8 epochs trained, 4 validated" in words
    assert "Images per second 10 Training" in words and "Time 16 s 1.0 s per epoch" in words
    assert "training 50; validation 40; test 20, of which 12 abnormal" in words
    assert "mean image: 22; PCA, 8: 10; PCA, 32: 6" in words


@pytest.mark.parametrize(
    ("epochs", "finished", "words"),
    [
        (8, True, "Finished: 8 epochs in 16 s."),
        (6, True, "Finished: 6 epochs of 8, ended early, in 12 s."),
        (6, False, "Running: 6 of 8 epochs in 12 s."),
    ],
)
def test_sentence_tells_running_finished_and_ended_early(epochs: int, finished: bool, words: str) -> None:
    validations = {number: value for number, value in VALIDATIONS.items() if number <= epochs}
    assert training_sentence(history(validations), 8, finished).startswith(words)


def test_pictures_are_of_the_first_middle_chosen_and_last_validation(tmp_path: Path) -> None:
    made = history({**VALIDATIONS, 10: (0.6, 9.0)}, pictures=[picture(), picture("ground_glass")])
    assert picture_columns(made) == [(2, "first"), (4, "chosen"), (6, ""), (10, "last")]
    shown = page(tmp_path, made)
    titles = re.findall(r"Healthy study \d|Synthetic lesion: [a-z ]+", shown.text)
    assert titles == ["Healthy study 1", "Synthetic lesion: ground glass"]
    assert sum(name == "img" for name, _ in shown.elements) == 2 * (1 + 2 * 4)


def test_uncalibrated_detector_gets_the_command_that_calibrates_it(tmp_path: Path) -> None:
    shown = page(tmp_path, history(VALIDATIONS))
    assert "None yet: a trained detector is not calibrated" in shown.text
    command = "nomaly calibrate my/bundle --dataset_dir 'my data' --weights run/models/model.pt --output run/models/"
    assert f"{command}calibration" in shown.text
    shipped = replace(TRAINING, bundle=str(BUNDLES / "ra_brain"), dataset_dir=None, settings={"spatial_dims": 3})
    assert shipped.calibration.startswith("nomaly calibrate ra_brain --overlay inference_3d --weights ")


def test_settings_that_differ_are_listed_and_expressions_left_out() -> None:
    settings = {"a": [1, 2], "b": 2, "c": True, "d": 5, "e": None}
    defaults = {"a": [1, 3], "b": 2, "c": False, "d": "$@b + 1"}
    assert changed_settings(settings, defaults) == [("a", "1, 2", "1, 3"), ("c", "yes", "no")]
    assert changed_settings({"new": 1}, {}) == [("new", "1", "not in the bundle's config")]


def test_statistics_are_told_once_they_are_fitted(tmp_path: Path) -> None:
    made = history(VALIDATIONS)
    assert "They are fitted at the end of the training" in page(tmp_path, made).text
    parts = {"volumes": {"studies": 12, "mean": {"map": 0.5}, "deviation": {"map": 0.125}}}
    made.fitted = FittedStatistics(2000, parts, ["no latent codes"], 30.0)
    words = " ".join(page(tmp_path, made).text.split())
    assert "distance of codes: 2000 healthy training images" in words
    assert "Volumes 12 Map 0.500 0.125" in words and "Not fitted: no latent codes" in words


def test_change_of_phase_is_drawn_in_curves_that_cross_it(tmp_path: Path) -> None:
    assert "Dotted: end of the warm-up" in page(tmp_path, history(VALIDATIONS, warmup=4)).text
    assert "Dotted" not in page(tmp_path, history(VALIDATIONS)).text


def test_names_are_escaped(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>"
    shown = page(tmp_path, history(VALIDATIONS, pictures=[picture(evil)]), title=evil, notes=[evil], dataset_dir=evil)
    assert "script" not in {name for name, _ in shown.elements}


# Curves


def test_curve_goes_through_its_points_on_a_linear_axis() -> None:
    drawing = ElementTree.fromstring(epochs_svg("Loss", [(1, 1.0), (3, 2.0), (5, 1.5)], chosen=3))
    # 250 wide from 58, 150 high from 14; values from 1 to 2
    assert drawing.find("polyline").get("points") == "58.0,164.0 183.0,14.0 308.0,89.0"
    (chosen,) = [mark for mark in drawing.findall("circle") if mark.get("r") == "5"]
    assert (chosen.get("cx"), chosen.get("cy"), chosen.find("title").text) == ("183.0", "14.0", "chosen, epoch 3: 2")


def test_axis_of_values_that_differ_much_is_logarithmic() -> None:
    drawing = ElementTree.fromstring(epochs_svg("Loss", [(1, 100.0), (2, 10.0), (3, 1.0)]))
    assert drawing.find("polyline").get("points") == "58.0,14.0 183.0,89.0 308.0,164.0"
    labels = {each.text for each in drawing.findall("text")}
    assert {"1", "10", "100"} <= labels


@pytest.mark.parametrize("points", [[(1, 0.0)], [(1, 5.0), (2, 5.0)], [(4, -1e-9), (5, 1e9)], [(1, 1e-30), (2, 1e30)]])
def test_degenerate_curves_are_drawn(points) -> None:
    assert not re.search(r"nan|inf\b", epochs_svg("Loss", points))


def test_values_that_are_not_finite_are_left_out_and_nothing_is_drawn_without_any() -> None:
    drawing = ElementTree.fromstring(epochs_svg("Error", [(1, float("inf")), (2, 1.0)], levels={"PCA": float("nan")}))
    assert len(drawing.find("polyline").get("points").split()) == 1
    assert epochs_svg("Error", [(1, float("nan"))]) == ""


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.04, "0.0 s"), (9.9, "9.9 s"), (59.6, "1 min 0 s"), (61, "1 min 1 s"), (7380, "2 h 3 min")]
)
def test_duration_in_its_two_largest_units(seconds: float, words: str) -> None:
    assert duration(seconds) == words
