"""What a serving process does beside predictions: metrics, statistics, load and unload.

Knows no transport. Everything here reads or writes rows and may wait: call it in a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from clew.base.errors import Invalid, NotFound
from clew.db import Database
from clew.serving import accounts, reports
from clew.serving.loading import turn, wait_loaded, wait_unloaded
from clew.serving.metrics import render
from clew.serving.revisions import definition_of

_SUMMED = {
    "clew_requests_in_flight": "Requests not answered yet.",
    "clew_serving_processes": "Serving processes that are alive.",
    "clew_grpc_connections": "Connections of gRPC that are open.",
}
_OWN = {
    "clew_unlogged_total": "Answers not kept in the log, by process.",
    "clew_grpc_connections_refused_total": "Connections beyond those that a process takes.",
}


class Desk:
    """Answers for all serving processes of a workspace, whichever is asked.

    ``write``: writes what this process answered until now. ``gauges``: what it has now. ``wake``:
    has it hold an endpoint that sleeps; why it cannot, or ''.
    Thread-safe.
    """

    def __init__(
        self,
        db: Database,
        *,
        process: str,
        write: Callable[[], None],
        gauges: Callable[[], Mapping[str, float]],
        wake: Callable[[str], str],
    ) -> None:
        self._wake = wake
        self._db, self._process = db, process
        self._write, self._gauges = write, gauges
        self._closed = threading.Event()

    def close(self) -> None:
        """End what waits."""
        self._closed.set()

    def metrics(self) -> str:
        """The text of ``/metrics``. Counts of other processes are at most half a second old."""
        self._write()
        with self._db.read() as tx:
            arms = reports.arms(tx)
            others = accounts.gauges(tx, but=self._process)
        own = self._gauges()
        sums = {name: sum(told.get(name, 0) for told in (own, *others)) for name in _SUMMED}
        singles: list[tuple[str, str, float, dict[str, str]]] = [
            (name, text, sums[name], {}) for name, text in _SUMMED.items()
        ]
        held = sum(arm.loaded > 0 for arm in arms)
        singles.append(("clew_revisions_loaded", "Revisions in memory.", held, {}))
        mine = {"process": self._process}
        singles += [(name, text, own.get(name, 0), mine) for name, text in _OWN.items()]
        return render(arms, singles)

    def statistics(self, name: str = "", version: str = "") -> list[dict[str, object]]:
        """The statistics of all endpoints, of one, or of one of its versions.

        Raises:
            NotFound: ``endpoint.unknown``, ``endpoint.version``.
        """
        self._write()
        with self._db.read() as tx:
            if name:
                definition_of(tx, name)
            found = [arm for arm in reports.arms(tx) if name in {"", arm.endpoint}]
        chosen = [arm for arm in found if version in {"", arm.version}]
        if version and not chosen:
            known = ", ".join(sorted({arm.version for arm in found})) or "none"
            raise NotFound(
                "endpoint.version", f"{name!r} has no version {version!r}; there is {known}."
            )
        return reports.statistics(chosen)

    def load(self, name: str) -> None:
        """Have all serving processes hold an endpoint's models; returns when they do. Where models
        sleep until they are asked for, this process holds them then.

        Raises:
            NotFound: ``endpoint.unknown``.
            Invalid: ``endpoint.nothing_live``, ``endpoint.load``.
            NotReady: ``endpoint.loading``.
            Unavailable: ``serving.ending``.
        """
        with self._db.begin() as tx:
            turn(tx, definition_of(tx, name), unloaded=False, reason="Loaded by a client.")
        wait_loaded(self._db, name, self._closed)
        if why := self._wake(name):
            raise Invalid("endpoint.load", f"{name!r} cannot be loaded: {why}")

    def unload(self, name: str) -> None:
        """Have all serving processes let go of an endpoint's models; returns when they have.

        Raises NotFound ``endpoint.unknown``, Unavailable ``serving.ending``.
        """
        with self._db.begin() as tx:
            turn(tx, definition_of(tx, name), unloaded=True, reason="Unloaded by a client.")
        wait_unloaded(self._db, name, self._closed)
