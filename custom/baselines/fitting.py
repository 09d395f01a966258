"""Fitting of all baselines: simple detectors on the same healthy training slices, to compare learned methods with.

Each baseline has ``score(study (C, X, Y, Z)) -> float`` and ``map(study) -> (1, X, Y, Z) or None``, larger = more
abnormal. Studies are stacks of slices along Z, values in [0, 1], on the training slices' grid or larger: a larger slice
is reconstructed in overlapping windows, as by the method's own network.
"""

from __future__ import annotations

import logging

from torch import Tensor

from custom.baselines.imagenet_neighbours import ImagenetNeighbours
from custom.baselines.intensity import Baseline, BrightnessBaseline, HistogramBaseline, IntensityBaseline, ScoreRule
from custom.baselines.reconstruction import AutoencoderBaseline, PcaBaseline, principal_components
from custom.errors import NomalyError
from custom.scoring.score import StudyScore

logger = logging.getLogger(__name__)


def fit_baselines(
    train: Tensor, epochs: int = 20, seed: int = 0, score: ScoreRule | None = None, peers: bool = False
) -> dict[str, Baseline]:
    """Fit all baselines.

    Args:
        train: (N, C, H, W) healthy slices in [0, 1].
        epochs: passes over `train` for the autoencoder.
        seed: seed of the autoencoder's weights and batches; the other baselines are deterministic.
        score: rule (map (1, *S), foreground (1, *S), study, reconstruction (C, *S)) -> score, for the intensity
            baseline and those that reconstruct; pass the method's own. None = ``StudyScore("top_q")``.
        peers: whether to fit the nearest neighbours of ImageNet features, too.

    Returns:
        "brightness", "histogram", "intensity", "mean_image", "pca", "autoencoder" and, if asked for,
        "imagenet_neighbours" -> baseline.
    """
    if train.ndim != 4 or len(train) < 2:
        raise NomalyError(f"train must be at least 2 slices (N, C, H, W), got the shape {tuple(train.shape)}.")
    score = score or StudyScore("top_q")
    baselines: dict[str, Baseline] = {
        "brightness": BrightnessBaseline(),
        "histogram": HistogramBaseline(),
        "intensity": IntensityBaseline(score),
        "mean_image": PcaBaseline(0, score),
        "pca": PcaBaseline(32, score),
        "autoencoder": AutoencoderBaseline(epochs, seed, score),
    }
    if peers:
        baselines["imagenet_neighbours"] = ImagenetNeighbours(seed)
    for name, baseline in baselines.items():
        baseline.fit(train.float())
        logger.info("Fitted the baseline %s on %d slices.", name, len(train))
    return baselines


def reference_errors(train: Tensor, validation: Tensor, components: tuple[int, ...] = (8, 32)) -> dict[str, float]:
    """Summed squared error per image of the mean image and of PCA reconstructions of healthy validation slices.

    A method whose healthy error is not below them has learned no more than a linear model.

    Args:
        train: (N, C, H, W) slices to fit mean and components.
        validation: (M, C, H, W) slices; their errors are averaged over the M images.
        components: numbers of principal components.

    Returns:
        {"mean_image": ..., "pca_8": ..., "pca_32": ...}, in squared intensity.
    """
    mean, basis = principal_components(train.float().flatten(1), max(components))
    centred = validation.float().flatten(1) - mean
    coordinates = centred @ basis.T
    energy = centred.square().sum(1)
    # the basis is orthonormal: k components explain the sum of k squared coordinates
    errors = {f"pca_{k}": (energy - coordinates[:, :k].square().sum(1)).mean().item() for k in components}
    return {"mean_image": energy.mean().item(), **errors}
