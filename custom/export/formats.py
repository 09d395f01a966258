"""Exported files of a graph: writing them and running them."""

from __future__ import annotations

import functools
import importlib.util
import io
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from custom.errors import NomalyError
from custom.export.detector import OUTPUTS
from custom.files import atomic_write

FILES = {"onnx": "detector.onnx", "torchscript": "detector.ts", "torch_export": "detector.pt2"}
OPSET = 18
PACKAGES = ("onnx", "onnxscript", "onnxruntime")

Runner = Callable[[Tensor], Sequence[Tensor]]


def formats_of(name: str) -> list[str]:
    """The formats of a name, after a check that their packages are installed.

    Raises:
        NomalyError: an unknown name, or a package that is not installed.
    """
    if name not in (*FILES, "all"):
        raise NomalyError(f"--format must be one of {', '.join(FILES)} or all, got {name}.")
    chosen = list(FILES) if name == "all" else [name]
    missing = [package for package in PACKAGES if importlib.util.find_spec(package) is None]
    if "onnx" in chosen and missing:
        raise NomalyError(
            f"--format onnx needs the package {missing[0]}, which is not installed: run `pip install .[export]`, or "
            "choose --format torchscript or torch_export."
        )
    return chosen


def write_formats(module: nn.Module, example: Tensor, folder: Path, formats: Sequence[str]) -> dict[str, Path]:
    """Write a graph for slices (N, C, X, Y), with any number N, in each format.

    Args:
        module: module without branches on values.
        example: slices (N, C, X, Y) to record with, N >= 2, since a size of 1 would be recorded as fixed.
        folder: output folder.
        formats: names in FILES.

    Returns:
        Path of each format's file.
    """
    with torch.no_grad(), quietly():
        program = functools.cache(lambda: record(module, example))
        content = {
            "onnx": lambda: onnx_bytes(program(), example),
            "torchscript": lambda: torchscript_bytes(module, example),
            "torch_export": lambda: torch_export_bytes(program()),
        }
        paths = {}
        # in this order, since torch_export removes metadata that onnx may need
        for name in sorted(formats, key=list(FILES).index):
            paths[name] = folder / FILES[name]
            with atomic_write(paths[name], "wb") as file:
                file.write(content[name]())
    return paths


def record(module: nn.Module, example: Tensor) -> ExportedProgram:
    """The graph of torch.export, from which ONNX is converted."""
    slices = torch.export.Dim("slices", min=1)
    return torch.export.export(module, (example,), dynamic_shapes=({0: slices},))


def onnx_bytes(program: ExportedProgram, example: Tensor) -> bytes:
    """The graph as ONNX."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass
    from onnxscript import optimizer

    # optimize=True also rewrites patterns, which breaks graphs in which two nodes share half of a clamp (MS-SSIM)
    onnx = torch.onnx.export(
        program,
        (example,),
        input_names=["image"],
        output_names=list(OUTPUTS),
        opset_version=OPSET,
        dynamo=True,
        optimize=False,
        verbose=False,
    )
    assert onnx is not None  # only None if dynamo is off
    optimizer.fold_constants(onnx.model)
    optimizer.remove_unused_nodes(onnx.model)
    ClearMetadataAndDocStringPass()(onnx.model)  # removes the source lines of nodes, with local paths
    return onnx.model_proto.SerializeToString()


def torchscript_bytes(module: nn.Module, example: Tensor) -> bytes:
    """The graph as TorchScript."""
    packed, without_lines = io.BytesIO(), io.BytesIO()
    torch.jit.save(torch.jit.trace(module, example, check_trace=False), packed)
    # the source lines of nodes, with local paths, are separate files of the archive
    with zipfile.ZipFile(packed) as archive, zipfile.ZipFile(without_lines, "w") as copy:
        for entry in archive.infolist():
            if not entry.filename.endswith(".debug_pkl"):
                copy.writestr(entry, archive.read(entry))
    return without_lines.getvalue()


def torch_export_bytes(program: ExportedProgram) -> bytes:
    """The graph of torch.export, without the source lines of its nodes."""
    for graph in program.graph_module.modules():
        for node in getattr(graph, "graph", torch.fx.Graph()).nodes:
            node.meta.pop("stack_trace", None)
    packed = io.BytesIO()
    torch.export.save(program, packed)
    return packed.getvalue()


def load_runner(name: str, path: Path) -> Runner:
    """A function from slices to the outputs of an exported file, on the CPU with torch's number of threads."""
    if name == "onnx":
        return onnx_runner(path)
    with quietly():
        return torch.jit.load(path) if name == "torchscript" else torch.export.load(path).module()


def onnx_runner(path: Path) -> Runner:
    """A function that runs an ONNX file in onnxruntime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def _run(image: Tensor) -> list[Tensor]:
        return [torch.as_tensor(output) for output in session.run(OUTPUTS, {"image": image.numpy()})]

    return _run


@contextmanager
def quietly() -> Iterator[None]:
    """Suppress torch's messages on deprecations, sizes recorded as fixed and missing packages."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
