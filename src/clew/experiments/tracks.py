"""A trial while its search goes on: what it reported, which rungs it reached, how far it is.

Knows the rules of the search, but neither rows nor workers.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Mapping

from msgspec import Struct, field

from clew.base.errors import Invalid
from clew.experiments.definitions import SearchDefinition
from clew.experiments.measuring import (
    Breaches,
    amounts,
    breaches,
    measured,
    metrics_of,
    violation,
)
from clew.experiments.searchers import Progress
from clew.experiments.spaces import Space
from clew.experiments.studies import Told

_SEEN_AS = {"stopped": "paused", "cancelled": "failed"}
"""What the searcher takes the state of a trial for, where it has no word for it."""


class Track(Struct, kw_only=True):
    """One trial in memory. ``rungs`` are values of the metric, NaN where there was none to trust.

    ``target`` is the step its run goes to. All else but ``deaths``, ``losses``, ``rules`` and
    ``needs`` are columns of ``trials``.
    """

    id: str
    number: int
    params: dict[str, object]
    seed: int
    bracket: int = 0
    state: str = "running"
    step: int = 0
    target: int = 0
    rungs: list[float] = field(default_factory=list)
    values: dict[int, float] = field(default_factory=dict)
    """The metric by step."""
    checkpoint: str | None = None
    checkpoint_step: int = 0
    tree: str = ""
    share: float | None = None
    """How far it says that it is, where it does."""
    note: str = ""
    error: str = ""
    log: str = ""
    started_us: int = 0
    ended_us: int | None = None
    noted: dict[str, object] = field(default_factory=dict)
    """What the sampler wants to know of it again."""
    busy_s: float = 0.0
    """Seconds that workers spent on it."""
    others: dict[str, float] = field(default_factory=dict)
    """The latest values of further objectives."""
    rules: tuple[str, ...] = ()
    """Constraints over what it measures."""
    needs: tuple[str, ...] = ()
    """The metrics that they name."""
    breaches: list[Breaches] = field(default_factory=list)
    """By how much each of them was broken, at each rung."""
    changed: dict[str, object] = field(default_factory=dict)
    """Parameters that are others than those it was tried with: what a rule over logs made them."""
    tries: dict[str, int] = field(default_factory=dict)
    """How often it was tried again, by what allowed it."""
    excluded: list[str] = field(default_factory=list)
    seats: tuple[str, ...] = ()
    """Where each of its ranks runs, where that is not one machine."""
    """Slots that nobody gets because of what it printed."""
    held: str = ""
    """Why the search does not decide about it: ``asked`` (paused by hand) or ``due`` (to go on)."""
    deaths: int = 0
    losses: int = 0
    """How often its worker ended under it in this search; not kept."""
    _steps: list[int] = field(default_factory=list)
    _seen: Progress | None = None
    _told: Told | None = None
    _seen_at: tuple[str, int] = ("", -1)
    _told_at: tuple[str, int] = ("", -1)

    def __post_init__(self) -> None:
        self._steps = sorted(self.values)

    def values_now(self) -> dict[str, object]:
        """The parameters that its next run is given."""
        return {**self.params, **self.changed}

    def report(
        self, step: int, value: float | None, others: Mapping[str, float] | None = None
    ) -> None:
        """Take a report in; ``value`` is that of the search's metric, None where it has none,
        ``others`` those of further objectives.
        """
        self.step = max(self.step, step)
        self.others.update(others or {})
        if value is not None:
            if step not in self.values:
                insort(self._steps, step)
            self.values[step] = value

    def begin_again(self) -> None:
        """Forget what came after the checkpoint: it is about to be reported again."""
        self.step = self.checkpoint_step
        self._steps = self._steps[: bisect_right(self._steps, self.step)]
        self.values = {step: self.values[step] for step in self._steps}

    def value_at(self, step: int) -> float | None:
        """The latest value at or before ``step``."""
        found = bisect_right(self._steps, step)
        return self.values[self._steps[found - 1]] if found else None

    @property
    def value(self) -> float | None:
        """The latest value, if it is finite."""
        last = self.values[self._steps[-1]] if self._steps else None
        return last if last is not None and math.isfinite(last) else None

    def reach(self, definition: SearchDefinition, rungs: tuple[int, ...], *, end: bool) -> None:
        """Enter the values of rungs that lie behind; at the ``end`` of training, of all.

        Raises:
            Invalid: ``trial.metric_missing``.
        """
        for steps in rungs[len(self.rungs) :]:
            if self.step < steps and not end:
                return
            value = self.value_at(steps) if definition.metric else 0.0
            if value is None:
                raise _no_metric(definition.metric, self.number, min(steps, self.step or 1))
            missing = [one for one in further(definition) if one not in self.others]
            if missing:
                raise _no_metric(missing[0], self.number, min(steps, self.step or 1))
            self.rungs.append(value)
            self.breaches.append(self._breaches(min(steps, self.step or 1)))

    def fail(self, rungs: tuple[int, ...]) -> None:
        """Count as the worst at the rung that it was on its way to (as in Determined's ASHA)."""
        self.state = "failed"
        if len(self.rungs) < len(rungs):
            self.rungs.append(math.nan)
            self.breaches.append({})

    def cancel(self, rungs: tuple[int, ...]) -> None:
        """End without a result; what it reported stays, and it is never the best."""
        self.fail(rungs)
        self.state, self.held, self.error = "cancelled", "", "It was cancelled."

    def progress(self, definition: SearchDefinition) -> Progress:
        """What the searcher sees. The same object until something changes."""
        at = (f"{self.state}{self.held}", len(self.rungs))
        if self._seen is None or self._seen_at != at:
            self._seen, self._seen_at = self._progress(definition), at
        return self._seen

    def told(self, definition: SearchDefinition, rungs: tuple[int, ...]) -> Told:
        """What the sampler learns: the loss at the highest rung reached. The same object until
        something changes.
        """
        at = (self.state, len(self.rungs))
        if self._told is None or self._told_at != at:
            self._told, self._told_at = self._tell(definition, rungs), at
        return self._told

    def _progress(self, definition: SearchDefinition) -> Progress:
        state = _SEEN_AS.get(self.state, self.state)
        return Progress(
            number=self.number,
            losses=tuple(_losses(definition.mode, self.rungs)),
            state="running" if self.held and state == "paused" else state,
            others=self._other_losses(definition),
            violations=tuple(map(violation, self.breaches)) if self.rules else (),
        )

    def _tell(self, definition: SearchDefinition, rungs: tuple[int, ...]) -> Told:
        losses = _losses(definition.mode, self.rungs)
        state = _SEEN_AS.get(self.state, self.state)
        if state not in {"done", "failed"}:
            state = "paused" if losses else "running"
        return Told(
            params=self.params,
            state=state,
            step=rungs[len(losses) - 1] if losses else 0,
            loss=losses[-1] if losses else None,
            others=self._other_losses(definition),
            noted=self.noted,
            breaches=amounts(self.breaches[-1], self.rules) if self.breaches else (),
        )

    def _breaches(self, step: int) -> Breaches:
        """How it keeps the rules over what it measures, by what it reported last.

        Raises:
            Invalid: ``trial.metric_missing``.
        """
        missing = next((name for name in self.needs if name not in self.others), None)
        if missing is not None:
            raise _no_metric(missing, self.number, step)
        return breaches(self.rules, self.params, self.others)

    def _other_losses(self, definition: SearchDefinition) -> tuple[float, ...]:
        wanted = further(definition)
        if not all(name in self.others for name in wanted):
            return (math.inf,) * len(wanted)
        return tuple(
            _losses(definition.objectives[name], [self.others[name]])[0] for name in wanted
        )


def watched(definition: SearchDefinition, space: Space) -> set[str]:
    """Names of metrics beside the first that decide: further objectives, and those of rules."""
    return {*further(definition), *measured_names(definition, space)}


def measured_names(definition: SearchDefinition, space: Space) -> tuple[str, ...]:
    """Names of the metrics that rules name, sorted."""
    rules = measured(definition, space)
    return tuple(sorted({name for rule in rules for name in metrics_of(rule, space)}))


def further(definition: SearchDefinition) -> list[str]:
    """The objectives beside the first."""
    return [name for name in definition.objectives if name != definition.metric]


def _losses(mode: str, values: list[float]) -> list[float]:
    sign = -1.0 if mode == "max" else 1.0
    return [sign * value if math.isfinite(value) else math.inf for value in values]


def _no_metric(metric: str, number: int, step: int) -> Invalid:
    return Invalid(
        "trial.metric_missing",
        f"Trial {number} had not reported {metric!r} by step {step}, so it cannot be compared.",
        hint=f"Call trial.report(step, {metric}=...) at each step, or raise min_steps.",
    )
