"""The ablation at tiny size on the phantom: rows for all variants, equal budgets, files."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.support.scripts import load_script

TINY = "--image_size 32 --patch_size 8 --hidden_size 16 --depth 2 --num_heads 2 --decoder_hidden_size 16".split()
TINY += "--decoder_num_heads 2 --masks 4 --threads 1 --repeats 2 --batch_size 2".split()


@pytest.fixture
def ablate() -> Iterator[ModuleType]:
    """The script as a module."""
    module = load_script("ablate_memmc.py")
    threads = torch.get_num_threads()
    yield module
    torch.set_num_threads(threads)


def test_steps_of_all_variants_are_timed_and_written(ablate, tmp_path: Path, capsys) -> None:
    ablate.main(["memmc_pneumonia", "--steps_only", "--output", str(tmp_path), *TINY])
    with open(tmp_path / "ablation.csv") as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    assert list(rows) == list(ablate.VARIANTS)
    assert all(float(row["step_seconds"]) > 0 for row in rows.values())
    assert float(rows[ablate.REFERENCE]["step_ratio"]) == 1
    # by hand: 40 slots of 16 channels for keys and values in each of 2 blocks
    plain, memory = (int(rows[name]["parameters"]) for name in ("plain masked autoencoder", "memory"))
    assert memory - plain == 2 * 40 * 2 * 16
    assert (tmp_path / "ablation.md").read_text().strip() in capsys.readouterr().out
    assert "memmc_pneumonia: timed on random images, not trained" in (tmp_path / "ablation.md").read_text()


def test_each_variant_is_trained_with_its_own_parameters_and_the_same_others(
    ablate, tmp_path: Path, monkeypatch
) -> None:
    runs: list[tuple[str, dict]] = []
    monkeypatch.setattr(ablate, "run_bundle", lambda bundle, configs, parameters: runs.append((configs[0], parameters)))
    monkeypatch.setattr(
        "custom.detector.weights.read_tensors",
        lambda path: {"best": {"synthetic_auroc": 0.75, "healthy_error": 3.0}},
    )
    for number in range(5):
        folder = tmp_path / f"variant_{number}" / "evaluation"
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text('{"image": {"auroc": {"value": 0.9, "low": 0.8, "high": 1.0}}}')
    words = ["--dataset_dir", "films", "--output", str(tmp_path), "--max_epochs", "3"]
    ablate.main(["memmc_pneumonia", *words, *TINY])
    trainings = [parameters for config, parameters in runs if config == "train"]
    assert [(parameters.get("memory_slots", "full"), parameters.get("levels", "full")) for parameters in trainings] == [
        (0, 0),
        (0, 1),
        ("full", 0),
        (0, "full"),
        ("full", "full"),
    ]
    assert {parameters["max_epochs"] for parameters in trainings} == {3} and {
        parameters["dataset_dir"] for parameters in trainings
    } == {"films"}
    evaluations = [parameters for config, parameters in runs if config == "evaluate"]
    assert len(evaluations) == 5 and all(
        "max_epochs" not in parameters and parameters["overwrite"] for parameters in evaluations
    )
    assert (tmp_path / "ablation.md").read_text().count("| 0.750 | 3.0 | 0.900 [0.800, 1.000] |") == 5


def test_unknown_bundle_is_reported_in_one_sentence(ablate) -> None:
    with pytest.raises(SystemExit, match="ablate_memmc: BUNDLE must be a bundle's name or path, got memmc_knee"):
        ablate.main(["memmc_knee", "--steps-only"])
