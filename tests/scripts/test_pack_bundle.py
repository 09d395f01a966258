"""Packages for the model zoo: what a zip holds, and what is refused before one is written."""

from __future__ import annotations

import ast
import hashlib
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from monai.bundle import ConfigParser

from custom.commands.bundle import BUNDLES
from custom.errors import NomalyError
from tests.support.scripts import load_script

ROOT = BUNDLES.parent
NAMES = sorted(path.parent.name for path in BUNDLES.glob("*/variant.json"))
# Where the name of the import is not that of the package; markupsafe comes with jinja2.
PACKAGES = {"PIL": "pillow", "skimage": "scikit-image", "sklearn": "scikit-learn", "ignite": "pytorch-ignite"}
PACKAGES |= {"markupsafe": "jinja2"}
OPTIONAL = ("export", "label")  # commands that no config names, with packages of their own


@pytest.fixture(scope="module")
def pack() -> ModuleType:
    """The script as a module."""
    return load_script("pack_bundle.py")


def edit(path: Path, **entries) -> None:
    """Change entries of a JSON file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


@pytest.fixture
def small_bundle(tmp_path: Path, tiny_network) -> Callable[[str], Path]:
    """A copy of a bundle with a tiny network, weights and figures."""

    def copy(name: str) -> Path:
        folder = tmp_path / name
        ignored = shutil.ignore_patterns("data", "models", "output")
        shutil.copytree(BUNDLES / name, folder, ignore=ignored)
        edit(folder / "configs" / "inference.json", **tiny_network(name))
        edit(folder / "configs" / "metadata.json", eval_metrics={"image": {"auroc": 0.9}})
        draw_weights(folder)
        return folder

    return copy


def draw_weights(folder: Path) -> None:
    """Random weights of a bundle's network, and a provenance that tells of them."""
    parser = ConfigParser()
    parser.read_config(str(folder / "configs" / "inference.json"))
    weights = folder / "models" / "model.pt"
    weights.parent.mkdir(exist_ok=True)
    torch.save(parser.get_parsed_content("network_def").state_dict(), weights)
    words = dict.fromkeys(("data", "command", "commit", "seed", "hours", "hardware"), "")
    words["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    figures = json.loads((folder / "configs" / "metadata.json").read_text()).get("eval_metrics", {})
    weights.with_name("provenance.json").write_text(json.dumps({**words, "eval_metrics": figures}))


@pytest.fixture
def wrist(small_bundle) -> Path:
    """A bundle that can be packed."""
    return small_bundle("ra_wrist")


def names_in(archive: Path) -> set[str]:
    """Paths in a zip."""
    with zipfile.ZipFile(archive) as file:
        return set(file.namelist())


# What is packed


def test_zip_holds_the_bundle_its_weights_and_all_its_code(pack, wrist: Path, tmp_path: Path) -> None:
    archive = pack.pack(wrist, tmp_path / "dist")
    names = names_in(archive)
    assert archive.name == "ra_wrist_v0.1.0.zip"
    assert {name.split("/")[0] for name in names} == {"ra_wrist"}
    wanted = ["LICENSE", "configs/metadata.json", "configs/train.json", "configs/logging.conf", "docs/README.md"]
    wanted += [
        "docs/data_license.txt",
        "models/model.pt",
        "models/provenance.json",
        "custom/reporting/report.html.jinja",
    ]
    assert {f"ra_wrist/{name}" for name in wanted} <= names
    packed = {name.removeprefix("ra_wrist/") for name in names if name.endswith(".py")}
    assert packed == {path.relative_to(ROOT).as_posix() for path in (ROOT / "custom").rglob("*.py")}
    assert not any("__pycache__" in name or name.endswith("variant.json") for name in names)


def test_packed_files_are_those_of_the_repository_byte_for_byte(pack, wrist: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(pack.pack(wrist, tmp_path / "dist")) as file:
        for path in ("custom/errors.py", "custom/reporting/report.css.jinja"):
            assert file.read(f"ra_wrist/{path}") == (ROOT / path).read_bytes()
        assert file.read("ra_wrist/configs/train.json") == (wrist / "configs" / "train.json").read_bytes()


def test_same_files_give_the_same_bytes_whatever_their_times_are(pack, wrist: Path, tmp_path: Path) -> None:
    first = pack.pack(wrist, tmp_path / "first").read_bytes()
    for path in wrist.rglob("*"):
        os.utime(path, (0, 0))
    (wrist / "configs" / ".train.json.swp").write_text("left by an editor")
    assert pack.pack(wrist, tmp_path / "second").read_bytes() == first


def test_zoo_style_sorts_imports_of_custom_among_others_and_ignores_trailing_commas(pack) -> None:
    code = b"import numpy as np\n\nfrom custom import errors\n\nx = [\n    1,\n    np.pi,\n    errors,\n]\n"
    expected = b"import numpy as np\nfrom custom import errors\n\nx = [1, np.pi, errors]\n"
    assert pack.format_as_zoo(code) == expected
    assert pack.format_as_zoo(expected) == expected


# Weights


def test_missing_weights_are_reported_with_the_next_step(pack, wrist: Path, tmp_path: Path) -> None:
    (wrist / "models" / "model.pt").unlink()
    with pytest.raises(NomalyError, match=r"file not found: .*model.pt. Train the bundle \(nomaly train ra_wrist\)"):
        pack.pack(wrist, tmp_path / "dist")


def test_weights_of_another_architecture_are_refused(pack, small_bundle, tmp_path: Path) -> None:
    wrist, other = small_bundle("ra_wrist"), small_bundle("memmc_covid")
    shutil.copytree(other / "models", wrist / "models", dirs_exist_ok=True)
    with pytest.raises(NomalyError, match="weights must be of the bundle ra_wrist, but .*model.pt are of memmc_covid"):
        pack.pack(wrist, tmp_path / "dist")


def test_weights_of_another_bundle_of_the_same_architecture_are_refused(pack, small_bundle, tmp_path: Path) -> None:
    covid, pneumonia = small_bundle("memmc_covid"), small_bundle("memmc_pneumonia")
    shutil.copy(pneumonia / "models" / "model.pt", covid / "models" / "model.pt")
    with pytest.raises(
        NomalyError, match="weights must be of the bundle memmc_covid, but .*model.pt are of memmc_pneumonia"
    ):
        pack.pack(covid, tmp_path / "dist")


def test_provenance_of_other_weights_is_refused(pack, wrist: Path, tmp_path: Path) -> None:
    provenance = wrist / "models" / "provenance.json"
    edit(provenance, sha256="0" * 64)
    with pytest.raises(NomalyError, match="provenance.json describes other weights: its sha256 is 0{64}, that of"):
        pack.pack(wrist, tmp_path / "dist")


def test_weights_above_the_limit_need_an_address_and_are_left_out(
    pack, wrist: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pack, "LIMIT", 1000)
    with pytest.raises(NomalyError, match="the zoo accepts 25 MB per file: upload it and give --weights_url"):
        pack.pack(wrist, tmp_path / "dist")
    archive = pack.pack(wrist, tmp_path / "dist", url="https://example.org/{name}.pt")
    assert "ra_wrist/models/model.pt" not in names_in(archive)
    with zipfile.ZipFile(archive) as file:
        listed = yaml.safe_load(file.read("ra_wrist/large_files.yml"))
    digest = hashlib.sha256((wrist / "models" / "model.pt").read_bytes()).hexdigest()
    entry = {"path": "models/model.pt", "url": "https://example.org/ra_wrist.pt"}
    assert listed == {"large_files": [{**entry, "hash_val": digest, "hash_type": "sha256"}]}


def test_address_that_is_none_is_refused(pack, wrist: Path, tmp_path: Path) -> None:
    with pytest.raises(NomalyError, match="--weights_url must begin with https://, got weights.pt"):
        pack.pack(wrist, tmp_path / "dist", url="weights.pt")


# Figures, pins, files


def test_figures_that_were_not_measured_are_refused(pack, wrist: Path, tmp_path: Path) -> None:
    edit(wrist / "configs" / "metadata.json", eval_metrics={"image": {"auroc": 0.95}})
    with pytest.raises(
        NomalyError, match="eval_metrics must be those of provenance.json, but image.auroc is 0.95 inst"
    ):
        pack.pack(wrist, tmp_path / "dist")
    edit(wrist / "configs" / "metadata.json", eval_metrics={})
    with pytest.raises(NomalyError, match="but image is missing: take the measured ones"):
        pack.pack(wrist, tmp_path / "dist")
    assert not (tmp_path / "dist").exists()


def test_provenance_must_be_complete(pack, wrist: Path, tmp_path: Path) -> None:
    (wrist / "models" / "provenance.json").write_text('{"data": [], "command": "", "commit": "", "seed": 0}')
    with pytest.raises(NomalyError, match=r"lacks hours, hardware, eval_metrics, sha256 \(sha256 of this model.pt: "):
        pack.pack(wrist, tmp_path / "dist")


def test_differences_tell_each_place(pack) -> None:
    found, wanted = {"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1.0, "b": {"c": 4, "e": 5}}
    assert pack.differences(found, wanted) == ["b.c is 2 instead of 4", "b.d is not expected", "b.e is missing"]
    assert pack.differences(found, found) == []


@pytest.mark.parametrize("bundle", NAMES)
def test_every_bundle_pins_what_the_tests_run_with(bundle: str, pack) -> None:
    metadata = json.loads((BUNDLES / bundle / "configs" / "metadata.json").read_text())
    pack.check_metadata(metadata, pack.pins((ROOT / "requirements.txt").read_text()))


def test_another_pin_than_that_of_the_requirements_is_refused(pack, wrist: Path, tmp_path: Path) -> None:
    edit(wrist / "configs" / "metadata.json", numpy_version="1.26.4")
    with pytest.raises(NomalyError, match="must be those of requirements.txt, but numpy is '1.26.4' instead of '2.2"):
        pack.pack(wrist, tmp_path / "dist")


def test_version_without_a_line_in_the_changelog_is_refused(pack, wrist: Path, tmp_path: Path) -> None:
    edit(wrist / "configs" / "metadata.json", version="0.2.0")
    with pytest.raises(NomalyError, match="changelog must describe version 0.2.0"):
        pack.pack(wrist, tmp_path / "dist")


def test_bundle_without_licence_of_its_data_is_refused(pack, wrist: Path, tmp_path: Path) -> None:
    (wrist / "docs" / "data_license.txt").unlink()
    with pytest.raises(NomalyError, match="a bundle must have docs/data_license.txt: add it to "):
        pack.pack(wrist, tmp_path / "dist")


def test_everything_that_a_run_of_a_bundle_imports_is_pinned(pack) -> None:
    imported = set()
    for path in (ROOT / "custom").rglob("*.py"):
        if path.parent.name in OPTIONAL:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    packages = {PACKAGES.get(name, name) for name in imported - {"custom"} - sys.stdlib_module_names}
    assert {"itk", "pillow", "highdicom"} <= packages
    assert packages - pack.pins((ROOT / "requirements.txt").read_text()).keys() == set()


# The command


def test_zip_that_is_there_is_replaced_only_on_demand(pack, wrist: Path, tmp_path: Path, capsys) -> None:
    target = tmp_path / "dist" / "ra_wrist_v0.1.0.zip"
    target.parent.mkdir()
    target.write_text("an older one")
    with pytest.raises(SystemExit) as stop:
        pack.main([str(wrist), "--output", str(target.parent)])
    assert stop.value.code == 1 and target.read_text() == "an older one"
    assert f"pack_bundle: ra_wrist: {target} already exists: give --overwrite" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stop:
        pack.main([str(wrist), "--output", str(target.parent), "--overwrite"])
    assert stop.value.code == 0 and zipfile.is_zipfile(target)


def test_bundle_that_cannot_be_packed_does_not_stop_the_others(pack, wrist: Path, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as stop:
        pack.main(["ra_knee", str(wrist), "--output", str(tmp_path / "dist")])
    assert stop.value.code == 1 and (tmp_path / "dist" / "ra_wrist_v0.1.0.zip").is_file()
    printed = capsys.readouterr()
    assert "pack_bundle: ra_knee: BUNDLE must be a bundle's name or path, got ra_knee: choose one of " in printed.err
    assert "ra_wrist_v0.1.0.zip  " in printed.out


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "name a bundle, or give --all"),
        (
            ["ra_brain", "ra_chest", "--weights_url", "https://a/b.pt"],
            "--weights_url for several bundles must contain {name}",
        ),
    ],
)
def test_incomplete_command_is_refused(pack, words: list[str], text: str, capsys) -> None:
    with pytest.raises(SystemExit):
        pack.parse(words)
    assert text in capsys.readouterr().err


def test_all_means_every_bundle_of_the_repository(pack) -> None:
    assert pack.parse(["--all"]).bundles == NAMES
