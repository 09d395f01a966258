"""nomaly benchmark: which models, what is run for each, what is kept, and the table that comes of it."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from custom import cli
from custom.commands import benchmark
from custom.commands.benchmark_entries import Entry, check_names, entries_of, read_entries, with_seeds
from custom.commands.bundle import BUNDLES
from custom.commands.overrides import parse_overrides
from custom.errors import NomalyError
from custom.runs.tables import StudyResult, write_results_csv
from custom.synthetic.lesions import with_synthetic_twins

SCORES = [
    {"case": case, "label": label, "group": "mass" if label else None, "score": score}
    for case, label, score in (("a", 0, 0.1), ("b", 0, 0.2), ("c", 1, 0.3), ("d", 1, 0.4))
]


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[list[str]]]:
    """No process is started: the command of each is listed by name, and results are written as a real one would."""
    commands: dict[str, list[list[str]]] = {}

    def measured(command, log):
        folder = Path(command[command.index("--output") + 1])
        commands.setdefault(folder.name, []).append(command[4:])
        if "broken" in folder.name:
            log.write("Running: python -m monai.bundle\nnomaly: weights file x must exist.\n")
            return 2, 100.0
        metrics = {"n_healthy": 2, "n_abnormal": 2, "image": {"auroc": {"value": 1.0}}, "scores": SCORES}
        (folder / "metrics.json").write_text(json.dumps(metrics))
        (folder / "report.html").touch()
        (folder / "run.json").write_text(
            json.dumps({"device": "cpu", "weight_hash": "ab", "weights": "default.pt", "threads": 3})
        )
        rows = [StudyResult(case, score=1.0, seconds=seconds) for case, seconds in zip("abc", (0.1, 0.5, 0.2))]
        failed = [StudyResult("d", "failed", seconds=9.0, error="cut off")] if "crash" != folder.name else []
        write_results_csv([*rows, *failed], folder / "results.csv")
        if "crash" in folder.name:
            log.write("Traceback (most recent call last):\n  File \"report.py\"\nKeyError: 'a bug'\n")
        if folder.name == "crash_of_report":
            (folder / "report.html").unlink()
        if folder.name == "crash_of_all":
            (folder / "metrics.json").unlink()
        return int(any(word in folder.name for word in ("partly", "crash"))), 256.0

    monkeypatch.setattr(benchmark, "measured", measured)
    monkeypatch.setattr(benchmark, "check_entry", lambda entry, dataset_dir, parameters: None)  # there are no models
    return commands


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set of which only the list is read."""
    (tmp_path / "data").mkdir()
    for name in "abcd":
        (tmp_path / "data" / f"{name}.png").touch()
    test = [{"image": f"{name}.png", "label": int(name > "b")} for name in "abcd"]
    (tmp_path / "data" / "datalist.json").write_text(json.dumps({"test": test}))
    return tmp_path / "data"


def table_of(folder: Path) -> dict[str, dict[str, str]]:
    with open(folder / "benchmark.csv", newline="") as file:
        return {row["name"]: row for row in csv.DictReader(file)}


# Which models


def test_models_of_the_command_line_are_bundles_with_or_without_weights() -> None:
    assert entries_of(["ra_brain", "bundles/ra_brain=w.pt", "memmc_covid=a=b.pt"]) == [
        Entry("ra_brain", "ra_brain"),
        Entry("ra_brain-2", "bundles/ra_brain", "w.pt"),
        Entry("memmc_covid", "memmc_covid", "a=b.pt"),
    ]


