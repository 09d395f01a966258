"""The command line: help, overrides, the command it prints, what it refuses and its exit codes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import fire
import pytest
import torch

from custom import __version__, cli
from custom.commands import bundle
from custom.commands.bundle import BUNDLES
from custom.commands.overrides import parse_overrides
from custom.errors import NomalyError
from custom.runs.tables import StudyResult, write_results_csv

COMMANDS = (
    "bundles",
    "parameters",
    "datalist",
    "train",
    "adapt",
    "calibrate",
    "evaluate",
    "detect",
    "export",
    "monitor",
    "benchmark",
    "demo",
)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """Commands run no bundle: what they would run is listed here."""
    calls: list[SimpleNamespace] = []

    def run(files, overrides, tracking=None):
        calls.append(SimpleNamespace(files=files, overrides=overrides))
        return SimpleNamespace(parser=SimpleNamespace(get_parsed_content=overrides.get))

    monkeypatch.setattr(bundle, "run_configs", run)
    monkeypatch.setattr(bundle, "check_inputs", lambda settings, overrides: None)  # there are none
    return calls


# Help


def test_help_lists_commands_bundles_and_examples_and_what_the_software_is_not(capsys: pytest.CaptureFixture) -> None:
    assert cli.main([]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert all(f" {command} " in text for command in COMMANDS)
    assert "bundles: memmc_colonoscopy MemMC-MAE colonoscopy frames" in text
    assert "ra_brain Reversed Autoencoders axial T1-weighted brain MRI" in text and "examples: nomaly demo" in text
    assert "healthy scans only" in text and "not a medical device" in text


@pytest.mark.parametrize(
    ("command", "phrases"),
    [
        ("train", ["--dataset_dir", "datalist.json", "synthetic phantom", "--output", "--overlay"]),
        (
            "calibrate",
            ["--healthy", "validation section", "--weights", "p-values", "--confidence 0.95", "--group_field"],
        ),
        ("calibrate", ["FOLDER/calibration.json", "--overwrite", "the weights are not changed", "--into_weights"]),
        ("evaluate", ["--dataset_dir", "--output", "--overwrite", "--weights", "baselines"]),
        ("detect", ["STUDY", "DICOM series", "--output", "geometry of each", "--calibration", "--study_group"]),
        ("detect", ["--resume", "--overwrite", "--pseudonymise", "can be shared", "--no_input_check", "list"]),
        ("benchmark", ["ENTRY", "--entries", "--overwrite", "gets a row with the reason"]),
        ("export", ["ONNX", "TorchScript", "--format", "--output", "--study_group", "--studies", "--overwrite"]),
        ("demo", ["--output", "five minutes", "results/demo"]),
    ],
)
def test_help_of_a_command_explains_its_options(command: str, phrases: list[str], capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 0
    assert [phrase for phrase in phrases if phrase not in text] == []
    assert "Any parameter of the bundle's config can be overridden, for example --" in text
    assert f"examples: nomaly {command}" in text and "ra_wrist Reversed Autoencoders" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_one_spelling_of_each_option(command: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        cli.main([command, "--help"])
    assert re.findall(r"--\w+-\w+", capsys.readouterr().out) == []


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert (stop.value.code, capsys.readouterr().out) == (0, f"nomaly {__version__}\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["detect", "ra_brain", "a.nii.gz"], "the following arguments are required: --output"),
        (["detect", "ra_brain", "--output", "out"], "the following arguments are required: STUDY"),
        (["train"], "the following arguments are required: BUNDLE"),
        (
            ["detect", "ra_brain", "--ouput", "o", "a.nii"],
            "required: --output: did you mean --output instead of --ouput?",
        ),
        (["evaluate", "ra_brain", "--overwrite=maybe"], "--overwrite must be true or false, got maybe: see nomaly "),
    ],
)
def test_incomplete_command_ends_with_code_two(words: list[str], message: str, capsys, ran) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert stop.value.code == 2 and message in capsys.readouterr().err and ran == []


def test_misspelt_command_is_refused_with_the_nearest_one(capsys, ran) -> None:
    assert cli.main(["tran", "ra_brain"]) == 2
    assert capsys.readouterr().err.startswith("nomaly: no command is called tran: did you mean train? The commands are")


# Overrides


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("null", None),
        ("none", None),
        ("3", 3),
        ("-1", -1),
        ("1e-4", 0.0001),
        ("[4, 8]", [4, 8]),
        ("[0.5,true]", [0.5, True]),
        ("[null]", [None]),
        ('{"a": 1}', {"a": 1}),
        ("(1, 2)", (1, 2)),
        ("'12'", "12"),
        ("top_q", "top_q"),
        ("/data/heads", "/data/heads"),
        ("$@bundle_root + '/x'", "$@bundle_root + '/x'"),
        ("2024-01-31", "2024-01-31"),
        ("{[]: 1}", "{[]: 1}"),
        ("", ""),
    ],
)
def test_value_of_a_parameter_is_a_literal_or_text(text: str, value: object) -> None:
    parsed = parse_overrides(["--parameter", text])
    assert parsed == {"parameter": value} and type(parsed["parameter"]) is type(value)
    assert parse_overrides([f"--parameter={text}"]) == {"parameter": value}


def test_later_override_of_a_parameter_wins() -> None:
    assert parse_overrides(["--a", "1", "--b=x=y", "--a", "2"]) == {"a": 2, "b": "x=y"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--amp"], "--amp must have a value: give --amp VALUE."),
        (["stray"], "unexpected word stray: write parameters as --parameter value."),
        (["-x", "1"], "unexpected word -x: write parameters as --parameter value."),
    ],
)
def test_word_that_is_no_override_is_refused(words: list[str], message: str, capsys, ran) -> None:
    assert cli.main(["train", "ra_brain", *words]) == 2
    assert capsys.readouterr().err == f"nomaly: {message}\n" and ran == []


def test_parameter_without_a_value_before_another_one_is_refused(capsys, ran) -> None:
    assert cli.main(["train", "ra_brain", "--amp", "--seed", "1"]) == 2
    assert capsys.readouterr().err == "nomaly: --amp must have a value: give --amp VALUE.\n" and ran == []


# What is run


@pytest.mark.parametrize(
    ("words", "config", "expected"),
    [
        (
            ["train", "--dataset_dir", "d", "--output", "o", "--max_epochs", "3"],
            "train",
            {"max_epochs": 3, "ckpt_dir": "o/models", "output_dir": "o/train", "dataset_dir": "d"},
        ),
        (
            ["calibrate", "--healthy", "h", "--weights", "w.pt"],
            "calibrate",
            {"studies": "h", "weights": "w.pt"},
        ),
        (
            ["detect", "a.nii", "b.nii", "--output", "o"],
            "inference",
            {"studies": ["a.nii", "b.nii"], "output_dir": "o"},
        ),
    ],
)
def test_command_runs_its_config_with_the_options_as_parameters(
    words, config, expected, ran, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)  # neither results nor bundles are here
    write_results_csv([StudyResult("a")], "o/results.csv")
    assert cli.main([words[0], "ra_brain", *words[1:]]) == 0
    folder = BUNDLES / "ra_brain"
    assert ran[0].files == [str(folder / "configs" / f"{config}.json")]
    assert ran[0].overrides == {"bundle_root": str(folder), **expected}


def test_overlays_are_merged_in_order_by_name_or_path(ran, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{}")
    words = ["--overlay", "demo", "--overlay", str(tmp_path / "mine.json")]
    assert cli.main(["train", str(BUNDLES / "ra_brain"), *words]) == 0
    configs = BUNDLES / "ra_brain" / "configs"
    assert ran[0].files == [str(configs / "train.json"), str(configs / "demo.json"), str(tmp_path / "mine.json")]


@pytest.mark.parametrize("statuses", [["ok", "ok"], ["ok", "failed"], ["failed"]])
@pytest.mark.parametrize("command", ["detect", "evaluate"])
def test_exit_code_is_one_if_a_study_failed(command: str, statuses: list[str], ran, tmp_path: Path) -> None:
    rows = [
        StudyResult(str(i), status, error="broken" if status == "failed" else "") for i, status in enumerate(statuses)
    ]
    write_results_csv(rows, tmp_path / "results.csv")
    studies = ["a.nii"] if command == "detect" else []
    assert cli.main([command, "ra_brain", *studies, "--output", str(tmp_path)]) == int("failed" in statuses)


def test_printed_command_gives_monai_the_same_files_and_parameters(ran, capsys: pytest.CaptureFixture) -> None:
    words = [
        "--dataset_dir",
        "/data/my heads",
        "--channels",
        "[4, 8]",
        "--final_learning_rate",
        "null",
        "--amp",
        "true",
    ]
    assert cli.main(["train", "ra_brain", "--overlay", "demo", *words]) == 0
    line = capsys.readouterr().out.strip()
    assert line.startswith("Running: python -m monai.bundle run --config_file ")
    received = {}
    # MONAI's command line is Fire: its reading of the printed words is what counts.
    fire.Fire(lambda **given: received.update(given), command=shlex.split(line)[5:])
    assert received.pop("config_file") == ran[0].files
    assert received == ran[0].overrides
    assert received["channels"] == [4, 8] and received["final_learning_rate"] is None and received["amp"] is True


# One spelling


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--max-epochs", "3"], {"max_epochs": 3}),
        (["--max-epochs=3", "--no-amp"], {"max_epochs": 3, "amp": False}),
        (["--no-gate"], {"input_check": False}),
        (["--floor-epochs", "3"], {"baseline_epochs": 3}),
        (["--a", "x-y"], {"a": "x-y"}),
    ],
)
def test_parameters_may_have_hyphens_and_earlier_names(words: list[str], expected: dict) -> None:
    assert parse_overrides(words) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("--pseudonymise", {"pseudonymise": True}),
        ("--keep-identifiers", {"pseudonymise": False}),
        ("--keep_identifiers=false", {"pseudonymise": True}),
        ("--no-keep-identifiers", {"pseudonymise": True}),
        ("--no-input-check", {"input_check": False}),
        ("--no_input_check", {"input_check": False}),
        ("--no-gate", {"input_check": False}),
        ("--gate=false", {"input_check": False}),
        ("--no_input_check=false", {"input_check": True}),
        ("--study-group=a-b", {"study_group": "a-b"}),
    ],
)
@pytest.mark.parametrize("place", [2, 3, 4])
def test_options_may_have_hyphens_and_stand_anywhere(word, expected, place, ran, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_results_csv([StudyResult("a")], "o/results.csv")
    words = ["detect", "ra_brain", "a.nii", "b.nii", "--output", "o"]
    assert cli.main([*words[:place], word, *words[place:]]) == 0
    fixed = {"bundle_root": str(BUNDLES / "ra_brain"), "studies": ["a.nii", "b.nii"], "output_dir": "o"}
    assert ran[0].overrides == {**fixed, **expected}


def test_parameter_before_a_study_is_no_study(ran, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_results_csv([StudyResult("a")], "o/results.csv")
    assert cli.main(["detect", "ra_brain", "--alpha", "0.02", "a.nii", "--output", "o"]) == 0
    assert ran[0].overrides["studies"] == ["a.nii"] and ran[0].overrides["alpha"] == 0.02


# Calibrations


@pytest.mark.parametrize(("output", "file"), [("site", "site/calibration.json"), ("site.json", "site.json")])
def test_calibration_is_written_to_a_folder_and_still_to_a_json_file(output, file, ran, caplog) -> None:
    assert cli.main(["calibrate", "ra_brain", "--output", output, "--overwrite"]) == 0
    assert ran[0].overrides["calibration_file"] == file and ran[0].overrides["overwrite"] is True
    assert ("--output of calibrate is now a folder" in caplog.text) == (output == "site.json")


def test_calibration_ends_with_the_command_that_uses_it(ran, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--weights", "my model.pt", "--output", "site", "--overlay", "demo", "--alpha", "0.02", "--seed", "3"]
    assert cli.main(["calibrate", "ra_brain", *words, "--latent_size", "16"]) == 0
    *_, told, command = capsys.readouterr().out.splitlines()
    assert told == "The calibration is in site/calibration.json; the weights were not changed. To use it:"
    assert command == (
        "  nomaly detect ra_brain IMAGES --overlay demo --weights 'my model.pt' --calibration site/calibration.json "
        "--seed 3 --latent_size 16 --output results"
    )
    write_results_csv([StudyResult("a")], "results/results.csv")
    assert cli.main(shlex.split(command)[1:]) == 0


def test_calibrated_copy_of_the_weights_is_used_without_a_calibration(ran, capsys) -> None:
    assert cli.main(["calibrate", "ra_brain", "--into_weights", "new.pt"]) == 0
    assert ran[0].overrides["into_weights"] == "new.pt" and "calibration_file" not in ran[0].overrides
    assert (
        capsys.readouterr().out.splitlines()[-1] == "  nomaly detect ra_brain IMAGES --weights new.pt --output results"
    )


def test_file_in_place_of_the_calibration_folder_is_refused(ran, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").touch()
    assert cli.main(["calibrate", "ra_brain", "--output", str(tmp_path / "file")]) == 2
    assert capsys.readouterr().err.startswith("nomaly: --output must be a folder, but ") and ran == []


def test_calibration_is_given_as_folder_or_as_file(ran, tmp_path: Path) -> None:
    write_results_csv([StudyResult("a")], tmp_path / "o" / "results.csv")
    (tmp_path / "calibration.json").touch()
    for given in (tmp_path, tmp_path / "calibration.json"):
        assert cli.main(["evaluate", "ra_brain", "--calibration", str(given), "--output", str(tmp_path / "o")]) == 0
    assert {call.overrides["calibration_file"] for call in ran} == {str(tmp_path / "calibration.json")}


# What is refused


def test_unknown_bundle_is_refused_with_the_nearest_and_all_others(capsys, ran) -> None:
    names = sorted(path.parent.parent.name for path in BUNDLES.glob("*/configs/metadata.json"))
    assert cli.main(["train", "ra_brian"]) == 2
    message = "BUNDLE must be a bundle's name or path, got ra_brian: did you mean ra_brain? The bundles are "
    message += f"{', '.join(names)}."
    assert capsys.readouterr().err == f"nomaly: {message}\n" and ran == []


def test_unknown_overlay_is_refused_with_the_nearest_and_all_others(capsys, ran) -> None:
    assert cli.main(["train", "ra_brain", "--overlay", "papr"]) == 2
    err = capsys.readouterr().err
    assert (
        re.search(r"--overlay must be a config of .*ra_brain, got papr: did you mean paper\? .*demo.*paper", err)
        and ran == []
    )


@pytest.mark.parametrize("name", ["max_epoch", "mx_epoch"])
def test_misspelt_parameter_is_refused_with_the_nearest_one(nomaly, name: str) -> None:
    done = nomaly("train", "ra_brain", **{name: 3})
    assert (done.code, done.err) == (2, f"nomaly: no parameter is called {name}: did you mean max_epochs?\n")


@pytest.mark.parametrize(("name", "meant"), [("weigths", "weights"), ("devise", "device"), ("ouput", "--output")])
def test_misspelt_option_is_refused_with_the_one_that_was_meant(nomaly, name: str, meant: str) -> None:
    done = nomaly("evaluate", "ra_brain", **{name: "x"})
    assert (done.code, done.err) == (2, f"nomaly: no parameter is called {name}: did you mean {meant}?\n")


def test_unknown_parameter_is_refused_with_all_that_can_be_set(nomaly) -> None:
    done = nomaly("train", "ra_brain", colour="red")
    assert done.code == 2
    assert done.err.startswith(
        "nomaly: no parameter is called colour: the config has amp, anatomy, axcodes, batch_size, "
    )
    assert "seed" in done.err and "trainer" not in done.err and "initialize" not in done.err  # settings, no objects


@pytest.mark.parametrize(
    ("parameter", "value", "rule"),
    [
        ("max_epochs", "three", "a number, such as 80, got 'three'"),
        ("amp", "yes", "true or false, such as false, got 'yes'"),
        ("amp", 1, "true or false, such as false, got 1"),
        ("seed", True, "a number, such as 0, got True"),
    ],
)
def test_parameter_of_another_type_is_refused_before_anything_runs(nomaly, parameter: str, value, rule: str) -> None:
    done = nomaly("train", "ra_brain", **{parameter: value})
    assert (done.code, done.err) == (2, f"nomaly: {parameter} must be {rule}.\n")


def test_parameter_of_another_command_is_refused(nomaly, tmp_path: Path) -> None:
    done = nomaly("detect", "ra_brain", "a.nii", "--output", tmp_path / "o", max_epochs=3)
    assert done.code == 2 and "no parameter is called max_epochs" in done.err and not (tmp_path / "o").exists()


@pytest.mark.parametrize("chain", ["cause", "context"])
def test_users_mistake_is_found_behind_other_errors(chain: str, monkeypatch, capsys) -> None:
    def run(files, overrides, tracking=None):
        try:
            raise NomalyError("slab_mm must be millimetres.")
        except NomalyError as error:
            raise RuntimeError("Failed to instantiate") from (error if chain == "cause" else None)

    def run_with_context(files, overrides, tracking=None):
        try:
            raise NomalyError("slab_mm must be millimetres.")
        except NomalyError:
            raise RuntimeError("Failed to instantiate")  # noqa: B904

    monkeypatch.setattr(bundle, "run_configs", run if chain == "cause" else run_with_context)
    assert cli.main(["train", "ra_brain"]) == 2
    assert capsys.readouterr().err == "nomaly: slab_mm must be millimetres.\n"


def test_error_of_the_software_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(files, overrides, tracking=None):
        raise RuntimeError("a bug")

    monkeypatch.setattr(bundle, "run_configs", run)
    with pytest.raises(RuntimeError, match="a bug"):
        cli.main(["train", "ra_brain"])


def test_stopped_run_reports_how_to_resume(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    def run(files, overrides, tracking=None):
        raise KeyboardInterrupt

    monkeypatch.setattr(bundle, "run_configs", run)
    assert cli.main(["train", "ra_brain"]) == 130
    assert capsys.readouterr().err.startswith(
        "nomaly: stopped. Run the same command again: it resumes after the last completed epoch; without one, it starts"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is available")
@pytest.mark.parametrize("words", [["train", "ra_brain"], ["detect", "ra_brain", "a.nii", "--output", "out"]])
def test_cuda_that_is_not_available_is_reported_in_one_sentence(words, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.nii").write_bytes(b"no image")
    assert cli.main([*words, "--device", "cuda"]) == 2
    assert re.fullmatch(r"nomaly: device cuda is not available \(.*\): give --device cpu.\n", capsys.readouterr().err)


def test_weights_that_do_not_exist_are_reported_before_anything_is_made(tmp_path: Path, capsys) -> None:
    words = ["--weights", str(tmp_path / "gone.pt"), "--output", str(tmp_path / "out"), "--phantom_dir", str(tmp_path)]
    assert cli.main(["evaluate", "ra_brain", *words]) == 2
    assert f"weights file not found: {tmp_path}/gone.pt. Train the bundle first" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
