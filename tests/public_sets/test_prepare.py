"""Downloads of the public layouts, tiny and made up, become data sets with the published sections."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from custom.public_sets import prepare as module
from custom.public_sets.fingerprint import digest, fingerprint
from custom.public_sets.manifest import NAMES, Row, read_manifest
from custom.public_sets.sets import public_set
from custom.studies.datalist import load_datalist

RANDOM = np.random.default_rng(0)


def picture(path: Path, mode: str = "L") -> None:
    """Save an image of smooth noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = RANDOM.integers(0, 255, (9, 9, 3) if mode == "RGB" else (9, 9)).astype(np.uint8)
    Image.fromarray(values).resize((96, 80), Image.Resampling.BICUBIC).save(path)


def head(path: Path) -> None:
    """Save a volume with a bright block."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((40, 40, 40), np.float32)
    values[5:35, 5:35, 5:35] = 100
    nib.save(nib.Nifti1Image(values, np.diag([4, 4, 4, 1])), path)


def kermany(root: Path, row: Row) -> None:
    part = "test" if row.section == "test" else "train"
    picture(root / "chest_xray" / part / ("PNEUMONIA" if row.label else "NORMAL") / f"{row.stem}.jpeg")
    hidden = root / "__MACOSX" / part / ("PNEUMONIA" if row.label else "NORMAL") / f"._{row.stem}.jpeg"
    hidden.parent.mkdir(parents=True, exist_ok=True)
    hidden.write_bytes(b"of another kind")


def ixi(root: Path, row: Row) -> None:
    head(root / f"{row.stem}-Guys-0828-T1.nii.gz")
    (root / f"{row.stem}-Guys-0828-T2.nii.gz").write_bytes(b"of another kind")


def hyperkvasir(root: Path, row: Row) -> None:
    tract = root / "labeled-images" / "lower-gi-tract"
    if row.label:
        picture(tract / "pathological-findings" / "polyps" / f"{row.stem}.jpg", "RGB")
        picture(root / "segmented-images" / "images" / f"{row.stem}.jpg", "RGB")
        picture(root / "segmented-images" / "masks" / f"{row.stem}.jpg")
    else:
        picture(tract / "anatomical-landmarks" / "cecum" / f"{row.stem}.jpg", "RGB")


def covid_radiography(root: Path, row: Row) -> None:
    kind = root / "COVID-19_Radiography_Dataset" / ("COVID" if row.label else "Normal")
    picture(kind / "images" / f"{row.stem}.png")
    (kind / "masks").mkdir(exist_ok=True)
    (kind / "masks" / f"{row.stem}.png").write_bytes(b"of another kind")


def lgg(root: Path, row: Row) -> None:
    patient = root / "kaggle_3m" / row.stem.rpartition("_")[0]
    picture(patient / f"{row.stem}.tif", "RGB")
    picture(patient / f"{row.stem}_mask.tif")


def mednist_hands(root: Path, row: Row) -> None:
    picture(root / "MedNIST" / "Hand" / f"{row.stem}.jpeg")
    (root / "MedNIST" / "AbdomenCT").mkdir(exist_ok=True)
    (root / "MedNIST" / "AbdomenCT" / f"{row.stem}.jpeg").write_bytes(b"of another kind")


LAYOUTS: dict[str, Callable[[Path, Row], None]] = {
    function.__name__: function for function in (ixi, kermany, hyperkvasir, covid_radiography, lgg, mednist_hands)
}


def chosen(name: str) -> list[Row]:
    """One study of each section and label."""
    return list({(row.section, row.label): row for row in read_manifest(name)}.values())


@pytest.mark.parametrize("name", NAMES)
def test_download_becomes_a_data_set_with_the_published_sections(name, nomaly, tmp_path) -> None:
    rows = chosen(name)
    for row in rows:
        LAYOUTS[name](tmp_path / "download", row)

    done = nomaly("prepare", name, tmp_path / "download", "--output", tmp_path / "data")

    assert done.code == 0, done.err
    sections = load_datalist(tmp_path / "data")
    made = {(section, item["image"]): item for section, items in sections.items() for item in items}
    assert set(made) == {(row.section, str(tmp_path / "data" / row.image)) for row in rows}
    for row in rows:
        item = made[row.section, str(tmp_path / "data" / row.image)]
        assert item["label"] == row.label and ("mask" in item) == bool(row.mask)
        if row.mask:
            assert Image.open(item["mask"]).size == Image.open(item["image"]).size
    entry = public_set(name)
    assert f"Terms: {entry.terms}" in done.out
    assert f"{len(read_manifest(name)) - len(rows)} files were not found, so the sections are smaller" in done.out
    assert f"of {len(rows)}, 0 are equal" in done.out  # made-up pictures
    assert all(f"nomaly evaluate {bundle} --dataset_dir" in done.out for bundle in entry.bundles)


def test_published_pictures_are_recognised(monkeypatch, tmp_path) -> None:
    rows = chosen("mednist_hands")
    for row in rows:
        mednist_hands(tmp_path / "download", row)

    def published(row: Row, at: str) -> Row:
        content = public_set("mednist_hands").image(tmp_path / "download" / "MedNIST" / "Hand" / f"{row.stem}.jpeg")
        image = Image.open(io.BytesIO(content))
        return Row(**{**vars(row), "digest": at or digest(image), "fingerprint": fingerprint(image)})

    known = [published(rows[0], ""), published(rows[1], "0" * 12), rows[2]]
    monkeypatch.setattr(module, "read_manifest", lambda name: known)

    text = module.prepare("mednist_hands", tmp_path / "download", tmp_path / "data")

    assert "of 3, 1 are equal to the published ones in each pixel, 1 show the same picture, 1 differ." in text
    assert "pictures that differ may come from another version of the set" in text
    assert "Sections: all studies of the published ones (datalist " in text


def test_polyp_without_its_mask_is_left_out(nomaly, tmp_path) -> None:
    rows = chosen("hyperkvasir")
    for row in rows:
        hyperkvasir(tmp_path / "download", row)
    for file in (tmp_path / "download" / "segmented-images" / "masks").iterdir():
        file.unlink()
    assert nomaly("prepare", "hyperkvasir", tmp_path / "download", "--output", tmp_path / "data").code == 0
    items = json.loads((tmp_path / "data" / "datalist.json").read_text())["test"]
    assert [item["label"] for item in items] == [0]


def test_only_folders_of_the_download_count(nomaly, tmp_path) -> None:
    """The download may be anywhere, and the folder that is needed may be given itself."""
    row = next(row for row in chosen("mednist_hands") if row.section == "training")
    place = tmp_path / "masks" / "Normal"
    mednist_hands(place, row)
    done = nomaly("prepare", "mednist_hands", place / "MedNIST" / "Hand", "--output", tmp_path / "data")
    assert done.code == 0 and "training     1 healthy" in done.out, done.err
    other = nomaly("prepare", "mednist_hands", place / "MedNIST" / "AbdomenCT", "--output", tmp_path / "other")
    assert other.code == 2 and "has none of the 3000 files" in other.err


def test_what_cannot_be_used_is_refused_in_one_sentence(nomaly, tmp_path) -> None:
    (tmp_path / "empty").mkdir()

    def refused(*words: object) -> str:
        done = nomaly("prepare", *words)
        assert done.code == 2
        return done.err

    assert (
        "NAME must be one of ixi, kermany, hyperkvasir, covid_radiography, lgg, mednist_hands, got mnist."
        in refused("mnist", tmp_path / "empty", "--output", tmp_path / "o")
    )
    assert "FOLDER must be the unpacked download, but" in refused("ixi", tmp_path / "gone", "--output", tmp_path / "o")
    assert "has none of the 526 files of ixi: it must contain IXI002-Guys-0828-T1.nii.gz and so on" in refused(
        "ixi", tmp_path / "empty", "--output", tmp_path / "o"
    )
    assert "--output must be outside of" in refused("ixi", tmp_path / "empty", "--output", tmp_path / "empty" / "o")
    assert "prepare has no option --sead: " in refused("ixi", tmp_path / "empty", "--sead", "1")
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "datalist.json").write_text("{}")
    assert "already has a datalist.json: give another --output, or --overwrite." in refused(
        "ixi", tmp_path / "empty", "--output", tmp_path / "o"
    )


def test_data_set_is_replaced_on_request(nomaly, tmp_path) -> None:
    mednist_hands(tmp_path / "download", next(row for row in chosen("mednist_hands") if row.section == "training"))
    words = ("prepare", "mednist_hands", tmp_path / "download", "--output", tmp_path / "data")
    assert nomaly(*words).code == 0
    assert nomaly(*words, "--overwrite").code == 0
