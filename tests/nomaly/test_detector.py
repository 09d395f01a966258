"""The Python package: any kind of image, the results of nomaly detect to the last bit, mistakes in one sentence."""

from __future__ import annotations

import json
import random
import shutil
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from golden import GOLDEN, IMAGES
from monai.transforms import LoadImage
from PIL import Image

from custom.runs.tables import read_results_csv
from custom.studies.datalist import load_datalist
from custom.studies.readers import read_study
from dicom import write_film, write_series
from nomaly import Detector, NomalyError, find_studies, load

AFFINE = np.array([[0, 0, 4.0, -50], [-3.0, 0, 0, 60], [0, 3.5, 0, -40], [0, 0, 0, 1]])
SAME = ("score", "p_value", "decision", "note")


@pytest.fixture(scope="session")
def tiny(tiny_bundle, tmp_path_factory):
    """The loaded detector of a tiny bundle, with the input check off; each is made once."""
    loaded: dict[str, Detector] = {}

    def of(bundle: str) -> Detector:
        if bundle not in loaded:
            loaded[bundle] = load(tiny_bundle(bundle, tmp_path_factory.mktemp("bundles") / bundle))
        return loaded[bundle]

    return of


@pytest.fixture
def study(tiny_data):
    """An abnormal test study of a bundle's phantom."""
    return lambda bundle: str(load_datalist(tiny_data(bundle))["test"][-1]["image"])


def assert_same(result, expected) -> None:
    """All numbers are equal, bit for bit."""
    assert result.status == "ok", result
    assert [getattr(result, name) for name in SAME] == [getattr(expected, name) for name in SAME]
    for name in ("map", "reconstruction", "labels"):
        assert np.array_equal(getattr(result, name), getattr(expected, name)), name


@pytest.mark.parametrize("bundle", IMAGES)
def test_shipped_weights_score_as_nomaly_detect_whatever_the_image_is_given_as(bundle, nomaly, tmp_path):
    file = GOLDEN / IMAGES[bundle] / "abnormal_3.png"
    assert nomaly("detect", bundle, file, "--output", tmp_path, input_check=False, write_images=False).code == 0
    [row] = read_results_csv(tmp_path / "results.csv")
    detector = load(bundle, input_check=False)

    from_file = detector(file)

    assert [getattr(from_file, name) for name in SAME] == [getattr(row, name) for name in SAME]
    assert len(from_file.regions) == (row.region_count or 0) and from_file.name == row.study
    picture = Image.open(file)
    array = np.asarray(picture)
    assert from_file.map.shape == array.shape[:2] and from_file.reconstruction.shape == array.shape
    tensor = torch.from_numpy(array.copy())
    for image in (picture, array, array.copy(order="F"), tensor if tensor.ndim == 2 else tensor.movedim(2, 0)):
        assert_same(detector(image), from_file)


@pytest.mark.parametrize("bundle", ["ra_brain", "ra_chest", "memmc_colonoscopy"])
def test_results_folder_is_that_of_nomaly_detect(bundle, tiny, tiny_bundle, study, nomaly, tmp_path):
    detector, folder = tiny(bundle), tiny_bundle(bundle, tmp_path / bundle)
    assert nomaly("detect", folder, study(bundle), "--output", tmp_path / "there").code == 0

    detector(study(bundle)).save(tmp_path / "here")

    here, there = ({p.relative_to(r): p for p in r.rglob("*")} for r in (tmp_path / "here", tmp_path / "there"))
    assert here.keys() == there.keys()
    for name in (name for name in here if name.suffix in (".png", ".gz") or name.name == "regions.csv"):
        assert here[name].read_bytes() == there[name].read_bytes(), name
    [ours], [theirs] = (read_results_csv(files[Path("results.csv")]) for files in (here, there))
    ours.seconds = theirs.seconds
    assert ours == theirs
    runs = [json.loads(files[Path("run.json")].read_text()) for files in (here, there)]
    assert runs[0].keys() == runs[1].keys()
    assert all(runs[0][name] == runs[1][name] for name in ("model_hash", "calibration", "decision_rule", "notes"))


def test_volume_gives_the_same_as_its_file_from_memory(tiny, study):
    detector, path = tiny("ra_brain"), study("ra_brain")
    image = nib.load(path)
    values = np.asarray(image.dataobj)

    expected = detector(path)

    assert expected.map.shape == values.shape and np.allclose(expected.affine, image.affine)
    assert_same(detector(image), expected)
    assert_same(detector(nib.Nifti1Image(values, image.affine)), expected)
    assert_same(detector(values, affine=image.affine), expected)
    assert_same(detector(torch.from_numpy(values.astype(np.float32))[None], affine=image.affine), expected)
    assert_same(detector(LoadImage(ensure_channel_first=True)(path)), expected)
    assert "Only slices" in expected.note and expected.regions[0].unit == "ml"


