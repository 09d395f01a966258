"""The report of a run: one self-contained HTML file that opens anywhere, offline, and stays a file."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import math
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

from custom.calibration.conformal import minimum_n
from custom.reporting.files import atomic_write
from custom.reporting.pictures import THUMBNAIL_KEY
from custom.reporting.plots import histogram_svg, roc_svg
from custom.reporting.results import StudyResult

RESEARCH_NOTE = "Research software, not a medical device."
_LOSSLESS_BUDGET = 20_000_000  # bytes of pictures; past it they are re-encoded, so that a report can still be mailed
_THUMBNAIL_SIDE = 112  # twice the shown size, for dense screens
_UNITS = {"ml": "ml", "mm2": "mm²", "px": "px"}
_DECISIONS = {"flag": "Flagged", "normal": "Not flagged", None: "Not calibrated"}

logger = logging.getLogger(__name__)


def write_report(
    path: str | os.PathLike[str],
    title: str,
    notes: Sequence[str],
    run: Mapping[str, Any],
    studies: Sequence[StudyResult],
    pictures: Mapping[str, bytes],
    evaluation: Mapping[str, Any] | None = None,
    *,
    alpha: float | None = None,
    healthy_scores: Sequence[float] | None = None,
) -> None:
    """Write report.html: summary, banners, key figures (if evaluated), worklist with case views, provenance.

    Args:
        path: where to write; replaced atomically.
        title: heading of the report.
        notes: each becomes a loud banner; that this is research software is always said.
        run: what made the report, as `write_run_info` returns it; shown as it is, nested mappings as lists.
        studies: the results, in any order.
        pictures: PNG bytes by study id, as `slice_picture` draws them; a study may lack one.
        evaluation: the dictionary of `custom.metrics.evaluation`, if the truth is known.
        alpha: false-alarm rate of the decisions; None takes the evaluation's.
        healthy_scores: scores of the healthy calibration studies; give the summary its n and the histogram its ground.

    Raises:
        NomalyError: the file cannot be written.
    """
    alpha = alpha if alpha is not None or evaluation is None else evaluation.get("alpha")
    healthy = [float(score) for score in healthy_scores] if healthy_scores is not None else []
    cases = _cases(sorted(studies, key=worklist_key), pictures, evaluation)
    html = (
        _environment()
        .get_template("report.html.jinja")
        .render(
            title=title,
            summary=summary_sentences(studies, alpha, len(healthy)),
            banners=[*dict.fromkeys([*notes, *_calibration_notes(alpha, len(healthy)), RESEARCH_NOTE])],
            cases=cases,
            tally={key: sum(case["state"] == key for case in cases) for key in ("flag", "normal", "none", "failed")},
            evaluation=evaluation,
            verdicts=verdicts(evaluation) if evaluation else [],
            alpha=alpha,
            plots=_plots(studies, evaluation, healthy, alpha),
            run=run,
            script_hash=_script_hash(),
        )
    )
    with atomic_write(path, "w") as stream:
        stream.write(html)


def worklist_key(result: StudyResult) -> tuple[Any, ...]:
    """Sort key of the worklist: smallest p-value first, then largest score; failed studies last, then by name."""
    p_value = math.inf if result.p_value is None else result.p_value
    score = -math.inf if result.score is None else result.score
    return result.status == "failed", p_value, -score, result.study


def summary_sentences(studies: Sequence[StudyResult], alpha: float | None, n_healthy: int) -> list[str]:
    """The findings of a run in one sentence, followed by what chance alone would do and by what failed."""
    done = [study for study in studies if study.status == "ok"]
    failed = len(studies) - len(done)
    decided = [study for study in done if study.decision is not None]
    sentences = [f"{_count(len(done), 'study', 'studies')} scored; not calibrated, so none can be flagged."]
    if decided:
        flagged = sum(study.decision == "flag" for study in decided)
        level = "" if alpha is None else f" at alpha = {alpha:g}"
        sentences = [f"{flagged} of {_count(len(decided), 'study', 'studies')} flagged{level}"]
        if alpha is not None and n_healthy:
            like = "the one calibration study" if n_healthy == 1 else f"the {n_healthy} calibration ones"
            sentences[0] += f"; P(false alarm) ≤ {100 * alpha:.3g} % for a healthy study like {like}"
        sentences[0] += "."
        if alpha is not None:
            sentences.append(
                f"Were all {len(decided)} healthy, up to {alpha * len(decided):.2g} flags would be expected by chance."
            )
    if failed:
        sentences.append(f"{_count(failed, 'study', 'studies')} could not be read or scored; see the end of the list.")
    return sentences


def verdicts(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Say plainly whether the method beats the best floor, per image and per pixel.

    It "beats" a floor only if the low end of its confidence interval lies over the floor's value (over the high end
    of the floor's interval, where there is one): strict, as it takes no credit from the two being paired.

    Returns:
        A list of {"beats": bool, "text": str}; a comparison that cannot be made is left out.
    """
    floors = evaluation.get("floors") or {}
    image = [(name, floor.get("auroc") or {}) for name, floor in floors.items()]
    pixel = [(name, {"value": floor.get("pixel_ap")}) for name, floor in floors.items()]
    pairs = [
        ("Per study (AUROC)", (evaluation.get("image") or {}).get("auroc"), image),
        ("Per pixel (average precision)", (evaluation.get("pixel") or {}).get("ap"), pixel),
    ]
    return [verdict for verdict in (_verdict(*pair) for pair in pairs) if verdict]


