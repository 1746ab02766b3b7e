"""The searcher of an experiment configuration as a search of Clew.

The arithmetic of rungs and brackets is that of Determined (``adaptive_asha.go``); Clew's own room
of experiments has it too, so that a search is told by how deep it is and by how many brackets.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct

from clew.determined.definitions import OPEN_END, unsupported, wrong
from clew.experiments import SearchDefinition

_WHOLE = ("single", "random", "grid")
_HALVING = ("adaptive_asha", "async_halving", "asha")
_KNOWN = {
    "name", "metric", "smaller_is_better", "max_length", "max_trials", "max_time", "time_metric",
    "max_concurrent_trials", "divisor", "num_rungs", "max_rungs", "bracket_rungs", "mode",
    "stop_once", "unit", "source_trial_id", "source_checkpoint_uuid",
}  # fmt: skip
_MODES: dict[str, Callable[[int], list[int]]] = {
    "aggressive": lambda rungs: [rungs],
    "standard": lambda rungs: list(range(rungs, (rungs - 1) // 2, -1)),
    "conservative": lambda rungs: list(range(rungs, 0, -1)),
}
CONCURRENT = 16
"""How many trials run at once where the configuration does not say."""


class Searching(Struct, frozen=True, kw_only=True):
    """A search, and what of it Clew's search does not carry itself.

    ``time_metric``: see :class:`clew.determined.definitions.Task`; ``at_most`` trials run at once.
    ``source``: the trial that all begin with. ``unknown`` are fields that nobody reads.
    """

    search: SearchDefinition
    time_metric: str = ""
    halves: bool = False
    at_most: int = CONCURRENT
    source: str = ""
    unknown: tuple[str, ...] = ()


def searching_of(searcher: Mapping[str, Any], *, seed: int) -> Searching:
    """Read ``searcher``.

    Raises:
        Invalid: ``determined.config``, ``determined.unsupported`` naming the field.
    """
    name = searcher.get("name")
    if name not in (*_WHOLE, *_HALVING):
        raise unsupported(
            f"searcher.name: {name}", f"Use one of {', '.join((*_WHOLE, *_HALVING[:2]))}."
        )
    if searcher.get("source_checkpoint_uuid") is not None:
        raise unsupported(
            "searcher.source_checkpoint_uuid",
            "Name the trial whose latest checkpoint it is: searcher.source_trial_id=TRIAL.",
        )
    metric = searcher.get("metric")
    if not isinstance(metric, str) or not metric:
        raise wrong("searcher.metric", f"is {metric!r}, not the name of a metric")
    mode = "min" if searcher.get("smaller_is_better", True) else "max"
    common: dict[str, Any] = {"metric": metric, "mode": mode, "seed": seed}
    search = _whole(name, searcher, common) if name in _WHOLE else _halving(name, searcher, common)
    return Searching(
        search=search,
        time_metric="" if name in _WHOLE else _time_metric(searcher),
        halves=name in _HALVING,
        at_most=_whole_number(searcher, "max_concurrent_trials", CONCURRENT, least=0),
        source=_source(searcher.get("source_trial_id")),
        unknown=tuple(f"searcher.{one}" for one in searcher if one not in _KNOWN),
    )


def _source(given: object) -> str:
    """The trial of Clew whose latest checkpoint all trials begin with, '' for none."""
    if given is None:
        return ""
    if not isinstance(given, str) or not given:
        raise wrong(
            "searcher.source_trial_id",
            f"is {given!r}, and trials of Clew have ids",
            "Give one: clew experiment shows those of its trials.",
        )
    return given


def _whole(name: str, searcher: Mapping[str, Any], common: dict[str, Any]) -> SearchDefinition:
    """Trials that end when their programs do."""
    trials = {"single": 1, "grid": 0}.get(name)
    if trials is None:
        trials = _whole_number(searcher, "max_trials", None)
    return SearchDefinition(
        searcher=name,
        trials=trials,
        max_steps=OPEN_END,
        min_steps=OPEN_END,
        max_failures=0.0 if name == "single" else 0.5,
        **common,
    )


def _halving(name: str, searcher: Mapping[str, Any], common: dict[str, Any]) -> SearchDefinition:
    """Brackets of halving: by promotion from checkpoints, or by stopping.

    Determined promoted until 0.37 (``max_length``, unless ``stop_once``), and stops since.
    """
    trials = _whole_number(searcher, "max_trials", None)
    longest = _length(searcher)
    divisor = searcher.get("divisor", 4)
    if isinstance(divisor, bool) or not isinstance(divisor, int | float) or divisor < 2:
        raise wrong("searcher.divisor", f"is {divisor!r}, not a number from 2 on")
    if int(divisor) != divisor:
        raise unsupported(f"searcher.divisor: {divisor}", "Use a whole number.")
    brackets = _brackets(name, searcher, trials, longest, int(divisor))
    stops = searcher.get("stop_once", "max_time" in searcher)
    return SearchDefinition(
        searcher="hyperband-stopping" if stops else "hyperband",
        trials=trials,
        max_steps=longest,
        min_steps=max(1, longest // int(divisor) ** (brackets[0] - 1)),
        reduction=int(divisor),
        brackets=len(brackets),
        complete_best=False,
        max_failures=0.5,
        **common,
    )


def _brackets(
    name: str, searcher: Mapping[str, Any], trials: int, longest: int, divisor: int
) -> list[int]:
    """How many rungs each bracket has, the most first."""
    deepest = min(_log(longest, divisor), _log(trials, divisor)) + 1
    if name != "adaptive_asha":
        wanted = _whole_number(searcher, "num_rungs", 5)
        return [min(wanted, _log(longest, divisor) + 1)]
    given = searcher.get("bracket_rungs") or []
    if given:
        found = sorted(given, reverse=True)
        if found != list(range(found[0], found[0] - len(found), -1)):
            raise unsupported(
                f"searcher.bracket_rungs: {given}", "Use numbers that follow each other: [5, 4, 3]."
            )
        return [one for one in found if one <= _log(longest, divisor) + 1] or [1]
    mode = searcher.get("mode", "standard")
    if mode not in _MODES:
        raise wrong("searcher.mode", f"is {mode!r}", f"Use one of {', '.join(_MODES)}.")
    found = _MODES[mode](min(deepest, _whole_number(searcher, "max_rungs", 5)))
    if trials < len(found):
        raise wrong("searcher.max_trials", f"is {trials}, for {len(found)} brackets")
    return found


def _log(number: int, base: int) -> int:
    """⌊log⌋ by whole numbers: by floats that of 243 to the base 3 is 4."""
    found = 0
    while base ** (found + 1) <= number:
        found += 1
    return found


def _time_metric(searcher: Mapping[str, Any]) -> str:
    """The metric whose value is the time of a report; '' where that is the steps completed."""
    if searcher.get("time_metric"):
        return str(searcher["time_metric"])
    length = searcher.get("max_length")
    return str(next(iter(length))) if isinstance(length, Mapping) and length else ""


def _length(searcher: Mapping[str, Any]) -> int:
    """How long the longest trial is: ``max_time``, or ``max_length`` with or without a unit."""
    if searcher.get("max_time") is not None:
        return _whole_number(searcher, "max_time", None)
    length = searcher.get("max_length")
    if isinstance(length, Mapping) and len(length) == 1:
        return _whole_number({"max_length": next(iter(length.values()))}, "max_length", None)
    if length is None:
        raise wrong(
            "searcher.max_time",
            "is missing",
            "A search that halves needs time_metric and max_time (or, as before 0.38, max_length).",
        )
    return _whole_number(searcher, "max_length", None)


def _whole_number(
    searcher: Mapping[str, Any], name: str, default: int | None, *, least: int = 1
) -> int:
    value = searcher.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise wrong(f"searcher.{name}", f"is {value!r}, not a whole number from {least} on")
    return value