def test_dicom_series_gives_the_same_as_folder_as_files_and_from_memory(tiny, study, tmp_path):
    detector = tiny("ra_brain")
    values = np.rint(np.asarray(nib.load(study("ra_brain")).dataobj)).astype(np.uint16)
    files = write_series(tmp_path / "series", values, AFFINE)

    expected = detector(tmp_path / "series")

    assert_same(detector([files])[0], expected)
    series = read_study(str(tmp_path / "series"))
    assert_same(detector(series[0].numpy(), affine=series.affine), expected)
    assert expected.map.shape == series.shape[1:]


def test_film_of_dicom_gives_the_same_as_its_pixels_from_memory(tiny, study, tmp_path):
    detector = tiny("ra_chest")
    pixels = np.asarray(Image.open(study("ra_chest"))).astype(np.uint16) * 16 + 100
    file = write_film(tmp_path / "film.dcm", pixels.T)

    expected = detector(str(file))

    assert expected.map.shape == pixels.shape
    assert detector(pixels).score == expected.score and np.array_equal(detector(pixels).map, expected.map)


def test_image_of_simple_itk_gives_the_same_as_its_file(tiny, study, tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    detector = tiny("ra_brain")
    image = sitk.ReadImage(study("ra_brain"))
    sitk.WriteImage(image, str(tmp_path / "head.nrrd"))

    expected, result = detector(tmp_path / "head.nrrd"), detector(image)

    assert result.score == expected.score and result.p_value == expected.p_value
    assert np.array_equal(result.map, expected.map.transpose(2, 1, 0))
    film = sitk.ReadImage(study("ra_chest"))
    assert_same(tiny("ra_chest")(film), tiny("ra_chest")(study("ra_chest")))


def test_list_gives_one_result_per_image_and_reasons_instead_of_an_error(tiny, study, tmp_path):
    detector, path = tiny("ra_chest"), study("ra_chest")
    array = np.asarray(Image.open(path))
    (tmp_path / "broken.png").write_bytes(b"no image")

    results = detector([path, array, np.full((40, 40), np.nan), tmp_path / "broken.png", path])

    assert [result.status for result in results] == ["ok", "ok", "failed", "failed", "ok"]
    assert len({result.name for result in results}) == 5 and results[1].name == "image-2"
    assert "1600 of 1600 are NaN" in results[2].error and "readable PNG" in results[3].error
    assert results[2].score is None and results[2].map is None and results[2].regions == []
    assert results[0].score == results[1].score == results[4].score


def test_studies_of_a_folder_are_found_and_scored(tiny, tiny_data, study, tmp_path):
    detector = tiny("ra_chest")
    for number in range(2):
        shutil.copy(study("ra_chest"), tmp_path / f"{number}.png")

    with pytest.raises(NomalyError, match=r"an image must be one study, but .* holds 2: .* nomaly\.find_studies"):
        detector(tmp_path)
    assert len(detector(find_studies(tmp_path))) == 2


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            np.zeros((2, 40, 40)),
            r"image must have the shape \(rows, columns\) or .*got \(2, 40, 40\): .* its affine\.$",
        ),
        (torch.zeros(40, 40, 3), r"\(1 or 3, rows, columns\), got \(40, 40, 3\)"),
        (np.zeros((0, 40)), r"got \(0, 40\)"),
        (np.zeros((40, 40), complex), "image must hold real numbers, got dtype complex128: convert it"),
        (np.array([["a", "b"]]), "image must hold real numbers, got dtype <U1"),
        (np.full((40, 40), np.inf), "1600 of 1600 are NaN or infinite"),
        (np.ones((40, 40)), "the image must not be constant"),
        (np.arange(9.0).reshape(3, 3), "each in-plane side must have at least"),
        (np.random.default_rng(0).random((40, 40, 3)), "the image must be grey"),
        ({"image": 1}, "image must be a path, a NumPy array, a tensor, or an image of nibabel, .*got dict"),
        (None, "got NoneType"),
        ("gone.png", "file not found"),
    ],
)
def test_image_that_cannot_be_scored_is_refused_in_one_sentence(tiny, image, message):
    with pytest.raises(NomalyError, match=message):
        tiny("ra_chest")(image)


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.eye(3), r"affine must be an invertible matrix of shape \(4, 4\), got \(3, 3\)"),
        (np.zeros((4, 4)), "affine must be an invertible matrix"),
        ("LPS", "affine must be an invertible matrix"),
    ],
)
def test_wrong_affine_is_refused(tiny, affine, message):
    with pytest.raises(NomalyError, match=message):
        tiny("ra_brain")(np.zeros((20, 20, 20)), affine=affine)


