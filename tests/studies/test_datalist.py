from __future__ import annotations

import json

import pytest

from custom.errors import NomalyError
from custom.studies.datalist import datalist_hash, load_datalist
from custom.studies.formats import case_name


def write(root, content, files=("a.png", "b.png", "c.png", "mask.png")):
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    text = content if isinstance(content, str) else json.dumps(content)
    (root / "datalist.json").write_text(text, encoding="utf-8")
    return root


def sections(training=({"image": "a.png"},), **others):
    return {"training": list(training), **others}


def test_paths_become_absolute_and_identifiers_are_filled_in(tmp_path):
    items = [{"image": "b.png", "label": 1, "mask": "mask.png", "group": "mass"}]
    loaded = load_datalist(write(tmp_path, sections(test=items)))
    assert loaded["training"] == [{"image": str(tmp_path / "a.png"), "label": 0, "case": "a", "subject": "a"}]
    assert loaded["test"] == [
        {
            "image": str(tmp_path / "b.png"),
            "mask": str(tmp_path / "mask.png"),
            "label": 1,
            "group": "mass",
            "case": "b",
            "subject": "b",
        }
    ]


def test_paths_written_on_windows_are_read(tmp_path):
    items = [{"image": r"images\a.png"}, {"image": r"sub\deep\.\b.png"}]
    folder = write(tmp_path, sections(items), files=("images/a.png", "sub/deep/b.png"))
    found = load_datalist(folder)["training"]
    assert [item["image"] for item in found] == [str(folder / "images/a.png"), str(folder / "sub/deep/b.png")]
    assert [item["case"] for item in found] == ["a", "b"]


def test_backslash_in_a_name_is_kept_and_leads_nowhere_else(tmp_path):
    folder = write(tmp_path, sections([{"image": "a\\b.png", "case": "c"}]), files=("a\\b.png", "a/b.png"))
    assert load_datalist(folder)["training"][0]["image"] == str(folder / "a\\b.png")
    (tmp_path / "outside.png").touch()
    folder = write(tmp_path / "inside", sections([{"image": r"..\outside.png"}]))
    with pytest.raises(NomalyError, match="image must be inside the folder of the data set"):
        load_datalist(folder)


def test_given_case_and_subject_are_kept(tmp_path):
    item = {"image": "a.png", "subject": 7, "case": "visit2", "label": 0}
    loaded = load_datalist(write(tmp_path, sections([item])))["training"][0]
    assert (loaded["case"], loaded["subject"]) == ("visit2", "7")


@pytest.mark.parametrize("case", ["../evil", "a/b", "..", ".hidden", "C:evil", "a\\b", "x" * 201])
def test_case_that_would_leave_its_folder_is_refused(tmp_path, case):
    with pytest.raises(NomalyError, match=r"a.png\): case must be a valid file name, without / or"):
        load_datalist(write(tmp_path, sections([{"image": "a.png", "case": case}])))


def test_null_entry_counts_as_missing(tmp_path):
    items = [{"image": "a.png", "mask": None, "subject": None, "group": None}]
    (item,) = load_datalist(write(tmp_path, sections(training=items)))["training"]
    assert sorted(item) == ["case", "image", "label", "subject"] and item["subject"] == "a"


@pytest.mark.parametrize(
    ("name", "meant"), [("calibraton", "calibration"), ("Training", "training"), ("tests", "test")]
)
def test_misspelt_section_is_refused_with_what_was_meant(tmp_path, name, meant):
    with pytest.raises(NomalyError, match=f"no section is called `{name}`; did you mean `{meant}`"):
        load_datalist(write(tmp_path, sections(**{name: [{"image": "b.png"}]})))


def test_dicom_series_folder_counts_as_image(tmp_path):
    loaded = load_datalist(write(tmp_path, sections([{"image": "series.1"}]), files=("series.1/0.dcm",)))
    assert loaded["training"][0]["case"] == "series.1"


def test_values_that_are_not_sections_are_ignored(tmp_path):
    loaded = load_datalist(write(tmp_path, {"name": "mine", **sections()}))
    assert list(loaded) == ["training", "validation", "test"]


def test_empty_training_is_accepted_when_allowed(tmp_path):
    root = write(tmp_path, {"test": [{"image": "a.png", "label": 1}]})
    assert load_datalist(root, required=["test"])["test"][0]["label"] == 1


@pytest.mark.parametrize(
    ("name", "case"),
    [("x/IXI002.nii.gz", "IXI002"), ("a.b.PNG", "a.b"), ("scan.dcm", "scan"), ("x/series.12", "series.12")],
)
def test_case_is_the_file_name_without_ending(name, case):
    assert case_name(name) == case


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{not json", "must be JSON"),
        ("", "must be JSON"),
        ([], "must be an object with sections"),
        ({"test": [{"image": "a.png", "label": 0}]}, "section `training` must list .* got no such section"),
        ({"training": []}, "section `training` must list .* got none"),
        (sections(calibration={"image": "b.png"}), r"section `calibration` must be a list of items, got dict"),
        (sections(calibration=[{"image": "b.png", "label": 1}]), r"b.png.*section `calibration` must be healthy"),
        (sections([{"label": 0}]), r"training\[0\] must be an object with a path in `image`"),
        (sections(["a.png"]), r"training\[0\] must be an object with a path in `image`, got 'a.png'"),
        (sections([{"image": "a.png", "label": 1}]), r"a.png.*section `training` must be healthy"),
        (sections(validation=[{"image": "b.png", "label": 1}]), r"b.png.*section `validation` must be healthy"),
        (sections(test=[{"image": "b.png"}]), r"test\[0\] \(b.png\): label must be 0 .* got None"),
        (sections(test=[{"image": "b.png", "label": "1"}]), "label must be 0 .* got '1'"),
        (sections([{"image": "gone.png"}]), "image not found: .*gone.png"),
        (sections(test=[{"image": "b.png", "label": 1, "mask": "no.png"}]), "mask not found"),
        (sections([{"image": "../a.png"}]), "image must be inside the folder of the data set, got ../a.png"),
        (sections([{"image": "/etc/hostname"}]), "image must be inside"),
        (sections([{"image": "a.png"}, {"image": "./a.png"}]), "`a` names both"),
        (
            sections([{"image": "a.png", "subject": "p"}], test=[{"image": "b.png", "label": 0, "subject": "p"}]),
            "`p` is in `training` and in `test`",
        ),
    ],
)
def test_faulty_list_is_refused_with_its_reason(tmp_path, content, message):
    with pytest.raises(NomalyError, match=message):
        load_datalist(write(tmp_path, content))


def test_two_studies_of_a_subject_may_share_a_section(tmp_path):
    items = [{"image": "a.png", "subject": "p"}, {"image": "b.png", "subject": "p"}]
    assert len(load_datalist(write(tmp_path, sections(items)))["training"]) == 2


def test_missing_folder_and_missing_list_are_distinguished(tmp_path):
    with pytest.raises(NomalyError, match="must be an existing folder"):
        load_datalist(tmp_path / "nowhere")
    with pytest.raises(NomalyError, match="must contain datalist.json"):
        load_datalist(tmp_path)


def test_hash_ignores_layout_but_not_content(tmp_path):
    first = datalist_hash(write(tmp_path, '{"training": [{"image": "a.png", "label": 0}]}'))
    assert first == datalist_hash(write(tmp_path, '{\n "training": [{"label": 0, "image": "a.png"}]}'))
    assert first != datalist_hash(write(tmp_path, '{"training": [{"image": "b.png", "label": 0}]}'))
    assert len(first) == 16 and int(first, 16) >= 0
