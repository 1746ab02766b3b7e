"""Rows of what happens in serving processes: who is alive, what is loaded, what was answered.

Knows nothing of rollouts; reads and writes rows in a transaction that it is given.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec.structs import replace
from sqlalchemy import delete, select, update

from clew.base.clock import now, to_us
from clew.db import Tx
from clew.serving import tables
from clew.serving.stats import Counts, Work

ALIVE_S = 15.0
BEAT_S = 3.0
LOADING = "loading"
"""Stands for an error while a process loads; it stays where the process dies of it."""
ASLEEP = "asleep"
"""Stands for an error where a process does not hold a revision until it is asked for it."""
_LOST = ("expired", "overloads")


def now_us() -> int:
    """The present in microseconds since the Unix epoch."""
    return to_us(now())


def register(tx: Tx, process: str, url: str) -> None:
    """A process serves at ``url`` from now on. Rows of dead processes are removed."""
    alive_ids = {row.id for row in alive(tx)}
    for row in tx.execute(select(tables.serving_processes.c.id)).all():
        if row.id not in alive_ids:
            _forget(tx, row.id)
    tx.execute(
        tables.serving_processes.insert(),
        {
            "id": process,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "url": url,
            "started_us": now_us(),
            "beat_us": now_us(),
            "gauges": {},
        },
    )


def leave(tx: Tx, process: str) -> None:
    """A process serves no more."""
    _forget(tx, process)
    table = tables.revision_loads
    tx.execute(delete(table).where(table.c.process == process))


def _forget(tx: Tx, process: str) -> None:
    """Remove what a dead process had loaded; what it died in stays."""
    table, loads = tables.serving_processes, tables.revision_loads
    tx.execute(delete(table).where(table.c.id == process))
    tx.execute(delete(loads).where(loads.c.process == process, loads.c.error != LOADING))


def beat(tx: Tx, process: str, gauges: Mapping[str, float] | None = None) -> None:
    """A process is alive, and has this now."""
    table = tables.serving_processes
    values = {"beat_us": now_us(), **({} if gauges is None else {"gauges": dict(gauges)})}
    tx.execute(update(table).where(table.c.id == process).values(values))


def gauges(tx: Tx, but: str) -> list[dict[str, float]]:
    """What each process that is alive last told that it has, without one of them."""
    return [row.gauges for row in alive(tx) if row.id != but]


def unloaded(tx: Tx, revision: str, process: str) -> None:
    """A process has a revision no more."""
    table = tables.revision_loads
    tx.execute(delete(table).where(table.c.revision == revision, table.c.process == process))


def forget_loads(tx: Tx, revision: str) -> None:
    """Whoever holds a revision, or could not load it, is to say so anew."""
    table = tables.revision_loads
    tx.execute(delete(table).where(table.c.revision == revision))


def loads_of(tx: Tx, process: str) -> set[str]:
    """Revisions that a process has told of: in memory, or tried to the end."""
    table = tables.revision_loads
    query = select(table.c.revision).where(table.c.process == process, table.c.error != LOADING)
    return set(tx.execute(query).scalars())


def alive(tx: Tx) -> list[Any]:
    """Rows of the processes that serve now, oldest first."""
    table = tables.serving_processes
    recent = now_us() - int(ALIVE_S * 1e6)
    rows = tx.execute(select(table).where(table.c.beat_us > recent).order_by(table.c.started_us))
    return [row for row in rows if row.host != socket.gethostname() or _runs(row.pid)]


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123 - a Path costs more than the read
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def loaded(tx: Tx, revision: str, process: str, error: str = "") -> None:
    """A process has a revision in memory, could not load it, or (LOADING) is about to try."""
    table = tables.revision_loads
    row = {"revision": revision, "process": process, "error": error, "at_us": now_us()}
    tx.upsert(table, [row], key=["revision", "process"], refresh=["error", "at_us"])
    if not error:  # whoever died in it before did not die of it
        tx.execute(delete(table).where(table.c.revision == revision, table.c.error == LOADING))


def loads(tx: Tx, revision: str) -> dict[str, str]:
    """Process → error ('': loaded, or asleep), of those that have tried to the end."""
    table = tables.revision_loads
    query = select(table).where(table.c.revision == revision, table.c.error != LOADING)
    return {row.process: "" if row.error == ASLEEP else row.error for row in tx.execute(query)}


def held(tx: Tx) -> dict[str, int]:
    """Revision → how many processes that are alive have it in memory."""
    table = tables.revision_loads
    alive_ids = {row.id for row in alive(tx)}
    rows = tx.execute(select(table).where(table.c.error == ""))
    return dict(Counter(row.revision for row in rows if row.process in alive_ids))


def deaths(tx: Tx, revision: str) -> int:
    """How many processes died while they loaded a revision, since it was last in memory."""
    table = tables.revision_loads
    query = select(table).where(table.c.revision == revision, table.c.error == LOADING)
    alive_ids = {row.id for row in alive(tx)}
    return sum(row.process not in alive_ids for row in tx.execute(query))


def add_counts(tx: Tx, counts: Mapping[tuple[str, str], Counts]) -> None:
    """What a process answered since the last time, by (endpoint, revision)."""
    for (endpoint, revision), more in counts.items():
        total = totals(tx, revision) + more
        work = msgspec.to_builtins(total.work, str_keys=True)
        tx.upsert(
            tables.revision_totals,
            [{"revision": revision, "endpoint": endpoint, **_row_of(total), "work": work}],
            key=["revision"],
            refresh=[*tables.COUNTS, "work"],
        )


def totals(tx: Tx, revision: str) -> Counts:
    """All that a revision ever answered."""
    table = tables.revision_totals
    row = tx.execute(select(table).where(table.c.revision == revision)).first()
    return _total_of(row) if row else Counts()


def all_totals(tx: Tx) -> dict[tuple[str, str], Counts]:
    """All that was ever answered, by (endpoint, revision)."""
    rows = tx.execute(select(tables.revision_totals))
    return {(row.endpoint, row.revision): _total_of(row) for row in rows}


def _row_of(counts: Counts) -> dict[str, Any]:
    return {name: getattr(counts, name) for name in tables.COUNTS}


def _total_of(row: Any) -> Counts:
    return replace(_counts_of(row), work=msgspec.convert(row.work, Work, str_keys=True))


def _counts_of(row: Any) -> Counts:
    values = {name: getattr(row, name) for name in tables.COUNTS}
    return Counts(**{**values, "buckets": tuple(row.buckets)})


def base_of(counts: Counts) -> dict[str, Any]:
    """Counts as they are kept until something is subtracted from them."""
    return {**_row_of(counts), **{name: getattr(counts.work, name) for name in _LOST}}


def from_base(base: Mapping[str, Any]) -> Counts:
    """What :func:`base_of` made."""
    kept = {name: value for name, value in base.items() if name not in _LOST}
    work = Work(**{name: base.get(name, 0) for name in _LOST})  # 0: kept before these counted
    return Counts(**{**kept, "buckets": tuple(base["buckets"])}, work=work)