def _verdict(
    what: str, method: Mapping[str, Any] | None, floors: list[tuple[str, Mapping[str, Any]]]
) -> dict[str, Any] | None:
    """One comparison of `verdicts`; None where it cannot be made."""
    floors = [(name, stat) for name, stat in floors if stat.get("value") is not None]
    if not floors or not method or method.get("value") is None:
        return None
    name, best = max(floors, key=lambda floor: floor[1]["value"])
    bar = best.get("high") if best.get("high") is not None else best["value"]
    low = method.get("low")
    numbers = f"{method['value']:.2f} against {best['value']:.2f} for the best floor, {_words(name)}"
    if method["value"] <= best["value"]:
        return {"beats": False, "text": f"{what}: the method does not beat the floors: {numbers}."}
    if low is None or low <= bar:
        return {
            "beats": False,
            "text": f"{what}: ahead, but not shown to be better: {numbers}, within the uncertainty.",
        }
    return {"beats": True, "text": f"{what}: the method beats every floor: {numbers}."}


def _calibration_notes(alpha: float | None, n_healthy: int) -> list[str]:
    """Warn where the smallest possible p-value, 1 / (n + 1), is over alpha: then nothing can ever be flagged."""
    if alpha is None or not n_healthy or 1 / (n_healthy + 1) <= alpha:
        return []
    return [
        f"Too few healthy calibration studies: with {n_healthy}, no study can be flagged at alpha = {alpha:g}. "
        f"At least {minimum_n(alpha)} are needed."
    ]


def _cases(
    studies: Sequence[StudyResult], pictures: Mapping[str, bytes], evaluation: Mapping[str, Any] | None
) -> list[dict[str, Any]]:
    """What the worklist shows of each study, with its pictures as data URIs."""
    truths = {row["case"]: row for row in (evaluation or {}).get("scores") or []}
    lossless = sum(map(len, pictures.values())) <= _LOSSLESS_BUDGET
    decimals = _decimals([study.score for study in studies if study.score is not None])
    cases = []
    for study in studies:
        truth, png = truths.get(study.study), pictures.get(study.study)
        cases.append(
            {
                "result": study,
                "state": "failed" if study.status == "failed" else study.decision or "none",
                "decision": "Failed" if study.status == "failed" else _DECISIONS[study.decision],
                "truth": None if truth is None else _truth(truth),
                "picture": None if png is None else _data_uri(png) if lossless else _webp_uri(png),
                "thumbnail": None if png is None else _thumbnail_uri(png),
                "score": "–" if study.score is None else f"{study.score:.{decimals}f}",
                "unit": _UNITS.get(study.lesion_unit or "", ""),
            }
        )
    return cases


