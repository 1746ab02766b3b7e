"""Load and unload of endpoints, as rows: whether serving processes hold their models at all.

Knows no models in memory. An unloaded endpoint keeps its revisions and their shares of the traffic;
no process holds any of them, no step of a rollout is taken, and requests are refused until it is
loaded again, by a client or by a deploy.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Select, delete, select, update

from clew.base.errors import Invalid, NotReady, Unavailable
from clew.db import Database, Tx
from clew.serving import accounts, tables

LOAD_S = 120.0
UNLOAD_S = 10.0
_LOOK_S = 0.02


def turn(tx: Tx, endpoint: Any, *, unloaded: bool, reason: str) -> None:
    """Have every serving process let go of an endpoint's models, or hold them again. Idempotent.

    ``endpoint``: its row.
    """
    if endpoint.unloaded == unloaded:
        return
    table = tables.endpoints
    tx.execute(update(table).where(table.c.name == endpoint.name).values(unloaded=unloaded))
    if not unloaded:  # what failed before is tried anew
        loads = tables.revision_loads
        failed = loads.c.error.not_in(("", accounts.LOADING, accounts.ASLEEP))
        tx.execute(delete(loads).where(loads.c.revision.in_(_revisions(endpoint.name)), failed))
    kind = "endpoint.unloaded" if unloaded else "endpoint.loaded"
    tx.emit(kind, subject=endpoint.name, data={"endpoint": endpoint.name, "reason": reason})


def wait_loaded(db: Database, endpoint: str, closed: threading.Event) -> None:
    """Return when every serving process has the live revision of an endpoint in memory.

    Raises:
        Invalid: ``endpoint.nothing_live`` where it has none; ``endpoint.load`` where it cannot be
            loaded.
        NotReady: ``endpoint.loading`` where it takes more than two minutes.
        Unavailable: ``serving.ending``.
    """
    for _ in _looks(LOAD_S, closed):
        with db.read() as tx:
            rows = [row for row in tx.execute(tables.OPEN) if row.endpoint == endpoint]
            live = next((row for row in rows if row.state == "live"), None)
            if live is None:
                raise Invalid(
                    "endpoint.nothing_live",
                    f"The endpoint {endpoint!r} has no live revision.",
                    hint="Deploy a model version: clew deploy ENDPOINT MODEL_VERSION",
                )
            loads = accounts.loads(tx, live.id)
            alive = [row.id for row in accounts.alive(tx)]
        errors = [loads[process] for process in alive if loads.get(process)]
        if errors:
            raise Invalid("endpoint.load", f"{endpoint!r} cannot be loaded: {errors[0]}")
        if all(process in loads for process in alive):
            return
    raise NotReady(
        "endpoint.loading",
        f"The endpoint {endpoint!r} is still being loaded.",
        hint="Ask again whether it is ready.",
    )


def wait_unloaded(db: Database, endpoint: str, closed: threading.Event) -> None:
    """Return when no serving process holds a revision of an endpoint any more (or after 10 s).

    Raises Unavailable ``serving.ending``.
    """
    loads = tables.revision_loads
    query = select(loads.c.process).where(
        loads.c.revision.in_(_revisions(endpoint)), loads.c.error.in_(("", accounts.LOADING))
    )
    for _ in _looks(UNLOAD_S, closed):
        with db.read() as tx:
            alive = {row.id for row in accounts.alive(tx)}
            holding = {process for (process,) in tx.execute(query)} & alive
        if not holding:
            return


def _revisions(endpoint: str) -> Select[tuple[str]]:
    table = tables.revisions
    return select(table.c.id).where(table.c.endpoint == endpoint)


def _looks(limit_s: float, closed: threading.Event) -> Iterator[None]:
    """Now, and again every few milliseconds until the time is over."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        yield
        if closed.wait(_LOOK_S):
            raise Unavailable(
                "serving.ending", "This serving process ends.", hint="Ask another one."
            )