def test_models_of_a_file_have_names_overlays_and_knobs(tmp_path: Path) -> None:
    items = [
        {
            "name": "wide",
            "bundle": "ra_brain",
            "weights": "w.pt",
            "overlay": ["paper"],
            "parameters": {"channels": [4, 8]},
        },
        {"bundle": "bundles/memmc_covid", "weights": None},
    ]
    (tmp_path / "f.json").write_text(json.dumps(items))
    assert read_entries(str(tmp_path / "f.json")) == [
        Entry("wide", "ra_brain", "w.pt", ("paper",), {"channels": [4, 8]}),
        Entry("memmc_covid", "bundles/memmc_covid"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"--entries: file not found: .*\. Check the path\."),
        ("{", r"--entries .* must be JSON: .*\. Correct the file\."),
        ("{}", r"--entries .* must be a list of models, got dict: put them in \[ \]\."),
        ('["ra_brain"]', r"item 0 must be an object with a bundle's name in `bundle`, got 'ra_brain'\."),
        (
            '[{"bundle": "b", "parameter": {}}]',
            r"item 0: `parameter` must be one of name \(str\), bundle \(str\), .*got {}\.",
        ),
        (
            '[{"bundle": "b", "overlay": "paper"}]',
            r"item 0: `overlay` must be one of .*overlay \(list\).*got 'paper'\.",
        ),
    ],
)
def test_file_that_lists_no_models_is_refused(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "f.json").write_text(content)
    with pytest.raises(NomalyError, match=message):
        read_entries(str(tmp_path / "f.json"))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"at least one model, got none: give BUNDLE, BUNDLE=WEIGHTS or --entries FILE\."),
        (["a", "b", "a"], r"names of models must differ, but 2 are called a: rename one\."),
        (["../a"], r"a model's name must be a valid folder name, got '../a': use letters, digits, - and _\."),
        ([".."], r"a model's name must be a valid folder name, got '\.\.'"),
    ],
)
def test_names_that_cannot_be_folders_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(NomalyError, match=message):
        check_names([Entry(name, "ra_brain") for name in names])


# What is run


def test_parameters_of_all_come_before_those_of_a_model_and_reach_it_unchanged(
    nomaly, children, data, tmp_path
) -> None:
    parameters = {"channels": [4, 8], "score_mode": "5", "anatomy": "head", "amp": True, "baselines_dir": None}
    items = [{"name": "own", "bundle": "ra_brain", "weights": "w.pt", "overlay": ["demo"], "parameters": parameters}]
    (tmp_path / "f.json").write_text(json.dumps(items))
    words = ["--dataset_dir", data, "--output", tmp_path / "o", "--entries", tmp_path / "f.json"]
    assert nomaly("benchmark", *words, "--alpha=0.1", "--anatomy=chest").code == 0
    (command,) = children["own"]
    options, rest = cli.build_parser().parse_known_args(["evaluate", *command])
    assert (options.bundle, options.weights, options.overlay) == ("ra_brain", "w.pt", ["demo"])
    assert (options.dataset_dir, options.output) == (str(data), str(tmp_path / "o" / "own"))
    assert options.overwrite is True and parse_overrides(rest) == {"alpha": 0.1, **parameters}


def test_failed_model_gets_a_row_with_its_reason_and_the_others_go_on(nomaly, children, data, tmp_path) -> None:
    done = nomaly("benchmark", "broken", "ra_brain", "--dataset_dir", data, "--output", tmp_path / "o")
    rows = table_of(tmp_path / "o")
    assert done.code == 1 and list(rows) == ["broken", "ra_brain"]
    assert rows["broken"]["note"] == "weights file x must exist." and rows["broken"]["auroc"] == ""
    assert rows["ra_brain"]["auroc"] == "1.0" and rows["ra_brain"]["note"] == ""
    assert "[1/2] broken: failed in 0 s, weights file x must exist.\n[2/2] ra_brain: done in 0 s\n" in done.out


