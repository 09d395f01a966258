"""What each command says comes next: commands that the command line itself accepts."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

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
