"""Render the configs of the bundles from bundles/_base and each bundle's variant.json.

    python scripts/render_bundles.py            write bundles/*/configs/*.json
    python scripts/render_bundles.py --check    fail if a committed config differs from its sources

MONAI's tools read one config file, so each rendered file is complete. variant.json names the method (a folder of _base)
and the kind of images (a file of _base/images). Sources are the files of _base and of the method; they name the parts
that they include, which are defined in common.yaml, the method's parts.yaml and the images' file. A source with
``_images_`` is only for these kinds of images. A parameter of variant.json replaces the top-level key of that name in
all configs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import yaml

BUNDLES = Path(__file__).resolve().parent.parent / "bundles"
WIDTH = 120


def render_bundle(folder: Path) -> dict[str, str]:
    """Text of every config of a bundle by file name."""
    variant = json.loads((folder / "variant.json").read_text())
    base = BUNDLES / "_base"
    method, images, parameters = (
        base / variant["method"],
        base / "images" / f"{variant['images']}.yaml",
        variant["parameters"],
    )
    parts_files = (base / "common.yaml", method / "parts.yaml", images)
    parts = {name: part for path in parts_files for name, part in yaml.safe_load(path.read_text()).items()}
    paths = [path for path in (*base.glob("*.yaml"), *method.glob("*.yaml")) if path not in parts_files]
    sources = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(paths, key=lambda path: path.stem)}
    kinds = {stem: source.pop("_images_", [variant["images"]]) for stem, source in sources.items()}
    configs = {stem: include_parts(sources[stem], parts) for stem in sources if variant["images"] in kinds[stem]}
    overlays = {stem for stem, config in configs.items() if config.pop("_overlay_", False)}

    if unknown := sorted(set(variant) - {"method", "images", "parameters"} - overlays):
        sys.exit(f"{folder.name}/variant.json: {', '.join(unknown)} must be an overlay: {', '.join(sorted(overlays))}")
    known = set().union(*(configs[stem] for stem in configs if stem not in overlays))
    refuse_unknown(parameters, known, f"{folder.name}/variant.json")
    texts = {}
    for stem, config in configs.items():
        if stem in overlays:
            new = set(config.pop("_new_", []))
            config = config | variant.get(stem, {})
            refuse_unknown(config, known | new, f"{folder.name}: {stem}")
        else:
            config = {key: parameters.get(key, value) for key, value in config.items()}
        note = "Rendered by scripts/render_bundles.py from bundles/_base and variant.json: edit those."
        text = dump({"_note_": note, **config}).replace("{bundle}", folder.name)
        texts[f"{stem}.json"] = text + "\n"
    texts["logging.conf"] = (base / "logging.conf").read_text()
    return texts


def include_parts(source: dict[str, Any], parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The source with each key ``_include...`` replaced by the entries of the parts that it lists."""
    config: dict[str, Any] = {}
    for key, value in source.items():
        entries = (
            [part for name in value for part in parts[name].items()] if key.startswith("_include") else [(key, value)]
        )
        config.update(entries)
    return config


def refuse_unknown(parameters: dict[str, Any], known: set[str], where: str) -> None:
    """Exit if a parameter replaces nothing: merging configs would silently add a misspelt key."""
    unknown = sorted(key for key in parameters if key.split("#")[0] not in known)
    if unknown:
        sys.exit(f"{where}: no config has {', '.join(unknown)}; known parameters: {', '.join(sorted(known))}")


def dump(value: Any, indent: int = 0) -> str:
    """JSON with everything on one line that fits."""
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
    parser.add_argument("--check", action="store_true", help="write nothing, fail if a file differs")
    check = parser.parse_args().check
    stale = []
    for variant in sorted(BUNDLES.glob("*/variant.json")):
        for name, text in render_bundle(variant.parent).items():
            path = variant.parent / "configs" / name
            if not path.exists() or path.read_text() != text:
                stale.append(str(path.relative_to(BUNDLES.parent)))
                if not check:
                    path.parent.mkdir(exist_ok=True)
                    path.write_text(text)
    if check and stale:
        sys.exit("differs from its sources, run python scripts/render_bundles.py: " + ", ".join(stale))
    print("\n".join(stale) if stale else "all configs equal their sources")


if __name__ == "__main__":
    main()