def test_model_with_failed_studies_keeps_its_numbers_and_the_exit_code_tells(nomaly, children, data, tmp_path) -> None:
    done = nomaly("benchmark", "partly", "--dataset_dir", data, "--output", tmp_path / "o")
    row = table_of(tmp_path / "o")["partly"]
    assert done.code == 1 and row["auroc"] == "1.0" and row["note"] == "some studies failed"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("crash", "KeyError: 'a bug'; see "),  # no study failed
        ("crash_of_report", "KeyError: 'a bug'; see "),  # one did, but the report was not written
        ("crash_of_all", "all studies failed; see "),
    ],
)
def test_crash_after_the_metrics_is_no_result_and_is_done_anew(name, reason, nomaly, children, data, tmp_path) -> None:
    words = ["benchmark", name, "partly", "--dataset_dir", data, "--output", tmp_path / "o"]
    assert nomaly(*words).code == nomaly(*words).code == 1
    row = table_of(tmp_path / "o")[name]
    assert row["auroc"] == "" and row["note"].startswith(reason)
    assert (len(children[name]), len(children["partly"])) == (2, 1)


def test_crash_that_was_recorded_as_failed_studies_is_done_anew(nomaly, children, data, tmp_path) -> None:
    words = ["benchmark", "crash", "--dataset_dir", data, "--output", tmp_path / "o"]
    nomaly(*words)
    record = tmp_path / "o" / "crash" / "benchmark.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "reason": "some studies failed"}))
    nomaly(*words)
    assert len(children["crash"]) == 2


def test_speed_is_that_of_the_median_study_that_went_well(nomaly, children, data, tmp_path) -> None:
    nomaly("benchmark", "ra_brain", "--dataset_dir", data, "--output", tmp_path / "o")
    row = table_of(tmp_path / "o")["ra_brain"]
    assert (row["studies_per_second"], row["peak_mib"], row["threads"], row["device"]) == ("5.0", "256.0", "3", "cpu")


def test_second_model_is_compared_with_the_first(nomaly, children, data, tmp_path) -> None:
    nomaly("benchmark", "ra_brain", "memmc_covid", "--dataset_dir", data, "--output", tmp_path / "o")
    rows = table_of(tmp_path / "o")
    assert rows["ra_brain"]["auroc_difference"] == "" and rows["memmc_covid"]["auroc_difference"] == "0.0"


# What is kept


def test_finished_models_are_kept_and_failed_ones_tried_again(nomaly, children, data, tmp_path) -> None:
    words = ["benchmark", "ra_brain", "broken", "--dataset_dir", data, "--output", tmp_path / "o"]
    nomaly(*words)
    done = nomaly(*words, "--dataset_dir", data)
    assert (len(children["ra_brain"]), len(children["broken"])) == (1, 2) and "ra_brain: kept" in done.out
    assert table_of(tmp_path / "o")["ra_brain"]["peak_mib"] == "256.0"
    nomaly(*words, "--overwrite")
    assert len(children["ra_brain"]) == 2


@pytest.mark.parametrize("changed", ["w.pt", "data/datalist.json", "calibration.json"])
def test_model_whose_files_changed_is_not_kept(changed, nomaly, children, data, tmp_path) -> None:
    for name in ("w.pt", "calibration.json"):
        (tmp_path / name).write_bytes(b"one")
    words = ["benchmark", "ra_brain", "--dataset_dir", data, "--output", tmp_path / "o"]
    parameters = {"weights": tmp_path / "w.pt", "calibration": tmp_path / "calibration.json"}
    assert (
        nomaly(*words, **parameters).code == nomaly(*words, **parameters).code == 0 and len(children["ra_brain"]) == 1
    )
    (tmp_path / changed).write_text((tmp_path / changed).read_text() + " ")
    done = nomaly(*words, **parameters)
    assert done.code == 2 and f"for other settings ({tmp_path / changed} changed)" in done.err
    (tmp_path / changed).unlink()
    if changed != "data/datalist.json":
        assert nomaly(*words, **parameters).code == 0 and len(children["ra_brain"]) == 1


