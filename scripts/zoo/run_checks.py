"""The checks of the model zoo for one bundle; run in its folder, by alone.py.

    python alone.py . run_checks.py --schema SCHEMA --unit_test FILE --phantom FOLDER --result FILE

The result is a JSON list of the checks: name, whether it passed, seconds, and a note. A traceback goes to stderr. The
unit test is run from the folder that holds models/ and the bundle in it, as in the zoo.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import runpy
import sys
import time
import traceback
import unittest
from collections.abc import Callable, Iterator
from pathlib import Path

NECESSARY = ("configs/metadata.json", "LICENSE", "configs/inference.json", "models/model.pt")
# Headings of the zoo's template for docs/README.md, after the title.
HEADINGS = ["Authors", "Tags", "Model Description", "Data", "Preprocessing", "Performance", "Additional Usage Steps"]
HEADINGS += ["System Configuration", "Limitations", "Citation Info", "References"]
CONFIG = {"net_id": "network_def", "meta_file": "configs/metadata.json", "config_file": "configs/inference.json"}


def check_files(folder: Path) -> None:
    """All files that the zoo requires exist."""
    if missing := [name for name in (*NECESSARY, "docs/data_license.txt") if not (folder / name).is_file()]:
        raise ValueError(f"the bundle lacks {', '.join(missing)}")


def check_changelog(folder: Path) -> None:
    """The changelog has the version."""
    metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    if metadata["version"] not in metadata["changelog"]:
        raise ValueError(f"the changelog has no version {metadata['version']}")


def check_card(folder: Path) -> None:
    """docs/README.md has the headings of the zoo's template in their order; others are allowed."""
    found = iter(headings((folder / "docs" / "README.md").read_text(encoding="utf-8")))
    if missing := [name for name in HEADINGS if name not in found]:  # `in` reads on from the heading found last
        raise ValueError(f"docs/README.md lacks the heading {missing[0]}, or has it in the wrong order")


def headings(text: str) -> list[str]:
    """Headings of a Markdown text, without code blocks."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return [match.strip("* ") for match in re.findall(r"^#{1,6} +(.+?)\s*$", text, flags=re.MULTILINE)]


def check_schema(schema: Path) -> None:
    """The metadata fit the local copy of the schema."""
    from monai.bundle import verify_metadata

    verify_metadata(meta_file="configs/metadata.json", filepath=str(schema))


def check_net_in_out() -> None:
    """Input and output of the network are as in the metadata, by MONAI's command line."""
    words = [word for name, value in CONFIG.items() for word in (f"--{name}", value)]
    sys.argv = ["monai.bundle", "verify_net_in_out", *words]
    runpy.run_module("monai.bundle", run_name="__main__")


def check_torchscript(folder: Path) -> str:
    """The weights can be exported: scripted, or else traced, which the card must state; returns which of them."""
    from monai.bundle import ckpt_export

    options = {**CONFIG, "ckpt_file": "models/model.pt", "filepath": str(folder / "models" / "verify_model.ts")}
    try:
        ckpt_export(**options)
        return "scripted"
    except Exception as error:  # torch raises many types
        problem = str(error).strip().splitlines()[0]
    image = json.loads((folder / CONFIG["meta_file"]).read_text(encoding="utf-8"))["network_data_format"]["inputs"][
        "image"
    ]
    ckpt_export(**options, use_trace=True, input_shape=[1, image["num_channels"], *image["spatial_shape"]])
    if "TorchScript" not in (folder / "docs" / "README.md").read_text(encoding="utf-8"):
        raise ValueError("torch.jit.script fails, tracing works, and docs/README.md does not mention TorchScript")
    return f"traced; scripting fails: {problem}"


def load_unit_test(path: Path) -> object:
    """The unit test as a module, whose name contains that of the bundle."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_test(module: object, name: str) -> None:
    """Run one test of the unit test."""
    here, result = Path.cwd(), unittest.TestResult()
    os.chdir(here.parents[1])
    try:
        module.TestBundle(name).run(result)
    finally:
        os.chdir(here)
    if not result.wasSuccessful():
        raise AssertionError((result.errors + result.failures)[0][1].strip())


def reason(text: str) -> str:
    """The most informative line of an error's text: a NomalyError, else the last error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exit|Exception)\b", line)]
    return next((line for line in named if "NomalyError" in line), (named or lines)[-1])


def timed(checks: dict[str, Callable[[], str | None]]) -> Iterator[dict]:
    """Run each check, whether or not others failed."""
    for name, check in checks.items():
        started = time.perf_counter()
        try:
            passed, note = True, check() or ""
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            passed, note = False, reason(f"{type(error).__name__}: {error}")
        yield {"check": name, "passed": passed, "seconds": round(time.perf_counter() - started, 1), "note": note}


def main() -> None:
    """Run all checks, write their results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("schema", "unit_test", "phantom", "result"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    args = parser.parse_args()
    folder = Path(os.path.curdir)
    unit_test = load_unit_test(args.unit_test)
    checks = {
        "files": lambda: check_files(folder),
        "changelog": lambda: check_changelog(folder),
        "card": lambda: check_card(folder),
        "schema": lambda: check_schema(args.schema),
        "in/out": check_net_in_out,
        "TorchScript": lambda: check_torchscript(folder),
        **{name: lambda name=name: run_test(unit_test, f"test_{name}") for name in ("train", "evaluate", "infer")},
    }
    results = list(timed(checks))
    unit_test.tiny_phantom(args.phantom, folder)
    args.result.write_text(json.dumps(results), encoding="utf-8")


if __name__ == "__main__":
    main()
