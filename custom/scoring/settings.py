"""What makes scores comparable: the settings of score, map, normalisation, code and ensemble.

A calibration stores them as a small dictionary, and a study is compared with the healthy studies only if both were
scored with the same settings. Each part returns its own from ``settings()``, under names that do not change when
classes or arguments are renamed. An argument that is added later is omitted while it has its default value, so that
earlier calibrations stay valid.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import nn

from custom.errors import NomalyError

VERSION = 1  # of the dictionary; version 0, of earlier releases, was two numbers: a mode and a checksum
EARLIER_MODES = ("top_q", "mean", "max", "ms_ssim")


@runtime_checkable
class HasSettings(Protocol):
    """A score, map, normalisation or ensemble that scores depend on."""

    def settings(self) -> dict[str, Any]:
        """Plain values of the settings that scores depend on."""


@dataclass(frozen=True)
class ScoringSettings:
    """The settings of one detector and score.

    Attributes:
        parts: "score", "map", "normalisation", "code", "patches", "ensemble" -> its settings, without the parts
            that the detector lacks.
        masks: visible patches of each mask of the ensemble, which the checksum of version 0 includes.
    """

    parts: Mapping[str, Mapping[str, Any]]
    masks: list[list[int]] | None = None

    def stored(self) -> dict[str, Any]:
        """What a calibration stores, as plain JSON values."""
        return {"version": VERSION, **json.loads(json.dumps(self.parts))}

    def differences(self, stored: Mapping[str, Any]) -> list[str]:
        """The fields in which a calibration's settings differ from these, each with both values; empty if all agree."""
        version = stored.get("version")
        if version == 0:
            if (mode := self.parts["score"]["mode"]) not in EARLIER_MODES:
                return [f"score.mode: one of an earlier release at calibration, {json.dumps(mode)} now"]
            if "normalisation" in self.parts or "code" in self.parts:
                return ["normalisation and code: none or those of an earlier release at calibration"]
            same = list(stored["checksum"]) == list(self.checksum())
            return [] if same else ["unknown which, since the calibration is from an earlier release"]
        if version != VERSION:
            return [f"the calibration has settings of version {version}, this release reads version {VERSION}"]
        then, now = (dict(flat(settings)) for settings in (stored, self.stored()))
        names = [name for name in {**then, **now} if then.get(name) != now.get(name)]
        return [f"{name}: {_text(then, name)} at calibration, {_text(now, name)} now" for name in names]

    def checksum(self) -> tuple[float, float]:
        """What releases before version 1 stored of the same settings: mode of the score, and the CRC-32 of a listing.

        The mode must be one of EARLIER_MODES. For LPIPS maps that listing included the package's layer names, which is
        not reproduced here.
        """
        score, similarity = self.parts["score"], self.parts["score"].get("similarity")
        detail = float(score.get("q") or 0)
        if similarity is not None:
            keys = ("window", "weights", "sigma", "l1_weight")
            detail = float(zlib.crc32(repr(tuple(similarity[key] for key in keys)).encode()))
        listing = _earlier_map(self.parts.get("map"))
        number = zlib.crc32(repr((detail, listing, self.masks)).encode())
        return float(EARLIER_MODES.index(score["mode"])), float(number)


def scoring_settings(score: HasSettings, network: nn.Module) -> ScoringSettings:
    """Settings of a StudyScore and of a detector's map, normalisation and ensemble.

    Raises:
        NomalyError: if a part has no ``settings()``.
    """
    reconstructor = getattr(network, "reconstructor", None)
    ensemble = getattr(reconstructor, "ensemble", None)
    found = {
        "score": score,
        "map": getattr(network, "map_head", None),
        "normalisation": getattr(network, "normalisation", None),
        "code": getattr(network, "code_distance", None),
        "patches": getattr(network, "patch_distance", None),
        "ensemble": None if ensemble is None else reconstructor,
    }
    parts = {name: _stated(name, part) for name, part in found.items() if part is not None}
    return ScoringSettings(parts, None if ensemble is None else ensemble.tolist())


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of all fields, named "part.field"."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _stated(name: str, part: object) -> dict[str, Any]:
    """Settings that a part returns."""
    if not isinstance(part, HasSettings):
        raise NomalyError(
            f"the {name} must list the settings that scores depend on, but {type(part).__name__} has no settings(): "
            "add a method settings() that returns a dictionary of plain values."
        )
    return part.settings()


def _text(settings: Mapping[str, Any], name: str) -> str:
    """A value as text."""
    return json.dumps(settings[name]) if name in settings else "none"


def _earlier_map(settings: Mapping[str, Any] | None) -> list[list[tuple[str, Any]]]:
    """Listing of a map: its own values, then those of the modules in it."""
    if settings is None:
        return []
    if settings["kind"] == "ahe_perceptual":
        keys = ("clip_limit", "kernel_size", "perceptual_clahe", "perceptual_power", "perceptual_raw", "residual")
        return [_present(settings, keys), _present(settings, ("levels",)), _present(settings, ("sigma",))]
    return [_present(settings, ("l1_weight", "sigma", "weights", "window"))]


def _present(settings: Mapping[str, Any], keys: tuple[str, ...]) -> list[tuple[str, Any]]:
    """Pairs of the keys that are set."""
    return [(key, settings[key]) for key in keys if settings.get(key) is not None]
