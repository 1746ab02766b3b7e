"""A table of tests and what is done to it: little to import, for programs that tests start."""

from __future__ import annotations

import sqlalchemy as sa

from clew.db import Database, Json

_own = sa.MetaData()
things = sa.Table(
    "conformance_things",
    _own,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("count", sa.Integer, nullable=False),
    sa.Column("flag", sa.Integer, nullable=False, server_default="0"),
    sa.Column("note", Json),
)


def count_up(db: Database) -> None:
    """Read, then write what was read plus one: right only where writers are one at a time."""
    with db.begin() as tx:
        count = tx.execute(sa.select(things.c.count).where(things.c.name == "n")).scalar_one()
        tx.execute(things.update().where(things.c.name == "n").values(count=count + 1))
        tx.emit("thing.counted", subject="n", data={"count": count + 1})
