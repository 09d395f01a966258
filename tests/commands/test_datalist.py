"""Data sets from folders: sections by patient, near-duplicates together, masks by name, and what cannot be used."""

from __future__ import annotations

import json
import re
import shutil
from collections import defaultdict
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from custom.commands.bundle import BUNDLES
from custom.commands.folder_options import add_training_folders
from custom.commands.options import OptionParser
from custom.studies.datalist import load_datalist
from custom.studies.duplicates import near_duplicates
from custom.studies.splitting import Member, split, united
from dicom import write_film, write_series

RANDOM = np.random.default_rng(0)


def picture(path: Path, values: np.ndarray | None = None) -> Path:
    """Save an image of noise that no other one resembles."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = RANDOM.integers(0, 255, (8, 8)).astype(np.uint8) if values is None else values
    Image.fromarray(values).resize((64, 64), Image.Resampling.BICUBIC).save(path)
    return path


def datalist_of(folder: Path) -> dict[str, list]:
    """The checked sections of a data set."""
    return load_datalist(folder, required=())


@pytest.fixture
def films(tmp_path) -> Path:
    """Forty healthy films of twenty patients."""
    for number in range(40):
        picture(tmp_path / "healthy" / f"p{number // 2:02}" / f"film{number % 2}.png")
    return tmp_path / "healthy"


def test_each_patient_is_in_one_section_and_the_draw_can_be_repeated(films, nomaly, tmp_path):
    words = ("datalist", films, "--subject", r"p\d+")
    assert nomaly(*words, "--output", tmp_path / "a").code == 0
    done = nomaly(*words, "--output", tmp_path / "b")
    other = nomaly(*words, "--output", tmp_path / "c", "--seed", "1")

    sections = datalist_of(tmp_path / "a")
    assert {name: len(items) for name, items in sections.items()} == {
        "training": 24,
        "validation": 4,
        "calibration": 8,
        "test": 4,
    }
    places = defaultdict(set)
    for name, items in sections.items():
        for item in items:
            places[item["subject"]].add(name)
    assert len(places) == 20 and all(len(found) == 1 for found in places.values())
    first, second, third = ((tmp_path / name / "datalist.json").read_text() for name in "abc")
    assert first == second != third and other.code == 0
    assert "training     24 healthy, of 12 patients" in done.out and "need 19 calibration studies" in done.out
    assert Path(sections["training"][0]["image"]).resolve().is_relative_to(films)


def test_patients_are_found_by_bids_and_by_dicom_without_writing_the_patient_id(nomaly, tmp_path):
    for subject in range(4):
        for run in range(2):
            path = tmp_path / "bids" / f"sub-{subject:02}" / "anat" / f"sub-{subject:02}_run-{run}_T1w.nii.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(RANDOM.random((8, 8, 8)).astype(np.float32), np.eye(4)), path)
            shutil.copy(path, path.with_name(path.name.replace("T1w", "bold")))
    (tmp_path / "bids" / "dataset_description.json").write_text("{}")
    picture(tmp_path / "bids" / "derivatives" / "sub-00" / "x_T1w.png")
    words = ("--only", "*_T1w.*", "--output", tmp_path / "heads")
    assert nomaly("datalist", tmp_path / "bids", *words).code == 0
    items = [item for section in datalist_of(tmp_path / "heads").values() for item in section]
    assert sorted(item["subject"] for item in items) == sorted([f"sub-{n:02}" for n in range(4)] * 2)

    for number in range(8):
        pixels = RANDOM.integers(0, 4000, (32, 32)).astype(np.uint16)
        (tmp_path / "dicom").mkdir(exist_ok=True)
        write_film(tmp_path / "dicom" / f"{number}.dcm", pixels, PatientID=f"DOE{number // 2}")
    done = nomaly("datalist", tmp_path / "dicom", "--output", tmp_path / "films")
    items = [item for section in datalist_of(tmp_path / "films").values() for item in section]
    assert len({item["subject"] for item in items}) == 4 and "state" not in done.out
    assert "DOE" not in (tmp_path / "films" / "datalist.json").read_text()


def test_series_are_folders_or_links_to_their_files(nomaly, tmp_path):
    for number in range(3):
        write_series(
            tmp_path / "dicom" / f"own{number}", RANDOM.integers(0, 99, (16, 16, 3)).astype(np.uint16), np.eye(4)
        )
    for number in range(2):
        volume = RANDOM.integers(0, 99, (16, 16, 3)).astype(np.uint16)
        for file in write_series(tmp_path / "made", volume, np.eye(4)):
            (tmp_path / "dicom" / "shared").mkdir(exist_ok=True)
            file.rename(tmp_path / "dicom" / "shared" / f"{number}-{file.name}")

    done = nomaly("datalist", tmp_path / "dicom", "--subject", "own.|shared", "--output", tmp_path / "data")

    assert done.code == 0, done.err
    items = [item for section in datalist_of(tmp_path / "data").values() for item in section]
    images = sorted(Path(item["image"]).relative_to(tmp_path / "data").parts[0] for item in items)
    assert images == ["healthy"] * 3 + ["series"] * 2
    assert all(len(list(Path(item["image"]).iterdir())) == 3 for item in items)


def test_abnormal_studies_are_tested_with_their_masks_and_all_studies_of_their_patients(films, nomaly, tmp_path):
    for name in ("p00", "x", "y"):
        picture(tmp_path / "abnormal" / name / "lesion.png")
    picture(tmp_path / "masks" / "p00" / "lesion_mask.png")
    picture(tmp_path / "masks" / "x" / "lesion.png")
    words = ("--abnormal", tmp_path / "abnormal", "--lesion_masks", tmp_path / "masks", "--subject", r"^[^/]+")

    done = nomaly("datalist", films, *words, "--output", tmp_path / "data")

    sections = datalist_of(tmp_path / "data")
    abnormal = [item for item in sections["test"] if item["label"]]
    assert {item["subject"]: "mask" in item for item in abnormal} == {"p00": True, "x": True, "y": False}
    assert sum(item["subject"] == "p00" for item in sections["test"]) == 3
    assert not any(item["label"] for name in ("training", "validation", "calibration") for item in sections[name])
    assert "3 abnormal (2 with a mask)" in done.out


def test_copies_of_an_image_are_found_reported_and_kept_in_one_section(films, nomaly, tmp_path):
    original = Image.open(films / "p03" / "film0.png")
    original.resize((48, 48)).save(films / "copy.jpg", quality=70)
    Image.fromarray((np.asarray(original) * 0.8 + 9).astype(np.uint8)).save(films / "darker.png")

    done = nomaly("datalist", films, "--output", tmp_path / "data")

    assert "3 pairs of nearly the same image: kept in one section" in done.out
    assert "healthy/copy.jpg = healthy/p03/film0.png" in done.out
    place = {
        Path(i["image"]).name + i["subject"]: name for name, s in datalist_of(tmp_path / "data").items() for i in s
    }
    subjects = [key for key in place if key.startswith(("copy.jpg", "darker.png"))]
    assert len({place[key] for key in subjects}) == 1
    assert near_duplicates([films / "p01" / "film0.png", films / "p02" / "film0.png", tmp_path / "gone.png"]) == []


def test_copy_that_is_healthy_and_abnormal_is_told(films, nomaly, tmp_path):
    (tmp_path / "abnormal").mkdir()
    shutil.copy(films / "p05" / "film1.png", tmp_path / "abnormal" / "a.png")
    done = nomaly("datalist", films, "--abnormal", tmp_path / "abnormal", "--output", tmp_path / "data")
    assert "1 of them is both healthy and abnormal: check these studies." in done.out


def test_folders_inside_one_another_are_told_apart(films, nomaly, tmp_path):
    picture(films / "sick" / "a.png"), picture(films / "sick" / "masks" / "a.png")
    words = ("--abnormal", films / "sick", "--lesion_masks", films / "sick" / "masks", "--output", tmp_path / "data")
    assert nomaly("datalist", films, *words).code == 0
    items = [item for section in datalist_of(tmp_path / "data").values() for item in section]
    assert len(items) == 41 and sum(item["label"] for item in items) == 1


def test_training_takes_folders_and_keeps_their_data_set(films, train_tiny, nomaly, tiny_network, tmp_path):
    words = {"max_epochs": 1, "warmup_epochs": 1, "val_interval": 1, "batch_size": 4, **tiny_network("ra_chest")}
    command = ("train", "ra_chest", "--healthy", films, "--output", tmp_path / "run")

    first, second = nomaly(*command, **words), nomaly(*command, **words)

    assert (first.code, second.code) == (0, 0), first.err
    assert (tmp_path / "run" / "models" / "model.pt").is_file()
    assert "Data set: " in first.out and "of an earlier call" in second.out
    assert len(datalist_of(tmp_path / "run" / "data")["training"]) == 24


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["HERE/gone", "--output", "HERE/o"], "--healthy must be a folder, but .*gone is not one"),
        (["HERE/healthy", "--output", "HERE/healthy/o"], "--output must be outside of .*healthy"),
        (["HERE/healthy", "--output", "HERE/o", "--lesion_masks", "HERE"], "--lesion_masks needs --abnormal"),
        (["HERE/healthy", "--output", "HERE/o", "--only", "*.tif"], "no study was found in .* that matches --only"),
        (["HERE/healthy", "--output", "HERE/o", "--subject", "("], "--subject must be a regular expression, got"),
        (["HERE/healthy", "--output", "HERE/o", "--subject", "q"], "--subject must match every study, but q does not"),
        (["HERE/healthy", "--output", "HERE/o", "--subject", "p0"], "--subject must match|at least 4 patients"),
        (["HERE/healthy", "--output", "HERE/o", "--shares", "1", "1", "0", "0"], "--shares must be four numbers"),
        (["HERE/healthy", "--output", "HERE/o", "--sede", "1"], "datalist has no option --sede: did you mean --seed"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(films, nomaly, tmp_path, words, message):
    done = nomaly("datalist", *(word.replace("HERE", str(tmp_path)) for word in words))
    assert done.code == 2 and re.search(message, done.err), done.err
    assert not (tmp_path / "o" / "datalist.json").exists()


def test_existing_data_sets_are_replaced_only_on_request(films, nomaly, tmp_path):
    assert nomaly("datalist", films, "--output", tmp_path / "data").code == 0
    assert "already has a datalist.json" in nomaly("datalist", films, "--output", tmp_path / "data").err
    assert nomaly("datalist", films, "--output", tmp_path / "data", "--overwrite", "--seed", "3").code == 0
    again = nomaly("datalist", tmp_path / "data", "--output", tmp_path / "more")
    assert again.code == 2 and "give it as --dataset_dir" in again.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--healthy", "h", "--dataset_dir", "d", "--output", "o"], "must not both be given"),
        (["--healthy", "h"], "--healthy needs --output"),
        (["--abnormal", "a", "--output", "o"], "--abnormal needs --healthy"),
    ],
)
def test_training_folders_that_exclude_each_other_are_refused(nomaly, words, message):
    done = nomaly("train", "ra_chest", *words)
    assert done.code == 2 and message in done.err


def test_calibration_has_enough_studies_for_decisions_where_the_data_allow_it():
    def counts(studies: int) -> dict[str, int]:
        sections = split([Member(str(n), str(n), False) for n in range(studies)])
        return {name: sections.count(name) for name in ("training", "validation", "calibration", "test")}

    assert counts(70) == {"training": 37, "validation": 7, "calibration": 19, "test": 7}
    assert counts(20) == {"training": 12, "validation": 2, "calibration": 4, "test": 2}
    assert counts(1000)["calibration"] == 200


def test_pairs_unite_subjects_also_over_several_steps():
    assert united(["a", "b", "c", "d"], [(0, 1), (1, 2)]) == ["a", "a", "a", "d"]


def test_no_option_for_folders_hides_a_parameter_of_a_training() -> None:
    parser = OptionParser()
    add_training_folders(parser)
    options = {option.lstrip("-") for option in parser.names()} - {"help"}
    configs = [json.loads(path.read_text()) for path in BUNDLES.glob("*/configs/train*.json")]
    assert len(options) == 5 and not [options & config.keys() for config in configs if options & config.keys()]
