"""MLflow gets what a training of each bundle measures."""

from __future__ import annotations

import json
import socket
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


@pytest.mark.slow  # twenty seconds
def test_trainings_that_share_a_server_have_a_run_each_and_a_stopped_one_goes_on_in_its_own(
    nomaly, tiny_data, tiny_network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    uri = f"sqlite:///{tmp_path}/shared.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)

    def train(output: str, epochs: int) -> None:
        words = ("train", "ra_chest", "--dataset_dir", tiny_data("ra_chest"), "--output", tmp_path / output)
        parameters = {**TRAINING, **tiny_network("ra_chest"), "max_epochs": epochs}
        assert nomaly(*words, "--tracking", "mlflow", **parameters).code == 0

    def runs() -> dict[str, list[int]]:
        (experiment,) = (one for one in client.search_experiments() if one.name == "ra_chest")
        found = client.search_runs([experiment.experiment_id])
        steps = {run.info.run_name: client.get_metric_history(run.info.run_id, "train_loss") for run in found}
        assert len(steps) == len(found)
        return {name.rsplit("/", 2)[-2]: [entry.step for entry in history] for name, history in steps.items()}

    client = mlflow.MlflowClient(uri)
    train("run 1", 1)
    (experiment,) = (one for one in client.search_experiments() if one.name == "ra_chest")
    (first,) = client.search_runs([experiment.experiment_id])
    client.update_run(first.info.run_id, status="RUNNING")  # as one that was killed
    train("run 2", 2)
    assert runs() == {"run 1": [1], "run 2": [1, 2]}
    train("run 1", 2)
    assert runs() == {"run 1": [1, 2], "run 2": [1, 2]}
    assert not [path for path in tmp_path.iterdir() if "%" in path.name]  # a space is no other folder


@pytest.mark.parametrize("content", [None, "{}", "[1]", "no JSON"])
def test_tracking_by_what_is_no_setting_of_it_is_refused(nomaly, tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "tracking.json"
    if content is not None:
        file.write_text(content)
    outcome = nomaly("train", "ra_brain", "--output", tmp_path / "run", "--tracking", file)
    rule = "--tracking must be mlflow or a JSON file of MONAI's tracking settings (handlers_id, configs)"
    expected = f"nomaly: {rule}, got {file}: give one of these.\n"
    assert (outcome.code, outcome.err) == (2, expected) and not (tmp_path / "run").exists()


def test_tracking_without_mlflow_says_how_to_install_it(nomaly, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("custom.commands.tracking.find_spec", lambda name: None)
    outcome = nomaly("train", "ra_brain", "--output", tmp_path, "--tracking", "mlflow")
    expected = "--tracking needs the package mlflow, which is not installed: run `pip install .[mlflow]`."
    assert (outcome.code, outcome.err) == (2, f"nomaly: {expected}\n") and not list(tmp_path.iterdir())


def test_server_that_does_not_answer_is_told_at_once(nomaly, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("custom.commands.tracking.find_spec", lambda name: True)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        server = f"http://127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
        outcome = nomaly("train", "ra_brain", "--output", tmp_path, "--tracking", "mlflow")
    assert outcome.code == 2 and not list(tmp_path.iterdir())
    assert outcome.err.startswith(
        f"nomaly: MLFLOW_TRACKING_URI must be a running server, but {server} does not respond ("
    )
    assert outcome.err.endswith("): start it, or unset the variable to use a database beside the logs.\n")
