"""The demonstration: which config gets which setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from custom.commands import demo
from custom.errors import NomalyError


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Overrides by config; nothing is run."""
    calls: dict[str, dict[str, Any]] = {}
    monkeypatch.setattr(demo, "run_bundle", lambda bundle, configs, overrides: calls.update({configs[0]: overrides}))
    monkeypatch.setattr(demo, "make_phantom", lambda folder, anatomy, groups: str(folder))
    monkeypatch.setattr(demo, "summary", lambda bundle, folder, seconds: "done")
    return calls


def test_each_run_gets_only_the_knobs_that_it_has(ran) -> None:
    assert demo.run("ra_brain", "out", {"beta_rec": 2.0, "alpha": 0.1, "seed": 7}) == 0
    given = {config: {name for name in ("beta_rec", "alpha", "seed") if name in knobs} for config, knobs in ran.items()}
    assert given == {
        "train": {"beta_rec", "seed"},
        "calibrate": {"alpha", "seed"},
        "evaluate": {"alpha", "seed"},
        "inference": {"alpha", "seed"},
    }


@pytest.mark.parametrize(
    ("bundle", "unseen"),
    [
        ("ra_brain", "head_with_lesion.nii.gz"),
        ("memmc_colonoscopy", "frame_with_polyp.png"),
        ("memmc_covid", "film_with_opacity.png"),
    ],
)
def test_all_runs_share_weights_and_write_into_the_output_folder(ran, bundle: str, unseen: str) -> None:
    demo.run(bundle, "out", {})
    assert {knobs["ckpt_dir"] for knobs in ran.values()} == {str(Path("out/models"))}
    folders = [knobs["output_dir"] for knobs in ran.values() if "output_dir" in knobs]
    assert folders == [str(Path("out") / name) for name in ("train", "evaluation", "unseen_study")]
    assert Path(ran["inference"]["studies"]) == Path("out/phantom/unseen") / unseen


def test_knob_of_no_run_is_refused_before_the_training(ran) -> None:
    with pytest.raises(NomalyError, match="no knob of train, calibrate, evaluate, inference is called max_epoch: see "):
        demo.run("ra_brain", "out", {"max_epoch": 1})
    assert ran == {}
