"""The texts of the command line: what each command does, with examples, and the list of bundles."""

from __future__ import annotations

import json
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from custom.commands.bundle import METADATA, bundle_folders

MISTAKE = "2 = a mistake in the command or the data"
WIDEST = 110  # characters of a line


@dataclass(frozen=True)
class Command:
    """A command of the command line.

    Args:
        name: as it is typed.
        group: heading in the list of commands.
        purpose: what it does, in one line.
        details: what else to know before the first use.
        usage: its arguments that must be given.
        examples: command lines that can be pasted.
        parameters: examples of config parameters; empty if the command has none.
        overlay: whether other configs can be merged over the bundle's own.
        exit_codes: their meaning, if it is not the usual one.
    """

    name: str
    group: str
    purpose: str
    details: str
    usage: str
    examples: Sequence[str]
    parameters: str = ""
    overlay: bool = True
    exit_codes: str = f"0 = done, 1 = some studies failed, {MISTAKE}"

    @property
    def usage_line(self) -> str:
        """The command with its arguments."""
        return " ".join(filter(None, ("nomaly", self.name, self.usage, "[options]")))

    @property
    def description(self) -> str:
        """What the command does."""
        return wrapped(f"{self.purpose[0].upper()}{self.purpose[1:]}. {self.details}")

    @property
    def epilog(self) -> str:
        """Examples, bundles and exit codes."""
        bundles = bundle_table() if self.parameters else ""
        codes = wrapped(f"Exit code: {self.exit_codes}.")
        return "\n\n".join(filter(None, (examples(*self.examples), bundles, codes)))


TRY, DEVELOP, USE = "try it", "develop a detector", "use a detector"
COMMANDS = (
    Command(
        "bundles",
        TRY,
        "list the bundles: images, what the weights learned from, measured figures, licence",
        "The figures are those of the bundles' cards.",
        "",
        ("nomaly bundles", "nomaly bundles --json"),
        exit_codes=f"0 = done, {MISTAKE}",
    ),
    Command(
        "parameters",
        TRY,
        "list the parameters of a bundle with meaning and default",
        "Each can be given as an option of a command, such as --alpha 0.02.",
        "BUNDLE",
        ("nomaly parameters ra_chest", "nomaly parameters ra_chest --command train"),
        exit_codes=f"0 = done, {MISTAKE}",
    ),
    Command(
        "demo",
        TRY,
        "run a bundle from training to detection on synthetic images, in about five minutes",
        "Run it again to resume after a stop. The key figures come last.",
        "",
        ("nomaly demo", "nomaly demo --bundle memmc_pneumonia --output results/demo_pneumonia"),
        "--max_epochs 10",
        overlay=False,
        exit_codes=f"0 = done, {MISTAKE}",
    ),
    Command(
        "datalist",
        DEVELOP,
        "make a data set from folders of images: sections by patient, near-duplicates reported",
        "No image is moved or copied: the data set has datalist.json and links to the folders. Patients are found by "
        "BIDS subject, DICOM PatientID or --subject.",
        "HEALTHY --output FOLDER",
        (
            "nomaly datalist HEALTHY --output DATA",
            "nomaly datalist HEALTHY --abnormal ABNORMAL --lesion_masks MASKS --output DATA",
        ),
        exit_codes=f"0 = done, {MISTAKE}",
    ),
    Command(
        "prepare",
        DEVELOP,
        "make the data set behind published figures from your own download of a public data set",
        "Nothing is downloaded. The data set has the published sections; each image is compared with the published one "
        "by a checksum. The terms of the public data set are shown.",
        "NAME FOLDER",
        (
            "nomaly prepare kermany chest_xray --output data/kermany",
            "nomaly evaluate ra_chest --dataset_dir data/kermany --output results/kermany",
        ),
        exit_codes=f"0 = done, {MISTAKE}",
    ),
    Command(
        "train",
        DEVELOP,
        "learn healthy anatomy from healthy studies",
        "Every validation writes the report training.html, to look at while it trains. Run the same command again to "
        "resume a stopped training. Calibrate afterwards.",
        "BUNDLE",
        (
            "nomaly train ra_chest --dataset_dir DATA --output runs/chest",
            "nomaly train ra_chest --healthy HEALTHY --output runs/chest",
            "nomaly train ra_chest --overlay paper --dataset_dir DATA --output runs/chest --max_epochs 100",
        ),
        "--max_epochs 100, --patience 3 or --amp true",
        exit_codes=f"0 = done, {MISTAKE}",
    ),
    Command(
        "adapt",
        DEVELOP,
        "fit expected residual, latent codes and parts of the score to a site's healthy studies; the network stays",
        "Uses the training and validation sections of the data set; takes minutes. Calibrate afterwards.",
        "BUNDLE",
        ("nomaly adapt ra_chest --dataset_dir DATA --output runs/site",),
        "--fit_steps 400",
        exit_codes=f"0 = done, {MISTAKE}",
    ),
    Command(
        "calibrate",
        DEVELOP,
        "estimate the distribution of healthy scores, for p-values and decisions",
        "Needs healthy studies that were not used for training, from the site where the detector will be used. The "
        "weights are not changed.",
        "BUNDLE",
        (
            "nomaly calibrate ra_chest --healthy HEALTHY --output calibrations/north",
            "nomaly calibrate ra_chest --healthy HEALTHY --weights runs/chest/models/model.pt --into_weights chest.pt",
        ),
        "--alpha 0.02, --confidence 0.95 or --group_field scanner",
        exit_codes=f"0 = done, {MISTAKE}",
    ),
    Command(
        "evaluate",
        DEVELOP,
        "measure performance on labelled test studies and compare it with simple baselines",
        "Uses the test section of the data set.",
        "BUNDLE",
        ("nomaly evaluate ra_chest --dataset_dir DATA --output results/evaluation",),
        "--alpha 0.02 or --synthetic_lesions true",
    ),
    Command(
        "benchmark",
        DEVELOP,
        "evaluate several models on one data set, in one table: quality with intervals, speed, memory",
        "Each model runs in its own process; --threads N sets its CPU threads. Run the command again to resume: "
        "finished models are kept, and a model that fails gets a row with the reason.",
        "ENTRY ... --dataset_dir FOLDER --output FOLDER",
        (
            "nomaly benchmark ra_chest memmc_pneumonia --dataset_dir DATA --output results/benchmark",
            "nomaly benchmark ra_chest ra_chest=runs/chest/models/model.pt --dataset_dir DATA --output results/both",
        ),
        "--alpha 0.02 (for all models; for one model use --entries)",
        overlay=False,
        exit_codes=f"0 = done, 1 = a model or a study failed, {MISTAKE}",
    ),
    Command(
        "detect",
        USE,
        "score studies and write anomaly maps in the geometry of each study",
        "The results folder has a report (report.html), a table (results.csv) and one folder per study.",
        "BUNDLE STUDY ... --output FOLDER",
        (
            "nomaly detect ra_chest IMAGES --output results/chest",
            "nomaly detect ra_brain head.nii.gz --output results/head --alpha 0.02",
        ),
        "--alpha 0.02, --write_images false or --num_workers 4",
    ),
    Command(
        "export",
        USE,
        "write the detector with score and calibration as one graph: ONNX, TorchScript, torch.export",
        "The files are compared with the detector on some studies; the differences are in parity.json.",
        "BUNDLE --output FOLDER",
        ("nomaly export ra_chest --output exported", "nomaly export ra_chest --output exported --format torchscript"),
        "--alpha 0.02",
        exit_codes=f"0 = done, 1 = a file differs from the detector, {MISTAKE}",
    ),
    Command(
        "monitor",
        USE,
        "check whether healthy studies still score as they did at calibration",
        "The p-values of healthy studies must stay uniform. Give results of healthy studies, or of studies later found "
        "healthy: abnormal studies make p-values small without any drift, so including them monitors the case mix "
        "instead.",
        "RESULTS ... --output FOLDER",
        ("nomaly monitor results/january results/february --output results/monitor",),
        exit_codes=f"0 = in control, 3 = alarm, {MISTAKE}",
    ),
)


