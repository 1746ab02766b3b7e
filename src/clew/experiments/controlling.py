"""What people want of trials under way: pause, resume, cancel. Wishes in rows, for searches.

Knows rows; how a search obeys is in ``search``.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import update

from clew.base.errors import Conflict
from clew.base.records import Trial
from clew.db import Database, Tx
from clew.experiments import tables
from clew.experiments.kept import one

PAUSE, CANCEL = "pause", "cancel"
_OPEN = frozenset({"running", "paused"})


class Controls:
    """The part of the door that acts on trials. Each act is one transaction."""

    _db: Database

    def subject(self, text: str) -> tuple[str, str] | None:
        """What an id (or its beginning) names here: (its job, '' or the trial); None for nothing.

        Raises Conflict ``id.ambiguous``.
        """
        bounds = {"prefix": text, "end": text + "\U0010ffff"}
        with self._db.read() as tx:
            if tx.execute(tables.BY_PREFIX, bounds).first() is not None:
                return str(one(tx, tables.BY_PREFIX, text, "experiment").job), ""
            if tx.execute(tables.TRIAL_BY_PREFIX, bounds).first() is None:
                return None
            trial = one(tx, tables.TRIAL_BY_PREFIX, text, "trial")
            return str(_experiment(tx, trial).job), str(trial.id)

    def pause_trial(self, id: str) -> Trial:
        """Let a trial stop at its next report, with a checkpoint, and wait until it is resumed.

        Raises:
            NotFound: ``trial.unknown``.
            Conflict: ``trial.ended``.
        """
        return self._wish(id, PAUSE)

    def resume_trial(self, id: str) -> Trial:
        """Let a trial that was paused by hand go on from its checkpoint.

        Raises:
            NotFound: ``trial.unknown``.
            Conflict: ``trial.ended``, ``trial.not_paused``.
        """
        return self._wish(id, "")

    def cancel_trial(self, id: str) -> Trial:
        """End a trial now; the search goes on without it.

        Raises:
            NotFound: ``trial.unknown``.
            Conflict: ``trial.ended``.
        """
        return self._wish(id, CANCEL)

    def _wish(self, id: str, wish: str) -> Trial:
        with self._db.begin() as tx:
            row = one(tx, tables.TRIAL_BY_PREFIX, id, "trial")
            over = _experiment(tx, row).state != "running"
            if over or row.state not in _OPEN or row.wish == CANCEL:
                raise Conflict(
                    "trial.ended",
                    f"Trial {row.id} has ended, or its search has.",
                    hint="See what goes on: clew experiments",
                )
            if not wish and row.wish != PAUSE:
                raise Conflict(
                    "trial.not_paused",
                    f"Nobody has paused trial {row.id}.",
                    hint="A trial that waits at a rung goes on when the search promotes it.",
                )
            table = tables.trials
            tx.execute(update(table).where(table.c.id == row.id).values(wish=wish))
            data = {"experiment": row.experiment, "number": row.number, "wish": wish or "resume"}
            tx.emit("trial.asked", subject=row.id, global_id=row.global_id, data=data)
            return tables.trial_of(one(tx, tables.TRIAL_BY_PREFIX, row.id, "trial"))


def _experiment(tx: Tx, trial: Any) -> Any:
    return one(tx, tables.BY_PREFIX, trial.experiment, "experiment")
