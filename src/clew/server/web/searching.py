"""What a search shows as a whole, as coordinates for SVG: history, importances, contour, front.

Knows experiments and scales, and nothing of HTML. Values that are no number are left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from msgspec import Struct

from clew.base.records import Experiment, ExperimentDetail, Importance, Trial
from clew.server.web.charts import (
    HEIGHT,
    WIDTH,
    Tick,
    axis_of,
    round_values,
    scaled,
    tones,
    value_range,
)
from clew.server.web.words import number

LEFT, RIGHT, TOP, BOTTOM = 64.0, 16.0, 16.0, 34.0
CELLS = (24, 16)
MOST_POINTS = 200
"""A contour is drawn through so many trials, spread evenly over all."""


class Dot(Struct, frozen=True, kw_only=True):
    """One trial: where, its tone from 0 (worst) to 4 (best), and what a pointer shows."""

    x: float
    y: float
    trial: int
    tone: int
    best: bool
    title: str


class Field(Struct, frozen=True, kw_only=True):
    """A rectangle of one tone."""

    x: float
    y: float
    width: float
    height: float
    tone: int


class Plot(Struct, frozen=True, kw_only=True):
    """Dots between two axes. ``line``: SVG points of what runs through them, '' for nothing."""

    x_name: str
    y_name: str
    dots: tuple[Dot, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    line: str = ""
    fields: tuple[Field, ...] = ()


class Bar(Struct, frozen=True, kw_only=True):
    """The share of a parameter: where its row is, how long its bar, what it says."""

    name: str
    y: float
    width: float
    text: str


def history(detail: ExperimentDetail) -> Plot | None:
    """Values by the number of the trial, and the best so far; None for fewer than two."""
    trials = _valued(detail.trials)
    if len(trials) < 2:
        return None
    values = sorted(float(one.value or 0.0) for one in trials)
    low, high = value_range(values, detail.experiment.mode)
    x = scaled(0, max(1, trials[-1].number), LEFT, WIDTH - RIGHT)
    y = scaled(low, high, HEIGHT - BOTTOM, TOP)
    better = max if detail.experiment.mode == "max" else min
    best: float | None = None
    line = []
    for one in trials:
        value = float(one.value or 0.0)
        if best is not None:
            line.append((x(one.number), y(best)))
        if not one.breaches:  # what is infeasible is the best of nothing
            best = value if best is None else better(best, value)
        if best is not None:
            line.append((x(one.number), y(best)))
    last = trials[-1].number
    marks = sorted({0, last, *range(0, last, max(1, math.ceil(last / 8)))})
    return Plot(
        x_name="trial",
        y_name=detail.experiment.metric,
        dots=_dots(detail, [(one, x(one.number), y(float(one.value or 0.0))) for one in trials]),
        x_ticks=tuple(Tick(at=x(one), text=str(one)) for one in marks),
        y_ticks=tuple(Tick(at=y(one), text=number(one)) for one in round_values(low, high)),
        line=" ".join(f"{a:.1f},{b:.1f}" for a, b in line),
    )


def bars(importances: Sequence[Importance]) -> tuple[Bar, ...]:
    """Shares of 1 as bars, the longest first, at most a dozen."""
    most = max((one.share for one in importances), default=0.0)
    if most <= 0:
        return ()
    room = WIDTH - 3 * LEFT - 60
    return tuple(
        Bar(
            name=one.parameter,
            y=14.0 + 26.0 * index,
            width=max(1.0, room * one.share / most),
            text=f"{one.share:.0%}",
        )
        for index, one in enumerate(importances[:12])
    )


def contour(detail: ExperimentDetail, importances: Sequence[Importance]) -> Plot | None:
    """The metric over the two parameters that matter most, between the trials that were there.

    The fields are means of the trials around, weighed by the inverse square of their distance.
    None where there are not two parameters, or fewer than four trials that have both.
    """
    names = [one.parameter for one in importances[:2]]
    if len(names) < 2:
        return None
    trials = [one for one in _valued(detail.trials) if all(n in one.params for n in names)]
    if len(trials) < 4:
        return None
    x_ticks, across = axis_of([one.params[names[0]] for one in trials], LEFT, WIDTH - RIGHT)
    y_ticks, down = axis_of([one.params[names[1]] for one in trials], HEIGHT - BOTTOM, TOP)
    known = list(zip(trials, across, down, strict=True))
    return Plot(
        x_name=names[0],
        y_name=names[1],
        dots=_dots(detail, known),
        x_ticks=x_ticks,
        y_ticks=y_ticks,
        fields=_fields(detail, known[:: max(1, len(known) // MOST_POINTS)]),
    )


def pareto(detail: ExperimentDetail) -> Plot | None:
    """The first two objectives of every whole trial, and the front as a line; None for one."""
    about = detail.experiment
    names = list(about.objectives)[:2]
    if len(names) < 2:
        return None
    latest = _latest(detail, names)
    trials = [one for one in detail.trials if one.id in latest and one.state == "done"]
    if not trials:
        return None
    sides = [[latest[one.id][side] for one in trials] for side in (0, 1)]
    (x_low, x_high), (y_low, y_high) = (_padded(side) for side in sides)
    x = scaled(x_low, x_high, LEFT, WIDTH - RIGHT)
    y = scaled(y_low, y_high, HEIGHT - BOTTOM, TOP)
    places = [(one, x(latest[one.id][0]), y(latest[one.id][1])) for one in trials]
    front = sorted((a, b) for one, a, b in places if one.id in about.front)
    return Plot(
        x_name=f"{names[0]} ({about.objectives[names[0]]})",
        y_name=f"{names[1]} ({about.objectives[names[1]]})",
        dots=_front_dots(about, places),
        x_ticks=tuple(Tick(at=x(one), text=number(one)) for one in round_values(x_low, x_high)),
        y_ticks=tuple(Tick(at=y(one), text=number(one)) for one in round_values(y_low, y_high)),
        line=" ".join(f"{a:.1f},{b:.1f}" for a, b in front),
    )


def _valued(trials: Sequence[Trial]) -> list[Trial]:
    return [one for one in trials if one.value is not None and math.isfinite(one.value)]


def _latest(detail: ExperimentDetail, names: Sequence[str]) -> dict[str, tuple[float, ...]]:
    """The last finite values of some metrics by trial, of those trials that have them all."""
    found: dict[str, dict[str, float]] = {}
    for point in detail.points:
        for name in names:
            if math.isfinite(point.metrics.get(name, math.nan)):
                found.setdefault(point.trial, {})[name] = point.metrics[name]
    return {
        trial: tuple(values[name] for name in names)
        for trial, values in found.items()
        if len(values) == len(names)
    }


def _dots(
    detail: ExperimentDetail, places: Sequence[tuple[Trial, float, float]]
) -> tuple[Dot, ...]:
    ranks = tones(detail)
    found = [
        Dot(
            x=round(x, 1),
            y=round(y, 1),
            trial=one.number,
            tone=ranks.get(one.id, 0),
            best=one.id == detail.experiment.best_trial,
            title=f"trial {one.number}: {number(one.value)} after {one.step}",
        )
        for one, x, y in places
    ]
    return tuple(sorted(found, key=lambda dot: (dot.best, dot.tone)))


def _front_dots(about: Experiment, places: Sequence[tuple[Trial, float, float]]) -> tuple[Dot, ...]:
    return tuple(
        Dot(
            x=round(x, 1),
            y=round(y, 1),
            trial=one.number,
            tone=4 if one.id in about.front else 1,
            best=one.id == about.best_trial,
            title=f"trial {one.number}{' on the front' if one.id in about.front else ''}",
        )
        for one, x, y in places
    )


def _fields(
    detail: ExperimentDetail, known: Sequence[tuple[Trial, float, float]]
) -> tuple[Field, ...]:
    wide, high = (WIDTH - RIGHT - LEFT) / CELLS[0], (HEIGHT - BOTTOM - TOP) / CELLS[1]
    ranks = tones(detail)
    points = [(x, y, ranks[one.id]) for one, x, y in known]
    found = []
    for column in range(CELLS[0]):
        for row in range(CELLS[1]):
            left, top = LEFT + column * wide, TOP + row * high
            middle = (left + wide / 2, top + high / 2)
            near = [
                (1 / (1.0 + (x - middle[0]) ** 2 + (y - middle[1]) ** 2), tone)
                for x, y, tone in points
            ]
            mean = sum(w * tone for w, tone in near) / sum(w for w, _ in near)
            found.append(
                Field(
                    x=round(left, 2), y=round(top, 2), width=round(wide, 2),
                    height=round(high, 2), tone=round(mean),
                )
            )  # fmt: skip
    return tuple(found)


def _padded(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    pad = (high - low) * 0.06 or abs(high) * 0.05 or 0.5
    return low - pad, high + pad
