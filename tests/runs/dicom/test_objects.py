from __future__ import annotations

import errno
import logging
import shutil
import subprocess
from contextlib import contextmanager
from types import SimpleNamespace

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.uid import JPEG2000Lossless

from custom.errors import NomalyError
from custom.files import WriteError, atomic_write
from custom.runs.dicom import objects
from custom.runs.dicom.source import read_source
from dicom import write_cine, write_film
from dicom_results import RUN, SHAPE, anomaly_map, labels, regions, result, sources, write

KINDS = ("series", "multiframe", "film")
NUMBERS = dict.fromkeys(("score", "p_value", "decision", "region_count"))
BARE = dict.fromkeys(
    ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID")
    + ("AccessionNumber", "ReferringPhysicianName", "SpecificCharacterSet", "SeriesNumber", "Manufacturer")
)


def uids(paths):
    """All UIDs in files but those of the standard."""
    elements = [element for path in paths for element in pydicom.dcmread(path).iterall() if element.VR == "UI"]
    return {str(element.value) for element in elements if not str(element.value).startswith("1.2.840.10008.")}


@pytest.mark.parametrize("kind", KINDS)
def test_objects_belong_to_the_study_of_the_source_and_to_series_of_their_own(kind, tmp_path):
    files = sources(kind, tmp_path)
    source, series, numbers = pydicom.dcmread(files[0]), set(), set()
    paths = write(kind, tmp_path, files=files)
    assert set(paths) == {"segmentation", "map", "report"}
    for path in paths.values():
        made = pydicom.dcmread(path)
        for name in ("StudyInstanceUID", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID"):
            assert made[name].value == source[name].value
        assert (made.AccessionNumber, made.StudyDate) == (source.AccessionNumber, source.StudyDate)
        assert made.get("FrameOfReferenceUID") in (source.get("FrameOfReferenceUID"), None)
        assert (made.Manufacturer, made.ManufacturerModelName) == ("Nomaly", "ra_brain")
        assert (made.SoftwareVersions, made.DeviceSerialNumber) == ("1.2.3", "ab" * 32)
        assert "Research use only, not for diagnosis" in made.SeriesDescription
        series.add(made.SeriesInstanceUID)
        numbers.add(made.SeriesNumber)
    assert len(series | {source.SeriesInstanceUID}) == 4
    assert len(numbers) == 3 and min(numbers) > 900_000


def test_images_of_a_volume_have_its_frame_of_reference(tmp_path):
    files = sources("series", tmp_path)
    paths, source = write("series", tmp_path, files=files), pydicom.dcmread(files[0])
    for kind in ("segmentation", "map"):
        assert pydicom.dcmread(paths[kind]).FrameOfReferenceUID == source.FrameOfReferenceUID


@pytest.mark.parametrize("kind", KINDS)
def test_a_repeated_run_writes_the_same_uids(kind, tmp_path):
    files = sources(kind, tmp_path)
    first = uids(write(kind, tmp_path / "a", files=files).values())
    assert first == uids(write(kind, tmp_path / "b", files=files, result=result(seconds=99.0)).values())


@pytest.mark.parametrize(
    "change",
    [
        {"arrays": {"map": anomaly_map() + np.float32(1e-6), "labels": labels()}},
        {"arrays": {"map": anomaly_map(), "labels": labels()[:, ::-1]}},
        {"result": result(score=1.26)},
        {"regions": regions(p_value=0.25)},
        {"run": {**RUN, "model_hash": "cd" * 32}},
        {"run": {**RUN, "alpha": 0.1}},
    ],
    ids=["map", "labels", "score", "regions", "model", "alpha"],
)
def test_other_content_shares_no_uid(change, tmp_path):
    files = sources("series", tmp_path)
    first, second = write("series", tmp_path / "a", files=files), write("series", tmp_path / "b", files=files, **change)
    (observer,) = hd.sr.srread(first["report"]).content.get_observer_contexts()
    of_the_software = {observer.observer_identifying_attributes.uid}
    assert uids(first.values()) & uids(second.values()) <= uids(files) | of_the_software


def test_another_patient_shares_no_object_uid(tmp_path):
    files = sources("film", tmp_path)
    before = {pydicom.dcmread(path).SOPInstanceUID for path in write("film", tmp_path, files=files).values()}
    file = pydicom.dcmread(files[0])
    file.PatientID = "corrected"
    file.save_as(files[0])
    after = {pydicom.dcmread(path).SOPInstanceUID for path in write("film", tmp_path, files=files).values()}
    assert not before & after


def test_objects_of_an_earlier_run_do_not_outlive_it(tmp_path):
    files = sources("film", tmp_path)
    assert write("film", tmp_path, files=files)["segmentation"].exists()
    paths = write("film", tmp_path, files=files, arrays={"map": anomaly_map()[..., 4]}, regions=[])
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == ["map.dcm", "report.dcm"]
    assert set(paths) == {"map", "report"}


@pytest.mark.parametrize("kind", KINDS)
def test_sources_that_tell_nothing_of_the_patient_are_enough(kind, tmp_path):
    paths = write(kind, tmp_path, **BARE, SliceThickness=None)
    for path in paths.values():
        made = pydicom.dcmread(path)
        assert not made.PatientName and not made.PatientID and not made.StudyDate
        assert all(name in made for name in ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"))


@pytest.mark.parametrize(
    "tags",
    [
        {"PatientSex": "female"},
        {"PatientBirthDate": "00000000"},
        {"StudyDate": "unknown", "StudyTime": "noon"},
        {"AccessionNumber": "longer than sixteen characters"},
        {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎"},
        {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jürgen^^^"},
        {"PatientName": "no carets at all, and a very long name " * 3},
    ],
    ids=["sex", "birth", "study", "accession", "japanese", "latin", "name"],
)
def test_odd_values_of_a_source_are_no_obstacle_and_no_noise(tags, tmp_path, caplog, recwarn):
    with pydicom.config.disable_value_validation():
        files = sources("film", tmp_path, **tags)
    recwarn.clear()
    with caplog.at_level(logging.DEBUG):
        paths = write("film", tmp_path, files=files)
    assert not recwarn.list
    assert not [record for record in caplog.records if record.levelno > logging.DEBUG]
    for path in paths.values():
        name = pydicom.dcmread(path).PatientName
        assert str(name) == str(pydicom.dcmread(files[0]).PatientName)


def test_no_other_text_of_the_source_is_copied(tmp_path):
    told = dict.fromkeys(("StudyDescription", "SeriesDescription", "PatientComments", "InstitutionName"), "secret")
    paths = write("series", tmp_path, **told, ImageComments="secret", OtherPatientIDs="secret", StationName="secret")
    assert not [path for path in paths.values() if b"secret" in path.read_bytes()]


def test_deidentified_sources_give_deidentified_objects(tmp_path):
    paths = write("film", tmp_path, PatientIdentityRemoved="YES", DeidentificationMethod="by hand")
    for path in paths.values():
        made = pydicom.dcmread(path)
        assert (made.PatientIdentityRemoved, made.DeidentificationMethod) == ("YES", "by hand")


def test_frames_without_positions_are_refused_for_images_but_not_for_the_reason_alone(tmp_path):
    cine = [write_cine(tmp_path / "cine.dcm", np.zeros(SHAPE, np.uint8))]
    with pytest.raises(NomalyError, match="5 frames of a study must have positions in one frame of reference"):
        write("series", tmp_path, files=cine)
    assert not (tmp_path / "results").exists() or not list((tmp_path / "results").iterdir())
    refused = result(status="not_assessable", note="A cine.", **NUMBERS)
    assert set(write("series", tmp_path, files=cine, arrays={}, regions=[], result=refused)) == {"report"}


def test_a_series_without_a_frame_of_reference_is_refused(tmp_path):
    with pytest.raises(NomalyError, match="FrameOfReferenceUID or ImagePositionPatient is missing"):
        write("series", tmp_path, FrameOfReferenceUID=None)


def test_frames_at_different_angles_are_refused_but_rounding_is_not(tmp_path):
    def turned(by):
        return lambda z: [1, 0, 0, 0, np.cos(by * z).round(9), np.sin(by * z).round(9)]

    assert write("series", tmp_path / "a", ImageOrientationPatient=turned(1e-5))
    with pytest.raises(NomalyError, match="must have the same orientation"):
        write("series", tmp_path / "b", ImageOrientationPatient=turned(0.1))


def test_arrays_of_another_grid_are_refused(tmp_path):
    with pytest.raises(NomalyError, match=r"must be on the grid \(11, 9, 5\) .* got \(9, 11, 5\)"):
        write("series", tmp_path, arrays={"map": anomaly_map().swapaxes(0, 1)}, regions=[])


def test_files_that_are_no_dicom_or_lack_their_uids_are_refused(tmp_path):
    (tmp_path / "text.dcm").write_text("no image")
    with pytest.raises(NomalyError, match="DICOM file 1 of 1 of the study cannot be read"):
        write("film", tmp_path, files=[tmp_path / "text.dcm"])
    with pytest.raises(NomalyError, match="DICOM file 1 of 1 .* lacks StudyInstanceUID"):
        write("film", tmp_path, StudyInstanceUID=None)
    with pytest.raises(NomalyError, match="files must name at least one DICOM file"):
        objects.write_dicom_objects(tmp_path, [], {}, result(), [], RUN)


def test_files_without_preamble_are_referred_to(tmp_path):
    path = write_film(tmp_path / "film.dcm", np.arange(64 * 64, dtype=np.uint16).reshape(64, 64))
    path.write_bytes(path.read_bytes()[132:])
    assert read_source([path]).headers[0].Rows == 64


def test_what_highdicom_refuses_is_told_without_the_values_of_the_file(tmp_path):
    with pytest.raises(NomalyError, match=r"DICOM files of study case-1 lack .*AttributeError.*dciodvfy") as caught:
        write("series", tmp_path, PixelSpacing=None)
    assert "Doe" not in str(caught.value)


def test_full_disk_is_reported_in_one_sentence(tmp_path, monkeypatch):
    files = sources("film", tmp_path)
    real = atomic_write

    @contextmanager
    def full(path, mode):
        with real(path, mode) as stream:

            def write(data):
                raise OSError(errno.ENOSPC, "No space left on device")

            yield SimpleNamespace(write=write, tell=stream.tell, seek=stream.seek, flush=stream.flush)

    monkeypatch.setattr(objects, "atomic_write", full)
    with pytest.raises(WriteError, match=r"^Cannot write \S+: No space left on device. The prev.*free some") as caught:
        write("film", tmp_path, files=files)
    assert "Traceback" not in str(caught.value) and caught.value.disk_gone


def test_a_failure_leaves_no_partial_object(tmp_path, monkeypatch):
    files = sources("film", tmp_path)

    def fail(stream, dataset, **options):
        stream.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(objects.pydicom, "dcmwrite", fail)
    with pytest.raises(NomalyError, match="Cannot write .*segmentation.dcm"):
        write("film", tmp_path, files=files)
    assert not list((tmp_path / "results").iterdir())


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy (dicom3tools) is not installed")
@pytest.mark.parametrize(
    ("kind", "tags"),
    [
        ("series", {}),
        ("series", {"BodyPartExamined": None}),
        ("series", {"arrays": {"map": anomaly_map()}, "regions": [], "result": result(p_value=None, decision=None)}),
        ("multiframe", {}),
        ("slice", {}),
        ("film", {}),
        ("film", {**BARE, "PixelSpacing": None, "PatientOrientation": None}),
        ("film", {"syntax": JPEG2000Lossless, "BodyPartExamined": "HAND", "Laterality": "L"}),
        ("film", {"arrays": {}, "regions": [], "result": result(status="not_assessable", note="No chest.", **NUMBERS)}),
    ],
    ids=["series", "no_part", "no_finding", "multiframe", "slice", "film", "bare_film", "hand", "not_assessable"],
)
def test_dciodvfy_finds_no_error(kind, tags, tmp_path):
    for path in write(kind, tmp_path, **tags).values():
        run = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True)
        assert "Error" not in run.stdout + run.stderr
