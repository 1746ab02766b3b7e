"""Hyperparameters of an experiment configuration as a space of Clew, and back for a trial.

The kinds and the points of a grid are those of Determined (``hyperparameters.go``, ``grid.go``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct, field

from clew.determined.definitions import wrong
from clew.experiments import Distribution, choice, loguniform, randint, uniform

_PLAIN = (bool, int, float, str, type(None))


class Hyperparameters(Struct, frozen=True, kw_only=True):
    """``space`` is searched, ``fixed`` is the same in all trials; see :class:`Task`."""

    space: dict[str, Distribution] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, dict[str, Any]] = field(default_factory=dict)


def hyperparameters_of(config: Mapping[str, Any], *, grid: bool) -> Hyperparameters:
    """Read ``hyperparameters``; for a ``grid``, ranges become the points that ``count`` asks for.

    Raises:
        Invalid: ``determined.config`` naming the parameter.
    """
    found = Hyperparameters()
    for name, one in _leaves(config, ""):
        if not isinstance(one, Mapping) or one.get("type") == "const":
            found.fixed[name] = one["val"] if isinstance(one, Mapping) else one
            continue
        where = f"hyperparameters.{name}"
        if one["type"] == "categorical":
            found.space[name] = _categorical(name, where, one, found.labels)
        elif one["type"] not in _RANGES:
            raise wrong(f"{where}.type", f"is {one['type']!r}", f"Use one of {_KINDS}.")
        else:
            found.space[name] = _range(where, one, grid)
    return found


def values_of(
    params: Mapping[str, Any], fixed: Mapping[str, Any], labels: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """The hyperparameters of one trial, nested as the configuration has them."""
    nested: dict[str, Any] = {}
    for name, value in {**fixed, **params}.items():
        if name in labels and name in params:
            value = labels[name][str(value)]
        *above, last = name.split(".")
        place = nested
        for part in above:
            place = place.setdefault(part, {})
        place[last] = value
    return nested


def _leaves(config: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for key, one in config.items():
        if not isinstance(key, str) or "." in key:
            raise wrong(f"hyperparameters.{above}{key}", "is no name: it has a dot, or is no text")
        name = f"{above}{key}"
        if not isinstance(one, Mapping) or "type" in one:
            yield name, one
        elif one:
            yield from _leaves(one, f"{name}.")


def _categorical(
    name: str, where: str, one: Mapping[str, Any], labels: dict[str, dict[str, Any]]
) -> Distribution:
    values = one.get("vals")
    if not isinstance(values, list) or not values:
        raise wrong(f"{where}.vals", f"is {values!r}, not a list with values")
    if all(isinstance(value, _PLAIN) for value in values):
        return choice(values)
    labels[name] = {json.dumps(value, sort_keys=True): value for value in values}
    return choice(list(labels[name]))


def _range(where: str, one: Mapping[str, Any], grid: bool) -> Distribution:
    low, high = _number(where, one, "minval"), _number(where, one, "maxval")
    if high < low:
        raise wrong(where, f"goes from {low} to {high}")
    kind = one["type"]
    if grid:
        return choice(_points(where, one, low, high))
    if kind == "int":
        return randint(int(low), int(high))
    if kind == "double":
        return uniform(low, high)
    base = _base(where, one)
    return loguniform(base**low, base**high)


def _points(where: str, one: Mapping[str, Any], low: float, high: float) -> list[object]:
    """The values of one axis of a grid: ``count`` of them, both ends included."""
    count = one.get("count")
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise wrong(f"{where}.count", f"is {count!r}", "A grid needs how many points it has.")
    if one["type"] == "int":
        count = min(count, int(high) - int(low) + 1)
    values = [(low + high) / 2] if count == 1 else [
        low + i * (high - low) / (count - 1) for i in range(count)
    ]  # fmt: skip
    if one["type"] == "int":
        return [_rounded(value) for value in values]
    base = _base(where, one) if one["type"] == "log" else 0.0
    return [base**value if base else float(value) for value in values]


def _rounded(value: float) -> int:
    """Halves away from zero, as Go rounds."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def _base(where: str, one: Mapping[str, Any]) -> float:
    base = _number(where, {"base": 10.0, **one}, "base")
    if base <= 0:
        raise wrong(f"{where}.base", f"is {base}", "Give a number above 0.")
    return base


def _number(where: str, one: Mapping[str, Any], name: str) -> float:
    value = one.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong(f"{where}.{name}", f"is {value!r}, not a number")
    if one["type"] == "int" and int(value) != value:
        raise wrong(f"{where}.{name}", f"is {value}, not a whole number")
    return float(value)


_RANGES = ("int", "double", "log")
_KINDS = "const, categorical, int, double, log"
