"""Every bundle's files: rendered from their sources, complete for MONAI's tools, and free of names that do not
exist.
"""

from __future__ import annotations

import inspect
import itertools
import json
import pydoc
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch.distributed as dist
from monai.bundle import ConfigParser, ConfigWorkflow, verify_metadata, verify_net_in_out
from monai.bundle.config_item import ComponentLocator

from custom.commands.bundle import BUNDLES
from tests.support.scripts import load_script
from tiny import TINY_NETWORK, TINY_TRAINING

ROOT = BUNDLES.parent
VARIANTS = {path.parent.name: json.loads(path.read_text()) for path in sorted(BUNDLES.glob("*/variant.json"))}
NAMES = list(VARIANTS)
# Where a run costs seconds, the first bundle of each method is enough.
METHODS = {variant["method"]: name for name, variant in reversed(VARIANTS.items())}
WORKFLOWS = {
    "train": (["train"], "train"),
    "train+demo": (["train", "demo"], "train"),
    "train+paper": (["train", "paper"], "train"),
    "train+train_3d": (["train", "train_3d"], "train"),
    "train+multi_gpu_train": (["train", "multi_gpu_train"], "train"),
    "calibrate": (["calibrate"], "infer"),
    "evaluate": (["evaluate"], "infer"),
    "inference": (["inference"], "infer"),
    "inference+inference_trt": (["inference", "inference_trt"], "infer"),
}
COMPLETE = ("adapt", "train", "calibrate", "evaluate", "inference")
SCHEMA = Path(__file__).with_name("meta_schema_20240725.json")

every_bundle = pytest.mark.parametrize("bundle", NAMES)
every_workflow = pytest.mark.parametrize(
    ("bundle", "workflow"),
    [
        (bundle, workflow)
        for bundle in NAMES
        for workflow, (names, _) in WORKFLOWS.items()
        if all((BUNDLES / bundle / "configs" / f"{name}.json").is_file() for name in names)  # some have not all
    ],
)


