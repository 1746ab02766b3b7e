"""What is kept of a model, as coordinates for SVG: curves, importances, distributions, the card.

Knows the records and scales, and nothing of HTML. Values that are no number are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from msgspec import Struct

from clew.base.records.cards import NineThings
from clew.base.records.reports import EvaluationReport, Importances, Weight
from clew.base.records.run_cards import LoggedField
from clew.server.web.charts import Tick, round_values, scaled
from clew.server.web.searching import Bar
from clew.server.web.show import Page, Shown
from clew.server.web.words import number

router = APIRouter(include_in_schema=False)

WIDTH, HEIGHT = 360, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 14, 26, 40
_BARS = 12
_SPARK = (120.0, 24.0)
_LINES = 10

_CURVES = (
    ("ROC", "roc", "roc_by_class", ("false_positive_rate", "true_positive_rate"), "rising"),
    ("Precision and recall", "precision_recall", "pr_by_class", ("recall", "precision"), ""),
    ("Calibration", "calibration", "calibration_by_class", ("mean", "share"), "rising"),
    ("Positives caught", "lift", "", ("share", "caught"), "rising"),
)
"""Name, chart, chart by class, axes, and whether a diagonal says what nothing is worth."""

Points = Sequence[tuple[float, float]]


class Stroke(Struct, frozen=True, kw_only=True):
    """A line of a panel: SVG points, a tone from 0 to 4, its name."""

    points: str
    tone: int
    name: str


class Panel(Struct, frozen=True, kw_only=True):
    """A chart of 360 x 260. ``diagonal``: SVG points of a model that is perfect, or idle."""

    name: str
    says: str
    x_name: str
    y_name: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Stroke, ...] = ()
    dots: tuple[tuple[float, float], ...] = ()
    columns: tuple[tuple[float, float, float, float], ...] = ()
    """x, y, width and height of the bars of a histogram."""
    diagonal: str = ""


class Matrix(Struct, frozen=True, kw_only=True):
    """A confusion matrix; ``tones`` from 0 to 4 by the share of a row."""

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    tones: tuple[tuple[int, ...], ...]


class Spread(Struct, frozen=True, kw_only=True):
    """A column of the training rows: what it holds, and its histogram as SVG bars in 120 x 24."""

    name: str
    kind: str
    missing: int
    distinct: object
    told: str
    bars: tuple[tuple[float, float, float, float], ...]


def panels(things: NineThings, report: EvaluationReport | None = None) -> list[Panel]:
    """The standard charts that there are: those of the report, where there is one."""
    charts = {**things.charts, **(report.charts if report else {})}
    return [one for one in _panels(charts, report.champion_charts if report else {}) if one]


def _panels(charts: Mapping[str, Any], champion: Mapping[str, Any]) -> Iterator[Panel | None]:
    for name, one, several, axes, diagonal in _CURVES:
        found = dict(charts.get(several) or {})
        mine, theirs = charts.get(one), champion.get(one)
        if mine and theirs and not found:
            found = {"champion": theirs, "this version": mine}
        yield _unit(name, mine, found, axes, diagonal)
    yield _residuals(charts.get("residuals"))
    yield _predicted(charts.get("predicted"))
    for name, points in (charts.get("learning") or {}).items():
        yield _curve(name, points)


def _unit(
    name: str,
    one: Mapping[str, Any] | None,
    several: Mapping[str, Any] | None,
    axes: tuple[str, str],
    diagonal: str,
) -> Panel | None:
    """Curves between 0 and 1."""
    found = dict(several or {}) or ({"": one} if one else {})
    x, y = scaled(0, 1, _LEFT, WIDTH - _RIGHT), scaled(0, 1, HEIGHT - _BOTTOM, _TOP)
    lines = []
    for index, (label, curve) in enumerate(list(found.items())[:_LINES]):
        points = list(zip(curve[axes[0]], curve[axes[1]], strict=True))
        tone = 4 if len(found) == 1 else index % 5
        lines.append(Stroke(points=_line([(x(a), y(b)) for a, b in points]), tone=tone, name=label))
    if not lines:
        return None
    ticks = (0.0, 0.5, 1.0)
    return Panel(
        name=name,
        says="; ".join(line.name for line in lines if line.name),
        x_name=axes[0].replace("_", " "),
        y_name=axes[1].replace("_", " "),
        x_ticks=tuple(Tick(at=x(v), text=number(v)) for v in ticks),
        y_ticks=tuple(Tick(at=y(v), text=number(v)) for v in ticks),
        lines=tuple(lines),
        diagonal=_line([(x(0), y(0)), (x(1), y(1))]) if diagonal else "",
    )


def _residuals(found: Mapping[str, Any] | None) -> Panel | None:
    if not found or len(found["edges"]) < 2:
        return None
    edges, counts = found["edges"], found["counts"]
    x = scaled(edges[0], edges[-1], _LEFT, WIDTH - _RIGHT)
    y = scaled(0, max(counts) or 1, HEIGHT - _BOTTOM, _TOP)
    marks = round_values(edges[0], edges[-1]) if edges[-1] > edges[0] else [edges[0]]
    return Panel(
        name="Residuals",
        says="Truth minus prediction.",
        x_name="residual",
        y_name="rows",
        x_ticks=tuple(Tick(at=x(v), text=number(v)) for v in marks[:6]),
        y_ticks=tuple(Tick(at=y(v), text=number(v)) for v in (0, max(counts))),
        columns=tuple(
            (round(x(a), 1), round(y(n), 1), round(max(0.5, x(b) - x(a) - 0.5), 1),
             round(HEIGHT - _BOTTOM - y(n), 1))
            for a, b, n in zip(edges, edges[1:], counts, strict=False)
        ),
    )  # fmt: skip


def _predicted(found: Mapping[str, Any] | None) -> Panel | None:
    if not found or not found["truth"]:
        return None
    both = [*found["truth"], *found["predicted"]]
    low, high = _padded(both)
    x, y = scaled(low, high, _LEFT, WIDTH - _RIGHT), scaled(low, high, HEIGHT - _BOTTOM, _TOP)
    ticks = round_values(low, high)
    pairs = zip(found["truth"], found["predicted"], strict=True)
    return Panel(
        name="Predicted",
        says="Each dot is a test row; on the line it is right.",
        x_name="truth",
        y_name="predicted",
        x_ticks=tuple(Tick(at=x(v), text=number(v)) for v in ticks),
        y_ticks=tuple(Tick(at=y(v), text=number(v)) for v in ticks),
        dots=tuple((round(x(a), 1), round(y(b), 1)) for a, b in pairs),
        diagonal=_line([(x(low), y(low)), (x(high), y(high))]),
    )


def _curve(name: str, points: Points) -> Panel | None:
    """A metric over the steps of the trial."""
    known = [(float(a), float(b)) for a, b in points if b is not None and math.isfinite(b)]
    if len(known) < 2:
        return None
    low, high = _padded([value for _, value in known])
    x = scaled(known[0][0], known[-1][0], _LEFT, WIDTH - _RIGHT)
    y = scaled(low, high, HEIGHT - _BOTTOM, _TOP)
    marks = sorted({known[0][0], known[len(known) // 2][0], known[-1][0]})
    return Panel(
        name=f"Learning: {name}",
        says="As the trial reported it.",
        x_name="step",
        y_name=name,
        x_ticks=tuple(Tick(at=x(v), text=number(int(v))) for v in marks),
        y_ticks=tuple(Tick(at=y(v), text=number(v)) for v in round_values(low, high)),
        lines=(Stroke(points=_line([(x(a), y(b)) for a, b in known]), tone=4, name=""),),
    )


def matrix(things: NineThings, report: EvaluationReport | None = None) -> Matrix | None:
    """The confusion matrix; None of a regression, and of more classes than a page has room for."""
    charts = {**things.charts, **(report.charts if report else {})}
    found = charts.get("confusion")
    if not found or len(found["classes"]) > 25:
        return None
    counts = tuple(tuple(row) for row in found["counts"])
    tones = tuple(tuple(round(4 * one / max(1, sum(row))) for one in row) for row in counts)
    return Matrix(classes=tuple(found["classes"]), counts=counts, tones=tones)


def weights(found: Importances) -> dict[str, tuple[Bar, ...]]:
    """Bars of importances: shuffled, and the model's own."""
    drawn = {
        f"How much worse {found.metric} gets where the column is shuffled "
        f"({found.rows:,} test rows, {found.repeats} times)": found.permuted,
        f"What the model itself says: {found.own_kind}": found.own,
    }
    return {says: _bars(some) for says, some in drawn.items() if _bars(some)}


