"""One server for all of its tests, which takes 10 seconds to start: of bundles with tiny networks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from custom.runs.tables import StudyResult, read_results_csv
from tests.support.label_server import RENAMED, ROOT, Server, command, free_port, run_server


@pytest.fixture(scope="package")
def bundles(tiny_bundle, tmp_path_factory) -> dict[str, Path]:
    """Copies of bundles whose networks are tiny, with their weights; one was renamed, and brings its own custom/."""
    originals = {"ra_brain": "ra_brain", "ra_chest": "ra_chest", RENAMED: "ra_chest"}
    folder = tmp_path_factory.mktemp("bundles")
    folders = {name: tiny_bundle(bundle, folder / name) for name, bundle in originals.items()}
    shutil.copytree(ROOT / "custom", folders[RENAMED] / "custom", ignore=shutil.ignore_patterns("__pycache__"))
    return folders


@pytest.fixture(scope="package")
def server(bundles, tiny_data, tmp_path_factory) -> Iterator[Server]:
    """The server with these bundles, a volume, a 2-D image, and files that are not images."""
    folder = tmp_path_factory.mktemp("server")
    studies = folder / "studies"
    for series in ("broken_series", "empty_series"):
        (studies / series).mkdir(parents=True)
    for bundle, name in (("ra_brain", "head.nii.gz"), ("ra_chest", "film.png")):
        data = tiny_data(bundle)
        shutil.copy(data / json.loads((data / "datalist.json").read_text())["test"][-1]["image"], studies / name)
    for name in ("broken.png", "broken_film.dcm", "broken_series/1.dcm"):
        (studies / name).write_bytes(b"no image")
    words = command(*(f"--bundle={folder}" for folder in bundles.values()))
    with run_server(words, free_port(), studies, folder / "log") as running:
        yield running


@pytest.fixture(scope="package")
def detected(nomaly, bundles, server, tmp_path_factory):
    """Row and folder of what nomaly detect finds in a study of the server."""

    def detect(bundle: str, name: str) -> tuple[StudyResult, Path]:
        output = tmp_path_factory.mktemp("detect")
        assert nomaly("detect", bundles[bundle], server.studies / name, "--output", output).code == 0
        [row] = read_results_csv(output / "results.csv")
        return row, output / row.study

    return detect
