"""Train a bundle at several sites with NVFlare, simulated on this machine or as a job for real sites; see --help."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from custom.commands.bundle import UnknownParameter, find_bundle
from custom.commands.options import OptionParser
from custom.commands.overrides import parse_overrides
from custom.errors import NomalyError, find_mistake, report_mistake
from custom.federated.site import ERROR, SELECTION
from custom.federated.weights import write_initial, write_model
from custom.studies.datalist import load_datalist

if TYPE_CHECKING:
    from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe

CLIENT = Path(__file__).with_name("client.py")
BEST = "best_FL_global_model.pt"  # NVFlare's name
SERVER = "server"  # NVFlare's own
FIXED = ("bundle_root", "ckpt_dir", "dataset_dir", "max_epochs", "output_dir", "overwrite")  # set by each site


def build_parser() -> OptionParser:
    """The options."""
    parser = OptionParser(
        description="Train a bundle at several sites that share weights but no images, with NVFlare's FedAvg: on this "
        "machine, or with --write_job as a job for separate machines.",
        epilog="Any parameter of the config train.json can also be set, for example --batch_size 8. "
        "Research software, not a medical device.",
    )
    parser.add_argument("bundle", metavar="BUNDLE", help="name under bundles/, such as ra_brain, or a path")
    parser.add_argument("--site", action="append", required=True, metavar="NAME=FOLDER", help="a site and its data set")
    parser.add_argument(
        "--output", required=True, help="new folder for models/model.pt, logs and the files of each site"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        required=True,
        help="number of averages; together with local_epochs it replaces max_epochs",
    )
    parser.add_argument("--local_epochs", type=int, default=1, help="epochs per round (default: %(default)s)")
    parser.add_argument("--weights", help="model.pt to continue from (default: new weights)")
    parser.add_argument(
        "--write_job", metavar="JOB", help="only write the job to this folder, for NVFlare's submit_job"
    )
    return parser


def check_options(options: argparse.Namespace) -> None:
    """Reject options that would fail later in NVFlare.

    Raises:
        NomalyError: with the rule.
    """
    for name in ("rounds", "local_epochs"):
        if getattr(options, name) < 1:
            raise NomalyError(f"--{name} must be 1 or more, got {getattr(options, name)}.")
    output = Path(options.output).absolute()
    check_no_spaces("--output", output)
    check_new("--output", output)
    if options.write_job is not None:
        check_new("--write_job", Path(options.write_job))
    if importlib.util.find_spec("nvflare") is None:
        raise NomalyError("NVFlare must be installed, but is not: run `pip install .[federated]`.")
    if options.write_job is None:
        check_no_spaces("Python (NOMALY_VENV makes it elsewhere)", sys.executable)
        check_no_spaces("this script", CLIENT)


def check_new(name: str, folder: Path) -> None:
    """Reject a folder that is not empty, and a file.

    Raises:
        NomalyError: with what to do.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise NomalyError(f"{name} must be a new folder, but {folder} contains files: give another, or empty it.")


def check_no_spaces(name: str, path: str | Path) -> None:
    """Reject a path that NVFlare's simulator would split at spaces.

    Raises:
        NomalyError: if it contains a space.
    """
    if len(str(path).split()) != 1:
        raise NomalyError(f"{name} must not have spaces in its path, at which NVFlare splits it, got {path}.")


def read_sites(words: Sequence[str], here: bool) -> dict[str, str]:
    """Data set folder of each site; those on this machine are checked.

    Raises:
        NomalyError: fewer than two sites, equal names, or a data set that cannot be used.
    """
    sites = {name: str(Path(folder).absolute()) for name, _, folder in (word.partition("=") for word in words)}
    if SERVER in sites:
        raise NomalyError(f"--site must not be named {SERVER}, which NVFlare uses itself: choose another name.")
    if len(sites) < max(2, len(words)) or not all(re.fullmatch(r"[\w-]+=.+", word) for word in words):
        raise NomalyError(
            f"--site must be given at least twice, each as NAME=FOLDER with a different name, got {words}."
        )
    for folder in sites.values() if here else ():
        load_datalist(folder, ("training", "validation"))
    return sites


