"""Each benchmark completes at tiny size and writes its table; those that compare results check that they agree."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from tests.support.scripts import SCRIPTS, load_script

SLOW = pytest.mark.slow


@pytest.fixture(autouse=True)
def own_modules(monkeypatch: pytest.MonkeyPatch):
    """Benchmarks import one another, as when they are run; the number of threads is restored."""
    monkeypatch.syspath_prepend(SCRIPTS / "benchmarks")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("name", "words", "variants"),
    [
        ("pixels", [], ["loop over thresholds", "exact", "streaming"]),
        pytest.param("training", [], ["one batch in memory", "loader and augmentation"] * 3, marks=SLOW),
        pytest.param("masks", [], ["plain", "MemMC-MAE", "one call per mask", "all masks in one call"], marks=SLOW),
        pytest.param("maps", [], ["scikit-image and embeddings, image by image"], marks=SLOW),
        pytest.param("growth", [], ["64", "128", "1", "4", "8", "32", "50", "500"], marks=SLOW),
        pytest.param("processes", [], ["step", "of it communication"], marks=SLOW),
        pytest.param("startup", [], ["python -c pass", "help"], marks=SLOW),
        pytest.param("scoring", ["ra_chest"], ["scoring, batches of 8"], marks=SLOW),
        pytest.param("scoring", ["memmc_pneumonia"], ["scoring, batches of 4"], marks=SLOW),
        pytest.param("detect", ["ra_chest"], ["bare network", "studies", "whole command"], marks=SLOW),
    ],
)
def test_benchmark_completes_with_a_row_for_each_variant(
    name: str, words: list, variants: list, tmp_path: Path
) -> None:
    load_script(f"benchmarks/{name}.py").main([*words, "--smoke", "--output", str(tmp_path)])
    (path,) = tmp_path.glob("*.csv")
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert set(variants) <= {row["variant"] for row in rows}
    assert all(float(row["median"]) > 0 and row["machine"] for row in rows)


def test_speed_is_how_often_a_variant_fits_into_the_first() -> None:
    measure = load_script("benchmarks/measure.py")
    first, second = measure.rows("work", {"a": [4.0, 2.0, 9.0], "b": [1.0, 1.0, 1.0]}, {"a": 10.0, "b": 20.0}, units=8)
    assert (first.median, first.fastest, first.slowest, first.per_second, first.speed) == (4, 2, 9, 2, 1)
    assert (second.speed, second.per_second, second.peak_mib) == (4, 8, 20)


def test_one_benchmark_that_fails_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    script = load_script("benchmarks/all.py")
    begun: list[str] = []

    def run(words: list[str]) -> list[str]:
        begun.append(words[0])
        return [words[0]] if words[0] == "masks.py" else []

    monkeypatch.setattr(script, "run", run)
    with pytest.raises(SystemExit) as end:
        script.main(["--smoke"])
    assert end.value.code == 1 and begun[-1] == "training_step.py" and len(begun) == 12
    assert "failed: masks.py" in capsys.readouterr().out
