"""A bundle for one study at a time: the same results as nomaly detect, options, and what cannot be assessed."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from custom import __version__
from custom.calibration.decision import DecisionRule
from custom.commands.bundle import BUNDLES
from custom.errors import NomalyError
from custom.label.study_detector import StudyDetector, check_options, read_threshold
from custom.runs.notes import PHANTOM, WEIGHTS
from custom.runs.tables import read_results_csv
from tiny import ALPHA_OF_FINDINGS, Rejects


def study_of(data: Path, number: int = -1) -> Path:
    """A test study of a data set."""
    return data / json.loads((data / "datalist.json").read_text())["test"][number]["image"]


@pytest.fixture(scope="module")
def make_detector(trained, tiny_network):
    """A detector of a tiny bundle."""

    def make(bundle: str, **parameters) -> StudyDetector:
        weights = trained(bundle) / "models" / "model.pt"
        settings = {"input_check": False, "alpha": ALPHA_OF_FINDINGS, **tiny_network(bundle), **parameters}
        return StudyDetector(BUNDLES / bundle, weights, **settings)

    return make


@pytest.fixture(scope="module")
def heads(make_detector) -> StudyDetector:
    """Of heads, which are volumes."""
    return make_detector("ra_brain")


@pytest.fixture(scope="module")
def films(make_detector) -> StudyDetector:
    """Detector of chest films, which are 2-D images."""
    return make_detector("ra_chest")


@pytest.fixture(scope="module")
def film(tiny_data) -> str:
    """A chest film."""
    return str(study_of(tiny_data("ra_chest")))


@pytest.fixture(scope="module")
def film_map(films, film, tmp_path_factory) -> np.ndarray:
    """The map of the film, on its grid."""
    file, _ = films(film, tmp_path_factory.mktemp("map"), output="map")
    picture = Image.open(file)
    return np.asarray(picture) * float(picture.info["nomaly_scale"]) + float(picture.info["nomaly_offset"])


@pytest.mark.parametrize("bundle", ["ra_brain", "ra_chest"])
def test_result_is_that_of_nomaly_detect(bundle, make_detector, trained, tiny_network, tiny_data, nomaly, tmp_path):
    study, weights = study_of(tiny_data(bundle)), trained(bundle) / "models" / "model.pt"
    parameters = {"weights": weights, "input_check": False, "alpha": ALPHA_OF_FINDINGS, **tiny_network(bundle)}
    assert nomaly("detect", bundle, study, "--output", tmp_path / "run", **parameters).code == 0
    [row] = read_results_csv(tmp_path / "run" / "results.csv")
    run = json.loads((tmp_path / "run" / "run.json").read_text())

    mask, answer = make_detector(bundle)(str(study), tmp_path / "label")
    map_, _ = make_detector(bundle)(str(study), tmp_path / "map", output="map")

    same = ("score", "p_value", "decision", "region_count", "region_unit", "note")
    assert [answer[name] for name in same] == [getattr(row, name) for name in same]
    assert ("Only slices" in answer["note"]) == (bundle == "ra_brain")
    assert answer["region_size"] == pytest.approx(row.region_size, rel=1e-12)
    assert answer["model_hash"] == run["model_hash"]
    mask_there, map_there = (tmp_path / "run" / row.study / file.name for file in (mask, map_))
    if bundle == "ra_brain":
        for here, there in ((mask, mask_there), (map_, map_there)):
            assert np.array_equal(nib.load(here).get_fdata(), nib.load(there).get_fdata())
            assert np.array_equal(nib.load(here).affine, nib.load(study).affine)
    else:
        assert map_.read_bytes() == map_there.read_bytes()
        assert np.array_equal(np.asarray(Image.open(mask)) == 1, np.asarray(Image.open(mask_there)) == 255)


def test_only_significant_regions_are_counted_and_marked_and_all_are_listed(films, film, tmp_path, monkeypatch):
    strongest, second = (region["mass"] for region in films(film, tmp_path, output="map")[1]["regions"][:2])
    healthy = torch.tensor([(strongest + second) / 2, 0, 0, 0, 0], dtype=torch.float64)
    monkeypatch.setattr(films.evaluator.network.calibration.image, "healthy_masses", healthy)
    monkeypatch.setattr(films.evaluator, "decision_rule", DecisionRule(0.2))

    file, answer = films(film, tmp_path)

    assert [region["p_value"] for region in answer["regions"]][:2] == pytest.approx([1 / 6, 2 / 6])
    size = answer["regions"][0]["size"]
    assert (answer["region_count"], answer["region_size"]) == (1, size)
    assert (np.asarray(Image.open(file)) > 0).sum() == size


def test_regions_end_where_the_body_ends(films, film, tmp_path, monkeypatch):
    score_study = films.score_study

    def cut(image):
        study = score_study(image)
        study["foreground"] = torch.zeros_like(study["foreground"])
        return study

    monkeypatch.setattr(films, "score_study", cut)
    assert films(film, tmp_path)[1]["regions"] == []


def test_mask_of_a_study_without_a_p_value_is_refused_rather_than_empty(films, film, tmp_path, monkeypatch):
    calibration = films.evaluator.network.calibration.image
    plane = calibration.plane.clone()
    monkeypatch.setattr(calibration, "plane", plane * 9)

    with pytest.raises(
        NomalyError, match=r"output mask, as this study has no p-value and .* \(No p-value: calibrated on"
    ):
        films(film, tmp_path)
    for output in ("map", "bands"):
        _, answer = films(film, tmp_path, output=output)
        assert (answer["p_value"], answer["region_count"], answer["region_size"]) == (None, None, None)
    assert films(film, tmp_path, threshold=0.001)[1]["region_count"] is not None


def test_mask_of_a_two_dimensional_image_has_the_numbers_of_labels(films, film, film_map, tmp_path):
    file, answer = films(film, tmp_path, threshold=float(np.median(film_map)))

    assert set(np.unique(Image.open(file))) == {0, 1}
    assert answer["label_names"] == {"anomaly": 1}


def test_bands_count_multiples_of_the_threshold(films, film, film_map, tmp_path):
    file, answer = films(film, tmp_path, output="bands")

    edges = np.array([0.5, 1, 2, 4]) * answer["threshold"]
    expected = (film_map[..., None] > edges).sum(-1)
    # the map's file has 16 bits, so that a pixel on an edge may fall to either side
    assert (np.asarray(Image.open(file)) != expected).mean() < 0.01
    assert list(answer["label_names"].values()) == [1, 2, 3, 4]


def test_threshold_of_the_user_moves_regions_and_leaves_the_decision(films, film, film_map, tmp_path):
    _, usual = films(film, tmp_path)

    file, answer = films(film, tmp_path, threshold=str(float(np.median(film_map))))

    assert np.asarray(Image.open(file)).mean() > 0.3
    assert answer["threshold"] == np.median(film_map)
    assert [answer[name] for name in ("score", "p_value", "decision")] == [
        usual[name] for name in ("score", "p_value", "decision")
    ]
    assert {region["p_value"] for region in answer["regions"]} == {None}
    assert "your own threshold" in answer["note"] and "your own threshold" not in usual["note"]


def test_no_region_is_over_a_threshold_above_the_map(films, film, tmp_path):
    file, answer = films(film, tmp_path, threshold=1e6)

    assert not np.asarray(Image.open(file)).any()
    assert (answer["region_count"], answer["region_size"], answer["regions"]) == (0, 0, [])


def test_answer_is_plain_json(heads, tiny_data, tmp_path):
    _, answer = heads(str(study_of(tiny_data("ra_brain"))), tmp_path)

    assert json.loads(json.dumps(answer, allow_nan=False)) == answer
    assert answer["regions"] and set(answer["regions"][0]) >= {"size", "unit", "x", "y", "z", "peak", "p_value"}


def test_volumes_make_three_dimensions_and_films_two(heads, films):
    assert (heads.dimension, films.dimension) == (3, 2)


def test_second_study_knows_nothing_of_the_first(films, film, tiny_data, tmp_path):
    _, first = films(film, tmp_path)
    _, other = films(str(study_of(tiny_data("ra_chest"), 0)), tmp_path)
    _, again = films(film, tmp_path)

    assert other["score"] != first["score"]
    assert {**again, "seconds": 0} == {**first, "seconds": 0}


def test_uncalibrated_detector_gives_its_map_and_asks_for_a_threshold(train_tiny, tiny_network, tiny_data, tmp_path):
    assert train_tiny("ra_chest", tiny_data("ra_chest"), tmp_path / "run").code == 0
    weights = tmp_path / "run" / "models" / "model.pt"
    detector = StudyDetector(BUNDLES / "ra_chest", weights, **tiny_network("ra_chest"))
    film = str(study_of(tiny_data("ra_chest")))

    with pytest.raises(NomalyError, match="threshold must be given for output mask, as this detector is not calib"):
        detector(film, tmp_path)
    file, answer = detector(film, tmp_path, output="map")
    assert file.name == "map.png" and answer["threshold"] is None and answer["p_value"] is None
    assert detector(film, tmp_path, threshold=0.001)[1]["region_count"] is not None


def test_failed_study_has_a_reason_without_its_path(films, tmp_path):
    file = tmp_path / "Doe_John.png"
    file.write_bytes(b"no image")

    with pytest.raises(NomalyError, match="^the file must be a readable PNG") as failure:
        films(str(file), tmp_path)
    assert "Doe" not in str(failure.value)


def test_study_that_the_input_check_rejects_has_a_reason(films, film, tmp_path, monkeypatch):
    monkeypatch.setattr(films.evaluator, "input_check", Rejects("it shows a hand", "it is upside down"))
    monkeypatch.setattr(films.evaluator, "score_all", False)  # the input check of these films is off

    with pytest.raises(NomalyError, match=r"^Not assessable: it shows a hand; it is upside down\.$"):
        films(film, tmp_path)


def test_study_scored_despite_the_input_check_has_a_note(films, film, tmp_path, monkeypatch):
    monkeypatch.setattr(films.evaluator, "input_check", Rejects("it shows a hand"))

    _, answer = films(film, tmp_path, threshold=0.001)

    assert answer["note"].startswith(
        "Scored although the input check rejects it: it shows a hand. The regions are above your own thr"
    )


def test_phantoms_and_weights_that_have_seen_nothing_else_are_warned_of(films, film, trained, tiny_network, tmp_path):
    elsewhere = shutil.copy(film, tmp_path / "film.png")
    weights = Path(shutil.copy(trained("ra_chest") / "models" / "model.pt", tmp_path))
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    (tmp_path / "provenance.json").write_text(json.dumps({"synthetic_training": True, "sha256": digest}))
    of_phantoms = StudyDetector(BUNDLES / "ra_chest", weights, input_check=False, **tiny_network("ra_chest"))

    assert films(film, tmp_path / "1")[1]["warnings"] == [PHANTOM]
    assert films(elsewhere, tmp_path / "2")[1]["warnings"] == []
    assert of_phantoms(elsewhere, tmp_path / "3")[1]["warnings"] == of_phantoms.warnings == [WEIGHTS]


def test_configs_of_another_release_are_refused(trained, tiny_network, tmp_path):
    folder = tmp_path / "ra_chest"
    shutil.copytree(BUNDLES / "ra_chest" / "configs", folder / "configs")
    config = folder / "configs" / "inference.json"
    config.write_text(config.read_text().replace("custom.scoring.score.StudyScore", "custom.scoring.score.OldScore"))

    with pytest.raises(NomalyError, match=f"must be for Nomaly {__version__}, but its configs cannot be used .*Old"):
        StudyDetector(folder, trained("ra_chest") / "models" / "model.pt", **tiny_network("ra_chest"))


@pytest.mark.parametrize("threshold", [None, "", " Calibrated "])
def test_calibrated_threshold_is_the_default(threshold):
    assert read_threshold(threshold) is None


@pytest.mark.parametrize("threshold", ["high", 0, -1.0, "nan", "inf", True, [1], {}])
def test_other_thresholds_must_be_positive_numbers(threshold):
    with pytest.raises(NomalyError, match='threshold must be a number above 0 or "calibrated", got'):
        read_threshold(threshold)


def test_unknown_output_is_refused(films, film, tmp_path):
    with pytest.raises(NomalyError, match="output must be one of mask, bands, map, got 'heat'"):
        films(film, tmp_path, output="heat")


def test_missing_and_other_weights_are_refused(tmp_path, trained):
    with pytest.raises(NomalyError, match="Train the bundle first"):
        StudyDetector(BUNDLES / "ra_chest", tmp_path / "model.pt")
    with pytest.raises(NomalyError, match="must be of the bundle ra_chest"):
        StudyDetector(BUNDLES / "ra_chest", trained("ra_brain") / "models" / "model.pt")


def test_parameters_of_a_training_are_taken_from_its_weights(trained, films):
    detector = StudyDetector(BUNDLES / "ra_chest", trained("ra_chest") / "models" / "model.pt")

    assert detector.model_hash == films.model_hash


def test_nothing_learns_while_serving(films, film, tmp_path):
    before = {name: value.clone() for name, value in films.evaluator.network.state_dict().items()}

    films(film, tmp_path)

    assert all(torch.equal(value, before[name]) for name, value in films.evaluator.network.state_dict().items())


@pytest.mark.parametrize(
    "name, meant",
    [("treshold", "threshold"), ("Threshold", "threshold"), ("thresh", "threshold"), ("outputs", "output")],
)
def test_misspelt_option_is_refused(name, meant):
    with pytest.raises(NomalyError, match=f"^{name} is not an option: did you mean {meant}\\?$"):
        check_options({"image": "film", name: 1})


def test_what_viewers_add_is_no_misspelling():
    own = ("model", "image", "label", "session", "client_id", "result_extension", "result_dtype", "result_compress")
    check_options(dict.fromkeys((*own, "label_info", "label_tag", "save_label", "timeout", "threshold", "output")))
