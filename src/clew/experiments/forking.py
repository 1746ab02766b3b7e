"""Searches that are made of others: forked with changes, or one trial that goes on for longer.

Knows rows and definitions; who makes the job that carries a plan out is above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from msgspec import Struct

from clew.base.errors import Conflict, Invalid
from clew.db import Database, Tx
from clew.experiments import tables, trial_tables
from clew.experiments.definitions import SearchDefinition, checked
from clew.experiments.kept import one
from clew.experiments.measuring import FEASIBLE, measured
from clew.experiments.spaces import Distribution, check_space, choice


class Fork(Struct, frozen=True, kw_only=True):
    """What to search in place of what the step says, and where its first trial begins."""

    source: str
    definition: SearchDefinition
    space: dict[str, Distribution]
    tree: str = ""
    start: int = 0
    seed: int | None = None


Begin = Callable[[Tx, str, str], str]
"""Makes the job of a step (pipeline, step) inside a transaction; its id."""


class Forking:
    """The part of the door that makes searches of others."""

    _db: Database

    def fork(
        self,
        experiment: str,
        begin: Begin,
        *,
        space: Mapping[str, object] | None = None,
        search: Mapping[str, object] | None = None,
    ) -> None:
        """Begin an experiment anew with changes; ``begin`` makes its job, in the same transaction.

        ``space``: distributions (or what they are as JSON) by name, or the one value that a
        parameter has from now on; ``search``: fields of the definition.

        Raises:
            NotFound: ``experiment.unknown``.
            Conflict: ``id.ambiguous``.
            Invalid: ``search.invalid``, ``space.invalid``.
        """
        with self._db.begin() as tx:
            row = one(tx, tables.BY_PREFIX, experiment, "experiment")
            changed = {name: _distribution(name, value) for name, value in (space or {}).items()}
            wanted = msgspec.convert(row.space, dict[str, Distribution]) | changed
            fork = Fork(
                source=row.id,
                definition=_definition(row.definition, search or {}),
                space=wanted,
            )
            check_space(fork.definition.over(wanted))
            self._keep(tx, begin(tx, row.pipeline, row.step), fork)

    def go_on(self, trial: str, steps: int, begin: Begin) -> None:
        """Train a trial on, from its latest checkpoint up to ``steps`` steps; as :meth:`fork`.

        Raises:
            NotFound: ``trial.unknown``.
            Conflict: ``trial.no_checkpoint``, ``id.ambiguous``.
            Invalid: ``trial.steps`` where the checkpoint has as many already.
        """
        with self._db.begin() as tx:
            row = one(tx, tables.TRIAL_BY_PREFIX, trial, "trial")
            whole = one(tx, tables.BY_PREFIX, row.experiment, "experiment")
            fork = _continuation(row, whole, steps)
            self._keep(tx, begin(tx, whole.pipeline, whole.step), fork)

    @staticmethod
    def _keep(tx: Tx, job: str, fork: Fork) -> None:
        row = {
            "job": job,
            "source": fork.source,
            "definition": msgspec.to_builtins(fork.definition),
            "space": msgspec.to_builtins(fork.space),
            "tree": fork.tree,
            "step": fork.start,
            "seed": fork.seed,
        }
        tx.execute(trial_tables.forks.insert(), row)

    def fork_of(self, job: str) -> Fork | None:
        """The plan that a job carries out; None for one that does what its step says."""
        with self._db.read() as tx:
            row = tx.execute(trial_tables.FORK, {"job": job}).first()
        if row is None:
            return None
        return Fork(
            source=row.source,
            definition=msgspec.convert(row.definition, SearchDefinition),
            space=msgspec.convert(row.space, dict[str, Distribution]),
            tree=row.tree,
            start=row.step,
            seed=row.seed,
        )


def _continuation(row: Any, whole: Any, steps: int) -> Fork:
    """The plan of a trial (its row) that goes on."""
    if not row.tree:
        raise Conflict(
            "trial.no_checkpoint",
            f"Trial {row.id} has no checkpoint to go on from.",
            hint="Keep more of them: trials=clew.trials(keep=clew.keep(trial_latest=1))",
        )
    if steps <= row.checkpoint_step:
        raise Invalid(
            "trial.steps",
            f"Trial {row.id} has {row.checkpoint_step} steps behind it already.",
            hint=f"Give more steps than {row.checkpoint_step}.",
        )
    told = msgspec.convert(whole.definition, SearchDefinition)
    return Fork(
        source=row.id,
        definition=checked(
            SearchDefinition(
                searcher="single",
                metric=told.metric,
                mode=told.mode,
                max_steps=steps,
                min_steps=steps,
                seed=told.seed,
                max_failures=0.0,
                constraints=measured(told, msgspec.convert(whole.space, dict[str, Distribution])),
            )
        ),
        space={name: choice(value) for name, value in (row.params | row.changed).items()},
        tree=row.tree,
        start=row.checkpoint_step,
        seed=row.seed,
    )


def _definition(before: Mapping[str, object], changes: Mapping[str, object]) -> SearchDefinition:
    values = {**before, **changes}
    # What a feasibility function adds is added anew, as the step has one now.
    values["constraints"] = [rule for rule in _texts(values["constraints"]) if rule != FEASIBLE]
    if before["min_steps"] == before["max_steps"]:  # nothing is halved, and that stays so
        values["min_steps"] = changes.get("min_steps", values["max_steps"])
    unknown = sorted(values.keys() - set(SearchDefinition.__struct_fields__))
    try:
        if unknown:
            raise msgspec.ValidationError(f"a search has no {', '.join(unknown)}")
        return checked(msgspec.convert(values, SearchDefinition))
    except msgspec.ValidationError as error:
        raise Invalid(
            "search.invalid",
            f"This search cannot run: {error}.",
            hint="Give fields of a search: trials, max_steps, sampler, seed, …",
        ) from None


def _texts(given: object) -> list[object]:
    return [given] if isinstance(given, str) or not isinstance(given, Iterable) else list(given)


def _distribution(name: str, value: object) -> Distribution:
    if isinstance(value, Distribution):
        return value
    if not isinstance(value, Mapping):
        return choice(value)
    try:
        return msgspec.convert(dict(value), Distribution)
    except msgspec.ValidationError as error:
        raise Invalid(
            "space.invalid",
            f"{name} is no distribution: {error}.",
            hint='Give a value, or {"kind": "uniform", "low": 0, "high": 1}.',
        ) from None
