"""What each command says comes next: commands that the command line itself accepts."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
from pathlib import Path

import pytest
import torch

from custom.commands import next_step
from custom.commands.bundle import bundle_command
from custom.commands.parser import build_parser


def commands_in(text: str) -> list[list[str]]:
    """The commands of a text, as words."""
    return [shlex.split(line) for line in text.splitlines() if line.startswith("  ")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (next_step.after_datalist("my data"), ["nomaly train BUNDLE --dataset_dir 'my data' --output runs/own"]),
        (
            next_step.after_training("ra_brain", ["demo"], {"seed": 3, "beta_rec": 2}, "run/models/model.pt", "DATA"),
            [
                "nomaly calibrate ra_brain --overlay demo --dataset_dir DATA --weights run/models/model.pt --seed 3 "
                "--output run/models/calibration"
            ],
        ),
        (
            next_step.after_training("ra_brain", ["train_3d", "multi_gpu_train"], {}, "run/models/model.pt", None),
            [
                "nomaly calibrate ra_brain --overlay inference_3d --weights run/models/model.pt "
                "--output run/models/calibration"
            ],
        ),
        (
            next_step.after_calibration("ra_brain", [], {}, "site/calibration.json", dataset_dir="DATA"),
            [
                "nomaly evaluate ra_brain --dataset_dir DATA --calibration site/calibration.json --output evaluation",
                "nomaly detect ra_brain IMAGES --calibration site/calibration.json --output results",
            ],
        ),
    ],
)
def test_next_command_repeats_what_matters_and_is_accepted(text: str, expected: list[str]) -> None:
    assert commands_in(text) == [shlex.split(line) for line in expected]
    for words in commands_in(text):
        options, rest = build_parser().parse_known_args(words[1:])
        assert options.command == words[1] and all(word.startswith("--") or rest for word in rest)


def test_training_ends_with_its_report_if_there_is_one(tmp_path: Path) -> None:
    words = ("ra_chest", [], {}, "model.pt", None)
    report = tmp_path / "training.html"
    assert "report" not in next_step.after_training(*words, report=report)
    report.write_text("")
    text = next_step.after_training(*words, report=report)
    assert text.startswith(f"The report of the training is {report}. To open it:")
    assert commands_in(text)[0] == ["python", "-m", "webbrowser", str(report)] and len(commands_in(text)) == 2


@pytest.mark.parametrize("name", ["exported", 'of "$HOME"'])
def test_export_ends_with_a_program_for_each_file_that_runs(tmp_path: Path, name: str, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    graph = torch.jit.trace(lambda image: (image, image, image.sum() + 7), torch.zeros(1, 3, 4, 5))
    torch.jit.save(graph, f"{name}/detector.ts")
    record = {"input": {"shape": ["slices", 3, 4, 5]}, "files": {"torchscript": {"file": "detector.ts"}}}
    (tmp_path / name / "export.json").write_text(json.dumps(record))
    text = next_step.after_export(name)
    assert text.startswith(f"Inputs, outputs and preprocessing are in {Path(name) / 'export.json'}. To run it")
    (words,) = commands_in(text)
    assert words[:2] == ["python", "-c"]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(words[2], {})
    assert out.getvalue() == "tensor(7.)\n"


def test_results_end_with_the_report_and_another_attempt_at_failed_studies() -> None:
    words = ["detect", "ra_chest", "my films", "--output", "out", "--overwrite"]
    assert commands_in(next_step.after_results("out", words, failed=0, resumable=True)) == [
        ["python", "-m", "webbrowser", str(Path("out/report.html").resolve())]
    ]
    text = next_step.after_results("out", words, failed=2, resumable=True)
    assert "The 2 studies that failed: the reason is in out/results.csv. To try again:" in text
    assert commands_in(text)[1] == ["nomaly", "detect", "ra_chest", "my films", "--output", "out", "--resume"]
    assert len(commands_in(next_step.after_results("out", words, failed=2, resumable=False))) == 1


def test_printed_monai_command_names_the_studies_unless_they_have_pseudonyms() -> None:
    studies = ["Doe Jane/1.png", "b.png"]
    words = shlex.split(bundle_command(["inference.json"], {"studies": studies, "output_dir": "out"}))
    assert words[-4:] == ["--studies", '["Doe Jane/1.png", "b.png"]', "--output_dir", "out"]
    assert "--studies STUDIES --output_dir out" in bundle_command(
        ["i.json"], {"studies": studies, "output_dir": "out"}, studies
    )
