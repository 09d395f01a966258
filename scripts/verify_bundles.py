"""Run the checks of the model zoo on each bundle, without network access.

    python scripts/verify_bundles.py
    python scripts/verify_bundles.py ra_brain --zoo ../model-zoo

Each bundle is packed (scripts/pack_bundle.py), unzipped into an empty folder and checked there by separate processes,
which cannot import this repository: files, changelog, headings of the card, metadata against the schema, network
input and output, export to TorchScript, and a unit test in the zoo's form that trains, evaluates and infers. Then the
folder is renamed, and MONAI's command line runs an inference in it. The format of the code is checked as the zoo does.
With --zoo, a checkout of github.com/Project-MONAI/model-zoo, its own ci/verify_bundle.py runs too. A bundle without
weights is verified with random ones, as the table states. The exit code is 1 if a check failed.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from custom.commands.bundle import BUNDLES, find_bundle
from custom.commands.options import OptionParser
from custom.errors import NomalyError

SCRIPTS = Path(__file__).resolve().parent
ZOO = SCRIPTS / "zoo"
SCHEMA = SCRIPTS.parent / "tests" / "bundles" / "meta_schema_20240725.json"
TIMEOUT = 600
# Of the zoo's runtests.sh and setup.cfg. Its flake8 plugins are used where they are installed.
FORMAT = {
    "isort": ["--check", "--profile", "black", "--line-length", "120", "--thirdparty", "custom"],
    "black": ["--check", "--quiet", "--skip-magic-trailing-comma", "--line-length", "120", "-t", "py37"]
    + ["-t", "py38", "-t", "py39"],
    "flake8": ["--isolated", "--max-line-length", "120", "--select", "B,C,E,F,N,P,T4,W,B9"]
    + ["--ignore", "E203,E501,E741,W503,W504,C408,N812,B023,B905,B028,B907,C419"],
}


@dataclass
class Report:
    """Checks of one bundle: dictionaries with check, passed, seconds and note."""

    bundle: str
    weights: str = "-"
    checks: list[dict[str, Any]] = field(default_factory=list)

    def add(self, check: str, passed: bool, seconds: float = 0.0, note: str = "") -> bool:
        """Add a check; returns whether it passed."""
        self.checks.append({"check": check, "passed": passed, "seconds": seconds, "note": note})
        return passed


def with_weights(folder: Path, scratch: Path) -> tuple[Path, bool]:
    """The bundle's folder, or a copy with random weights if it has no weights; and whether they are random."""
    if (folder / "models" / "model.pt").is_file():
        return folder, False
    import torch
    from monai.bundle import ConfigParser

    copy = scratch / folder.name
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("data", "models", "output", "eval"))
    parser = ConfigParser()
    parser.read_config(str(copy / "configs" / "inference.json"))
    weights = copy / "models" / "model.pt"
    weights.parent.mkdir()
    torch.save(parser.get_parsed_content("network_def").state_dict(), weights)
    metadata = json.loads((copy / "configs" / "metadata.json").read_text(encoding="utf-8"))
    metadata.pop("eval_metrics", None)  # nothing was measured with these
    (copy / "configs" / "metadata.json").write_text(json.dumps(metadata, indent=4), encoding="utf-8")
    words = dict.fromkeys(("data", "command", "commit", "seed", "hours", "hardware"), "none: random weights")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    weights.with_name("provenance.json").write_text(
        json.dumps({**words, "eval_metrics": {}, "sha256": digest}), encoding="utf-8"
    )
    return copy, True


def run(words: list[str | Path], cwd: Path, log: Path) -> tuple[int, float]:
    """Exit code and seconds of a Python process; its output is appended to ``log``."""
    started = time.perf_counter()
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSTARTUP")}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1"}
    with open(log, "a", encoding="utf-8") as file:
        command = [sys.executable, *map(str, words)]
        options = {"cwd": cwd, "env": environment, "stdout": file, "stderr": subprocess.STDOUT, "timeout": TIMEOUT}
        try:
            code = subprocess.run(command, **options).returncode
        except subprocess.TimeoutExpired:
            file.write(f"stopped after {TIMEOUT} seconds\n")
            code = 124
    return code, time.perf_counter() - started


