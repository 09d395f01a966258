"""MLflow gets what a training of each bundle measures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from custom.commands.bundle import BUNDLES

EPOCHS = 2
TRAINING = {"max_epochs": EPOCHS, "warmup_epochs": 1, "val_interval": 1, "batch_size": 4}


@pytest.mark.slow  # ten seconds each: MLflow makes its data base
@pytest.mark.parametrize("bundle", sorted(path.parent.name for path in BUNDLES.glob("*/variant.json")))
def test_mlflow_has_each_loss_each_validation_and_the_config(
    bundle: str, nomaly, tiny_data, tiny_network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    words = ("train", bundle, "--dataset_dir", tiny_data(bundle), "--output", tmp_path, "--tracking", "mlflow")
    outcome = nomaly(*words, **TRAINING, **tiny_network(bundle))
    assert outcome.code == 0, outcome.err
    client = mlflow.MlflowClient(f"sqlite:///{tmp_path}/train/mlruns.db")
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert run.info.status == "FINISHED" and run.data.params["max_epochs"] == str(EPOCHS)

    def history(name: str) -> dict[int, float]:
        return {entry.step: entry.value for entry in client.get_metric_history(run.info.run_id, name)}

    losses = history("train_loss")
    steps = len(losses) // EPOCHS
    assert sorted(losses) == list(range(1, EPOCHS * steps + 1))
    # The loss of RA's game is the sum of its two players', that of MemMC-MAE the error of the hidden patches.
    players = ("encoder", "decoder") if bundle.startswith("ra_") else ("reconstruction",)
    mean = sum(history(name)[EPOCHS] for name in players)
    assert mean == pytest.approx(np.mean([losses[step] for step in sorted(losses)[-steps:]]), rel=1e-6)
    assert sorted(history("synthetic_auroc")) == sorted(history("healthy_error")) == [1, 2]
    (config,) = (file.path for file in client.list_artifacts(run.info.run_id))
    assert json.loads((tmp_path / "train" / config).read_text())["max_epochs"] == EPOCHS


def test_tracking_by_another_name_is_refused(nomaly, tmp_path: Path) -> None:
    outcome = nomaly("train", "ra_brain", "--output", tmp_path, "--tracking", "wandb")
    expected = "--tracking must be mlflow or a JSON file of MONAI's tracking settings, got wandb: give one of these."
    assert (outcome.code, outcome.err) == (2, f"nomaly: {expected}\n") and not list(tmp_path.iterdir())


def test_tracking_without_mlflow_says_how_to_install_it(nomaly, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("custom.commands.bundle.find_spec", lambda name: None)
    outcome = nomaly("train", "ra_brain", "--output", tmp_path, "--tracking", "mlflow")
    expected = "--tracking needs the package mlflow, which is not installed: run `pip install .[mlflow]`."
    assert (outcome.code, outcome.err) == (2, f"nomaly: {expected}\n") and not list(tmp_path.iterdir())