def _bars(some: Sequence[Weight]) -> tuple[Bar, ...]:
    most = max((one.value for one in some), default=0.0)
    if most <= 0:
        return ()
    return tuple(
        Bar(
            name=one.feature if len(one.feature) < 26 else f"{one.feature[:24]}…",
            y=8.0 + 22.0 * index,
            width=max(1.0, 200.0 * max(0.0, one.value) / most),
            text=number(one.value) + (f" ± {number(one.spread)}" if one.spread else ""),
        )
        for index, one in enumerate(some[:_BARS])
    )


def spreads(features: Mapping[str, Any]) -> list[Spread]:
    """The columns of the training rows with their distributions."""
    return [_spread(name, column) for name, column in list(features.items())[:60]]


def _spread(name: str, column: Mapping[str, Any]) -> Spread:
    counts = column.get("counts") or [count for _, count in column.get("top", [])]
    if "top" in column:
        told = ", ".join(f"{value} ({count:,})" for value, count in column["top"][:3])
    elif column.get("mean") is not None:
        mean, std, low, high = (number(column.get(one)) for one in ("mean", "std", "min", "max"))
        told = f"{mean} ± {std}, from {low} to {high}"
    else:
        told = ""
    return Spread(
        name=name,
        kind=str(column.get("type", "")),
        missing=int(column.get("nulls", 0)),
        distinct=column.get("distinct"),
        told=told,
        bars=_histogram(column, counts),
    )


