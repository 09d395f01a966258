"""What all inferers do when memory runs out, and how they stitch."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch

from custom.errors import NomalyError
from custom.inferers.slices import SliceWiseInferer
from custom.inferers.volumes import VolumeInferer
from custom.inferers.windows import WindowInferer, is_out_of_memory
from custom.networks.reversed_autoencoder import ReversedAutoencoder

CPU_ERROR = "[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9"
INFERERS: dict[str, Callable[[int], WindowInferer]] = {
    "slices": lambda batch: SliceWiseInferer(6, sw_batch_size=batch),
    "volumes": lambda batch: VolumeInferer((6, 6, 4), sw_batch_size=batch),
}
each_inferer = pytest.mark.parametrize("make", INFERERS.values(), ids=INFERERS)


class Small:
    """A network for at most `most` windows at once, whose answer depends on the number of windows in a call."""

    def __init__(self, most: int, error: RuntimeError | None = None) -> None:
        self.most = most
        self.error = error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        self.batches: list[int] = []

    def __call__(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.batches.append(len(x))
        if len(x) > self.most:
            raise self.error
        return x + len(x), 2 * x


@pytest.fixture
def study() -> torch.Tensor:
    return torch.rand(1, 1, 9, 11, 10, generator=torch.Generator().manual_seed(0))


@each_inferer
@pytest.mark.parametrize("error", [None, RuntimeError(CPU_ERROR)])
def test_result_after_running_out_of_memory_is_that_of_the_smaller_batch(make, study, error) -> None:
    wanted = make(2)(study, Small(2))
    found = make(8)(study, Small(3, error))  # 8, then 4, then 2
    assert len(found) == 2 and all(torch.equal(*pair) for pair in zip(found, wanted))


@each_inferer
def test_smaller_batch_is_reported_once_and_kept_for_later_studies(make, study, caplog) -> None:
    inferer, network = make(8), Small(3)
    with caplog.at_level(logging.WARNING):
        inferer(study, network)
        assert network.batches[:3] == [8, 4, 2]
        network.batches.clear()
        inferer(study, network)
    assert max(network.batches) == 2
    message = "A batch of 8 windows does not fit into memory: using 2 for this study and all later ones."
    assert [record.message for record in caplog.records] == [message]


@each_inferer
@pytest.mark.parametrize(("device", "elsewhere"), [("cpu", ""), ("meta", ", or device cpu")])
def test_memory_too_small_for_one_window_is_reported_with_the_next_step(
    make, study, device: str, elsewhere: str
) -> None:
    inferer = make(4)
    inferer.sw_device = device
    message = (
        rf"the network with one window of 6 x 6( x 4)? must fit into the memory of the device {device}, but does not: "
        rf"choose a smaller image_size, for MemMC-MAE fewer masks_per_pass{elsewhere}\."
    )
    with pytest.raises(NomalyError, match=message):
        inferer(study, Small(0))
    assert inferer.sw_batch_size == 4  # nothing is known of later studies


@each_inferer
def test_other_errors_of_the_network_pass_through(make, study) -> None:
    network = Small(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        make(4)(study, network)
    assert network.batches == [4]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("HIP"), True),
        (RuntimeError(CPU_ERROR), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), True),
        (RuntimeError("expected 4D input"), False),
        (ValueError("memory"), False),
    ],
)
def test_errors_of_allocators_are_recognised(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_memory_of_a_failed_pass_is_free_before_the_next_one(study: torch.Tensor) -> None:
    alive: list[int] = []

    class Tracked:
        """Counts itself while something refers to it."""

        def __init__(self) -> None:
            alive.append(1)

        def __del__(self) -> None:
            alive.pop()

    def network(x: torch.Tensor) -> torch.Tensor:
        assert not alive
        held = Tracked()  # noqa: F841  in the frame that the error's traceback holds
        if len(x) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return x

    VolumeInferer((6, 6, 4), sw_batch_size=8)(study, network)


# Properties of any inferer


@each_inferer
@pytest.mark.parametrize("size", [(6, 6, 4), (9, 11, 10), (6, 20, 5)])
def test_constant_network_gives_a_constant_map(make, size) -> None:
    found = make(4)(torch.rand(2, 3, *size), lambda x: torch.full_like(x[:, :1], 0.7))
    torch.testing.assert_close(found, torch.full((2, 1, *size), 0.7))


@each_inferer
@pytest.mark.parametrize("size", [(6, 6, 4), (9, 11, 10), (6, 20, 5)])
def test_network_that_returns_its_input_gives_the_input(make, size) -> None:
    study = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    before = study.clone()
    for batch in (1, 4):
        torch.testing.assert_close(make(batch)(study, lambda x: x), before, rtol=0, atol=1e-6)
    assert torch.equal(study, before)


@each_inferer
def test_parts_of_different_channels_come_back_as_they_were_given(make, study) -> None:
    volume = study.expand(-1, 3, -1, -1, -1)
    parts = make(4)(volume, lambda x: (x.mean(1, keepdim=True), 1 - x, x[:, :2]))
    assert [part.shape[1] for part in parts] == [1, 3, 2]
    for part, wanted in zip(parts, (study, 1 - volume, volume[:, :2])):
        torch.testing.assert_close(part, wanted, rtol=0, atol=1e-6)


@each_inferer
def test_results_are_stitched_on_the_device_asked_for(make, study) -> None:
    inferer = make(4)
    inferer.device = "meta"
    found = inferer(study, lambda x: (x, x))
    assert [part.device.type for part in found] == ["meta", "meta"] and found[0].shape == study.shape


@each_inferer
def test_bfloat16_network_gives_float32_results(make, study) -> None:
    torch.manual_seed(0)
    dims = 2 if isinstance(make(1), SliceWiseInferer) else 3
    network = (torch.nn.Conv2d if dims == 2 else torch.nn.Conv3d)(1, 1, 3, padding=1)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = make(4)(study, network)
    with torch.no_grad():
        wanted = make(4)(study, network)
    assert found.dtype == torch.float32 and not torch.equal(found, wanted)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0.02)


# Full batches


def test_network_sees_the_same_number_of_windows_whatever_the_study() -> None:
    seen: list[int] = []
    inferer = SliceWiseInferer(6, sw_batch_size=4, full_batches=True)
    for batch, depth in ((1, 1), (3, 1), (6, 1), (1, 7)):
        study = torch.rand(batch, 1, 6, 6, depth)
        found = inferer(study, lambda x: seen.append(len(x)) or (x, 2 * x))
        assert torch.equal(found[0], study) and torch.equal(found[1], 2 * study)
    assert seen == [4] * 6


def test_values_of_a_slice_do_not_depend_on_those_that_share_its_pass() -> None:
    torch.manual_seed(0)
    network = ReversedAutoencoder(2, 1, 32, [16, 32], 8).eval()
    study, others = torch.rand(1, 1, 32, 32, 1), torch.rand(9, 1, 32, 32, 1)
    inferer = SliceWiseInferer(32, sw_batch_size=8, full_batches=True)
    with torch.no_grad():
        alone = inferer(study, network)
        for place in (0, 3, 9):
            together = inferer(torch.cat([others[:place], study, others[place:]]), network)
            assert torch.equal(together[place : place + 1], alone)
