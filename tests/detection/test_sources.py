"""Bundles and weights are found by name, folder, zip or model.pt; what does not belong together is refused."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from custom import __version__
from custom.commands.bundle import BUNDLES
from custom.detection.sources import find_source
from custom.errors import NomalyError


@pytest.fixture
def zipped(tmp_path):
    """A zip of folders of bundles, each with a copy of custom/ of a release."""

    def pack(*names: str, release: str = __version__) -> Path:
        with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
            for name in names:
                archive.writestr(f"{name}/configs/metadata.json", json.dumps({"name": name}))
                archive.writestr(f"{name}/models/model.pt", b"weights")
                archive.writestr(f"{name}/custom/__init__.py", f'__version__ = "{release}"\n')
                archive.writestr(f"{name}/custom/errors.py", "")
        return tmp_path / "packed.zip"

    return pack


def test_name_and_folder_and_weights_give_the_bundle():
    weights = (BUNDLES / "ra_chest" / "models" / "model.pt").resolve()
    for source in ("ra_chest", BUNDLES / "ra_chest", weights):
        found = find_source(source)
        assert (found.bundle.samefile(BUNDLES / "ra_chest"), found.weights) == (True, weights)


def test_zip_is_unpacked_without_its_code_for_as_long_as_it_is_used(zipped):
    found = find_source(zipped("films"))

    folder = found.bundle
    assert folder.name == "films" and found.weights.read_bytes() == b"weights"
    assert sorted(path.name for path in (folder / "custom").iterdir()) == ["__init__.py"]
    del found
    assert not folder.exists()


@pytest.mark.parametrize("names", [(), ("a", "b")])
def test_zip_must_contain_one_bundle(zipped, names):
    with pytest.raises(NomalyError, match=rf"must contain one bundle .*but has {len(names)}: give the zip of one"):
        find_source(zipped(*names))


def test_zip_that_is_none_and_one_of_another_release_are_refused(zipped, tmp_path):
    with pytest.raises(NomalyError, match="bundle films must be for Nomaly .* but its custom/ is 0.0.9: run it from"):
        find_source(zipped("films", release="0.0.9"))
    (tmp_path / "broken.zip").write_bytes(b"PK")
    with pytest.raises(NomalyError, match="broken.zip must be a readable zip"):
        find_source(tmp_path / "broken.zip")


def test_weights_are_given_once_exist_and_belong_to_the_bundle(tmp_path):
    own = BUNDLES / "ra_chest" / "models" / "model.pt"
    with pytest.raises(NomalyError, match="weights must be given once"):
        find_source(own, weights=own)
    with pytest.raises(NomalyError, match="weights of ra_chest: file not found: .*gone.pt"):
        find_source("ra_chest", weights=tmp_path / "gone.pt")
    with pytest.raises(NomalyError, match="weights must belong to bundle"):
        find_source("ra_chest", weights=BUNDLES / "ra_wrist" / "models" / "model.pt")