def test_affine_is_only_for_arrays(tiny, study):
    with pytest.raises(NomalyError, match="affine is for arrays and tensors, but this Nifti1Image has its own"):
        tiny("ra_brain")(nib.load(study("ra_brain")), affine=np.eye(4))
    with pytest.raises(NomalyError, match="affine is for volumes given as arrays, but this is a path"):
        tiny("ra_brain")(study("ra_brain"), affine=np.eye(4))
    with pytest.raises(NomalyError, match=r"a volume must have the shape \(X, Y, Z\), got \(20, 20\)"):
        tiny("ra_brain")(np.zeros((20, 20)), affine=np.eye(4))


def test_frames_from_0_to_1_are_refused_where_files_have_0_to_255(tiny, study):
    frame = np.asarray(Image.open(study("memmc_colonoscopy")))
    detector = tiny("memmc_colonoscopy")

    with pytest.raises(NomalyError, match="image must have values from 0 to 255, .* multiply them by 255"):
        detector(frame / 255)
    assert detector(frame.astype(float)).score == detector(frame).score


def test_unknown_bundle_and_parameter_are_refused_with_the_nearest():
    with pytest.raises(
        NomalyError, match="bundle must be a bundle's name or path, got ra_chst: did you mean ra_chest?"
    ):
        load("ra_chst")
    with pytest.raises(NomalyError, match="no parameter is called alhpa: did you mean alpha?"):
        load("ra_chest", alhpa=0.1)
    with pytest.raises(NomalyError, match="alpha must be a number|device gpu7"):
        load("ra_chest", device="gpu7")


def test_bundle_is_found_by_name_folder_zip_and_its_weights(tiny_bundle, study, tmp_path):
    folder = tiny_bundle("ra_chest", tmp_path / "ra_chest")
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        for file in (file for file in folder.rglob("*") if file.is_file()):
            archive.write(file, file.relative_to(tmp_path))
    sources = [folder, str(folder), tmp_path / "packed.zip", folder / "models" / "model.pt"]

    scores = {load(source)(study("ra_chest")).score for source in sources}

    assert len(scores) == 1
    other = shutil.copy(folder / "models" / "model.pt", tmp_path / "own.pt")
    assert load(folder, weights=other)(study("ra_chest")).score in scores
    with pytest.raises(NomalyError, match="is not a bundle: name the bundle, and give this file as weights"):
        load(other)


def test_calibration_of_a_site_is_used(tiny_bundle, tiny_data, nomaly, tmp_path):
    folder = tiny_bundle("ra_chest", tmp_path / "ra_chest")
    words = ("--dataset_dir", tiny_data("ra_chest"), "--output", tmp_path / "site")
    network = {"image_size": 32, "channels": [4, 8], "latent_size": 8}
    assert nomaly("calibrate", folder, *words, alpha=0.5, likely_normal_p=0.6, **network).code == 0

    at_site = load(folder, calibration=tmp_path / "site", alpha=None)._scorer

    assert at_site.alpha == 0.5 and load(folder, alpha=None)._scorer.alpha == 0.2


def test_parameters_of_a_training_are_taken_from_its_weights(trained, tiny, study):
    loaded = load("ra_chest", weights=trained("ra_chest") / "models" / "model.pt", input_check=False)

    assert loaded(study("ra_chest")).score == tiny("ra_chest")(study("ra_chest")).score


def test_random_numbers_of_the_caller_stay_as_they_were(tiny_bundle, tmp_path):
    folder = tiny_bundle("ra_chest", tmp_path / "ra_chest")

    def numbers() -> list[float]:
        return [random.random(), np.random.random(), float(torch.rand(1))]

    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    expected = numbers()
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    load(folder)
    assert numbers() == expected


def test_detector_describes_itself(tiny):
    detector = tiny("ra_chest")

    assert repr(detector) == "Detector('ra_chest', device='cpu', calibrated)"
    assert detector.thresholds["image"] > 0 and "intended_use" in detector.metadata
