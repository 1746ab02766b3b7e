"""The page of a trial: its curves, what it used of the machine, and the files that it logged.

Thin over the verbs; knows scales and SVG coordinates, and nothing of how trials run.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import msgspec
from fastapi import APIRouter
from fastapi.responses import Response

from clew.base.records.trials import TrialDetail, TrialFile
from clew.server.web.evidence import Table
from clew.server.web.preview import preview
from clew.server.web.show import Page, Shown
from clew.server.web.words import number

router = APIRouter(include_in_schema=False)

WIDTH, HEIGHT = 360, 140
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 8, 8, 22
_READ_BYTES = 4 << 20
_FILES = 60


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """One value over steps or seconds: SVG points in 360 x 140, the least, most and last value."""

    name: str
    points: str
    low: str
    high: str
    last: str
    x_from: str
    x_to: str


class Exhibit(msgspec.Struct, frozen=True, kw_only=True):
    """A logged file, and what of it a page shows."""

    file: TrialFile
    image: bool
    text: str = ""
    table: Table | None = None
    rows: int | None = None


@router.get("/trials/{trial_id}")
def trial(page: Shown, trial_id: str) -> Response:
    """A trial: parameters, curves, machine, files, log."""
    detail = page.verbs.trial(trial_id)
    return page.show(
        "trial.html",
        detail=detail,
        trial=detail.trial,
        curves=_curves(detail),
        usage=_usage(detail),
        exhibits=[_exhibit(page, file) for file in detail.files[:_FILES]],
        hidden=max(0, len(detail.files) - _FILES),
    )


def _curves(detail: TrialDetail) -> list[Chart]:
    lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for point in detail.points:
        for name, value in point.metrics.items():
            lines[name].append((float(point.step), value))
    return _charts(sorted(lines.items()))


def _usage(detail: TrialDetail) -> list[Chart]:
    lines: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for sample in detail.usage:
        at = (sample.at - detail.usage[0].at).total_seconds()
        for name, value in sample.values.items():
            lines[name].append((at, value))
    return _charts(sorted(lines.items()))


def _charts(lines: Iterable[tuple[str, Sequence[tuple[float, float]]]]) -> list[Chart]:
    found = ((name, [p for p in points if math.isfinite(p[1])]) for name, points in lines)
    return [_chart(name, points) for name, points in found if points]


def _chart(name: str, points: Sequence[tuple[float, float]]) -> Chart:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    x = _scale(min(xs), max(xs), _LEFT, WIDTH - _RIGHT)
    y = _scale(min(ys), max(ys), HEIGHT - _BOTTOM, _TOP)
    places = [f"{x(a):.1f},{y(b):.1f}" for a, b in points]
    if len(places) == 1:
        places.append(f"{WIDTH - _RIGHT},{y(ys[0]):.1f}")
    return Chart(
        name=name,
        points=" ".join(places),
        low=number(min(ys)),
        high=number(max(ys)),
        last=number(ys[-1]),
        x_from=number(min(xs)),
        x_to=number(max(xs)),
    )


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = high - low
    return lambda value: start + ((value - low) / span if span else 0.5) * (end - start)


def _exhibit(page: Page, file: TrialFile) -> Exhibit:
    if file.path.endswith((".png", ".jpg", ".jpeg", ".gif", ".webp")):
        return Exhibit(file=file, image=True)
    if file.kind not in {"text", "table"} or file.size_bytes > _READ_BYTES:
        return Exhibit(file=file, image=False)
    seen = preview(file.path, page.verbs.trial_file(file.trial, file.path))
    return Exhibit(file=file, image=False, text=seen.text, table=seen.table, rows=seen.rows)
