"""The schema as the tables say it and as the migrations make it: compared, and written anew.

Knows every room, as each declares its tables. ``python -m clew.testing.schema`` is `make
migration`.
"""

from __future__ import annotations

import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata, produce_migrations, render_python_code
from alembic.migration import MigrationContext

from clew.db import Database, Json, metadata
from clew.db.upgrading import MIGRATIONS, history, upgrade

_FIRST = '''"""{title}"""

import sqlalchemy as sa
from alembic.operations import Operations


def upgrade(op: Operations) -> None:
{body}
'''


def all_tables() -> sa.MetaData:
    """The metadata with the tables of every room."""
    import_module("clew.workspace.rooms")
    return metadata


def migrate(db: Database, directory: Path = MIGRATIONS) -> None:
    """Run every migration on an empty database."""
    with db.begin() as tx:
        upgrade(tx._connection, 0, directory)


def differences(db: Database) -> list[Any]:
    """What autogenerate would change in a database for it to be as the tables say."""
    url = db._engine.url
    if url.get_backend_name() == "postgresql":  # the catalog is read with numbers of 32 bits
        url = url.set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        options = {"compare_type": _differ, "include_object": _is_of_a_room}
        context = MigrationContext.configure(connection, opts=options)
        found = list(compare_metadata(context, all_tables()))
    engine.dispose()
    return found


def _is_of_a_room(_thing: Any, name: str | None, kind: str, *_: Any) -> bool:
    """Whether a table counts; those of tests are named so."""
    return kind != "table" or not (name or "").startswith("test_")


def _differ(_context: Any, _there: Any, _meant: Any, found: Any, wanted: Any) -> bool | None:
    """Whether two types differ: all whole numbers are one to Clew, as they are to SQLite."""
    whole = isinstance(found, sa.Integer) and isinstance(wanted, sa.Integer)
    return False if whole else None


def write_migration(title: str, directory: Path = MIGRATIONS) -> Path:
    """Write the migration that is missing; while nothing is released, the first one anew."""
    last = max(history(directory))
    first = last == 1 and not _released()
    number = 1 if first else last + 1
    with tempfile.TemporaryDirectory() as place:
        db = Database.open(f"sqlite:///{place}/clew.db")
        try:
            if not first:
                migrate(db, directory)
            body = _body(db, in_batches=not first)
        finally:
            db.close()
    name = title.lower().replace(" ", "_")
    file = directory / f"v{number:04}_{'first' if first else name}.py"
    file.write_text(_FIRST.format(title=title.rstrip(".") + ".", body=body))
    return file


def _body(db: Database, *, in_batches: bool) -> str:
    """``in_batches``: as SQLite needs it where a table is there already."""
    with db.begin() as tx:
        context = MigrationContext.configure(
            tx._connection,
            opts={
                "render_item": _render,
                "user_module_prefix": None,
                "render_as_batch": in_batches,
            },
        )
        script = produce_migrations(context, all_tables())
        assert script.upgrade_ops is not None, "autogenerate always makes them"
        code = str(
            render_python_code(
                script.upgrade_ops,
                render_as_batch=in_batches,
                render_item=_render,
                migration_context=context,
            )
        )
    # Its own comments, and its words for what holds anyway, say nothing.
    lines = [line for line in code.splitlines() if line.strip() and "# ###" not in line]
    return "\n".join(lines).replace(", schema=None", "").replace(", unique=False", "")


def _render(kind: str, value: Any, context: Any) -> str | Literal[False]:  # noqa: ARG001 - alembic's signature
    """JSON is text to the database."""
    return "sa.Text()" if kind == "type" and isinstance(value, Json) else False


def _released() -> bool:
    """Whether databases of the first schema are out there: from version 1.0 on."""
    return not import_module("clew").__version__.startswith("0.")


if __name__ == "__main__":
    written = write_migration(" ".join(sys.argv[1:]) or "All tables of the first release")
    print(written)  # noqa: T201 - the answer
