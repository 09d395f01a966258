"""Render the configs of the bundles from bundles/_base and each bundle's variant.json.

    python scripts/render_bundles.py            write bundles/*/configs/*.json and docs/parameters.json
    python scripts/render_bundles.py --check    fail if a committed file differs from its sources

MONAI's tools read a single config file, so every rendered file is complete. variant.json names the method (a folder of
_base) and the kind of images (a file of _base/images), and sets parameters. Each source in _base and in the method's
folder becomes one config:

- ``_NAME_:`` without a value, at any depth, inserts the entries of the part NAME. Parts are the entries of common.yaml,
  of the method's parts.yaml and of the images' file. A later entry of the same name replaces an inserted one in place.
- The part ``network`` gets the entry ``configuration``: the parameters that are stored with the weights. The part
  ``training_settings`` has the parameters that change a training, for its report.
- ``_images_`` lists the kinds of images that a source is for (default: all).
- The comment above a parameter is its meaning; all go into docs/parameters.json, for `nomaly parameters` and the site.
- ``_overlay_: true`` marks a config that is merged over another one; ``_new_`` lists the keys that only it has.

A parameter in variant.json replaces the top-level key of that name in every config that has it. An entry with the name
of an overlay changes that overlay only.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

BUNDLES = Path(__file__).resolve().parent.parent / "bundles"
WIDTH = 120
# Parameters that are not stored with the weights: they change no result, or hold only on one machine.
NOT_STORED = {"masks_per_pass", "lpips_weights"}
# Parameters of the source images, which another site may have to set.
OF_THE_SOURCE = {"crop_margin", "source_range", "invert_film"}
COMPLETE = ("train", "adapt", "calibrate", "evaluate", "inference")  # the configs that run as they are
NO_SETTINGS = (
    "required_sections",
    "weights",
    "fitted_weights",
    "statistics_required",
)  # files and checks of a training
COMPONENTS = ("imports", "required_sections")  # not set by users
NOTE = "Rendered by scripts/render_bundles.py from bundles/_base and variant.json: edit those."

Config = dict[str, Any]


def render_bundle(folder: Path) -> dict[str, str]:
    """Text of every rendered file of a bundle by its path in the bundle."""
    variant = read_variant(folder)
    configs = read_sources(variant["method"], variant["images"])
    overlays = {name for name, config in configs.items() if config.pop("_overlay_", False)}
    if strange := sorted(set(variant) - {"method", "images", "parameters"} - overlays):
        sys.exit(
            f"{folder.name}/variant.json: {', '.join(strange)} is not an overlay; the overlays are "
            f"{', '.join(sorted(overlays))}"
        )
    parameters = variant["parameters"]
    known = set().union(*(configs[name] for name in configs if name not in overlays))
    refuse_unknown(parameters, known, f"{folder.name}/variant.json")
    for name, config in configs.items():
        if name in overlays:
            new = set(config.pop("_new_", []))
            configs[name] = config | variant.get(name, {})
            refuse_unknown(configs[name], known | new, f"{folder.name}: {name}")
        else:
            configs[name] = {key: parameters.get(key, value) for key, value in config.items()}
    for name in COMPLETE:
        refuse_missing(configs[name], f"{folder.name}: {name}", variant["images"])
    texts = {f"configs/{name}.json": dump({"_note_": NOTE, **config}) + "\n" for name, config in configs.items()}
    texts = {name: text.replace("{bundle}", folder.name) for name, text in texts.items()}
    meanings = parameter_meanings(variant["method"], variant["images"], configs)
    texts["docs/parameters.json"] = json.dumps({"_note_": NOTE, **meanings}, indent=4) + "\n"
    return texts | {"configs/logging.conf": (BUNDLES / "_base" / "logging.conf").read_text(encoding="utf-8")}


def read_variant(folder: Path) -> Config:
    """variant.json of a bundle; exits with a sentence if it is not complete."""
    where = f"{folder.name}/variant.json"
    if not (folder / "configs" / "metadata.json").is_file():
        sys.exit(f"{folder.name}: configs/metadata.json not found: copy that of a similar bundle and edit it.")
    try:
        variant: Config = json.loads((folder / "variant.json").read_text(encoding="utf-8"))
    except ValueError as error:
        sys.exit(f"{where} must be JSON: {error}.")
    kinds = {
        "method": sorted(path.parent.name for path in BUNDLES.glob("_base/*/parts.yaml")),
        "images": sorted(path.stem for path in BUNDLES.glob("_base/images/*.yaml")),
    }
    for key, known in kinds.items():
        if variant.get(key) not in known:
            sys.exit(f"{where}: {key} must be one of {', '.join(known)}, got {variant.get(key)!r}.")
    if not isinstance(variant.get("parameters"), dict):
        sys.exit(f'{where}: parameters must be an object, got {variant.get("parameters")!r}: {{}} sets none.')
    return variant


def read_sources(method: str, images: str) -> dict[str, Config]:
    """Sources for a method and a kind of images by name, with their parts inserted."""
    base = BUNDLES / "_base"
    parts_files = [base / "common.yaml", base / method / "parts.yaml", base / "images" / f"{images}.yaml"]
    parts = {name: part for path in parts_files for name, part in read(path).items()}
    parts["network"] = {"configuration": configuration(parts), **parts["network"]}
    parts["training_settings"] = training_settings(parts, base / method / "train.yaml")
    paths = [path for path in (*base.glob("*.yaml"), *(base / method).glob("*.yaml")) if path not in parts_files]
    sources = {path.stem: read(path) for path in sorted(paths, key=lambda path: path.stem)}
    return {
        name: insert_parts(source, parts)
        for name, source in sources.items()
        if images in source.pop("_images_", [images])
    }


def parameter_meanings(method: str, images: str, configs: dict[str, Config]) -> dict[str, Config]:
    """Where each parameter belongs, and its meaning: title -> the configs that have it, and comments by name."""
    meanings: dict[str, Config] = {}
    sources = parameter_sources(method, images)
    for title, path, section, names in sources:
        known = set().union(*(configs[name] for name in names)) - set(COMPONENTS)
        if section and len(names) == 1:  # a part of which the config's own source may replace entries
            own = next(path for _, path, part, others in sources if part is None and list(others) == list(names))
            known -= set(commented(own.read_text(encoding="utf-8"), None))
        comments = commented(path.read_text(encoding="utf-8"), section)
        texts = {name: comment for name, comment in comments.items() if name in known}
        meanings[title] = {"configs": list(names), "parameters": texts}
    return meanings


def parameter_sources(method: str, images: str) -> list[tuple[str, Path, str | None, Sequence[str]]]:
    """Where parameters are explained: title, file, its part (None = the top level of the file), and the configs."""
    base = BUNDLES / "_base"
    parts, common = base / method / "parts.yaml", base / "common.yaml"
    return [
        ("Paths and device", common, "paths", COMPLETE),
        ("Weights", common, "weights_parameters", COMPLETE),
        ("Images", base / "images" / f"{images}.yaml", "image_parameters", COMPLETE),
        ("Network and map", parts, "network_parameters", COMPLETE),
        ("Score", parts, "score_parameters", COMPLETE),
        ("Decision", common, "decision_parameters", COMPLETE),
        ("Training: folders and tracking", common, "training_paths", ["train"]),
        ("Training", base / method / "train.yaml", None, ["train"]),
        ("Augmentation in training", common, "augmentation_parameters", ["train"]),
        ("Statistics of healthy studies", common, "fit_parameters", ["train", "adapt"]),
        ("Adaptation to a site", base / "adapt.yaml", None, ["adapt"]),
        ("Calibration", base / "calibrate.yaml", None, ["calibrate"]),
        ("Evaluation", base / "evaluate.yaml", None, ["evaluate"]),
        ("Detection", base / "inference.yaml", None, ["inference"]),
    ]


def commented(text: str, section: str | None) -> dict[str, str]:
    """Keys of a YAML source that have a comment directly above, with it; of a top-level part, or (None) of the file."""
    indent = "" if section is None else "  "
    lines = text.splitlines()
    found: dict[str, str] = {}
    comment = ""
    for line in lines[0 if section is None else lines.index(f"{section}:") + 1 :]:
        if section and line and not line.startswith(" "):
            break
        if words := re.match(rf"{indent}# ?(.*)", line):
            comment = f"{comment} {words[1]}".strip()
            continue
        if comment and (key := re.match(rf"{indent}([a-z]\w*):", line)):
            found[key[1]] = comment
        comment = ""
    return found


def configuration(parts: dict[str, Config]) -> Config:
    """The parameters that are stored with the weights: those that network and preprocessing need, and adjustable ones,
    which belong to map, score and source images.
    """
    names = [name for kind in ("image", "network", "score") for name in parts[f"{kind}_parameters"]]
    detector = parts["network"]["network_def"]
    needed = {"anatomy"} | references([detector["reconstructor"], parts["preprocessing"]]) - OF_THE_SOURCE
    others = references(parts["network"]) | set(parts["score_parameters"]) | OF_THE_SOURCE
    groups = {"network": needed, "adjustable": others - needed}
    return {
        "bundle": "{bundle}",
        **{
            group: {name: f"@{name}" for name in names if name in chosen - NOT_STORED}
            for group, chosen in groups.items()
        },
    }


def training_settings(parts: dict[str, Config], source: Path) -> Config:
    """The parameters that change a training: its own, those of augmentation and fit, and some of the paths."""
    own = [name for name in commented(source.read_text(encoding="utf-8"), None) if name not in NO_SETTINGS]
    names = ["amp", "record_step", *own, *parts["augmentation_parameters"], *parts["fit_parameters"]]
    return {name: f"@{name}" for name in dict.fromkeys(names)}


def references(value: Any) -> set[str]:
    """Names of the parameters that a part of a config refers to."""
    return set(re.findall(r"@(\w+)", json.dumps(value)))


def read(path: Path) -> Config:
    """A YAML file."""
    config: Config = yaml.safe_load(path.read_text(encoding="utf-8"))
    return config


def insert_parts(value: Any, parts: dict[str, Config]) -> Any:
    """The value with each ``_NAME_:`` replaced by the entries of that part, at any depth."""
    if isinstance(value, list):
        return [insert_parts(item, parts) for item in value]
    if not isinstance(value, dict):
        return value
    config: Config = {}
    for key, entry in value.items():
        if entry is None and key.startswith("_") and key.endswith("_"):
            if key[1:-1] not in parts:
                sys.exit(f"{key}: no part of this name; the parts are {', '.join(sorted(parts))}")
            config.update(insert_parts(parts[key[1:-1]], parts))
        else:
            config[key] = insert_parts(entry, parts)
    return config


def refuse_missing(config: Config, where: str, images: str) -> None:
    """Exit if a config refers to a parameter that it does not have, such as one that a new kind of images lacks."""
    missing = sorted(references(config) - set(config))
    if missing:
        sys.exit(
            f"{where} refers to {', '.join(missing)}, but has no such parameter: add it to image_parameters of "
            f"_base/images/{images}.yaml, or to variant.json."
        )


def refuse_unknown(parameters: Config, known: set[str], where: str) -> None:
    """Exit if a parameter replaces no key: merging configs would silently add a misspelt one."""
    unknown = sorted(key for key in parameters if key.split("#")[0] not in known)
    if unknown:
        sys.exit(f"{where}: no config has {', '.join(unknown)}; known parameters: {', '.join(sorted(known))}")


def dump(value: Any, indent: int = 0) -> str:
    """JSON with each value on one line if it fits."""
    flat = json.dumps(value)
    if not isinstance(value, (dict, list)) or (len(flat) + indent <= WIDTH - 40 and indent > 0):
        return flat
    pad = " " * (indent + 4)
    if isinstance(value, dict):
        lines = [f"{pad}{json.dumps(key)}: {dump(item, indent + 4)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + "\n" + " " * indent + "}"
    return "[\n" + ",\n".join(pad + dump(item, indent + 4) for item in value) + "\n" + " " * indent + "]"


def main() -> None:
    """Write or check the rendered files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file differs")
    check = parser.parse_args().check
    stale = []
    for variant in sorted(BUNDLES.glob("*/variant.json")):
        for name, text in render_bundle(variant.parent).items():
            path = variant.parent / name
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                stale.append(str(path.relative_to(BUNDLES.parent)))
                if not check:
                    path.parent.mkdir(exist_ok=True)
                    path.write_text(text, encoding="utf-8")
    if check and stale:
        sys.exit("differs from its sources, run python scripts/render_bundles.py: " + ", ".join(stale))
    print("\n".join(stale) if stale else "all configs match their sources")


if __name__ == "__main__":
    main()
