"""What trials kept, for whoever looks: points, logged files, samples, logs.

Knows rows and the store; nothing of how a search goes on.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import select

from clew.base.errors import Conflict, NotFound
from clew.base.records import MetricPoint, Trial
from clew.base.records.trials import TrialDetail
from clew.db import Database, Tx
from clew.experiments import tables, trial_tables
from clew.store import Store

MINIMUM_PREFIX = 4


class Kept:
    """The part of the door that shows trials. Ids may be shortened to four characters."""

    _db: Database
    _store: Store

    def trial(self, id: str) -> Trial:
        """One trial, by its id or a unique prefix of it.

        Raises:
            NotFound: ``trial.unknown``.
            Conflict: ``id.ambiguous``.
        """
        with self._db.read() as tx:
            return tables.trial_of(one(tx, tables.TRIAL_BY_PREFIX, id, "trial"))

    def points(self, trial: str) -> tuple[MetricPoint, ...]:
        """What a trial (its full id) reported, by step."""
        with self._db.read() as tx:
            rows = tx.execute(tables.POINTS_OF_TRIAL, {"trial": trial})
            return tuple(map(tables.point_of, rows))

    def log(self, trial: str) -> str:
        """The end of what a trial printed. Raises NotFound ``trial.unknown``."""
        with self._db.read() as tx:
            return str(one(tx, tables.TRIAL_BY_PREFIX, trial, "trial").log)

    def detail(self, trial: str) -> TrialDetail:
        """A trial with all that it kept. Raises as :meth:`trial` does."""
        with self._db.read() as tx:
            row = one(tx, tables.TRIAL_BY_PREFIX, trial, "trial")
            of = {"trial": row.id}
            return TrialDetail(
                trial=tables.trial_of(row),
                points=tuple(map(tables.point_of, tx.execute(tables.POINTS_OF_TRIAL, of))),
                files=tuple(map(trial_tables.file_of, tx.execute(trial_tables.FILES_OF_TRIAL, of))),
                usage=tuple(
                    map(trial_tables.sample_of, tx.execute(trial_tables.USAGE_OF_TRIAL, of))
                ),
                log=row.log,
            )

    def file(self, trial: str, path: str) -> bytes:
        """The content of a file that a trial logged. Raises NotFound ``trial.no_file`` too."""
        with self._db.read() as tx:
            id = one(tx, tables.TRIAL_BY_PREFIX, trial, "trial").id
            asked = {"trial": id, "path": path.lstrip("/")}
            row = tx.execute(trial_tables.FILE, asked).first()
        if row is None:
            raise NotFound(
                "trial.no_file",
                f"Trial {id} has logged no file {path!r}.",
                hint=f"See what it has: clew trial {id}",
            )
        return self._store.read(row.digest)

    def roots(self, tx: Tx) -> Iterator[str]:
        """What of the store rows of this room name: it must not be collected."""
        table, files = tables.trials, trial_tables.files
        yield from tx.execute(select(table.c.tree).where(table.c.tree != "")).scalars()
        yield from tx.execute(select(files.c.digest).distinct()).scalars()
        begun = tables.experiments
        warm = select(begun.c.initial).where(begun.c.initial != "", begun.c.state == "running")
        yield from tx.execute(warm).scalars()
        forks = trial_tables.forks
        yield from tx.execute(select(forks.c.tree).where(forks.c.tree != "")).scalars()


def one(tx: Tx, query: tables.Rows, id: str, what: str) -> Any:
    """The row whose id is ``id``, or the only one that begins with it.

    Raises:
        NotFound: ``experiment.unknown``, ``trial.unknown``.
        Conflict: ``id.ambiguous``.
    """
    rows = tx.execute(query, {"prefix": id, "end": id + "\U0010ffff"}).all()
    if len(rows) == 1 and len(id) >= MINIMUM_PREFIX:
        return rows[0]
    if len(rows) > 1 and len(id) >= MINIMUM_PREFIX:
        raise Conflict(
            "id.ambiguous",
            f"{id!r} is the beginning of {len(rows)} {what}s.",
            hint="Give more characters of the id.",
        )
    raise NotFound(
        f"{what}.unknown",
        f"There is no {what} {id!r}.",
        hint="List them with: clew experiments",
    )
