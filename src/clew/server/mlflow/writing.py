"""Hot writes of many requests in few transactions, each answered when it is durable.

Knows MLflow's tables; nothing of HTTP. Whatever has come while a transaction was being committed is
in the next one: a lone client gets one for each request, a hundred at once get a few for all.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence

from clew.base.errors import ClewError, Unavailable
from clew.db import Database, Tx
from clew.server.mlflow import tables
from clew.server.mlflow.hot import Logged

_MOST = 2000
"""So many rows are in one transaction, about: others who write to the database come between."""

_log = logging.getLogger("clew.server")


class Writing:
    """A thread that writes for all. :meth:`log` is for event loops; :meth:`close` ends it."""

    def __init__(self, db: Database, kind: str) -> None:
        """``db``: MLflow's own. ``kind``: ``sqlite`` or ``postgresql``."""
        self._db = db
        self._kind = kind
        self._queue: list[tuple[Logged, asyncio.Future[bool], asyncio.AbstractEventLoop]] = []
        self._some = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="clew-mlflow-writes", daemon=True)
        self._thread.start()

    async def log(self, logged: Logged) -> bool:
        """Return when it is committed; False where it was not written, and MLflow has to say why.

        Raises:
            Unavailable: ``server.stops``, and what the database raises.
        """
        loop = asyncio.get_running_loop()
        done = loop.create_future()
        with self._some:
            if self._closed:
                raise _stops()
            self._queue.append((logged, done, loop))
            self._some.notify()
        return bool(await done)

    def close(self) -> None:
        """Write what waits, and end the thread."""
        with self._some:
            self._closed = True
            self._some.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._some:
                while not self._queue and not self._closed:
                    self._some.wait()
                taken, self._queue = _split(self._queue)
            if not taken:
                return
            found: list[bool | ClewError] = []
            try:
                found += self._write([logged for logged, _, _ in taken])
            except ClewError as error:
                found = [error] * len(taken)
            except Exception:  # noqa: BLE001 - whoever asks is told by MLflow's application
                _log.exception("metrics could not be written at once")
                found = [False] * len(taken)
            _tell(taken, found)

    def _write(self, batch: Sequence[Logged]) -> list[bool]:
        with self._db.begin() as tx:
            ids = sorted({logged.run for logged in batch})
            active = {row.run_uuid for row in tx.execute(tables.ACTIVE, {"ids": ids})}
            taken = [logged.run in active and _add_params(tx, logged) for logged in batch]
            written = [logged for logged, ok in zip(batch, taken, strict=True) if ok]
            self._add_metrics(tx, written)
            values = {(run.run, key): value for run in written for key, value in run.tags}
            rows = [{"run_uuid": r, "key": k, "value": v} for (r, k), v in values.items()]
            tx.upsert(tables.tags, rows, key=["key", "run_uuid"], refresh=["value"])
        return taken

    def _add_metrics(self, tx: Tx, written: Sequence[Logged]) -> None:
        """What is there already (the same step, time and value) is no second row."""
        rows = [
            {
                "key": one.key,
                "timestamp": one.timestamp,
                "step": one.step,
                "run_uuid": one.run_uuid,
                "value": one.value,
                "is_nan": one.is_nan,
            }
            for logged in written
            for one in logged.metrics
        ]
        if not rows:
            return
        key = ["key", "timestamp", "step", "run_uuid", "value", "is_nan"]
        tx.upsert(tables.metrics, rows, key=key)
        newest: dict[tuple[object, object], dict[str, object]] = {}
        for row in sorted(rows, key=lambda row: (row["step"], row["timestamp"], row["value"])):
            newest[row["run_uuid"], row["key"]] = row
        tx.execute(tables.latest(self._kind), list(newest.values()))


def _add_params(tx: Tx, logged: Logged) -> bool:
    """Whether its parameters are new or say what they said before; then they are written."""
    if not logged.params:
        return True
    keys = [key for key, _ in logged.params]
    if len(set(keys)) < len(keys):
        return False
    known = {
        row.key: row.value for row in tx.execute(tables.PARAMS, {"run": logged.run, "keys": keys})
    }
    if any(known.get(key, value) != value for key, value in logged.params):
        return False
    rows = [{"run_uuid": logged.run, "key": key, "value": value} for key, value in logged.params]
    tx.upsert(tables.params, rows, key=["key", "run_uuid"])
    return True


_Waiting = list[tuple[Logged, "asyncio.Future[bool]", asyncio.AbstractEventLoop]]


def _split(queue: _Waiting) -> tuple[_Waiting, _Waiting]:
    rows = 0
    for at, (logged, _, _) in enumerate(queue):
        rows += len(logged.metrics) + len(logged.params) + len(logged.tags)
        if rows >= _MOST:
            return queue[: at + 1], queue[at + 1 :]
    return queue, []


def _tell(taken: _Waiting, found: Sequence[bool | ClewError]) -> None:
    """Each loop is woken once for all of its requests."""
    loops = {loop for _, _, loop in taken}
    for loop in loops:
        mine = [(done, one) for (_, done, at), one in zip(taken, found, strict=True) if at is loop]
        try:
            loop.call_soon_threadsafe(_settle, mine)
        except RuntimeError:
            continue  # the server has stopped: nobody waits any more


def _settle(mine: Sequence[tuple[asyncio.Future[bool], bool | ClewError]]) -> None:
    for done, one in mine:
        if done.done():
            continue  # the client went away
        if isinstance(one, ClewError):
            done.set_exception(one)
        else:
            done.set_result(one)


def _stops() -> Unavailable:
    return Unavailable("server.stops", "The server stops.", hint="Ask again in a moment.")
