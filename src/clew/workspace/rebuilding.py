"""A new database for a workspace that has lost its own, from what its store tells.

Knows files and the order of steps; what is made again is for repos.
"""

from __future__ import annotations

import os
from pathlib import Path

from clew.base.errors import Conflict, Invalid, NotFound
from clew.base.ids import new_id
from clew.base.records.keeping import Rebuilt
from clew.base.settings import Settings
from clew.db import Database
from clew.repos import Repos
from clew.store import Store
from clew.workspace.lending import DatabaseLock
from clew.workspace.rooms import Rooms

_BESIDE = ("-wal", "-shm")
_ALL_ROOMS = Rooms
"""Loaded with every room: their tables are made too, empty."""


def rebuild_workspace(settings: Settings) -> Rebuilt:
    """Make ``clew.db`` of a home anew from its store. It appears whole or not at all.

    Raises:
        NotFound: ``workspace.missing`` where there is no home.
        Conflict: ``rebuild.exists`` where there is a database still.
        Invalid: ``rebuild.database`` where rows are not kept in the home.
        Corrupt: ``journal.corrupt``, ``store.format_missing``.
    """
    target = settings.home / "clew.db"
    _check(settings, target)
    made = target.with_name(f"clew.db.{new_id()}")
    db = Database.open(f"sqlite:///{made}")
    try:
        cache = settings.home / "cache" / "store"
        store = Store.open(settings.store_address, exclusive=DatabaseLock(db), cache=cache)
        db.create(store=settings.store)
        report = Repos(db, store).rebuild()
    except BaseException:
        db.close()
        _remove(made)
        raise
    db.close()
    for suffix in _BESIDE:  # of the lost one: SQLite would take them for those of the new
        old = Path(f"{target}{suffix}")
        if old.exists():
            old.rename(f"{old}.old")
    made.rename(target)
    _sync(settings.home)
    return report


def _check(settings: Settings, target: Path) -> None:
    if settings.db:
        raise Invalid(
            "rebuild.database",
            "The rows of this workspace are in a database server, not in its home.",
            hint="Restore that from its backup; or rebuild in a home without `db` in config.toml.",
        )
    if target.exists():
        raise Conflict(
            "rebuild.exists",
            f"There is a database at {target}.",
            hint=f"If it is of no use any more, move it away first: mv {target} {target}.old",
        )
    if not settings.store and not (settings.home / "store" / "format").exists():
        raise NotFound(
            "workspace.missing",
            f"There is no store at {settings.home / 'store'} to rebuild from.",
            hint="Run this in the directory of your project, or set CLEW_HOME.",
        )


def _remove(made: Path) -> None:
    for path in (made, *(Path(f"{made}{suffix}") for suffix in _BESIDE)):
        path.unlink(missing_ok=True)


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
