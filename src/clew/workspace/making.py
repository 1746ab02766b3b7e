"""Make a workspace, or join one that another machine has made: where rows and bytes will be.

Knows the order: everything is reached before anything is written.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from clew.base.errors import Conflict, Invalid, NotFound
from clew.base.settings import Settings, expand, shown, write_config
from clew.db import Database, Identity
from clew.workspace.opening import open_workspace


def make_workspace(
    home: Path, environ: Mapping[str, str], *, db: str = "", store: str = "", join: bool = False
) -> Settings:
    """A new workspace in ``home``, or with ``join`` the one that ``db`` holds; its settings.

    ``db`` and ``store`` may hold ``${NAME}`` for what ``environ`` knows; '' is the home itself.
    Where rows or bytes are elsewhere, ``config.toml`` in the home says so to all later commands.

    Raises:
        Conflict: ``workspace.exists``; ``workspace.taken`` where the database holds one already.
        NotFound: ``workspace.missing`` where there is none to join; ``db.missing``.
        Invalid: ``workspace.join`` where it is not said what to join; ``store.local``.
        Denied: ``db.denied``.
        Unavailable: ``db.unreachable``.
    """
    settings = Settings(home=home, db=expand(db, environ), store=expand(store, environ))
    if any((home / name).exists() for name in ("clew.db", "config.toml")):
        raise Conflict(
            "workspace.exists",
            f"There is a workspace at {home} already.",
            hint="Use it, or choose another directory.",
        )
    if join and not db:
        raise Invalid(
            "workspace.join",
            "A workspace is joined through its database.",
            hint="Name it: clew init --join --db postgresql://user@host/database",
        )
    found = _look(settings) if db else None
    if join:
        store = store or _store_of(found, settings)
    elif found is not None:
        raise Conflict(
            "workspace.taken",
            f"{shown(settings.db)} holds the workspace {found.id} already.",
            hint="Work on that one with --join, or name another database or schema.",
        )
    if "://" not in store and store:
        store = str(Path(store).absolute())
    settings = replace(settings, store=expand(store, environ))
    before = home.exists()
    try:
        open_workspace(settings, create=not join).close()
    except BaseException:
        if not before:
            shutil.rmtree(home, ignore_errors=True)
        raise
    if not db and not store:
        return settings
    made = _look(settings)
    assert made is not None, "it was just made"
    write_config(home, workspace=made.id, db=db, store=store)
    return replace(settings, workspace=made.id)


def upgrade_workspace(settings: Settings) -> str:
    """Bring the database of an older Clew to this one; where the copy made before is, or ''.

    Raises:
        NotFound: ``workspace.missing``.
        Conflict: ``db.newer``; ``lock.held`` where somebody works on it.
    """
    if not settings.made:
        raise NotFound(
            "workspace.missing",
            f"There is no workspace at {settings.home}.",
            hint="Run `clew init` in the directory of your project.",
        )
    db = Database.open(settings.database_url)
    try:
        return db.upgrade()
    finally:
        db.close()


def _look(settings: Settings) -> Identity | None:
    db = Database.open(settings.database_url)
    try:
        return db.identity()
    finally:
        db.close()


def _store_of(found: Identity | None, settings: Settings) -> str:
    if found is None:
        raise NotFound(
            "workspace.missing",
            f"There is no workspace in {shown(settings.db)} to join.",
            hint="Make it without --join.",
        )
    if not found.store:
        raise Invalid(
            "store.local",
            f"The workspace {found.id} keeps its bytes in the directory of another workspace home.",
            hint="Name the directory that both machines see: --store PATH",
        )
    return found.store
