"""The case view of the report: layers of slices, which a browser overlays and scrolls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from custom.errors import NomalyError
from custom.rendering.colours import Palette, map_colours, palette_of
from custom.rendering.images import (
    as_array,
    as_plane,
    data_uri,
    lay_over,
    reencoded,
    strongest_slice,
    thumbnail,
    to_rgb,
    webp,
)
from custom.rendering.outlines import Outline, outline_path

_QUALITY = 90


@dataclass(frozen=True)
class SliceView:
    """Layers of one slice: WebP bytes (the map's with an alpha channel) and outlines.

    Attributes:
        index: position along z in the study.
        image, pseudo_healthy, overlay: images of equal grid; the last two are empty if the study was not scored.
        regions: outline by region number.
        truth: outline of the reference mask; None if the slice has none.
    """

    index: int
    image: bytes
    pseudo_healthy: bytes
    overlay: bytes
    regions: Mapping[int, Outline]
    truth: Outline | None

    def reencoded(self, quality: int, side: int | None) -> SliceView:
        """The same slice with its images at a lower quality and size, see custom.rendering.images.reencoded."""
        layers = (self.image, self.pseudo_healthy, self.overlay)
        image, healthy, overlay = (reencoded(layer, quality, side) if layer else layer for layer in layers)
        return replace(self, image=image, pseudo_healthy=healthy, overlay=overlay)


@dataclass(frozen=True)
class CaseView:
    """Layers of a case.

    Attributes:
        size: pixels along x and y, the unit of the outlines.
        ratio: width over height in millimetres.
        sides: of the patient, at left, right, top and bottom, such as RLAP; "" if unknown.
        depth: number of slices of the study; `slices` may be a selection of them.
        vmax: map value shown in full colour.
        slices: in the order of z.
        shown: position in `slices` of the strongest one.
        has_truth: whether any reference was given, shown or not.
        thumbnail: WebP of the strongest slice under its map.
        palette: colours of the map.
    """

    size: tuple[int, int]
    ratio: float
    depth: int
    vmax: float
    slices: tuple[SliceView, ...]
    shown: int
    has_truth: bool
    thumbnail: bytes
    sides: str = ""
    palette: Palette = "grey"

    @property
    def is_assessed(self) -> bool:
        """Whether there are a map and a pseudo-healthy image."""
        return bool(self.slices[0].overlay)

    @property
    def positions(self) -> dict[int, int]:
        """Region number -> position in `slices` where it is largest; regions outside the selected slices are absent."""
        return _largest_at([{n: o.pixels for n, o in s.regions.items()} for s in self.slices])

    @property
    def characters(self) -> int:
        """Size in a report, without the thumbnail: base64 takes 4 characters for 3 bytes."""
        images = sum(len(s.image) + len(s.pseudo_healthy) + len(s.overlay) for s in self.slices)
        outlines = [outline for s in self.slices for outline in (*s.regions.values(), s.truth) if outline]
        return images * 4 // 3 + sum(len(outline.path) for outline in outlines)

    def reduced(self, max_slices: int, quality: int | None = None, side: int | None = None) -> CaseView:
        """The same case in fewer characters.

        Args:
            max_slices: number of slices to keep, selected as in `case_view`.
            quality: of the WebP, 0 to 100; None keeps the images as they are.
            side: longest side of an image in pixels; None keeps it.
        """
        counts = [{n: o.pixels for n, o in s.regions.items()} for s in self.slices]
        truth = [s.truth.pixels if s.truth else 0 for s in self.slices]
        kept = _choose(self.shown, counts, truth, max_slices)
        slices = [self.slices[position] for position in kept]
        if quality is not None:
            slices = [s.reencoded(quality, side) for s in slices]
        return replace(self, slices=tuple(slices), shown=kept.index(self.shown))

    def as_json(self) -> dict[str, Any]:
        """Data for the report's script; slices are counted from 1."""
        return {
            "size": self.size,
            "ratio": round(self.ratio, 4),
            "sides": self.sides,
            "depth": self.depth,
            "vmax": self.vmax,
            "palette": self.palette,
            "shown": self.shown,
            "truth": self.has_truth,
            "assessed": self.is_assessed,
            "positions": self.positions,
            "slices": [
                {
                    "number": s.index + 1,
                    "input": data_uri(s.image),
                    "healthy": data_uri(s.pseudo_healthy),
                    "map": data_uri(s.overlay),
                    "regions": {number: outline.path for number, outline in s.regions.items()},
                    "truth": s.truth.path if s.truth else "",
                }
                for s in self.slices
            ],
        }


def case_view(
    image: ArrayLike,
    reconstruction: ArrayLike,
    anomaly_map: ArrayLike,
    regions: ArrayLike | None = None,
    truth: ArrayLike | None = None,
    vmax: float | None = None,
    spacing: Sequence[float] = (1.0, 1.0),
    max_slices: int = 24,
    sides: str = "",
) -> CaseView:
    """Make the layers of a case.

    If a volume has more slices than `max_slices`, these are kept in this order: the strongest, the largest of each
    region, others with regions, those with the reference (so that misses are visible too), then evenly spaced ones.

    Args:
        image: (C, X, Y, Z), C = 1 or 3, values in [0, 1]; Z = 1 for a 2-D image.
        reconstruction: pseudo-healthy image, shaped as `image`.
        anomaly_map: (1, X, Y, Z), larger = more abnormal.
        regions: (1, X, Y, Z) int, numbered from 1 = most massive, 0 = none; None if the detector is not calibrated.
        truth: reference mask (1, X, Y, Z), or None without one.
        vmax: map value shown in full colour. Give one value for all studies of a run, so that their images can be
            compared; None = the largest value of this map.
        spacing: size of a pixel along x and y in mm; sets the proportions of the image.
        max_slices: largest number of slices to keep.
        sides: as in CaseView.

    Raises:
        NomalyError: the arrays have different grids.
    """
    image, reconstruction, values = as_array(image), as_array(reconstruction), as_array(anomaly_map)
    labels = np.zeros(values.shape, int) if regions is None else as_array(regions).round().astype(int)
    reference = np.zeros(values.shape, bool) if truth is None else as_array(truth) > 0
    _check_grids(values.shape, image=image, reconstruction=reconstruction, regions=labels, truth=reference)
    vmax = _largest(values) if vmax is None else float(vmax)
    strongest = strongest_slice(values * (labels > 0)) if labels.any() else strongest_slice(values)
    counts = [_counts(labels[..., z]) for z in range(values.shape[-1])]
    kept = _choose(strongest, counts, reference.sum((0, 1, 2)).tolist(), max_slices)
    slices = [_slice_view(z, image, reconstruction, values, labels, reference, vmax) for z in kept]
    width, height = values.shape[1] * spacing[0], values.shape[2] * spacing[1]
    base = to_rgb(as_plane("image", image[..., strongest]))
    layer = map_colours(as_plane("anomaly_map", values[..., strongest])[..., 0], vmax, palette_of(len(image)))
    return CaseView(
        size=(values.shape[1], values.shape[2]),
        ratio=width / height,
        depth=values.shape[-1],
        vmax=vmax,
        slices=tuple(slices),
        shown=kept.index(strongest),
        has_truth=bool(reference.any()),
        thumbnail=thumbnail(lay_over(base, layer), width / height),
        sides=sides,
        palette=palette_of(len(image)),
    )


def input_view(
    image: ArrayLike, spacing: Sequence[float] = (1.0, 1.0), max_slices: int = 8, sides: str = ""
) -> CaseView:
    """Make the view of a case that was not scored: only its image, slices from the middle to the ends.

    Args:
        image, spacing, sides: as in `case_view`.
        max_slices: largest number of slices to keep.
    """
    image = as_array(image)
    _, width, height, depth = image.shape
    middle = depth // 2
    kept = _choose(middle, [{}] * depth, [0] * depth, max_slices)
    planes = {z: to_rgb(as_plane("image", image[..., z])) for z in kept}
    ratio = width * spacing[0] / (height * spacing[1])
    return CaseView(
        size=(width, height),
        ratio=ratio,
        depth=depth,
        vmax=0.0,
        slices=tuple(SliceView(z, webp(plane, quality=_QUALITY), b"", b"", {}, None) for z, plane in planes.items()),
        shown=kept.index(middle),
        has_truth=False,
        thumbnail=thumbnail(planes[middle], ratio),
        sides=sides,
    )


def _check_grids(shape: tuple[int, ...], **arrays: NDArray) -> None:
    """Reject arrays that are not on the map's grid."""
    if len(shape) != 4:
        raise NomalyError(f"anomaly_map must be (1, X, Y, Z), got {shape}. For a 2-D image give Z = 1.")
    for name, array in arrays.items():
        if array.ndim != 4 or array.shape[1:] != shape[1:]:
            rule = f"{name} must have the grid of anomaly_map {shape[1:]}, got {array.shape[1:]}."
            raise NomalyError(f"{rule} Resample it to the map's grid first.")


def _largest(values: NDArray[np.float32]) -> float:
    """Largest finite value, above 0."""
    finite = values[np.isfinite(values)]
    return max(float(finite.max()) if finite.size else 0.0, 1e-8)


def _counts(labels: NDArray[np.int_]) -> dict[int, int]:
    """Pixels of each region in a slice."""
    numbers, counts = np.unique(labels[labels > 0], return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist()))