def wrapped(text: str, margin: int = 0) -> str:
    """A paragraph in lines that fit the terminal with a margin."""
    return textwrap.fill(text, line_width() - margin)


def line_width() -> int:
    """Characters of a line of help."""
    return min(WIDEST, max(40, shutil.get_terminal_size().columns - 2))


def examples(*commands: str) -> str:
    """Commands under a heading."""
    return "\n".join(["examples:", *(f"  {command}" for command in commands)])


def table(heading: str, rows: Sequence[Sequence[str]]) -> str:
    """Rows in aligned columns under a heading; the last column may be broken."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    starts = ["  " + "".join(f"{cell:{width}}  " for cell, width in zip(row, widths)) for row in rows]
    lines = [
        textwrap.fill(row[-1], line_width(), initial_indent=start, subsequent_indent=" " * len(start))
        for start, row in zip(starts, rows)
    ]
    return "\n".join([f"{heading}:", *lines])


def command_table() -> str:
    """The commands by purpose."""
    groups: dict[str, list[tuple[str, str]]] = {command.group: [] for command in COMMANDS}
    for command in COMMANDS:
        groups[command.group].append((f"{command.name:10}", command.purpose))
    return "\n\n".join(table(group, rows) for group, rows in groups.items())


def bundle_table() -> str:
    """Name, method and images of each bundle; how to give a bundle where none was found."""
    rows = []
    for folder in bundle_folders():
        metadata = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        method = metadata["name"].rpartition(" with ")[2]
        rows.append((folder.name, method, metadata["task"].rpartition(" in ")[2]))
    return table("bundles", rows) if rows else "A bundle is given by the path of its folder."
