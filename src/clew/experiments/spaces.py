"""What a parameter may be: distributions, how one is drawn, and the points of a grid.

Knows nothing of trials or of Optuna; all draws are functions of a seed, a number and a name.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from clew.base.errors import Invalid

KINDS = ("uniform", "loguniform", "randint", "choice")


class Condition(Struct, frozen=True, kw_only=True):
    """Another ``parameter`` has one of these ``values``."""

    parameter: str
    values: tuple[object, ...]


class Distribution(Struct, frozen=True, kw_only=True):
    """The values that one parameter may take.

    ``kind``: uniform (floats), loguniform (floats, even in the logarithm), randint (whole numbers,
    both ends included) or choice (one of ``options``). ``step`` > 0 keeps uniform and randint to
    ``low + i * step``; ``log`` makes randint even in the logarithm. ``conditions``: where any does
    not hold, the parameter does not exist. JSON-able.
    """

    kind: str
    low: float = 0.0
    high: float = 0.0
    step: float = 0.0
    log: bool = False
    options: tuple[object, ...] = ()
    conditions: tuple[Condition, ...] = ()

    def when(self, **values: object) -> Distribution:
        """The same, but there only where each parameter named has this value (or one of a tuple).

        ``randint(2, 5).when(kernel="poly")``; of a name with a dot, ``.when(**{"svm.kernel": …})``.
        """
        more = [
            Condition(
                parameter=name, values=tuple(one) if isinstance(one, list | tuple) else (one,)
            )
            for name, one in values.items()
        ]
        return replace(self, conditions=(*self.conditions, *more))


Space = Mapping[str, Distribution]


def uniform(low: float, high: float, *, step: float = 0.0) -> Distribution:
    """Floats from ``low`` to ``high``; with ``step``, only ``low``, ``low + step``, ….

    Raises:
        Invalid: ``space.invalid`` for an empty or infinite range.
    """
    _check_range(low, high, step)
    return Distribution(kind="uniform", low=float(low), high=float(high), step=float(step))


def loguniform(low: float, high: float) -> Distribution:
    """Floats from ``low`` to ``high``, each order of magnitude as likely as the next.

    Raises:
        Invalid: ``space.invalid``, also where ``low`` is not above 0.
    """
    _check_range(low, high, 0.0)
    _check_log(low)
    return Distribution(kind="loguniform", low=float(low), high=float(high), log=True)


def randint(low: int, high: int, *, step: int = 1, log: bool = False) -> Distribution:
    """Whole numbers from ``low`` to ``high``, both included.

    Raises:
        Invalid: ``space.invalid`` for an empty range, bounds that are not whole, or ``log`` with a
            step or with ``low`` below 1.
    """
    if any(int(bound) != bound for bound in (low, high, step)) or step < 1:
        raise _invalid(f"randint({low}, {high}, step={step}) is not of whole numbers")
    _check_range(low, high, step)
    if log:
        _check_log(low)
        if step != 1:
            raise _invalid("randint with log=True takes no step")
    return Distribution(kind="randint", low=float(low), high=float(high), step=float(step), log=log)


def choice(*options: object) -> Distribution:
    """One of ``options`` (or of the one list that is given): None, bool, int, float or str.

    Raises:
        Invalid: ``space.invalid`` for no options, or one of another type.
    """
    only = options[0] if len(options) == 1 else None
    found = tuple(only) if isinstance(only, (list, tuple)) else options
    if not found:
        raise _invalid("choice() has no options")
    for option in found:
        if not isinstance(option, (bool, int, float, str, type(None))):
            raise _invalid(f"choice() was given {option!r}, a {type(option).__name__}")
    return Distribution(kind="choice", options=found)


def check_space(space: Space) -> None:
    """Refuse a space that cannot be drawn from.

    Raises:
        Invalid: ``space.invalid`` naming the parameter.
    """
    for name, distribution in space.items():
        if not isinstance(distribution, Distribution) or distribution.kind not in KINDS:
            raise _invalid(f"The parameter {name!r} is {distribution!r}, not a distribution")


def is_active(one: Distribution, params: Mapping[str, object]) -> bool:
    """Whether a parameter exists beside those that were chosen."""
    return all(
        condition.parameter in params
        and any(same(params[condition.parameter], value) for value in condition.values)
        for condition in one.conditions
    )


def same(one: object, other: object) -> bool:
    """Equal and of one type: True is not 1."""
    return type(one) is type(other) and one == other


def ordered(space: Space) -> Sequence[str]:
    """Names, those that others depend on first, else as they stand.

    Raises:
        Invalid: ``space.invalid`` where two parameters depend on each other.
    """
    if not any(one.conditions for one in space.values()):
        return list(space)
    found: list[str] = []
    left = dict(space)
    while left:
        ready = [
            name for name, one in left.items()
            if not any(condition.parameter in left for condition in one.conditions)
        ]  # fmt: skip
        if not ready:
            raise _invalid(f"The parameters {', '.join(left)} depend on each other")
        found += ready
        left = {name: one for name, one in left.items() if name not in ready}
    return found


def last_value(one: Distribution) -> float:
    """The greatest value: ``high``, or the last step that is not above it."""
    return one.low + (_steps(one) - 1) * one.step if one.step else one.high


def trial_seed(seed: int, number: int) -> int:
    """The seed that trial ``number`` is given: 31 bits, the same on every machine."""
    return _generator(seed, number, "seed").getrandbits(31)


def sampler_seed(seed: int, number: int, attempt: int = 0) -> int:
    """The seed of a sampler that chooses the parameters of trial ``number``: 31 bits."""
    again = f"/{attempt}" if attempt else ""
    return _generator(seed, number, f"sampler{again}").getrandbits(31)


def draw(space: Space, seed: int, number: int, attempt: int = 0) -> dict[str, object]:
    """Independent random parameters for trial ``number``; others for another ``attempt``.

    A parameter depends on (seed, number, attempt, its name, its distribution) alone, so adding one
    leaves the others as they were. Those whose conditions do not hold are left out.
    """
    again = f"/{attempt}" if attempt else ""
    found: dict[str, object] = {}
    for name in ordered(space):
        if is_active(space[name], found):
            found[name] = _draw(space[name], _generator(seed, number, f"param/{name}{again}"))
    return {name: found[name] for name in space if name in found}


def grid_size(space: Space) -> int:
    """How many points the grid of a space has (1 for an empty one).

    Raises:
        Invalid: ``grid.continuous``.
    """
    if any(one.conditions for one in space.values()):
        return sum(1 for _ in _walk(space, ordered(space), {}))
    return math.prod(len(_points(name, one)) for name, one in space.items())


def grid_points(space: Space) -> Iterator[dict[str, object]]:
    """All points of the grid: the last parameter turns fastest."""
    for found in _walk(space, ordered(space), {}):
        yield {name: found[name] for name in space if name in found}


def _walk(
    space: Space, names: Sequence[str], chosen: dict[str, object]
) -> Iterator[dict[str, object]]:
    if not names:
        yield chosen
        return
    name, *rest = names
    if not is_active(space[name], chosen):
        yield from _walk(space, rest, chosen)
        return
    for value in _points(name, space[name]):
        yield from _walk(space, rest, {**chosen, name: value})


def _points(name: str, distribution: Distribution) -> list[object]:
    if distribution.kind == "choice":
        return list(distribution.options)
    if not distribution.step:
        raise Invalid(
            "grid.continuous",
            f"The parameter {name!r} is continuous, so a grid has no end.",
            hint="Use choice(...), randint(...) or uniform(low, high, step=...) for it.",
        )
    values = [distribution.low + i * distribution.step for i in range(_steps(distribution))]
    return [int(value) for value in values] if distribution.kind == "randint" else list(values)


def _draw(one: Distribution, rng: random.Random) -> object:
    if one.kind == "choice":
        return one.options[rng.randrange(len(one.options))]
    if one.kind == "loguniform":
        return _clip(one, math.exp(rng.uniform(math.log(one.low), math.log(one.high))))
    if one.log:  # each whole number owns the interval of half a unit to both sides
        value = math.exp(rng.uniform(math.log(one.low - 0.5), math.log(one.high + 0.5)))
        return int(_clip(one, round(value)))
    if one.step:
        value = one.low + rng.randrange(_steps(one)) * one.step
        return int(value) if one.kind == "randint" else value
    return _clip(one, rng.uniform(one.low, one.high))


def _steps(one: Distribution) -> int:
    return math.floor((one.high - one.low) / one.step + 1e-9) + 1


def _clip(one: Distribution, value: float) -> float:
    return min(max(value, one.low), one.high)


def _generator(seed: int, number: int, use: str) -> random.Random:
    # Seeding by text hashes it with SHA-512 and is the same in every Python since 3.2.
    return random.Random(f"clew/{seed}/{number}/{use}")  # noqa: S311 - must be reproducible


def _check_range(low: float, high: float, step: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low <= high and step >= 0):
        raise _invalid(f"The range from {low} to {high} is empty or has no end")


def _check_log(low: float) -> None:
    if low <= 0:
        raise _invalid(f"A logarithmic range cannot begin at {low}")


def _invalid(what: str) -> Invalid:
    return Invalid(
        "space.invalid",
        f"{what}.",
        hint="Use uniform(low, high), loguniform, randint, or choice of plain values.",
    )