def test_weights_that_the_bundle_found_itself_are_watched_too(nomaly, children, data, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": torch.zeros(3)}, "default.pt")
    words = ["benchmark", "ra_brain", "--dataset_dir", data, "--output", "o"]
    assert nomaly(*words).code == 0
    torch.save({"weight": torch.zeros(300)}, "default.pt")
    done = nomaly(*words)
    assert done.code == 2 and "default.pt changed)" in done.err


def test_other_request_for_the_same_folder_is_refused_before_anything_runs(nomaly, children, data, tmp_path) -> None:
    words = ["benchmark", "memmc_covid", "ra_brain", "--dataset_dir", data, "--output", tmp_path / "o"]
    nomaly(*words[:1], *words[2:])
    done = nomaly(*words, alpha=0.1)
    assert done.code == 2 and "ra_brain contains results for other settings (parameters changed)" in done.err
    assert "memmc_covid" not in children and nomaly(*words, "--overwrite", alpha=0.1).code == 0


def test_results_of_another_run_are_not_written_over(nomaly, children, data, tmp_path) -> None:
    write_results_csv([StudyResult("mine")], tmp_path / "o" / "ra_brain" / "results.csv")
    done = nomaly("benchmark", "ra_brain", "--dataset_dir", data, "--output", tmp_path / "o")
    assert done.code == 2 and "already contains results of another run: give another --output" in done.err
    assert children == {}


# The process of a model


def test_command_starts_models_from_a_small_process(tmp_path: Path) -> None:
    script = (
        "import sys, custom.commands.benchmark; print([m for m in ('torch', 'monai', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=BUNDLES.parent
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("code", "text", "reason"),
    [
        (2, "noise\nnomaly: weights must exist.\n", "weights must exist."),
        (1, "Traceback\nRuntimeError: a bug\n\n", "RuntimeError: a bug; see {log}"),
        (1, "Traceback\n  File\nKeyError: 1\nTraceback\nValueError: 2\n leaked", "ValueError: 2; see {log}"),
        (1, "Traceback\nKeyError: 1\nException ignored in: x\nTraceback\nOSError: 2", "KeyError: 1; see {log}"),
        (1, "started\nKilled\n", "Killed; see {log}"),
        (-9, "working", "ended by SIGKILL, often for lack of memory; see {log}"),
        (1, "", "exit code 1; see {log}"),
    ],
)
def test_reason_of_a_failure_is_what_a_person_can_act_on(code: int, text: str, reason: str, tmp_path: Path) -> None:
    log = tmp_path / "benchmark.log"
    log.write_text(text)
    assert benchmark.reason_of(tmp_path, code) == reason.format(log=log)


def test_parameters_are_counted_without_what_was_learned_after_training(tmp_path: Path) -> None:
    state = {
        "reconstructor.weight": torch.zeros(3, 4),
        "reconstructor.steps": torch.zeros((), dtype=torch.int64),
        "calibration.image.healthy_scores": torch.zeros(50),
        "normalisation.mean": torch.zeros(8, 8),
    }
    torch.save(state, tmp_path / "w.pt")
    assert benchmark.count_parameters(str(tmp_path / "w.pt")) == 12
    assert benchmark.count_parameters(str(tmp_path / "none.pt")) is benchmark.count_parameters(None) is None


def test_patient_of_a_synthetic_twin_is_that_of_its_healthy_study() -> None:
    healthy, twin = with_synthetic_twins([{"case": "film_1", "subject": "p7", "label": 0}], "chest")
    assert twin["case"] == "film_1_consolidation" and healthy["subject"] == twin["subject"] == "p7"


@pytest.mark.slow
def test_two_bundles_of_one_anatomy(trained, tiny_data, tiny_network, nomaly, tmp_path: Path) -> None:
    pneumonia, covid = (str(trained(name) / "models" / "model.pt") for name in ("memmc_pneumonia", "memmc_covid"))
    items = [
        {"name": "covid_max", "bundle": "memmc_covid", "weights": covid, "parameters": {"score_mode": "max"}},
    ]
    (tmp_path / "f.json").write_text(json.dumps(items))
    data, output = tiny_data("memmc_covid"), tmp_path / "o"
    parameters = {**tiny_network("memmc_covid"), "baseline_epochs": 1}
    words = [
        f"memmc_pneumonia={pneumonia}",
        "--dataset_dir",
        data,
        "--output",
        output,
        "--entries",
        tmp_path / "f.json",
    ]
    done = nomaly("benchmark", *words, **parameters)
    rows = table_of(output)
    assert done.code == 0 and list(rows) == ["memmc_pneumonia", "covid_max"]
    for name, weights in (("memmc_pneumonia", pneumonia), ("covid_max", covid)):
        row, metrics = rows[name], json.loads((output / name / "metrics.json").read_text())
        assert (
            float(row["auroc"]) == metrics["image"]["auroc"]["value"] and row["n_healthy"] == row["n_abnormal"] == "4"
        )
        assert float(row["studies_per_second"]) > 0 and float(row["peak_mib"]) > 100 and row["synthetic"] == "True"
        tensors = torch.load(weights, weights_only=True).items()
        count = sum(v.numel() for k, v in tensors if k.startswith("reconstructor.") and v.is_floating_point())
        assert float(row["parameters_millions"]) == pytest.approx(count / 1e6, rel=0.01)
    lead = float(rows["covid_max"]["auroc"]) - float(rows["memmc_pneumonia"]["auroc"])
    assert float(rows["covid_max"]["auroc_difference"]) == pytest.approx(lead)
    assert "Synthetic images or lesions" in (output / "benchmark.html").read_text()
    again = nomaly("benchmark", *words, **parameters)
    assert again.code == 0 and again.out.count(": kept, evaluated in ") == 2


# Seeds and checks before the first run


def test_each_model_is_evaluated_once_per_seed_with_its_own_weights() -> None:
    entries = with_seeds([Entry("a", "ra_chest", "runs/{seed}/model.pt", (), {"x": "{seed}.json", "n": 1})], [3, 5])
    assert [(entry.name, entry.weights, entry.parameters, entry.model) for entry in entries] == [
        ("a-seed3", "runs/3/model.pt", {"x": "3.json", "n": 1, "seed": 3}, "a"),
        ("a-seed5", "runs/5/model.pt", {"x": "5.json", "n": 1, "seed": 5}, "a"),
    ]
    with pytest.raises(NomalyError, match=r"^--seeds must differ, got 3 3: give each seed once\.$"):
        with_seeds([], [3, 3])


def test_seeds_give_a_mean_and_each_is_compared_with_the_same_seed_of_the_first_model(
    nomaly, children, data, tmp_path
) -> None:
    words = ("ra_chest", "ra_brain", "--seeds", "0", "1", "--dataset_dir", data, "--output", tmp_path / "o")
    assert nomaly("benchmark", *words).code == 0
    assert sorted(children) == ["ra_brain-seed0", "ra_brain-seed1", "ra_chest-seed0", "ra_chest-seed1"]
    assert "--seed=1" in children["ra_brain-seed1"][0]
    with open(tmp_path / "o" / "benchmark_seeds.csv", newline="") as file:
        means = {row["name"]: row for row in csv.DictReader(file)}
    assert [(row["seeds"], row["auroc"]) for row in means.values()] == [("2", "1.0")] * 2
    table = table_of(tmp_path / "o")
    assert [row["auroc_difference"] for row in table.values()] == ["", "", "0.0", "0.0"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ra_chest", "ra_chst"], "ra_chst: BUNDLE must be a bundle's name or path, got ra_chst: did you mean"),
        (["ra_chest", "ra_brain=gone.pt"], "ra_brain: weights file not found: gone.pt."),
        (["ra_chest", "--alhpa", "1"], "ra_chest: no parameter is called alhpa: did you mean alpha?"),
        (["ra_chest=runs/{seed}.pt", "--seeds", "4"], "ra_chest-seed4: weights file not found: runs/4.pt."),
    ],
)
def test_every_model_is_checked_before_the_first_one_runs(words, message, nomaly, data, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(benchmark, "measured", lambda command, log: pytest.fail("a model was run"))
    done = nomaly("benchmark", *words, "--dataset_dir", data, "--output", tmp_path / "o")
    assert done.code == 2 and message in done.err and not (tmp_path / "o").exists()
