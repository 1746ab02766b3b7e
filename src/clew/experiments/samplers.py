"""Parameters for the next trial, from those before it.

Knows no database and no clock: the answer depends on the trials that it is told of, the seed and
the number alone, so a restart changes nothing. Optuna is behind :mod:`clew.experiments.studies`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct, field

from clew.base.errors import Invalid
from clew.experiments.conditions import is_feasible
from clew.experiments.definitions import SearchDefinition
from clew.experiments.spaces import Space, draw, grid_points, sampler_seed
from clew.experiments.studies import Adviser, Told

ATTEMPTS = 32
"""How many proposals of a sampler may break a constraint before one is drawn that keeps them."""

DRAWS = 10_000


class Suggestion(Struct, frozen=True, kw_only=True):
    """Parameters, and what the sampler notes with them: keep it beside the trial."""

    params: dict[str, object]
    noted: dict[str, object] = field(default_factory=dict)


class Sampler:
    """Proposes the trials of one search. Belongs to one thread.

    What it keeps only makes it quick: a new one gives the same answers.
    """

    def __init__(
        self,
        definition: SearchDefinition,
        space: Space,
        *,
        prior: Sequence[Told] = (),
        first: Sequence[Mapping[str, object]] = (),
    ) -> None:
        """``prior``: trials of an earlier search; ``first``: parameters that go before others."""
        self._definition = definition
        self._space = space
        self._first = first
        self._prior = prior
        self._points: list[dict[str, object]] = []
        self._grid: Iterator[dict[str, object]] | None = None
        self._adviser: Adviser | None = None

    @property
    def learns(self) -> bool:
        """Whether what it suggests depends on the trials before."""
        plain = self._definition.searcher in {"grid", "single"} or not self._space
        return not plain and self._definition.sampler not in {"random", "qmc"}

    def suggest(self, number: int, told: Sequence[Told]) -> Suggestion:
        """Parameters for trial ``number``, whose predecessors are ``told`` in order.

        Raises:
            Unavailable: ``sampler.missing`` where what it needs is not installed.
            Invalid: ``space.infeasible`` where no draw keeps the constraints.
        """
        definition = self._definition
        if definition.searcher == "grid":
            return Suggestion(params=self._grid_point(number))
        if number < len(self._first):
            return Suggestion(params=dict(self._first[number]))
        if definition.sampler == "random" or not self._space:
            return Suggestion(params=self._drawn(number))
        return self._advised(number, told)

    def _advised(self, number: int, told: Sequence[Told]) -> Suggestion:
        if self._adviser is None:
            self._adviser = Adviser(self._definition, self._space, self._prior)
        rules = self._definition.constraints
        for attempt in range(ATTEMPTS if rules else 1):
            seed = sampler_seed(self._definition.seed, number, attempt)
            params, noted = self._adviser.ask(number, seed, told)
            if is_feasible(rules, params):
                return Suggestion(params=params, noted=noted)
            if self._definition.sampler == "qmc":
                break  # its sequence does not depend on the seed of an attempt
        return Suggestion(params=self._drawn(number))

    def _drawn(self, number: int) -> dict[str, object]:
        rules = self._definition.constraints
        for attempt in range(DRAWS):
            params = draw(self._space, self._definition.seed, number, attempt)
            if is_feasible(rules, params):
                return params
        raise Invalid(
            "space.infeasible",
            f"None of {DRAWS} draws from the space keeps: {'; '.join(rules)}.",
            hint="Loosen a constraint, or narrow the space to where they hold.",
        )

    def _grid_point(self, number: int) -> dict[str, object]:
        if self._grid is None:
            self._grid = feasible_points(self._space, self._definition.constraints)
        missing = number + 1 - len(self._points)
        self._points += itertools.islice(self._grid, max(0, missing))
        return self._points[number]


def feasible_points(space: Space, constraints: Sequence[str]) -> Iterator[dict[str, object]]:
    """Points of the grid that keep the constraints, in order."""
    return (one for one in grid_points(space) if is_feasible(constraints, one))


def suggest(
    definition: SearchDefinition, space: Space, number: int, told: Sequence[Told]
) -> dict[str, object]:
    """Parameters for one trial; what a new :class:`Sampler` says."""
    return Sampler(definition, space).suggest(number, told).params
