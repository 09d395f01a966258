"""The server itself, in its own environment: the same results as nomaly detect, as viewers ask for them."""

from __future__ import annotations

import gzip
import io
import json
from concurrent.futures import ThreadPoolExecutor

import itk
import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from tests.support.dicom import write_film, write_series
from tests.support.label_server import NEEDS_LABEL, RENAMED

pytestmark = NEEDS_LABEL


def test_info_lists_the_models_with_their_options(server):
    info = server.get("/info/")

    assert list(info["models"]) == ["ra_brain", "ra_chest", RENAMED] and info["trainers"] == {}
    for name, dimension in (("ra_brain", 3), ("ra_chest", 2), (RENAMED, 2)):
        model = info["models"][name]
        assert (model["type"], model["labels"], model["dimension"]) == ("segmentation", {"anomaly": 1}, dimension)
        assert model["config"] == {"threshold": "calibrated", "output": ["mask", "bands"]}
        assert "Not a medical device" in model["description"]
    assert set(server.get("/datastore/?output=all")["objects"]) == {"head", "film", "broken", "broken_film"}


def test_volume_has_the_mask_map_and_numbers_of_nomaly_detect(server, detected, tmp_path):
    row, folder = detected("ra_brain", "head.nii.gz")

    answer = json.loads(server.infer("ra_brain", "head", "json")[1])
    for output in ("mask", "map"):
        (tmp_path / f"{output}.nii.gz").write_bytes(server.infer("ra_brain", "head", "image", {"output": output})[1])

    # NumPy 1 there, NumPy 2 here: sums of float64 may be rounded in another order
    assert answer["score"] == pytest.approx(row.score, rel=1e-6)
    assert [answer[name] for name in ("p_value", "decision", "region_count", "note")] == [
        row.p_value,
        row.decision,
        row.region_count,
        row.note,
    ]
    assert "Only slices" in row.note
    for name, tolerance in (("mask", 0), ("map", 1e-5)):
        here, there = nib.load(folder / f"{name}.nii.gz"), nib.load(tmp_path / f"{name}.nii.gz")
        assert np.allclose(here.get_fdata(), there.get_fdata(), rtol=0, atol=tolerance)
        assert np.array_equal(here.affine, there.affine) and here.get_data_dtype() == there.get_data_dtype()


def test_two_dimensional_image_has_the_mask_and_numbers_of_nomaly_detect(server, detected):
    row, folder = detected("ra_chest", "film.png")

    answer = json.loads(server.infer("ra_chest", "film", "json")[1])
    mask = np.asarray(Image.open(io.BytesIO(server.infer("ra_chest", "film", "image")[1])))

    assert answer["score"] == pytest.approx(row.score, rel=1e-6)
    assert (answer["p_value"], answer["decision"]) == (row.p_value, row.decision)
    assert np.array_equal(mask == 1, np.asarray(Image.open(folder / "mask.png")) == 255)
    assert {*np.unique(mask)} <= {0, 1}


def test_dicom_series_has_the_mask_and_numbers_of_nomaly_detect(server, detected, tmp_path):
    head = nib.load(server.studies / "head.nii.gz")
    write_series(server.studies / "series", np.asanyarray(head.dataobj).astype(np.uint16), head.affine)
    row, folder = detected("ra_brain", "series")

    answer = json.loads(server.infer("ra_brain", "series", "json")[1])
    (tmp_path / "mask.nii.gz").write_bytes(server.infer("ra_brain", "series", "image")[1])

    assert answer["score"] == pytest.approx(row.score, rel=1e-6) and answer["decision"] == row.decision
    found, expected = nib.load(tmp_path / "mask.nii.gz"), nib.load(folder / "mask.nii.gz")
    assert np.array_equal(found.affine, expected.affine)
    assert np.array_equal(found.get_fdata(), expected.get_fdata()) and found.get_fdata().any()


def test_dicom_film_has_the_mask_and_numbers_of_nomaly_detect(server, detected, tmp_path):
    film = write_film(tmp_path / "cr.dcm", np.asarray(Image.open(server.studies / "film.png").convert("L")).T * 16)
    row, folder = detected("ra_chest", film)
    upload = (film.name, film.read_bytes())

    answer = json.loads(server.infer("ra_chest", output="json", file=upload)[1])
    (tmp_path / "mask.nii.gz").write_bytes(server.infer("ra_chest", output="image", file=upload)[1])

    assert answer["score"] == pytest.approx(row.score, rel=1e-6) and answer["decision"] == row.decision
    found, expected = nib.load(tmp_path / "mask.nii.gz"), nib.load(folder / "mask.nii.gz")
    assert np.array_equal(found.get_fdata(), expected.get_fdata())


def test_upload_and_session_give_what_the_store_gives(server):
    film = (server.studies / "film.png").read_bytes()
    status, session = server.request("PUT", "/session/", files=[("files", "Doe.png", film)])
    assert status == 200

    by_name = server.infer("ra_chest", "film", "image")
    assert by_name[0] == 200
    assert server.infer("ra_chest", output="image", file=("film.png", film)) == by_name
    assert server.infer("ra_chest", "Doe", "image", session_id=json.loads(session)["session_id"]) == by_name


def test_answer_to_a_viewer_has_image_and_numbers(server):
    status, body = server.infer("ra_chest", "film", params={"threshold": "calibrated", "output": "bands"})

    assert status == 200
    assert b'name="params"' in body and b'name="image"' in body and b"over twice the threshold" in body


def test_nrrd_is_given_to_viewers_that_ask_for_it(server, tmp_path):
    wanted = {"result_extension": ".nrrd", "result_dtype": "uint8", "result_compress": False}  # as OHIF does
    (tmp_path / "mask.nrrd").write_bytes(server.infer("ra_brain", "head", "image", wanted)[1])
    (tmp_path / "mask.nii.gz").write_bytes(server.infer("ra_brain", "head", "image")[1])

    nrrd, nifti = (itk.imread(str(tmp_path / f"mask.{suffix}")) for suffix in ("nrrd", "nii.gz"))
    assert b"encoding: raw" in (tmp_path / "mask.nrrd").read_bytes()[:1000]
    assert np.array_equal(itk.array_from_image(nrrd), itk.array_from_image(nifti)) and itk.array_from_image(nrrd).any()
    for part in ("GetOrigin", "GetSpacing", "GetDirection"):
        assert np.allclose(np.asarray(getattr(nrrd, part)()), np.asarray(getattr(nifti, part)()))


def test_labels_are_kept_among_the_studies(server):
    mask = server.infer("ra_chest", "film", "image")[1]

    assert server.request("PUT", "/datastore/label?image=film&tag=final", files=[("label", "x.png", mask)])[0] == 200
    assert (server.studies / "labels" / "final" / "film.png").read_bytes() == mask


def test_requests_at_the_same_time_have_the_answers_of_single_ones(server):
    asked = [("ra_brain", "head"), ("ra_chest", "film"), (RENAMED, "film"), ("ra_chest", "nothing")] * 2
    one_by_one = [server.infer(*request, "image") for request in asked]

    with ThreadPoolExecutor(len(asked)) as pool:
        together = list(pool.map(lambda request: server.infer(*request, "image"), asked))

    assert [status for status, _ in together] == [200, 200, 200, 404] * 2
    for (model, _), (_, found), (_, expected) in zip(asked, together, one_by_one):
        # the header of a gzip file tells when it was made
        assert found == expected if model != "ra_brain" else gzip.decompress(found) == gzip.decompress(expected)
