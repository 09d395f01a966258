"""nomaly export: every format says what the detector says; what is refused, and what is told of the files."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from custom.commands import export
from custom.detector.weights import read_tensors, save_tensors
from custom.export import formats, parity
from custom.export.formats import FILES, PACKAGES, load_runner

BUNDLES = ("ra_brain", "memmc_pneumonia")  # one of each method; a volume and a film
MISSING = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
FORMATS = [
    pytest.param("onnx", marks=pytest.mark.skipif(bool(MISSING), reason=f"{MISSING} not installed: .[export]")),
    "torchscript",
    "torch_export",
]


pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def words(trained, tiny_data, tiny_network) -> Callable[..., dict]:
    """Parameters of an export of the tiny detector of a bundle."""

    def parameters(bundle: str) -> dict:
        weights = trained(bundle) / "models" / "model.pt"
        return {"weights": weights, "dataset_dir": tiny_data(bundle), "alpha": 0.2, **tiny_network(bundle)}

    return parameters


@pytest.fixture(scope="session")
def exported(nomaly, words, tmp_path_factory) -> Callable[[str], Path]:
    """Folder of an export of a bundle in all formats that can be written here."""

    @functools.cache
    def folder(bundle: str) -> Path:
        output = tmp_path_factory.mktemp(bundle) / "export"
        for name in ["torchscript", "torch_export"] if MISSING else ["all"]:
            part = output / name
            done = nomaly("export", bundle, "--output", part, "--format", name, **words(bundle))
            assert done.code == 0, done.err
            for file in part.iterdir():
                shutil.copy(file, output / file.name)
        return output

    return folder


@pytest.fixture
def uncalibrated(words, tmp_path: Path) -> Path:
    """Weights of the tiny brain detector without their calibration."""
    state = read_tensors(words("ra_brain")["weights"])
    for kind, name in product(("image", "volume"), ("healthy_scores", "healthy_masses", "healthy_groups")):
        state[f"calibration.{kind}.{name}"] = state[f"calibration.{kind}.{name}"][:0]
    save_tensors(state, tmp_path / "model.pt")
    return tmp_path / "model.pt"


# What the formats say


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("bundle", BUNDLES)
def test_format_says_of_all_test_studies_what_the_detector_says(exported, bundle: str, name: str) -> None:
    report = json.loads((exported(bundle) / "parity.json").read_text())
    row = report["formats"][name]
    assert report["studies"] == 8 and report["left_out"] == {} and report["threads"] == 1
    assert row["passed"] and row["decisions_differ"] == [] and row["p_values_differ"] == []
    assert row["reconstruction_difference"] < 1e-5 and row["median_seconds"] > 0


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("bundle", BUNDLES)
def test_number_of_slices_is_free_and_each_run_gives_the_same(exported, bundle: str, name: str) -> None:
    run = load_runner(name, exported(bundle) / FILES[name])
    slices = torch.rand(7, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    whole = run(slices)
    assert [tuple(part.shape) for part in whole] == [(7, 1, 32, 32), (7, 1, 32, 32), (), (), ()]
    assert [part.dtype for part in whole[2:]] == [torch.float32, torch.float64, torch.int64]
    assert all(torch.equal(first, again) for first, again in zip(whole, run(slices)))
    for count in (1, 2):
        parts = run(slices[:count])
        torch.testing.assert_close(parts[1], whole[1][:count], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", FORMATS)
def test_picture_and_volume_are_told_apart_in_the_graph(exported, name: str) -> None:
    brain, film = (load_runner(name, exported(bundle) / FILES[name]) for bundle in BUNDLES)
    slices = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    assert float(brain(slices)[3]) > 0 and float(brain(slices[:1])[3]) == -1
    assert float(film(slices[:1])[3]) > 0 and int(film(slices)[4]) == -1


@pytest.mark.skipif(bool(MISSING), reason=f"{MISSING} not installed: .[export]")
@pytest.mark.parametrize(
    ("size", "offset"),  # None = of the network's size, 32 x 32; with an offset the file has 16 bits
    [(None, 0), ((131, 150), 0), ((150, 33), 0), ((24, 20), 0), ((131, 150), 4000), (None, 4000)],
)
def test_documented_code_without_nomaly_says_what_the_detector_says(
    exported, words, tiny_data, tmp_path, monkeypatch, quiet_process: None, size: tuple[int, int] | None, offset: int
) -> None:
    data = tiny_data("memmc_pneumonia")
    film = Image.open(data / json.loads((data / "datalist.json").read_text())["test"][-1]["image"])
    film = film if size is None else film.resize(size)
    film = Image.fromarray(16 * np.asarray(film).astype(np.uint16) + offset) if offset else film
    film.save(tmp_path / "film.png")
    np.save(tmp_path / "film.npy", np.asarray(film))
    (tmp_path / "exported").symlink_to(exported("memmc_pneumonia"))
    monkeypatch.chdir(tmp_path)
    guide = (Path(export.__file__).parents[2] / "docs" / "howto" / "exports.md").read_text()
    detect, fit = (block.split("```")[0] for block in guide.split("```python\n")[1:])
    found = {}
    if size is not None:
        exec(fit, {})
    exec(detect, found)

    parameters = {**words("memmc_pneumonia"), "weights": str(words("memmc_pneumonia")["weights"])}
    studies = {"studies": [str(tmp_path / "film.png")], "dataset_dir": None}
    evaluator, _ = export.load_evaluator("memmc_pneumonia", [], {**parameters, **studies})
    item = dict(evaluator.data_loader.dataset[0])
    assert parity.reason_to_leave_out(evaluator, item) is None
    said = found["result"]
    assert said["score"] == pytest.approx(item["score"], rel=1e-4)
    assert said["p_value"] == item["p_value"] and found["codes"][int(said["decision"])] == item["decision"]
    np.testing.assert_allclose(said["map"][0], item["pred"][..., 0], rtol=0, atol=1e-3 * float(item["pred"].max()))
    threshold = float(evaluator.network.calibration.image.pixel_threshold)
    assert found["mask"].shape == (32, 32) and (found["mask"] == (said["map"][0, 0] > threshold).T).all()


# What is told of them


def test_record_tells_all_that_a_user_of_the_files_needs(exported) -> None:
    folder = exported("ra_brain")
    record = json.loads((folder / "export.json").read_text())
    calibration = record["calibrations"]["volume"]
    assert record["bundle"] == "ra_brain"
    assert record["input"]["shape"] == ["slices", 1, 32, 32] and record["input"]["range"] == [0, 1]
    assert set(record["outputs"]) == {"map", "reconstruction", "score", "p_value", "decision"}
    assert record["outputs"]["decision"]["codes"] == {"likely_normal": 0, "uncertain": 1, "flag": 2}
    assert calibration["given"] and calibration["studies"] == "volumes" and calibration["healthy_studies"] == 5
    assert record["decision_rule"]["alpha"] == 0.2 and not record["calibrations"]["image"]["given"]
    steps = ["LoadStudyd", "Orientationd", "SubtractLowestd", "CropHeadd", "ResizeStudyd", "ScaleStudyIntensityd"]
    assert [step["step"] for step in record["preprocessing"]["steps"]] == steps  # and no lesions
    assert "linear interpolation" in record["preprocessing"]["steps"][4]["how"]
    assert len(record["model_hash"]) == len(record["calibration_hash"]) == 16
    assert {"nomaly", "torch", "monai"} <= set(record["versions"])
    for file in record["files"].values():
        assert hashlib.sha256((folder / file["file"]).read_bytes()).hexdigest() == file["sha256"]


@pytest.mark.skipif(bool(MISSING), reason=f"{MISSING} not installed: .[export]")
@pytest.mark.parametrize("bundle", BUNDLES)
def test_onnx_file_is_valid_standard_onnx(exported, bundle: str) -> None:
    import onnx

    path = exported(bundle) / FILES["onnx"]
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import if entry.domain == ""] == [
        ("", formats.OPSET)
    ]
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}


@pytest.mark.parametrize("name", FORMATS)
def test_file_does_not_tell_paths_of_the_machine_that_wrote_it(exported, name: str) -> None:
    root = str(Path(export.__file__).parents[2]).encode()
    assert root not in (exported("ra_brain") / FILES[name]).read_bytes()


# What goes wrong


def test_detector_without_calibration_is_exported_without_p_value(nomaly, words, uncalibrated, tmp_path) -> None:
    parameters = words("ra_brain") | {"weights": uncalibrated}
    done = nomaly("export", "ra_brain", "--output", tmp_path / "o", "--format", "torchscript", **parameters)
    assert done.code == 0
    assert (
        "The graphs give no p-value (-1): the detector is not calibrated: run nomaly calibrate." in done.out + done.err
    )
    record = json.loads((tmp_path / "o" / "export.json").read_text())
    assert record["calibration_hash"] is None and not any(part["given"] for part in record["calibrations"].values())
    outputs = load_runner("torchscript", tmp_path / "o" / "detector.ts")(torch.rand(3, 1, 32, 32))
    assert float(outputs[2]) > 0 and [float(value) for value in outputs[3:]] == [-1, -1]


def test_difference_over_the_tolerance_ends_with_code_one(nomaly, words, tmp_path, monkeypatch) -> None:
    strict = {"map": 1e-3, "score": -1.0, "reconstruction": 1e-4}
    monkeypatch.setattr(parity, "tolerances_of", lambda map_head, fused: strict)
    parameters = words("memmc_pneumonia")
    done = nomaly("export", "memmc_pneumonia", "--output", tmp_path / "o", "--format", "torchscript", **parameters)
    assert done.code == 1 and "NOT EQUAL: see " in done.out and "Do not use these files." in done.out
    assert not json.loads((tmp_path / "o" / "parity.json").read_text())["passed"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"weights": "no.pt"}, "weights file not found: no.pt. Train the bundle first"),
        ({"image_size": 64}, "were made with other parameters"),
        ({"format": "tflite"}, "--format must be one of onnx, torchscript, torch_export or all, got tflite."),
        ({"imag_size": 64}, "no parameter is called imag_size: did you mean image_size?"),
    ],
)
def test_mistake_is_told_in_a_sentence(nomaly, words, tmp_path, more: dict, message: str) -> None:
    parameters = {"format": "torchscript", **words("ra_brain"), **more}
    done = nomaly("export", "ra_brain", "--output", tmp_path / "o", **parameters)
    assert done.code == 2 and message in done.err and not (tmp_path / "o").exists()


def test_studies_of_another_size_than_the_graph_are_no_check(nomaly, words, tiny_data, tmp_path) -> None:
    parameters = words("ra_brain") | {"studies": tmp_path / "none.nii.gz"}
    (tmp_path / "none.nii.gz").write_bytes(b"no image")
    done = nomaly("export", "ra_brain", "--output", tmp_path / "o", "--format", "torchscript", **parameters)
    assert done.code == 2
    assert "the check against the detector needs at least one study that can be scored, but found none (" in done.err
    assert not list((tmp_path / "o").iterdir())  # files that nothing has checked


def test_earlier_export_is_kept_unless_overwritten(nomaly, words, tmp_path) -> None:
    (tmp_path / "detector.onnx").write_bytes(b"earlier")
    (tmp_path / "export.json").write_text("{}")
    arguments = ("export", "ra_brain", "--output", tmp_path, "--format", "torchscript")
    done = nomaly(*arguments, **words("ra_brain"))
    assert done.code == 2 and "must be a folder without an earlier export" in done.err and "--overwrite" in done.err
    assert nomaly(*arguments, "--overwrite", **words("ra_brain")).code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["detector.ts", "export.json", "parity.json"]


def test_earlier_export_stays_where_the_next_one_fails(nomaly, words, tmp_path) -> None:
    (tmp_path / "detector.onnx").write_bytes(b"earlier")
    (tmp_path / "export.json").write_text("{}")
    done = nomaly("export", "ra_brain", "--output", tmp_path, "--overwrite", **words("ra_brain") | {"weights": "no.pt"})
    assert done.code == 2 and (tmp_path / "detector.onnx").read_bytes() == b"earlier"


def test_file_in_place_of_the_folder_is_told_first(nomaly, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    done = nomaly("export", "ra_brain", "--output", tmp_path / "file", "--format", "torchscript")
    assert (
        done.code == 2
        and f"--output must be a folder, but {tmp_path / 'file'} is a file: give another path." in done.err
    )


def test_wrong_weights_are_told_before_a_phantom_is_made(nomaly, tmp_path) -> None:
    parameters = {"weights": "no.pt", "phantom_dir": tmp_path / "phantom", "format": "torchscript"}
    done = nomaly("export", "ra_brain", "--output", tmp_path / "o", **parameters)
    assert done.code == 2 and "weights file not found: no.pt" in done.err and not (tmp_path / "phantom").exists()


@pytest.mark.parametrize(("test", "got"), [([], "got none"), (None, "got no such section")])
def test_data_set_without_test_studies_is_told(nomaly, words, tiny_data, tmp_path, test, got: str) -> None:
    datalist = json.loads((tiny_data("ra_brain") / "datalist.json").read_text()) | {"test": test}
    content = {name: items for name, items in datalist.items() if items is not None}
    (tmp_path / "datalist.json").write_text(json.dumps(content))
    parameters = words("ra_brain") | {"dataset_dir": tmp_path, "format": "torchscript"}
    done = nomaly("export", "ra_brain", "--output", tmp_path / "o", **parameters)
    assert done.code == 2 and f"section `test` must list at least one study, {got}" in done.err


def test_study_that_the_gate_would_refuse_still_checks_the_files(nomaly, words, tmp_path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (32, 32), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    parameters = words("memmc_pneumonia") | {"studies": tmp_path / "noise.png", "format": "torchscript"}
    done = nomaly("export", "memmc_pneumonia", "--output", tmp_path / "o", **parameters)
    assert done.code == 0 and "on 1 studies" in done.out


def test_missing_package_is_named_with_the_way_to_get_it(nomaly, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(formats, "PACKAGES", ("no_such_package",))
    done = nomaly("export", "ra_brain", "--output", tmp_path / "o")
    assert done.code == 2
    assert (
        "--format onnx needs the package no_such_package, which is not installed: run `pip install .[export]`"
        in done.err
    )
