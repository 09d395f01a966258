"""nomaly bundles and nomaly parameters: what they list, and that wrong input is reported before heavy imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from custom import cli
from custom.commands.bundle import BUNDLES
from custom.commands.bundles import facts_of, figures_of
from custom.commands.parameters import CONFIGS, parameters_of

NAMES = sorted(path.parents[1].name for path in BUNDLES.glob("*/configs/metadata.json"))


def printed(capsys: pytest.CaptureFixture, *words: str) -> str:
    assert cli.main(list(words)) == 0
    return " ".join(capsys.readouterr().out.split())


def test_bundles_are_listed_with_images_weights_figures_and_licence(capsys) -> None:
    text = printed(capsys, "bundles")
    assert all(f"{name} method" in text for name in NAMES)
    assert (
        "ra_chest method Reversed Autoencoders images single channel, chest X-ray, bone bright weights Chest X-rays of "
        "children, Kermany et al. 2018 (1207 training, 133 validation healthy films) figures"
    ) in text
    assert "licence code: Apache-2.0; data of the weights: CC BY 4.0" in text


def test_figures_have_their_intervals_where_they_were_measured() -> None:
    metrics = {
        "test_studies": {"healthy": 231, "abnormal": 387, "abnormalities": "real"},
        "image_auroc": {"value": 0.832, "low": 0.791, "high": 0.864},
        "sensitivity_at_alpha_0.05": {"value": 0.703, "low": None, "high": None},
        "best_baseline_mean_image_image_auroc": {"value": 0.777, "low": 0.73, "high": 0.818},
    }
    assert figures_of(metrics) == (
        "AUROC 0.83 (0.79 to 0.86); sensitivity at alpha 0.05 0.70; AUROC of the best baseline 0.78 (mean image); 231 "
        "healthy and 387 abnormal studies (real abnormalities)"
    )
    assert figures_of({}) == ""


def test_bundle_without_weights_has_no_figures(tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    metadata = {"name": "X with Y", "image_classes": "knees"}
    (tmp_path / "configs" / "metadata.json").write_text(json.dumps(metadata))
    facts = facts_of(tmp_path)
    assert (facts["method"], facts["weights"], facts["figures"]) == (
        "Y",
        "none: train the bundle first",
        "not measured with these weights",
    )


def test_bundles_as_json_have_the_same_facts(capsys) -> None:
    assert cli.main(["bundles", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ra_chest"] == facts_of(BUNDLES / "ra_chest")


@pytest.mark.parametrize("bundle", NAMES)
def test_every_parameter_has_the_default_of_its_config(bundle: str) -> None:
    for command, config in CONFIGS.items():
        content = json.loads((BUNDLES / bundle / "configs" / f"{config}.json").read_text())
        listed = [each for group in parameters_of(BUNDLES / bundle, command).values() for each in group]
        names = [each.name for each in listed]
        assert len(set(names)) == len(names) and {"seed", "amp", "image_size"} <= set(names)
        assert {each.name: json.loads(each.defaults[command]) for each in listed} == {n: content[n] for n in names}


def test_parameters_of_a_command_are_listed_with_meaning_and_default(capsys) -> None:
    text = printed(capsys, "parameters", "ra_chest", "--command", "detect")
    assert "alpha = null False-alarm rate of the decisions, in (0, 1); null: as calibrated." in text
    assert "max_epochs" not in text
    assert "max_epochs = " in printed(capsys, "parameters", "ra_chest", "--command", "train")


def test_parameters_of_an_unknown_command_are_refused_with_the_known_ones(capsys) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["parameters", "ra_chest", "--command", "trian"])
    assert "invalid choice: 'trian' (choose from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--help"], ""),
        (["detect", "ra_chst", "a.png", "--output", "out"], "did you mean ra_chest?"),
        (["detect", "ra_chest", "a.png", "--output", "out"], "Study a.png: file not found"),
        (["detect", "ra_chest", ".", "--output", "out"], "studies must name at least one study, got ."),
        (["detect", "ra_chest", ".", "--output", "out", "--alhpa", "0.1"], "did you mean alpha?"),
        (["detect", "ra_chest", ".", "--outptu", "out"], "did you mean --output instead of --outptu?"),
        (["train", "ra_chest", "--dataset_dir", "gone"], "dataset_dir must be an existing folder"),
        (["train", "ra_chest", "--healthy", "gone", "--output", "out"], "--healthy must be a folder"),
        (["demo", "--max_epoch", "1"], "did you mean max_epochs?"),
        (["monitor", "gone", "--output", "out"], "results table not found: gone"),
        (["benchmark", "ra_chest", "ra_brain=gone.pt", "--dataset_dir", ".", "--output", "out"], "ra_chest: dataset"),
        (["export", "ra_chest", "--output", "out", "--weights", "gone.pt"], "weights file not found: gone.pt"),
    ],
)
def test_wrong_input_is_reported_without_importing_pytorch(words: list[str], message: str, tmp_path: Path) -> None:
    code = (
        "import sys; from custom import cli; code = cli.main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True)
    assert message in done.stderr and "Error" not in done.stderr.replace("NomalyError", ""), done.stderr