def _truth(row: Mapping[str, Any]) -> str:
    return "Healthy" if not row["label"] else _words(row.get("group") or "abnormal").capitalize()


def _plots(
    studies: Sequence[StudyResult], evaluation: Mapping[str, Any] | None, healthy: list[float], alpha: float | None
) -> dict[str, Markup]:
    """Inline SVG by name; the texts in it are ours or escaped by `plots`."""
    threshold = _score_threshold(healthy, alpha)
    lanes = [("Healthy, for calibration", "calibration", healthy)]
    if not evaluation:
        lanes.append(("Studies of this run", "studies", [s.score for s in studies if s.score is not None]))
        return {"histogram": Markup(histogram_svg(lanes, threshold) if healthy else "")}
    rows = [row for row in evaluation.get("scores") or [] if row.get("score") is not None]
    for name, role, label in (("Healthy, for test", "healthy", 0), ("Abnormal, for test", "abnormal", 1)):
        lanes.append((name, role, [row["score"] for row in rows if bool(row["label"]) == bool(label)]))
    rates = [(evaluation.get(key) or {}).get("value") for key in ("false_alarm_rate", "sensitivity")]
    point = None if None in rates else (rates[0], rates[1])
    curve = roc_svg([int(bool(row["label"])) for row in rows], [row["score"] for row in rows], point)
    return {"roc": Markup(curve), "histogram": Markup(histogram_svg(lanes, threshold))}


def _score_threshold(healthy: list[float], alpha: float | None) -> float | None:
    """Score that a study must exceed to be flagged: p <= alpha means at most alpha (n + 1) - 1 healthy scores >= s."""
    if alpha is None or not healthy:
        return None
    allowed = math.floor(alpha * (len(healthy) + 1) + 1e-9) - 1
    return sorted(healthy, reverse=True)[allowed] if 0 <= allowed < len(healthy) else None


def _data_uri(content: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


def _webp_uri(png: bytes) -> str:
    stream = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(stream, "WEBP", quality=82, method=1)
    return _data_uri(stream.getvalue(), "webp")


def _thumbnail_uri(png: bytes) -> str:
    """The map panel, whose box `slice_picture` notes in the PNG; of another picture, all of it."""
    picture = Image.open(io.BytesIO(png))
    picture.load()
    box = getattr(picture, "text", {}).get(THUMBNAIL_KEY)
    if box is not None:
        picture = picture.crop(tuple(int(side) for side in box.split(",")))
    picture = picture.convert("RGB")
    picture.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    stream = io.BytesIO()
    picture.save(stream, "WEBP", quality=80, method=1)
    return _data_uri(stream.getvalue(), "webp")


def _decimals(scores: Sequence[float]) -> int:
    """Decimals that give the largest score four significant digits, so that a column of scores lines up."""
    largest = max((abs(score) for score in scores), default=0.0)
    return max(0, 3 - math.floor(math.log10(largest))) if largest > 0 else 1


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _words(name: str) -> str:
    return str(name).replace("_", " ")


def _number(value: float | None) -> str:
    """A size to two decimals, longer only where it would read as nothing; an en dash where there is none."""
    if value is None:
        return "–"
    return f"{value:.2f}" if value == 0 or abs(value) >= 0.01 else f"{value:.1e}"


def _p_value(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" if value >= 0.001 else f"{value:.1e}"


@lru_cache(maxsize=1)
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, p_value=_p_value, words=_words)
    return environment


def _script_hash() -> str:
    """Lets the page's security policy admit this one script, and so no other, whatever a study's name may hold."""
    script = _environment().get_template("report.js.jinja").render()
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