def last_line(log: Path) -> str:
    """Last line of output of a failed process."""
    lines = log.read_text(encoding="utf-8").strip().splitlines()
    return lines[-1] if lines else "no output"


def pack_all(folders: list[Path], scratch: Path, url: str | None) -> dict[str, Path]:
    """Zips by bundle, of the bundles that could be packed."""
    log = scratch / "pack.log"
    options = ["--weights_url", url] if url else []
    run([SCRIPTS / "pack_bundle.py", *folders, "--output", scratch, "--zoo_style", *options], scratch, log)
    zips = {folder.name: list(scratch.glob(f"{folder.name}_v*.zip")) for folder in folders}
    return {name: found[0] for name, found in zips.items() if found}


def verify(report: Report, folder: Path, archive: Path, scratch: Path, zoo: Path | None) -> None:
    """Run all checks of one bundle and add them to the report."""
    name = report.bundle
    work = scratch / name
    unzipped = work / "models" / name
    with zipfile.ZipFile(archive) as file:
        file.extractall(unzipped.parent)
    if (unzipped / "large_files.yml").is_file():  # the zoo's checks download them
        shutil.copy(folder / "models" / "model.pt", unzipped / "models")
    unit_test = Path(shutil.copy(ZOO / "unit_test.py", work / f"test_{name}.py"))
    isolated, result, phantom, log = [ZOO / "alone.py", "."], work / "result.json", work / "phantom", work / "log.txt"
    options = ["--schema", SCHEMA, "--unit_test", unit_test, "--phantom", phantom, "--result", result]
    code, seconds = run([*isolated, ZOO / "run_checks.py", *options], unzipped, log)
    report.checks += json.loads(result.read_text(encoding="utf-8")) if result.is_file() else []
    if code:
        report.add("process", False, seconds, last_line(log))
        return
    if zoo:
        code, seconds = run_zoo(report, unzipped, zoo, work)
        report.add("zoo", code == 0, seconds, last_line(work / "zoo.txt") if code else "")
    renamed = unzipped.rename(work / "another name")
    study = next(path for path in (phantom / "unseen").iterdir() if "_mask" not in path.name)
    parameters = ["--config_file", "configs/inference.json", "--studies", study, "--output_dir", work / "results"]
    code, seconds = run([*isolated, "monai.bundle", "run", *parameters], renamed, log)
    passed = code == 0 and none_failed(work / "results" / "results.csv")
    report.add("renamed", passed, seconds, "" if passed else last_line(log))


def none_failed(results: Path) -> bool:
    """Whether a run has results and no failed study."""
    rows = list(csv.DictReader(results.read_text(encoding="utf-8").splitlines())) if results.is_file() else []
    return bool(rows) and all(row["status"] != "failed" for row in rows)


def run_zoo(report: Report, unzipped: Path, zoo: Path, work: Path) -> tuple[int, float]:
    """The zoo's own check of a bundle, in a copy of its scripts."""
    ci = Path(shutil.copytree(zoo / "ci", work / "ci"))
    if any(check["note"].startswith("traced") for check in report.checks):
        with open(
            ci / "bundle_custom_data.py", "a", encoding="utf-8"
        ) as file:  # as CONTRIBUTING requires for such a bundle
            file.write(f'\nexclude_verify_torchscript_list.append("{report.bundle}")\n')
    (unzipped.parent / "model_info.json").write_text("{}", encoding="utf-8")
    (unzipped / "eval").mkdir()
    shutil.copy(SCHEMA, unzipped / "eval" / "schema.json")
    words = [ZOO / "alone.py", unzipped, ci / "verify_bundle.py", "-b", report.bundle, "-p", "models", "-m", "full"]
    return run(words, work, work / "zoo.txt")


def check_format(archive: Path, scratch: Path) -> Report:
    """The zoo's format check of the packed code, which is equal in all bundles."""
    report = Report("custom/")
    with zipfile.ZipFile(archive) as file:
        file.extractall(scratch / "format", [name for name in file.namelist() if name.endswith(".py")])
    for tool, options in FORMAT.items():
        log = scratch / f"{tool}.txt"
        code, seconds = run(["-m", tool, *options, "."], scratch / "format", log)
        report.add(tool, code == 0, seconds, last_line(log) if code else "")
    return report


