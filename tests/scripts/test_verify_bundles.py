"""The zoo's checks on this machine: each finds its problem, and the bundle is isolated while it is checked."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from custom.commands.bundle import BUNDLES
from tests.support.scripts import SCRIPTS, load_script

NAMES = sorted(path.parent.name for path in BUNDLES.glob("*/variant.json"))


@pytest.fixture(scope="module")
def verify() -> ModuleType:
    """The script."""
    return load_script("verify_bundles.py")


@pytest.fixture(scope="module")
def checks() -> ModuleType:
    """What it runs in each bundle."""
    return load_script("zoo/run_checks.py")


# An isolated bundle


@pytest.fixture
def lonely(tmp_path: Path) -> Path:
    """A bundle that carries a package custom of one module."""
    (tmp_path / "bundle" / "custom").mkdir(parents=True)
    (tmp_path / "bundle" / "custom" / "__init__.py").touch()
    (tmp_path / "bundle" / "custom" / "mine.py").write_text("WHERE = __file__\n")
    return tmp_path / "bundle"


def run_alone(bundle: Path, code: str) -> subprocess.CompletedProcess:
    """Run code with the bundle's package, from the repository's root and with it on the path."""
    script = bundle.parent / "script.py"
    script.write_text(code)
    command = [sys.executable, str(SCRIPTS / "zoo" / "alone.py"), str(bundle), str(script)]
    environment = {"PYTHONPATH": str(SCRIPTS.parent)}
    return subprocess.run(command, cwd=SCRIPTS.parent, env=environment, capture_output=True, text=True, timeout=60)


def test_bundle_runs_its_own_code_and_not_that_of_the_repository(lonely: Path) -> None:
    done = run_alone(lonely, "from custom.mine import WHERE; print(WHERE)")
    assert (done.returncode, done.stdout.strip()) == (0, str(lonely / "custom" / "mine.py")), done.stderr
    done = run_alone(lonely, "import custom.errors")  # the repository has it
    assert done.returncode == 1 and "No module named 'custom.errors'" in done.stderr


def test_code_that_comes_from_outside_of_the_bundle_is_reported(lonely: Path) -> None:
    done = run_alone(lonely, f"import sys; sys.path.insert(0, {str(SCRIPTS.parent)!r}); import custom.errors")
    assert done.returncode == 3
    assert f"code from outside of the bundle was used: {SCRIPTS.parent / 'custom'}" in done.stderr


# Checks


@pytest.mark.parametrize("bundle", NAMES)
def test_every_card_has_the_headings_of_the_zoo(bundle: str, checks) -> None:
    checks.check_card(BUNDLES / bundle)


@pytest.mark.parametrize("bundle", NAMES)
def test_every_version_has_a_line_in_the_changelog(bundle: str, checks) -> None:
    checks.check_changelog(BUNDLES / bundle)


def write_card(folder: Path, names: list[str]) -> None:
    """A card with these headings."""
    (folder / "docs").mkdir(exist_ok=True)
    (folder / "docs" / "README.md").write_text("# Title\n\n" + "\n".join(f"## **{name}**\ntext" for name in names))


def test_card_may_have_more_headings_but_not_fewer_or_in_another_order(checks, tmp_path: Path) -> None:
    names = list(checks.HEADINGS)
    write_card(tmp_path, names[:4] + ["Something more"] + names[4:])
    checks.check_card(tmp_path)
    write_card(tmp_path, [name for name in names if name != "Limitations"])
    with pytest.raises(ValueError, match="docs/README.md lacks the heading Limitations, or has it in the wrong order"):
        checks.check_card(tmp_path)
    write_card(tmp_path, names[::-1])
    with pytest.raises(ValueError, match="lacks the heading Tags, or has it in the wrong order"):
        checks.check_card(tmp_path)


def test_headings_are_read_without_comments_of_code(checks) -> None:
    text = "# One\n```\n# a comment\n```\n#### **Two** \nno # heading\n"
    assert checks.headings(text) == ["One", "Two"]


def test_missing_files_are_named(checks, tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    for name in ("configs/metadata.json", "configs/inference.json"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="the bundle lacks LICENSE, models/model.pt, docs/data_license.txt$"):
        checks.check_files(tmp_path)


def test_version_without_a_line_in_the_changelog_is_seen(checks, tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text('{"version": "0.2.0", "changelog": {"0.1.0": ""}}')
    with pytest.raises(ValueError, match="the changelog has no version 0.2.0"):
        checks.check_changelog(tmp_path)


def test_failed_check_does_not_stop_the_others_and_its_reason_is_kept(checks, capsys) -> None:
    def fail() -> None:
        raise ValueError("the changelog has no version 2")

    results = list(checks.timed({"first": fail, "second": lambda: "traced", "third": lambda: sys.exit("no")}))
    assert [(one["check"], one["passed"]) for one in results] == [("first", False), ("second", True), ("third", False)]
    assert [one["note"] for one in results] == [
        "ValueError: the changelog has no version 2",
        "traced",
        "SystemExit: no",
    ]
    assert "Traceback" in capsys.readouterr().err


def test_reason_of_a_long_error_is_the_mistake_that_nomaly_names(checks) -> None:
    text = (
        "AssertionError: Traceback\n  File x\ncustom.errors.NomalyError: alpha is 2\n\nRuntimeError: applying transform"
    )
    assert checks.reason(text) == "custom.errors.NomalyError: alpha is 2"
    assert checks.reason("ValueError: a\n\nRuntimeError: b\n  set debug mode") == "RuntimeError: b"


def test_results_with_a_failed_study_or_none_are_no_success(verify, tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    assert not verify.none_failed(path)
    for rows, expected in ((["ok", "not_assessable"], True), (["ok", "failed"], False), ([], False)):
        path.write_text("\n".join(["study,status", *(f"a,{status}" for status in rows)]))
        assert verify.none_failed(path) == expected


# Reports


def test_bundle_without_weights_gets_random_ones_in_a_copy_and_no_figures(verify, tmp_path: Path) -> None:
    source = tmp_path / "ra_wrist"
    shutil.copytree(BUNDLES / "ra_wrist", source, ignore=shutil.ignore_patterns("data", "models", "output"))
    metadata = json.loads((source / "configs" / "metadata.json").read_text())
    (source / "configs" / "metadata.json").write_text(json.dumps(metadata | {"eval_metrics": {"auroc": 1.0}}))
    folder, random = verify.with_weights(source, tmp_path / "scratch")
    assert random and folder == tmp_path / "scratch" / "ra_wrist" and not (source / "models").exists()
    load_script("pack_bundle.py").pack(folder, tmp_path / "dist")
    provenance = json.loads((folder / "models" / "provenance.json").read_text())
    assert provenance["eval_metrics"] == {} and provenance["command"] == "none: random weights"
    assert verify.with_weights(folder, tmp_path / "again") == (folder, False)


def test_table_shows_what_was_checked_and_what_failed(verify) -> None:
    good, bad = verify.Report("ra_brain", "its own"), verify.Report("ra_wrist", "RANDOM")
    good.add("files", True)
    good.add("train", True, 2.04)
    bad.add("files", False, 0.3, "the bundle lacks LICENSE")
    assert verify.table([good, bad]).splitlines() == [
        "| bundle | weights | files | train |",
        "|---|---|---|---|",
        "| ra_brain | its own | ok | ok 2.0 s |",
        "| ra_wrist | RANDOM | FAILED 0.3 s | - |",
        "",
        "ra_wrist, files: the bundle lacks LICENSE",
    ]


@pytest.mark.parametrize(("passed", "code"), [(True, 0), (False, 1)])
def test_exit_code_tells_whether_all_checks_were_passed(
    verify, passed: bool, code: int, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    report = verify.Report("ra_brain", "its own")
    report.add("files", passed)
    monkeypatch.setattr(verify, "verify_all", lambda args, scratch: [report])
    with pytest.raises(SystemExit) as stop:
        verify.main(["ra_brain"])
    assert stop.value.code == code
    assert f"{code} checks failed; " in capsys.readouterr().out


def test_unknown_bundle_is_reported_in_one_sentence(verify) -> None:
    with pytest.raises(
        SystemExit, match="^verify_bundles: BUNDLE must be a bundle's name or path, got ra_knee: choose"
    ):
        verify.main(["ra_knee"])


def test_folder_that_is_no_checkout_of_the_zoo_is_refused(verify, tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        verify.parse(["--zoo", str(tmp_path)])
    assert "--zoo must be a checkout of the model zoo, but " in capsys.readouterr().err


@pytest.mark.slow
def test_bundle_passes_alone_and_renamed_and_one_with_a_poor_card_does_not(tmp_path: Path) -> None:
    folders = [tmp_path / "ra_wrist", tmp_path / "ra_poor"]
    for folder in folders:
        shutil.copytree(BUNDLES / "ra_wrist", folder, ignore=shutil.ignore_patterns("data", "models", "output"))
    card = folders[1] / "docs" / "README.md"
    card.write_text(card.read_text().replace("## Limitations", "## Doubts"))
    command = [sys.executable, str(SCRIPTS / "verify_bundles.py"), *map(str, folders)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=580)
    header, _, good, poor, code = (line.split(" | ") for line in done.stdout.splitlines()[:5])
    assert good[0] == "| ra_wrist" and good[1] == "RANDOM" and "FAILED" not in " ".join(good), done.stdout
    assert {"schema", "in/out", "TorchScript", "train", "evaluate", "infer", "renamed"} <= set(header)
    failed = [name for name, text in zip(header, poor) if text.startswith("FAILED")]
    assert failed == ["card"] and "FAILED" not in " ".join(code), done.stdout
    assert done.returncode == 1 and "\n1 checks failed; " in done.stdout