def config(bundle: str, name: str) -> dict[str, Any]:
    """A config as it is on disk."""
    return json.loads((BUNDLES / bundle / "configs" / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def render() -> ModuleType:
    """The rendering script."""
    return load_script("render_bundles.py")


@pytest.fixture
def copied(tmp_path: Path, render: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sources of all bundles, on which the rendering script works."""
    folder = tmp_path / "bundles"
    shutil.copytree(BUNDLES, folder, ignore=shutil.ignore_patterns("data", "models", "output"))
    monkeypatch.setattr(render, "BUNDLES", folder)
    monkeypatch.setattr(sys, "argv", ["render_bundles.py", "--check"])
    return folder


# Rendering


@every_bundle
def test_committed_configs_equal_what_their_sources_render_to(bundle: str, render: ModuleType) -> None:
    rendered = render.render_bundle(BUNDLES / bundle)
    folder = BUNDLES / bundle
    assert {name: (folder / name).read_text() for name in rendered} == rendered
    configs = {f"configs/{path.name}" for path in (folder / "configs").iterdir()}
    assert configs == {*rendered, "configs/metadata.json"} - {"docs/parameters.json"}


@every_bundle
def test_every_config_that_runs_sets_its_threads_before_anything_else(bundle: str) -> None:
    names = [path.stem for path in (BUNDLES / bundle / "configs").glob("*.json")]
    starting = {name: config(bundle, name) for name in names if "initialize" in config(bundle, name)}
    assert {*COMPLETE, "multi_gpu_train", "multi_gpu_inference"} == starting.keys()
    assert {content["initialize"][0] for content in starting.values()} == {"@compute_threads"}
    for name in COMPLETE:
        assert starting[name]["threads"] is None
        assert starting[name]["compute_threads"]["_target_"] == "custom.threads.set_threads"


@every_bundle
def test_name_of_the_tracked_run_is_known_on_every_system(bundle: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.uname", raising=False)  # as on Windows
    monkeypatch.setattr("platform.node", lambda: "ward3")
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / bundle / "configs" / "train.json"))
    parser["output_dir"] = "out"
    assert parser.get_parsed_content("run_name").startswith("ward3:")


@every_bundle
def test_bundle_contains_only_settings_and_texts(bundle: str) -> None:
    made_by_use = {"data", "models", "output"}
    files = [path.relative_to(BUNDLES / bundle) for path in (BUNDLES / bundle).rglob("*") if path.is_file()]
    kept = {path for path in files if path.parts[0] not in made_by_use}
    assert {str(path) for path in kept if path.parts[0] != "configs"} - {"docs/report.png"} == {
        "variant.json",
        "LICENSE",
        "docs/README.md",
        "docs/data_license.txt",
        "docs/parameters.json",
    }
    assert {path.suffix for path in kept if path.parts[0] == "configs"} == {".json", ".conf"}


def test_new_bundle_costs_a_variant_and_no_python(
    render: ModuleType, copied: Path, nomaly, tiny_data, tmp_path: Path
) -> None:
    knee = copied / "ra_knee"
    (knee / "configs").mkdir(parents=True)
    (knee / "docs").mkdir()
    shutil.copy(copied / "ra_chest" / "configs" / "metadata.json", knee / "configs")
    parameters = {**TINY_NETWORK["ra"], **TINY_TRAINING, "max_epochs": 1}
    (knee / "variant.json").write_text(json.dumps({"method": "ra", "images": "film", "parameters": parameters}))
    for name, text in render.render_bundle(knee).items():
        (knee / name).write_text(text)
    done = nomaly("train", knee, "--dataset_dir", tiny_data("ra_chest"), "--output", tmp_path / "run")
    assert done.code == 0 and (tmp_path / "run" / "models" / "model.pt").is_file(), done.err


@every_bundle
def test_misspelt_parameter_of_a_variant_is_refused(bundle: str, render: ModuleType, copied: Path) -> None:
    path = copied / bundle / "variant.json"
    variant = json.loads(path.read_text())
    path.write_text(json.dumps(variant | {"parameters": variant["parameters"] | {"imagesize": 64}}))
    with pytest.raises(
        SystemExit, match=f"^{bundle}/variant.json: no config has imagesize; known parameters: .*image_size"
    ):
        render.main()


@every_bundle
def test_misspelt_parameter_of_an_overlay_is_refused(bundle: str, render: ModuleType, copied: Path) -> None:
    path = copied / bundle / "variant.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"demo": {"max_epoch": 1}}))
    with pytest.raises(SystemExit, match=f"^{bundle}: demo: no config has max_epoch; known parameters: .*max_epochs"):
        render.main()


@every_bundle
def test_misspelt_name_of_an_overlay_is_refused(bundle: str, render: ModuleType, copied: Path) -> None:
    path = copied / bundle / "variant.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"demos": {"max_epochs": 1}}))
    with pytest.raises(
        SystemExit, match=f"^{bundle}/variant.json: demos is not an overlay; the overlays are demo, .*multi_gpu"
    ):
        render.main()


def test_overlay_for_other_kinds_of_images_is_not_rendered(render: ModuleType, copied: Path) -> None:
    overlay = copied / "_base" / "ra" / "extra.yaml"
    heads = {"ra_brain", "ra_brain_flair"}
    for kinds, expected in (("[head]", heads), ("[head, film]", heads | {"ra_chest", "ra_wrist"})):
        overlay.write_text(f"_overlay_: true\n_images_: {kinds}\nseed: 1\n")
        assert {name for name in NAMES if "configs/extra.json" in render.render_bundle(copied / name)} == expected


@every_bundle
def test_config_edited_by_hand_fails_the_check_and_is_rendered_again(
    bundle: str, render: ModuleType, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = copied / bundle / "configs" / "train.json"
    original = path.read_text()
    path.write_text(original.replace('"seed": 0', '"seed": 1'))
    with pytest.raises(
        SystemExit, match=f"differs from its sources.*render_bundles.py: bundles/{bundle}/.*/train.json$"
    ):
        render.main()
    monkeypatch.setattr(sys, "argv", ["render_bundles.py"])
    render.main()
    assert path.read_text() == original


def test_comment_belongs_to_the_key_below_it(render: ModuleType) -> None:
    part = "part:\n  # First,\n  # two lines.\n  a: 1\n  b: [2]\n  # Second.\n  c: null\n"
    text = f"{part}other:\n  # Third.\n  d: 1\n# Top.\ne: 1\n"
    assert render.commented(text, "part") == {"a": "First, two lines.", "c": "Second."}
    assert render.commented(text, None) == {"e": "Top."}


# What MONAI's tools want


@pytest.fixture
def tiny_parameters(trained, tiny_network, tiny_data, tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """Overrides with which a workflow can be made in no time: asking for its properties makes all its parts."""

    def parameters(bundle: str) -> dict[str, Any]:
        folders = {"dataset_dir": str(tiny_data(bundle)), "output_dir": str(tmp_path / "output")}
        return tiny_network(bundle) | folders | {"ckpt_dir": str(trained(bundle) / "models"), "batch_size": 4}

    return parameters


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What torchrun says to the only process of a run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    for name, value in {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **ranks}.items():
        monkeypatch.setenv(name, value)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()


@every_workflow
@pytest.mark.parametrize("place", ["repository", "bundle"])
def test_workflow_has_all_properties_wherever_it_starts(
    bundle: str,
    place: str,
    workflow: str,
    tiny_parameters,
    quiet_process: None,
    one_process: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names, kind = WORKFLOWS[workflow]
    monkeypatch.chdir(ROOT if place == "repository" else BUNDLES / bundle)
    folder = Path("bundles") / bundle / "configs" if place == "repository" else Path("configs")
    # What the overrides know only from train.json is no parameter of the other configs.
    parameters = {key: value for key, value in tiny_parameters(bundle).items() if key in config(bundle, names[0])}
    loaded = ConfigWorkflow([str(folder / f"{name}.json") for name in names], workflow_type=kind, **parameters)
    loaded.initialize()
    assert loaded.check_properties() == []
    assert Path(loaded.bundle_root).samefile(BUNDLES / bundle)


@every_bundle
def test_property_check_sees_a_metric_of_another_name(bundle: str, tiny_parameters, quiet_process: None) -> None:
    path = BUNDLES / bundle / "configs" / "train.json"
    wrong = {"validate#evaluator#key_val_metric": "@validate#additional_metrics"}
    loaded = ConfigWorkflow(str(path), workflow_type="train", **tiny_parameters(bundle), **wrong)
    loaded.initialize()
    assert loaded.check_properties() == ["val_key_metric"]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any use of the network fails."""

    def refuse(*_: Any) -> None:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@every_bundle
def test_metadata_fits_the_schema_it_names_without_network(bundle: str, no_network: None) -> None:
    path = BUNDLES / bundle / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    assert metadata["schema"].endswith(SCHEMA.name)
    verify_metadata(meta_file=str(path), filepath=str(SCHEMA))
    assert metadata["version"] in metadata["changelog"]


@every_bundle
def test_metadata_without_a_task_does_not_fit_the_schema(bundle: str, tmp_path: Path, no_network: None) -> None:
    metadata = json.loads((BUNDLES / bundle / "configs" / "metadata.json").read_text())
    metadata.pop("task")
    (tmp_path / "metadata.json").write_text(json.dumps(metadata))
    with pytest.raises(ValueError, match="'task' is a required property"):
        verify_metadata(meta_file=str(tmp_path / "metadata.json"), filepath=str(SCHEMA))


@every_bundle
def test_network_takes_and_gives_what_the_metadata_say(bundle: str) -> None:
    folder = BUNDLES / bundle / "configs"
    files = {"meta_file": str(folder / "metadata.json"), "config_file": str(folder / "inference.json")}
    verify_net_in_out(net_id="network_def", device="cpu", p=1, n=1, any=1, **files)


@every_bundle
def test_metadata_have_the_size_of_the_network(bundle: str) -> None:
    formats = json.loads((BUNDLES / bundle / "configs" / "metadata.json").read_text())["network_data_format"]
    inference = config(bundle, "inference")
    for tensor in (formats["inputs"]["image"], formats["outputs"]["pred"]):
        assert tensor["spatial_shape"] == 2 * [inference["image_size"]]
    assert formats["inputs"]["image"]["num_channels"] == inference["in_channels"]


# Names in configs


def components(value: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every component of a config with its place."""
    if isinstance(value, dict):
        if "_target_" in value:
            yield where, value
        for key, entry in value.items():
            yield from components(entry, f"{where}#{key}")
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from components(entry, f"{where}#{index}")


@every_bundle
@pytest.mark.parametrize("name", COMPLETE)
def test_every_component_exists_and_takes_the_arguments_given(bundle: str, name: str) -> None:
    locator = ComponentLocator()
    found = list(components(config(bundle, name), name))
    assert len(found) > 10
    for where, component in found:
        target = component["_target_"]
        module = locator.get_component_module_name(target)
        made = pydoc.locate(f"{module}.{target}" if module else target)
        assert callable(made), f"{where}: {target}"
        arguments = {key for key in component if not key.startswith("_")}
        inspect.signature(made).bind_partial(**dict.fromkeys(arguments))


@every_bundle
@pytest.mark.parametrize("name", COMPLETE)
def test_every_reference_names_something_of_its_config(bundle: str, name: str) -> None:
    parser = ConfigParser(config(bundle, name))
    references = re.findall(r"@(\w+(?:#\w+)*)", json.dumps(config(bundle, name)))
    assert len(references) > 20
    assert [found for found in references if found not in parser] == []


@every_bundle
def test_all_runs_share_network_preprocessing_and_score(bundle: str) -> None:
    train = config(bundle, "train")
    model = ["image_size", "in_channels", "network_def", "preprocessing", "score"]
    parameters = [key for key in train if f'"@{key}"' in json.dumps([train[part] for part in model[2:]])]
    assert {"image_size", "in_channels"} <= {*model, *parameters} and len(parameters) > 8
    for name in COMPLETE[1:]:
        other = config(bundle, name)
        assert {key: other[key] for key in model + parameters} == {key: train[key] for key in model + parameters}, name


# Processes


def run_python(*words: str, cwd: Path) -> subprocess.CompletedProcess:
    """Python in a process of its own."""
    return subprocess.run([sys.executable, *words], cwd=cwd, capture_output=True, text=True, timeout=110)


HELP_WITHOUT_TORCH = """
import sys
from custom.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code
heavy = {"torch", "monai", "numpy", "nibabel", "ignite"} & set(sys.modules)
sys.exit(f"imported: {heavy}" if heavy else 0)
"""


@pytest.mark.parametrize("words", [[], ["--help"], ["detect", "--help"], ["--version"]])
def test_help_comes_without_importing_torch(words: list[str]) -> None:
    done = run_python("-c", HELP_WITHOUT_TORCH, *words, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert "nomaly" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("bundle", "place"), zip(sorted(METHODS.values()), itertools.cycle(["repository", "bundle"])))
def test_plain_monai_command_trains_wherever_it_starts(
    bundle: str, place: str, tiny_network, tiny_data, tmp_path: Path
) -> None:
    folder = "configs" if place == "bundle" else f"bundles/{bundle}/configs"
    parameters = tiny_network(bundle) | {"max_epochs": 1, "val_interval": 1, "warmup_epochs": 0, "batch_size": 4}
    parameters |= {"dataset_dir": tiny_data(bundle), "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "train"}
    words = [word for name, value in parameters.items() for word in (f"--{name}", str(value))]
    command = ["-m", "monai.bundle", "run", "--config_file", f"{folder}/train.json", *words]
    done = run_python(*command, cwd=ROOT if place == "repository" else BUNDLES / bundle)
    assert done.returncode == 0, done.stderr
    written = sorted(path.name for path in (tmp_path / "models").iterdir())
    assert written == ["checkpoint.pt", "history.jsonl", "model.pt"]
    assert "Epoch 1: validation synthetic-lesion AUROC" in done.stderr


# Mistakes in a bundle are reported in one sentence


@pytest.mark.parametrize(
    ("variant", "message"),
    [
        ("{", r"ra_chest/variant.json must be JSON: .*"),
        ({"images": "film", "parameters": {}}, r"ra_chest/variant.json: method must be one of memmc, ra, got None\."),
        (
            {"method": "ra", "images": "knee", "parameters": {}},
            r"ra_chest/variant.json: images must be one of film, frame, head, got 'knee'\.",
        ),
        ({"method": "ra", "images": "film"}, r"ra_chest/variant.json: parameters must be an object, got None: .*"),
    ],
)
def test_incomplete_variant_is_refused(variant, message: str, render: ModuleType, copied: Path) -> None:
    (copied / "ra_chest" / "variant.json").write_text(variant if isinstance(variant, str) else json.dumps(variant))
    with pytest.raises(SystemExit, match=f"^{message}$"):
        render.render_bundle(copied / "ra_chest")


def test_bundle_without_metadata_is_refused(render: ModuleType, copied: Path, nomaly: Callable) -> None:
    (copied / "ra_chest" / "configs" / "metadata.json").unlink()
    with pytest.raises(SystemExit, match="^ra_chest: configs/metadata.json not found: copy that of a similar bundle"):
        render.render_bundle(copied / "ra_chest")
    done = nomaly("train", copied / "ra_chest")
    assert done.code == 2 and "ra_chest has no configs/metadata.json: copy that of a similar bundle" in done.err


def test_parameter_that_a_kind_of_images_lacks_is_named(render: ModuleType, copied: Path) -> None:
    film = copied / "_base" / "images" / "film.yaml"
    film.write_text(re.sub(r"  modalities: .*\n", "", film.read_text()))
    message = (
        "^ra_chest: .* refers to modalities, but has no such parameter: add it to image_parameters of _base/images"
    )
    with pytest.raises(SystemExit, match=message):
        render.render_bundle(copied / "ra_chest")