def _histogram(column: Mapping[str, Any], counts: Sequence[int]) -> tuple[Any, ...]:
    """Bars whose areas are counts where the bins have widths, else whose heights are."""
    edges = column.get("edges")
    bounds = [column.get("min"), *(edges or ()), column.get("max")]
    plain = not edges or any(b is None or not math.isfinite(b) for b in bounds) or (
        bounds[-1] <= bounds[0]
    )  # fmt: skip
    if plain:
        bounds = list(range(len(counts) + 1))
    widths = [max(b - a, 1e-12) for a, b in pairwise(bounds)]
    least = (bounds[-1] - bounds[0]) / 200 or 1.0
    heights = [n / max(w, least) for n, w in zip(counts, widths, strict=False)]
    most = max(heights, default=0.0)
    if not most:
        return ()
    x = scaled(bounds[0], bounds[-1], 0.0, _SPARK[0])
    return tuple(
        (round(x(a), 1), round(_SPARK[1] * (1 - h / most), 1),
         round(max(1.0, x(a + w) - x(a) - 0.4), 1), round(max(0.5, _SPARK[1] * h / most), 1))
        for a, w, h in zip(bounds, widths, heights, strict=False)
    )  # fmt: skip


def shown(things: NineThings, report: EvaluationReport | None = None) -> dict[str, Any]:
    """All that a template draws of a model; charts are of the report, where there is one."""
    return {
        "things": things,
        "report": report,
        "panels": panels(things, report),
        "matrix": matrix(things, report),
        "weights": weights(things.importances),
        "spreads": spreads(things.features),
        "more_columns": max(0, len(things.features) - 60),
    }


@router.get("/cards/{ref:path}")
def card(page: Shown, ref: str) -> Response:
    """The card of a model version: what people say of it, beside what is known."""
    if ref.startswith(("runs:/", "models:/")):
        return _run_card(page, ref)
    return _card(page, ref)


def _run_card(page: Page, subject: str) -> Response:
    """The card of a run or registered version of an MLflow client."""
    found = page.verbs.run_card(subject)
    logged = found.logged
    return page.show(
        "run_card.html",
        card=found,
        datasets=[
            (one.name, one.context, one.rows, one.digest, one.source or one.source_type)
            for one in found.datasets
        ],
        inputs=[(one.name, one.type, _may(one)) for one in logged.inputs] if logged else [],
        outputs=[(one.name, one.type, _may(one)) for one in logged.outputs] if logged else [],
        tags=list({**found.tags, **found.version_tags}.items()),
    )


def _may(one: LoggedField) -> str:
    return "" if one.required else "optional"


def _card(page: Page, ref: str) -> Response:
    found = page.verbs.card(ref)
    names = sorted(
        {*found.things.metrics.test, *found.things.metrics.train, *found.version.metrics}
    )
    return page.show(
        "card.html",
        card=found,
        version=found.version,
        metrics=names,
        sections=_sections(found.text),
        **shown(found.things, found.report),
    )


_TITLES = {
    "intended_use": "Intended use",
    "out_of_scope": "Out of scope",
    "factors": "Factors",
    "limits": "Limits",
    "ethics": "Ethical considerations",
    "recommendations": "Recommendations",
}


def _sections(text: object) -> list[tuple[str, str, str]]:
    """Name, title and words of each section that people write."""
    return [(name, title, str(getattr(text, name))) for name, title in _TITLES.items()]


def _line(points: Points) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in points)


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = (high - low) * 0.06 or abs(high) * 0.05 or 0.5
    return low - pad, high + pad
