"""Checkpoints of an experiment: which there are, why each is kept, and giving up the others.

Knows rows and repos; which ones a policy keeps is decided in ``retention``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from sqlalchemy import select, update

from clew.base.records.trial_policy import Keep
from clew.base.records.trials import CheckpointInfo, Pruned
from clew.db import Database, Tx
from clew.experiments import tables, trial_tables
from clew.experiments.kept import one
from clew.experiments.retention import Candidate, reasons
from clew.repos import Repos

Holders = Callable[[Tx], Mapping[str, list[str]]]
"""Why checkpoints of trials must stay, by the id of the trial, as far as rooms above know."""

RETIRED = "No policy keeps this checkpoint."


def nobody(tx: Tx) -> Mapping[str, list[str]]:
    """No room above holds anything."""
    del tx
    return {}


class Checkpoints:
    """The part of the door that shows and prunes checkpoints."""

    _db: Database
    _repos: Repos
    holders: Holders = staticmethod(nobody)
    """Set by who wires."""

    def checkpoints(self, subject: str) -> list[CheckpointInfo]:
        """Checkpoints of an experiment or of a trial, by trial and step, with why they stay.

        Raises:
            NotFound: ``trial.unknown`` where it is neither.
            Conflict: ``id.ambiguous``.
        """
        with self._db.read() as tx:
            experiment, trial = _subject(tx, subject)
            keep = _keep_of(experiment)
            found = held(tx, experiment, keep, self.holders(tx))
        return [info for info in found if trial in {None, info.trial}]

    def prune(self, experiment: str, keep: Keep | None = None, *, dry_run: bool = False) -> Pruned:
        """Give up the checkpoints of an experiment that ``keep`` (or its own policy) does not name.

        Those of a search that goes on keep at least the latest of each trial. One transaction; the
        bytes go with the next collection of garbage.

        Raises:
            NotFound: ``experiment.unknown``.
            Conflict: ``id.ambiguous``.
        """
        with self._db.read() if dry_run else self._db.begin() as tx:
            row = one(tx, tables.BY_PREFIX, experiment, "experiment")
            wanted = keep or _keep_of(row)
            if row.state == "running":
                wanted = resumable(wanted)
            found = held(tx, row, wanted, self.holders(tx))
            going = [info for info in found if not info.kept_for]
            if not dry_run:
                retire(tx, self._repos, [info.commit for info in going])
            return Pruned(
                removed=tuple(going),
                kept=tuple(info for info in found if info.kept_for),
                done=not dry_run,
            )


def held(
    tx: Tx, experiment: Any, keep: Keep, holders: Mapping[str, list[str]]
) -> list[CheckpointInfo]:
    """Every checkpoint of an experiment (its row), with the reasons that keep it."""
    rows = list(tx.execute(trial_tables.CHECKPOINTS, {"experiment": experiment.id}))
    why = reasons(map(_candidate, rows), keep, experiment.definition["mode"])
    warm = _warm_starts(tx, {row.tree for row in rows})
    latest = {row.trial: row.commit for row in rows}  # by step, so the last one counts
    return [
        trial_tables.checkpoint_of(
            row,
            [
                *why.get(row.commit, ()),
                *(holders.get(row.trial, ()) if latest[row.trial] == row.commit else ()),
                *warm.get(row.tree, ()),
            ],
        )
        for row in rows
    ]


def retire(tx: Tx, repos: Repos, commits: list[str]) -> None:
    """Take checkpoints away, and their names from the trials that stood on them."""
    if not commits:
        return
    repos.retire(commits, tx=tx, reason=RETIRED)
    table = trial_tables.checkpoints
    tx.execute(table.delete().where(table.c.commit.in_(commits)))
    trials = tables.trials
    nothing = {"checkpoint": None, "checkpoint_step": 0, "tree": ""}
    tx.execute(update(trials).where(trials.c.checkpoint.in_(commits)).values(nothing))


def resumable(keep: Keep) -> Keep:
    """The policy while trials may still go on: the latest of each stays."""
    return Keep(best=keep.best, trial_best=keep.trial_best, trial_latest=max(1, keep.trial_latest))


def _candidate(row: Any) -> Candidate:
    return Candidate(commit=row.commit, trial=row.trial, step=row.step, value=row.value)


def _warm_starts(tx: Tx, trees: set[str]) -> dict[str, list[str]]:
    """Which searches began with what one of these trees holds."""
    table = tables.experiments
    query = select(table.c.id, table.c.initial).where(table.c.initial.in_(trees))
    found = {row.initial: [f"warm start of experiment {row.id}"] for row in tx.execute(query)}
    forks = trial_tables.forks
    later = select(forks.c.job, forks.c.tree).where(forks.c.tree.in_(trees))
    for row in tx.execute(later):
        found.setdefault(row.tree, [f"job {row.job} goes on from it"])
    return found


def _subject(tx: Tx, subject: str) -> tuple[Any, str | None]:
    """The row of the experiment that is meant, and the trial where one is."""
    bounds = {"prefix": subject, "end": subject + "\U0010ffff"}
    if tx.execute(tables.BY_PREFIX, bounds).first() is not None:
        return one(tx, tables.BY_PREFIX, subject, "experiment"), None
    trial = one(tx, tables.TRIAL_BY_PREFIX, subject, "trial")
    return one(tx, tables.BY_PREFIX, trial.experiment, "experiment"), trial.id


def _keep_of(row: Any) -> Keep:
    return msgspec.convert(row.keep, Keep)
