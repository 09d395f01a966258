"""Which bundles a server serves, and with which weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from custom import __version__
from custom.errors import NomalyError
from custom.label import bundles
from custom.label.bundles import BUNDLES, Model, read_models


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A weights file, of which only the existence is looked at."""
    file = tmp_path / "model.pt"
    file.touch()
    return file


@pytest.fixture
def copy_bundle(tmp_path: Path):
    """A bundle elsewhere, under another name, with weights and a copy of custom/ of a release."""

    def copy(bundle: str, name: str, release: str | None = None) -> Path:
        folder = tmp_path / name
        shutil.copytree(BUNDLES / bundle / "configs", folder / "configs")
        (folder / "models").mkdir()
        (folder / "models" / "model.pt").touch()
        if release is not None:
            (folder / "custom").mkdir()
            (folder / "custom" / "__init__.py").write_text(release)
        return folder

    return copy


def test_several_bundles_name_their_weights_themselves(weights):
    found = read_models([f"ra_chest={weights}", f"{BUNDLES / 'ra_wrist'}={weights}"], None)

    assert found == {name: Model(BUNDLES / name, weights) for name in ("ra_chest", "ra_wrist")}


def test_without_a_bundle_all_that_have_weights_are_served(monkeypatch, tmp_path):
    monkeypatch.setattr(bundles, "BUNDLES", tmp_path)
    (tmp_path / "b" / "models").mkdir(parents=True)
    (tmp_path / "a").mkdir()
    with pytest.raises(NomalyError, match="at least one bundle in .* must have weights .* train one"):
        read_models([], None)

    (tmp_path / "b" / "models" / "model.pt").touch()
    assert list(read_models([], None)) == ["b"]


def test_renamed_bundle_is_served_under_its_new_name(copy_bundle):
    folder = copy_bundle("ra_chest", "films of site B")

    assert read_models([str(folder)], None) == {"films of site B": Model(folder, folder / "models" / "model.pt")}


def test_folder_without_metadata_is_no_bundle(copy_bundle):
    folder = copy_bundle("ra_chest", "films")
    (folder / "configs" / "metadata.json").unlink()

    with pytest.raises(
        NomalyError, match="--bundle .*films has no configs/metadata.json: copy that of a similar bundle and edit it"
    ):
        read_models([str(folder)], None)


@pytest.mark.parametrize(
    "entries, message",
    [
        (["ra_chest=none.pt"], "weights of ra_chest: file not found: none.pt. Train the bundle"),
        (["ra_chest=WEIGHTS", "ra_chest=WEIGHTS"], "--bundle must name each bundle once, but ra_chest is given twice"),
    ],
)
def test_missing_weights_and_duplicates_are_reported(entries, message, weights):
    with pytest.raises(NomalyError, match=message):
        read_models([entry.replace("WEIGHTS", str(weights)) for entry in entries], None)


@pytest.mark.parametrize("entries", [[], ["ra_chest", "ra_wrist"], ["ra_chest=other.pt"]])
def test_weights_option_needs_exactly_one_bundle(entries):
    with pytest.raises(NomalyError, match="--weights needs exactly one --bundle"):
        read_models(entries, "model.pt")


def test_calibration_is_a_folder_or_a_file_for_one_bundle(weights, tmp_path):
    (tmp_path / "calibration.json").touch()

    for given in (tmp_path, tmp_path / "calibration.json"):
        found = read_models(["ra_chest"], str(weights), str(given))["ra_chest"]
        assert found == Model(BUNDLES / "ra_chest", weights, tmp_path / "calibration.json")
    assert found.settings()["calibration_file"] == str(tmp_path / "calibration.json")
    with pytest.raises(NomalyError, match="--calibration needs exactly one --bundle: start one server for each"):
        read_models(["ra_chest", "ra_wrist"], None, str(tmp_path))
    with pytest.raises(NomalyError, match="--calibration: file not found: nowhere. Make it with nomaly calibrate"):
        read_models(["ra_chest"], str(weights), "nowhere")


def test_weights_of_another_bundle_are_refused_though_its_network_is_alike(copy_bundle):
    other = copy_bundle("memmc_pneumonia", "other") / "models" / "model.pt"
    name = json.loads((BUNDLES / "memmc_pneumonia" / "configs" / "metadata.json").read_text())["name"]

    with pytest.raises(
        NomalyError, match=f'weights must belong to bundle "COVID-19 .*", but .* belong to "{name}": omit'
    ):
        read_models([f"memmc_covid={other}"], None)
    assert list(read_models([f"memmc_pneumonia={other}"], None)) == ["memmc_pneumonia"]


@pytest.mark.parametrize("own, release", [('__version__ = "0.0.9"\n', "0.0.9"), ("", "an unknown release")])
def test_packed_bundle_of_another_release_is_refused(copy_bundle, own, release):
    folder = copy_bundle("ra_chest", "packed", own)

    with pytest.raises(
        NomalyError, match=f"packed must be for Nomaly {__version__}, .* but its custom/ is {release}: "
    ):
        read_models(["ra_brain", str(folder)], None)


def test_packed_bundle_of_this_release_is_served(copy_bundle):
    folder = copy_bundle("ra_chest", "packed", f'__version__ = "{__version__}"\n')

    assert list(read_models([str(folder)], None)) == ["packed"]