def table(reports: list[Report]) -> str:
    """Markdown table of the bundles, followed by the notes."""
    columns = list(dict.fromkeys(check["check"] for report in reports for check in report.checks))
    lines = ["| bundle | weights | " + " | ".join(columns) + " |", "|---|---|" + "---|" * len(columns)]
    notes = []
    for report in reports:
        done = {check["check"]: check for check in report.checks}
        cells = [cell(done.get(column)) for column in columns]
        lines.append(f"| {report.bundle} | {report.weights} | {' | '.join(cells)} |")
        notes += [f"{report.bundle}, {check['check']}: {check['note']}" for check in report.checks if check["note"]]
    return "\n".join([*lines, "", *notes])


def cell(check: dict[str, Any] | None) -> str:
    """A check in the table."""
    if check is None:
        return "-"
    seconds = f" {check['seconds']:.1f} s" if check["seconds"] >= 0.1 else ""
    return ("ok" if check["passed"] else "FAILED") + seconds


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = OptionParser(description=__doc__)
    parser.add_argument("bundles", nargs="*", metavar="BUNDLE", help="names or folders (default: all)")
    parser.add_argument("--zoo", type=Path, metavar="PATH", help="checkout of github.com/Project-MONAI/model-zoo")
    parser.add_argument("--weights_url", metavar="URL", help="address of weights above 25 MB, as for pack_bundle.py")
    parser.add_argument("--jobs", type=int, default=2, help="bundles at a time (default %(default)s)")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="folder for the output of the checks")
    args = parser.parse_args(arguments)
    if args.zoo and not (args.zoo / "ci" / "verify_bundle.py").is_file():
        parser.error(f"--zoo must be a checkout of the model zoo, but {args.zoo} has no ci/verify_bundle.py")
    if args.jobs < 1:
        parser.error(f"--jobs must be at least 1, got {args.jobs}")
    args.bundles = args.bundles or sorted(path.parent.name for path in BUNDLES.glob("*/variant.json"))
    return args


def verify_all(args: argparse.Namespace, scratch: Path) -> list[Report]:
    """Reports of the bundles and of the code's format."""
    sources, reports = [], []
    for name in dict.fromkeys(args.bundles):
        folder, random = with_weights(find_bundle(name).resolve(), scratch / "sources")
        sources.append(folder)
        reports.append(Report(folder.name, "RANDOM" if random else "its own"))
    zips = pack_all(sources, scratch, args.weights_url)
    for report in reports:
        messages = [
            line
            for line in (scratch / "pack.log").read_text(encoding="utf-8").splitlines()
            if f": {report.bundle}: " in line
        ]
        report.add("pack", report.bundle in zips, note="" if report.bundle in zips else " ".join(messages))
    packed = [(report, folder) for report, folder in zip(reports, sources) if report.bundle in zips]
    with ThreadPoolExecutor(args.jobs) as pool:
        runs = [pool.submit(verify, *pair, zips[pair[0].bundle], scratch, args.zoo) for pair in packed]
        runs += [pool.submit(check_format, next(iter(zips.values())), scratch)] if zips else []
        done = [run.result() for run in runs]
    return reports + done[len(packed) :]


def main(arguments: list[str] | None = None) -> None:
    """Verify and print the table; exit code 1 if a check failed."""
    args = parse(arguments)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="verify_bundles-") as scratch:
        try:
            reports = verify_all(args, Path(scratch).resolve())
        except NomalyError as mistake:
            sys.exit(f"verify_bundles: {mistake}")
        if args.logs:
            args.logs.mkdir(parents=True, exist_ok=True)
            for log in Path(scratch).glob("*/*.txt"):
                shutil.copy(log, args.logs / f"{log.parent.name}-{log.name}")
    failed = sum(not check["passed"] for report in reports for check in report.checks)
    print(table(reports))
    print(f"\n{failed} checks failed; {time.perf_counter() - started:.0f} seconds")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
