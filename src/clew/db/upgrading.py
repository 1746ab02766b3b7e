"""The history of the schema: migrations in one line, and running what a database lacks of them.

Knows no table. A migration is a file ``vNNNN_what.py`` with ``upgrade(op)``, where ``op`` offers
the operations of alembic; once released it is never changed. ``make migration`` writes it.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from sqlalchemy.engine import Connection

MIGRATIONS = Path(__file__).parent / "migrations"


@lru_cache(maxsize=8)
def head(directory: Path) -> int:
    """The number of the newest migration."""
    return max(history(directory))


def history(directory: Path) -> dict[int, Path]:
    """Migrations by number, in order."""
    files = sorted(directory.glob("v[0-9][0-9][0-9][0-9]_*.py"))
    found = {int(file.name[1:5]): file for file in files}
    if list(found) != list(range(1, len(files) + 1)):
        raise ValueError(f"the migrations in {directory} are not one line: {list(found)}")
    return found


def upgrade(connection: Connection, version: int, directory: Path) -> None:
    """Run, inside the caller's transaction, every migration after ``version`` in order."""
    # A fresh or current workspace, which is nearly every one, does not pay for these.
    from alembic.migration import MigrationContext  # noqa: PLC0415 - see above
    from alembic.operations import Operations  # noqa: PLC0415 - see above

    operations = Operations(MigrationContext.configure(connection))
    for number, file in history(directory).items():
        if number > version:
            spec = spec_from_file_location(file.stem, file)
            assert spec is not None, "it ends in .py"
            assert spec.loader is not None, "it ends in .py"
            module = module_from_spec(spec)
            spec.loader.exec_module(module)
            module.upgrade(operations)
