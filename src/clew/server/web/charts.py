"""Curves of trials and their parameters, as coordinates for SVG.

Knows experiments and scales, and nothing of HTML. Values that are no number are left out.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

from msgspec import Struct
from msgspec.structs import replace

from clew.base.records import ExperimentDetail, Trial
from clew.server.web.words import number

WIDTH, HEIGHT = 760, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 16, 34
_TONES = 5


class Tick(Struct, frozen=True, kw_only=True):
    """A mark on an axis: where, and what it says."""

    at: float
    text: str


class Line(Struct, frozen=True, kw_only=True):
    """One trial: SVG points, a tone from 0 (worst) to 4 (best), what a pointer shows."""

    points: str
    trial: int
    tone: int
    best: bool
    title: str
    end: tuple[float, float]


class Curves(Struct, frozen=True, kw_only=True):
    """Metric over resource, one line a trial; ``rungs`` are where trials were compared."""

    metric: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    rungs: tuple[Tick, ...]


class Axis(Struct, frozen=True, kw_only=True):
    """An axis of the parallel coordinates: where, its name, and its marks."""

    at: float
    name: str
    ticks: tuple[Tick, ...]


class Parallel(Struct, frozen=True, kw_only=True):
    """Parameters side by side, one line a trial through its values."""

    axes: tuple[Axis, ...]
    lines: tuple[Line, ...]


class _Scale(Struct, frozen=True, kw_only=True):
    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, value = (
            (math.log10(v) for v in (self.low, self.high, value)) if self.log
            else (self.low, self.high, value)
        )  # fmt: skip
        share = 0.5 if high == low else (value - low) / (high - low)
        return self.start + min(1.0, max(0.0, share)) * (self.end - self.start)


def curves(detail: ExperimentDetail) -> Curves | None:
    """The curves of an experiment; None where no trial reported a number."""
    metric = detail.experiment.metric
    reported: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for point in detail.points:
        value = point.metrics.get(metric, math.nan)
        if math.isfinite(value):
            reported[point.trial].append((point.step, value))
    if not reported:
        return None
    values = sorted(value for line in reported.values() for _, value in line)
    x = _Scale(
        low=1,
        high=max(2, max(step for line in reported.values() for step, _ in line)),
        start=_LEFT,
        end=WIDTH - _RIGHT,
    )
    low, high = value_range(values, detail.experiment.mode)
    y = _Scale(low=low, high=high, start=HEIGHT - _BOTTOM, end=_TOP)
    ranks = tones(detail)
    lines = [
        _line(trial, [(x(step), y(value)) for step, value in sorted(reported[trial.id])], ranks)
        for trial in detail.trials
        if trial.id in reported
    ]
    best = detail.experiment.best_trial
    numbers = {trial.number for trial in detail.trials if trial.id == best}
    lines.sort(key=lambda line: (line.trial in numbers, line.tone))
    return Curves(
        metric=metric,
        lines=tuple(_marked(line, line.trial in numbers) for line in lines),
        x_ticks=tuple(Tick(at=x(step), text=str(step)) for step in _steps(int(x.high))),
        y_ticks=tuple(Tick(at=y(value), text=number(value)) for value in round_values(low, high)),
        rungs=tuple(Tick(at=x(step), text=f"rung {i}") for i, step in _rungs(detail, int(x.high))),
    )


def parallel(detail: ExperimentDetail) -> Parallel | None:
    """Parameters of the trials with a value; None where there are fewer than two of them."""
    trials = [t for t in detail.trials if t.value is not None and math.isfinite(t.value)]
    names = sorted({name for trial in trials for name in trial.params})
    if len(trials) < 2 or not names:
        return None
    columns: list[tuple[str, list[object]]] = [
        (name, [trial.params.get(name) for trial in trials]) for name in names
    ]
    columns.append((detail.experiment.metric, [trial.value for trial in trials]))
    gap = (WIDTH - 2 * _LEFT) / (len(columns) - 1)
    axes, heights = [], []
    for index, (name, values) in enumerate(columns):
        ticks, places = axis_of(values, HEIGHT - 20.0, _TOP + 24.0)
        axes.append(Axis(at=_LEFT + index * gap, name=name, ticks=ticks))
        heights.append(places)
    ranks = tones(detail)
    lines = [
        _marked(
            _line(trial, [(axis.at, heights[a][t]) for a, axis in enumerate(axes)], ranks),
            trial.id == detail.experiment.best_trial,
        )
        for t, trial in enumerate(trials)
    ]
    return Parallel(axes=tuple(axes), lines=tuple(sorted(lines, key=lambda n: (n.best, n.tone))))


def scaled(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    """From values to coordinates."""
    return _Scale(low=low, high=high, start=start, end=end)


def axis_of(
    values: Sequence[object], start: float, end: float
) -> tuple[tuple[Tick, ...], list[float]]:
    """Marks of an axis through these values, and where each of them is on it.

    Numbers lie on a scale (logarithmic where they span much), others are names.
    """
    numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(values) or not numbers:
        kinds = sorted({str(v) for v in values})
        scale = _Scale(low=0, high=max(1, len(kinds) - 1), start=start, end=end)
        ticks = tuple(Tick(at=scale(i), text=kind) for i, kind in enumerate(kinds[:12]))
        return ticks, [scale(kinds.index(str(v))) for v in values]
    low, high = min(numbers), max(numbers)
    log = low > 0 and high / low >= 20
    scale = _Scale(low=low, high=high, start=start, end=end, log=log)
    middle = math.sqrt(low * high) if log else (low + high) / 2
    marks = (low, middle, high) if high > low else (low,)
    return tuple(Tick(at=scale(v), text=number(v)) for v in marks), [scale(v) for v in numbers]


def _line(trial: Trial, places: list[tuple[float, float]], tones: dict[str, int]) -> Line:
    return Line(
        points=" ".join(f"{x:.1f},{y:.1f}" for x, y in places),
        trial=trial.number,
        tone=tones.get(trial.id, 0),
        best=False,
        title=f"trial {trial.number}: {number(trial.value)} after {trial.step}",
        end=places[-1],
    )


def _marked(line: Line, best: bool) -> Line:
    return replace(line, best=best)


def tones(detail: ExperimentDetail) -> dict[str, int]:
    """From 0 (worst) to 4 (best), by rank."""
    sign = 1 if detail.experiment.mode == "max" else -1
    valued = [t for t in detail.trials if t.value is not None and math.isfinite(t.value)]
    ranked = sorted(valued, key=lambda trial: sign * (trial.value or 0.0))
    steps = max(1, len(ranked) - 1)
    last = _TONES - 1
    return {trial.id: last - (steps - i) * last // steps for i, trial in enumerate(ranked)}


def value_range(values: Sequence[float], mode: str) -> tuple[float, float]:
    """What matters of the values: a trial that went astray must not flatten the others."""
    low, high = values[0], values[-1]
    if mode == "max":
        low = values[int(len(values) * 0.02)]
    else:
        high = values[int((len(values) - 1) * 0.98)]
    pad = (high - low) * 0.06 or abs(high) * 0.05 or 0.5
    return low - pad, high + pad


def round_values(low: float, high: float) -> list[float]:
    """Values to mark an axis with."""
    raw = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= raw)
    first = math.ceil(low / step)
    return [round(i * step, 12) for i in range(first, first + 8) if i * step <= high]


def _steps(last: int) -> list[int]:
    if last <= 8:
        return list(range(1, last + 1))
    step = max(1, round(last / 6))
    return [1, *range(step, last - step // 2, step), last]


def _rungs(detail: ExperimentDetail, last: int) -> list[tuple[int, int]]:
    """Where several trials ended or paused before the end, with the number of the rung."""
    found = sorted({t.step for t in detail.trials if t.state in {"stopped", "paused", "done"}})
    return [(i, step) for i, step in enumerate(found) if 1 < step < last]
