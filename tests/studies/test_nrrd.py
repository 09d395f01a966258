"""The spaces of NRRD files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from custom.studies.readers import read_study

VOLUME = np.random.default_rng(0).integers(0, 255, (5, 6, 7), dtype=np.uint8)
FORM = np.array([[-2.0, 0.3, 0, 30], [0, -2.5, 0, 40], [0, 0, 3, -50], [0, 0, 0, 1]])  # RAS
SIGNS = {
    "right-anterior-superior": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "LAS": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
}


@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("space", SIGNS)
def test_every_space_gives_the_same_affine(tmp_path: Path, space: str, detached: bool) -> None:
    form = np.diag([*SIGNS[space], 1]) @ FORM
    vectors = [f"({','.join(map(str, column))})" for column in form[:3].T]
    header = (
        f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 5 6 7\nencoding: raw\nspace: {space}\n"
        f"space directions: {' '.join(vectors[:3])}\nspace origin: {vectors[3]}\n"
    )
    values = VOLUME.tobytes(order="F")
    path = tmp_path / ("a.nhdr" if detached else "a.nrrd")
    path.write_bytes(f"{header}data file: a.raw\n".encode() if detached else header.encode() + b"\n" + values)
    (tmp_path / "a.raw").write_bytes(values)
    image = read_study(path)
    assert np.allclose(image.affine, FORM) and np.array_equal(image[0], VOLUME) and image.meta["spacing_known"]
