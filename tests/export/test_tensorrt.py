"""TensorRT in a run: what is said where it is missing, and whether the overlay fits what the network is given."""

from __future__ import annotations

import logging

import pytest
import torch
from ignite.engine import Engine
from monai.bundle import ConfigWorkflow
from monai.handlers import TrtHandler
from monai.networks import trt_compiler
from torch import nn

from custom.commands.bundle import BUNDLES
from custom.export import tensorrt
from custom.export.tensorrt import TensorRtHandler, missing_requirement

GPU = "an NVIDIA GPU, but torch finds none"


@pytest.fixture(autouse=True)
def nothing_said() -> None:
    """As at the start of a process."""
    tensorrt.warn_once.cache_clear()


@pytest.mark.parametrize(
    ("gpu", "trt", "polygraphy", "expected"),
    [
        (False, True, True, GPU),
        (True, False, True, "the package tensorrt, which is not installed: run `pip install tensorrt`"),
        (True, True, False, "the package polygraphy, which is not installed: run `pip install polygraphy`"),
        (True, True, True, None),
    ],
)
def test_first_thing_that_is_missing_is_named(monkeypatch, gpu: bool, trt: bool, polygraphy: bool, expected) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(trt_compiler, "trt_imported", trt)
    monkeypatch.setattr(trt_compiler, "polygraphy_imported", polygraphy)
    assert missing_requirement() == expected


def run_with_handlers(network: nn.Module, count: int) -> None:
    """An engine of one iteration with so many handlers of a network."""
    engine = Engine(lambda engine, batch: network(batch))
    for _ in range(count):
        TensorRtHandler(network, "model.pt", args={"precision": "fp32"}, submodule="0").attach(engine)
    engine.run([torch.ones(1, 2)])


def test_missing_tensorrt_gives_one_warning_and_inference_continues(monkeypatch, caplog) -> None:
    monkeypatch.setattr(tensorrt, "missing_requirement", lambda: GPU)
    network = nn.Sequential(nn.Linear(2, 2))
    with caplog.at_level(logging.WARNING):
        run_with_handlers(network, 2)
    assert [record.getMessage() for record in caplog.records] == [
        f"inference_trt has no effect: it needs {GPU}. The network runs in PyTorch."
    ]
    assert not hasattr(network[0], "_trt_compiler")


def test_machine_with_tensorrt_has_engines_made_of_the_part_that_is_named(monkeypatch, caplog) -> None:
    monkeypatch.setattr(tensorrt, "missing_requirement", lambda: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(trt_compiler, "trt_imported", True)
    monkeypatch.setattr(trt_compiler, "polygraphy_imported", True)
    network, made = nn.Sequential(nn.Linear(2, 2)), []
    monkeypatch.setattr(trt_compiler.TrtCompiler, "forward", lambda self, model, args, _: made.append(self) or args[0])
    run_with_handlers(network, 1)
    assert [(wrapper.plan_path, wrapper.precision) for wrapper in made] == [("model.pt.0.plan", "fp32")]
    assert caplog.records == []


def parts_of(handler: TensorRtHandler) -> list[str]:
    """Names of what a handler has engines made of."""
    return [handler.submodule] if isinstance(handler.submodule, str) else handler.submodule


def flat(result) -> list[torch.Tensor]:
    """Tensors of a result in the order in which an engine gives them."""
    return [result] if isinstance(result, torch.Tensor) else [tensor for part in result for tensor in flat(part)]


@pytest.mark.slow  # ten seconds each: two tiny bundles are trained
@pytest.mark.parametrize("bundle", ["ra_brain", "memmc_pneumonia"])
def test_engines_of_the_overlay_fit_what_their_parts_take_and_give(
    bundle: str, trained, tiny_network, tiny_data, quiet_process: None
) -> None:
    files = [str(BUNDLES / bundle / "configs" / f"{name}.json") for name in ("inference", "inference_trt")]
    parameters = {"bundle_root": str(BUNDLES / bundle), "dataset_dir": str(tiny_data(bundle)), **tiny_network(bundle)}
    weights = str(trained(bundle) / "models" / "model.pt")
    workflow = ConfigWorkflow(files, **parameters, weights=weights, **{"inferer#sw_batch_size": 2})
    workflow.initialize()
    network, inferer, handlers = map(workflow.parser.get_parsed_content, ("network", "inferer", "handlers"))
    added = [handler for handler in handlers if isinstance(handler, TrtHandler)]
    seen = {name: [] for handler in added for name in parts_of(handler)}
    for name, calls in seen.items():
        network.get_submodule(name).register_forward_hook(
            lambda _, given, result, calls=calls: calls.append((given, result))
        )
    inferer(torch.rand(3, 1, 32, 32, 5), network.predict)  # three volumes of five slices, two slices at a time

    assert len(seen) == 2 and all(seen.values())
    for handler in added:
        smallest, _, largest = handler.args["dynamic_batchsize"]
        for name in parts_of(handler):
            sizes = [given[0].shape for given, _ in seen[name]]
            assert smallest <= min(sizes)[0] and max(sizes)[0] == largest
            assert len({size[1:] for size in sizes}) == 1  # an engine has one size but for the batch
            result, groups = seen[name][0][1], handler.args.get("output_lists")
            again = trt_compiler.parse_groups(flat(result), groups) if groups else flat(result)[0]
            torch.testing.assert_close(again, result, rtol=0, atol=0)