def write_settings(options: argparse.Namespace, name: str, dataset_dir: str, parameters: dict[str, Any]) -> str:
    """Write the settings of a site and return their path."""
    folder = Path(options.output).absolute() / "sites" / name
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "bundle": str(find_bundle(options.bundle).absolute()),
        "dataset_dir": dataset_dir,
        "output_dir": str(folder),
        "local_epochs": options.local_epochs,
        "parameters": parameters,
    }
    file = folder / "site.json"
    file.write_text(json.dumps(settings, indent=4), encoding="utf-8")
    return str(file)


def make_recipe(options: argparse.Namespace, sites: dict[str, str], parameters: dict[str, Any]) -> FedAvgRecipe:
    """NVFlare's job. Its server does not need Nomaly: it averages tensors by name."""
    from nvflare.app_opt.pt.file_model_persistor import PTFileModelPersistor
    from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
    from nvflare.recipe import set_per_site_config

    initial = Path(options.output).absolute() / "initial.pt"
    write_initial(options.bundle, parameters, initial, options.weights)
    recipe = FedAvgRecipe(
        name="nomaly",
        min_clients=len(sites),
        num_rounds=options.rounds + 1,  # in the last round, sites only validate
        train_script=str(CLIENT),
        model_persistor=PTFileModelPersistor(source_ckpt_file_full_name=str(initial)),
        key_metric=SELECTION,
    )
    files = {name: write_settings(options, name, folder, parameters) for name, folder in sites.items()}
    set_per_site_config(recipe, {name: {"train_args": file} for name, file in files.items()})
    return recipe


def simulate(recipe: FedAvgRecipe, names: Sequence[str], output: Path) -> Path:
    """Train all sites on this machine and return the path of the best average.

    Raises:
        NomalyError: if a site stopped.
    """
    from nvflare.recipe import SimEnv

    try:
        recipe.run(SimEnv(clients=list(names), workspace_root=str(output / "nvflare")))
    except RuntimeError as error:
        files = {name: output / "sites" / name / ERROR for name in names}
        errors = [f"{name}: {file.read_text(encoding='utf-8')}" for name, file in files.items() if file.exists()]
        raise NomalyError(
            f"the training stopped before all sites finished. {' '.join(errors) or error} Logs: {output}/nvflare."
        ) from error
    [best] = (output / "nvflare").rglob(BEST)
    return best


def train(options: argparse.Namespace, parameters: dict[str, Any]) -> str:
    """Run the training or write the job; returns a summary."""
    if given := [name for name in FIXED if name in parameters]:
        raise NomalyError(f"--{given[0]} is set by the job: use --site, --output, --rounds and --local_epochs.")
    sites = read_sites(options.site, here=options.write_job is None)
    check_options(options)
    recipe = make_recipe(options, sites, parameters)
    if options.write_job:
        recipe.export(options.write_job)
        return (
            f"Job for NVFlare: {options.write_job}/{recipe.name}. Its sites and server read files in {options.output}."
        )
    best = simulate(recipe, list(sites), Path(options.output).absolute())
    model = Path(options.output) / "models" / "model.pt"
    write_model(options.bundle, parameters, best, model)
    return f"Best average of {len(sites)} sites: {model}. Calibrate it separately at each site."


def main() -> int:
    """Run; 0 = done, 2 = user error, reported in one sentence."""
    parser = build_parser()
    options, unknown = parser.parse_known_args()
    try:
        print(train(options, parse_overrides(unknown)))
    except Exception as error:
        mistake = find_mistake(error)
        report_mistake("job.py", mistake.beside(parser.names()) if isinstance(mistake, UnknownParameter) else error)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
