"""Number of threads: what the user set comes first, then one thread for small networks, within the cores of the run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from custom import threads
from custom.errors import NomalyError
from custom.threads import available_cores, container_limits, set_threads


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine of 8 cores without other settings, on which PyTorch begins with 8 threads; afterwards as before."""
    before = torch.get_num_threads()
    for name in threads.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads, "_chosen", None)
    monkeypatch.setattr(threads, "available_cores", lambda: 8)
    monkeypatch.setattr(threads, "default_numbers", lambda: {8})
    monkeypatch.setattr("psutil.cpu_count", lambda logical=True: 16 if logical else 8)
    torch.set_num_threads(8)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("image_size", "widest", "number"),
    [(64, 256, 1), (96, 192, 1), (128, 512, 8), (512, 64, 8), ([96, 96, 8], 64, 8)],
    ids=["MemMC-MAE", "RA of heads", "RA of the paper", "large images", "3-D"],
)
def test_small_networks_of_images_compute_with_one_thread_and_others_with_all(image_size, widest, number: int) -> None:
    assert set_threads(None, image_size, widest) == torch.get_num_threads() == number


def test_number_that_is_given_is_used() -> None:
    assert set_threads(3, 64, 64) == torch.get_num_threads() == 3


@pytest.mark.parametrize("name", threads.VARIABLES)
def test_environment_variable_of_the_user_is_respected(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "8")
    assert set_threads(None, 64, 64) == 8


def test_number_that_a_program_set_before_is_respected() -> None:
    torch.set_num_threads(5)
    assert set_threads(None, 64, 64) == torch.get_num_threads() == 5


def test_automatic_choice_is_made_again_for_the_next_network() -> None:
    assert [set_threads(None, 64, 64), set_threads(None, [96, 96, 8], 64), set_threads(None, 64, 64)] == [1, 8, 1]


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "all"])
def test_other_values_are_refused(wrong: object) -> None:
    with pytest.raises(NomalyError, match="threads must be a whole number of 1 or more, or null"):
        set_threads(wrong, 64, 64)


def groups(root: Path, own: str, files: dict[str, str]) -> Path:
    """A file system with control groups."""
    for name, text in {
        "proc/self/cgroup": own,
        **{f"sys/fs/cgroup/{key}": text for key, text in files.items()},
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("own", "files", "limits"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, [1.5]),
        ("0::/pod/box\n", {"pod/box/cpu.max": "max 100000\n", "pod/cpu.max": "200000 100000\n"}, [2.0]),
        ("4:cpu,cpuacct:/box\n", {"cpu/box/cpu.cfs_quota_us": "300000", "cpu/box/cpu.cfs_period_us": "100000"}, [3.0]),
        ("4:cpu:/host/box\n", {"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, [0.5]),
        ("4:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, []),
        ("0::/\n", {"cpu.max": "nonsense"}, []),
    ],
    ids=["version 2", "of the group above", "version 1", "version 1, inside the container", "no limit", "unreadable"],
)
def test_limits_of_containers_are_read(own: str, files: dict[str, str], limits: list[float], tmp_path: Path) -> None:
    assert list(container_limits(groups(tmp_path, own, files))) == limits


def test_cores_are_those_of_affinity_and_container_and_at_least_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    assert available_cores(tmp_path) == 6  # a system without control groups
    assert available_cores(groups(tmp_path, "0::/\n", {"cpu.max": "250000 100000"})) == 2
    assert available_cores(groups(tmp_path, "0::/\n", {"cpu.max": "50000 100000"})) == 1
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert available_cores(tmp_path / "none") == 4