def _largest_at(counts: Sequence[Mapping[int, int]]) -> dict[int, int]:
    """Region number -> position of its largest slice, in the order of the numbers."""
    numbers = sorted({number for slice_counts in counts for number in slice_counts})
    return {n: max(range(len(counts)), key=lambda position: counts[position].get(n, 0)) for n in numbers}


def _choose(strongest: int, counts: Sequence[Mapping[int, int]], truth: Sequence[int], number: int) -> list[int]:
    """Positions of at most `number` slices, ascending: see `case_view` for their priority."""
    positions = range(len(counts))
    area = [sum(slice_counts.values()) for slice_counts in counts]
    order = [strongest, *_largest_at(counts).values()]
    for sizes in (area, truth):
        order += sorted((p for p in positions if sizes[p]), key=lambda p: -sizes[p])
    taken = list(dict.fromkeys(order))[:number]
    while len(taken) < min(number, len(counts)):
        # The slice farthest from all selected ones: fills the gaps evenly.
        taken.append(max((p for p in positions if p not in taken), key=lambda p: min(abs(p - t) for t in taken)))
    return sorted(taken)


def _slice_view(
    z: int,
    image: NDArray[np.float32],
    reconstruction: NDArray[np.float32],
    values: NDArray[np.float32],
    labels: NDArray[np.int_],
    truth: NDArray[np.bool_],
    vmax: float,
) -> SliceView:
    """Encode the layers of slice z."""
    base, healthy = (webp(to_rgb(as_plane("image", a[..., z])), quality=_QUALITY) for a in (image, reconstruction))
    overlay = webp(
        map_colours(as_plane("anomaly_map", values[..., z])[..., 0], vmax, palette_of(len(image))), lossless=True
    )
    plane, mask = labels[0, ..., z], truth[0, ..., z]
    outlines = {number: Outline(outline_path(plane == number), pixels) for number, pixels in _counts(plane).items()}
    reference = Outline(outline_path(mask), int(mask.sum())) if mask.any() else None
    return SliceView(z, base, healthy, overlay, outlines, reference)
