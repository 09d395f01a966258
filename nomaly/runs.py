"""Training, adaptation, calibration and evaluation, as the commands of the same names do them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from typing import Any, cast

from custom.commands import steps
from custom.commands.bundle import find_bundle, path_of
from custom.errors import NomalyError, find_mistake
from custom.metrics.records import Evaluation
from custom.synthetic.dataset import make_phantom
from nomaly.metrics import Figures

PathLikes = str | PathLike[str]


def train(
    bundle: PathLikes,
    dataset_dir: PathLikes | None = None,
    output: PathLikes | None = None,
    *,
    overlays: Sequence[str] = (),
    tracking: str | None = None,
    **parameters: Any,
) -> Path:
    """Train a bundle on healthy studies, as ``nomaly train``; a stopped training resumes.

    The report of the training, ``training.html`` in ``output``/train, is written at every validation.

    Args:
        bundle: name or folder.
        dataset_dir: folder with datalist.json; None = a synthetic phantom.
        output: folder for models/ and train/; None = in the bundle.
        overlays: configs merged over the bundle's train config, such as ["paper"].
        tracking: "mlflow" or a file of MONAI's settings.
        parameters: any other parameter of the config, such as max_epochs=100.

    Returns:
        The trained weights, for `calibrate` and `load(bundle, weights=...)`.

    Raises:
        NomalyError: if the bundle, the data set or a parameter cannot be used.
    """
    settings = _settings(parameters, dataset_dir=dataset_dir)
    with _mistakes():
        workflow = steps.train(fspath(bundle), overlays, settings, None if output is None else fspath(output), tracking)
    return Path(workflow.parser.get_parsed_content("ckpt_dir")) / "model.pt"


def adapt(
    bundle: PathLikes,
    dataset_dir: PathLikes | None = None,
    output: PathLikes | None = None,
    *,
    weights: PathLikes | None = None,
    overlays: Sequence[str] = (),
    **parameters: Any,
) -> Path:
    """Fit expected residual, latent codes and parts of the score to a site's healthy studies, as ``nomaly adapt``.

    The network is not changed. Calibrate afterwards: the calibration of the given weights is not kept.

    Args:
        bundle: name or folder.
        dataset_dir: folder with datalist.json, of which the sections training and validation are used; None = a
            synthetic phantom.
        output: folder for model.pt; None = output/adapt of the bundle.
        weights: model.pt, which is left as it is; None = that of the bundle.
        overlays: configs merged over the bundle's adapt config.
        parameters: any other parameter of the config, such as fit_steps=400.

    Returns:
        The copy of the weights with the new statistics, for `calibrate` and `load(bundle, weights=...)`.

    Raises:
        NomalyError: if the data set, the weights or a parameter cannot be used, or there are too few healthy studies.
    """
    settings = _settings(parameters, dataset_dir=dataset_dir, output_dir=output, weights=weights)
    with _mistakes():
        workflow = steps.adapt(fspath(bundle), overlays, settings)
    return Path(workflow.parser.get_parsed_content("fitted_weights"))


def calibrate(
    bundle: PathLikes,
    healthy: PathLikes | None = None,
    output: PathLikes | None = None,
    *,
    dataset_dir: PathLikes | None = None,
    weights: PathLikes | None = None,
    into_weights: PathLikes | None = None,
    overwrite: bool = False,
    overlays: Sequence[str] = (),
    **parameters: Any,
) -> Path:
    """Calibrate a detector on healthy studies, as ``nomaly calibrate``; the weights are not changed.

    Args:
        bundle: name or folder.
        healthy: folder of healthy studies, or one file; None = the calibration section of the data set, else its
            validation section.
        output: folder for calibration.json; None = output/calibrate of the bundle, or the folder of ``into_weights``.
        dataset_dir: folder with datalist.json; None = a synthetic phantom.
        weights: model.pt; None = that of the bundle.
        into_weights: file for a copy of the weights that contains the calibration; None = no copy.
        overwrite: whether an earlier calibration.json and an earlier file of ``into_weights`` may be replaced.
        overlays: configs merged over the bundle's calibrate config.
        parameters: any other parameter of the config, such as alpha=0.02.

    Returns:
        The calibration.json, for `load(..., calibration=...)`.

    Raises:
        NomalyError: if the studies, the weights or a parameter cannot be used.
    """
    paths = {"studies": healthy, "dataset_dir": dataset_dir, "weights": weights, "into_weights": into_weights}
    settings = _settings(parameters, **paths)
    settings |= {"overwrite": True} if overwrite else {}
    with _mistakes():
        workflow = steps.calibrate(fspath(bundle), overlays, settings, None if output is None else fspath(output))
    return Path(workflow.parser.get_parsed_content("calibration_file"))


def evaluate(
    bundle: PathLikes,
    dataset_dir: PathLikes | None = None,
    output: PathLikes | None = None,
    *,
    weights: PathLikes | None = None,
    calibration: PathLikes | None = None,
    overwrite: bool = False,
    overlays: Sequence[str] = (),
    **parameters: Any,
) -> Figures:
    """Evaluate a detector on a labelled test section beside the baselines, as ``nomaly evaluate``.

    Args:
        bundle: name or folder.
        dataset_dir: folder with datalist.json; None = a synthetic phantom.
        output: results folder; None = output/evaluate of the bundle.
        weights: model.pt; None = that of the bundle.
        calibration: folder or file of a calibration; None = the one in the weights.
        overwrite: whether earlier results may be replaced.
        overlays: configs merged over the bundle's evaluate config.
        parameters: any other parameter of the config, such as synthetic_lesions=True.

    Returns:
        The figures with their intervals, as in metrics.json.

    Raises:
        NomalyError: if the data set, the weights or a parameter cannot be used, or no study could be scored.
    """
    settings = _settings(parameters, dataset_dir=dataset_dir, output_dir=output, weights=weights)
    settings |= {"overwrite": True} if overwrite else {}
    if calibration is not None:
        settings["calibration_file"] = steps.calibration_file(fspath(calibration))
    with _mistakes():
        folder = Path(steps.evaluate(fspath(bundle), overlays, settings))
    if not (folder / "metrics.json").is_file():
        raise NomalyError(f"no study could be scored: {folder / 'results.csv'} gives the reason for each.")
    content = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return Figures(cast(Evaluation, content))


def phantom(bundle: PathLikes, folder: PathLikes, **settings: Any) -> Path:
    """Make a synthetic data set of the kind of images that a bundle is for, with lesions in its test section.

    Args:
        bundle: name or folder.
        folder: to make; an existing phantom with the same settings is kept.
        settings: such as num_training=10, num_test_abnormal=4 or seed=1.

    Returns:
        The folder, with datalist.json. Results on it do not apply to patients.

    Raises:
        NomalyError: if the folder contains other files, or a setting is unknown.
    """
    config = json.loads(path_of(find_bundle(fspath(bundle), "bundle"), "train").read_text(encoding="utf-8"))
    return Path(make_phantom(folder, config["anatomy"], **{"groups": config["lesion_groups"], **settings}))


@contextmanager
def _mistakes() -> Iterator[None]:
    """Raise the user's mistake itself, which MONAI wraps in its own exception."""
    try:
        yield
    except Exception as error:
        mistake = find_mistake(error)
        if mistake is None or mistake is error:
            raise
        raise mistake from error


def _settings(parameters: Mapping[str, Any], **paths: PathLikes | None) -> dict[str, Any]:
    """Parameters with the paths that were given, as text."""
    return {**parameters, **{name: fspath(path) for name, path in paths.items() if path is not None}}
