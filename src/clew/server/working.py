"""The engine of a server, on a thread of its own, for as long as the lock is held.

Knows the lock and when to begin again; what a round does is the engine's.
"""

from __future__ import annotations

import logging
import threading

from clew.base.errors import Conflict, Unavailable
from clew.base.running import running_server
from clew.base.structs import KNOWN
from clew.db import ENGINE_LOCK, Lock
from clew.server.memory import few_arenas, give_back
from clew.workspace import Engine, Workspace

RETRY_S = 1.0
"""How often a lock that was lost is asked for again."""

_log = logging.getLogger("clew.server")


class Working:
    """Works on a workspace until :meth:`end`. Made by :meth:`take`.

    Where the lock is lost (the connection to PostgreSQL broke), all work stops at once, and what
    ran is taken up by whoever has the lock next: another server, or this one again.
    """

    def __init__(self, workspace: Workspace, lock: Lock) -> None:
        self._workspace = workspace
        self._rooms = workspace.rooms
        self._lock: Lock | None = lock
        self._stop = threading.Event()
        self._halt = threading.Event()
        self._thread = threading.Thread(target=self._work, name="clew-engine", daemon=True)

    @classmethod
    def take(cls, workspace: Workspace) -> Working:
        """Take the lock: from then on nobody else works on it.

        Raises:
            Conflict: ``workspace.served`` where another engine works on it, naming the process.
        """
        return cls(workspace, _take(workspace))

    def start(self) -> None:
        """Begin to work, with what a dead engine has left."""
        few_arenas()
        KNOWN.several_threads()
        self._workspace.serves = True
        self._begin()
        self._thread.start()

    def end(self, grace_s: float = 0.0) -> None:
        """Stop; what runs waits again. Datums that run may come to their end within ``grace_s``.

        A second Ctrl-C meanwhile ends the grace.
        """
        self._stop.set()
        self._halt.set()
        try:
            self._rooms.pipelines.close(grace_s)
        except KeyboardInterrupt:
            self._rooms.pipelines.close()
        self._thread.join()

    def let_go(self) -> None:
        """Let others have the lock. Doing so twice is harmless."""
        self._rooms.db.fence(None)
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _work(self) -> None:
        engine = self._engine
        while not self._stop.is_set():
            engine.run(self._halt)
            if self._stop.is_set():
                return
            _log.error("the lock of the engine was lost: work stops until it is had again")
            self._rooms.pipelines.interrupt()
            self.let_go()
            if self._take_again():
                engine = self._engine

    def _begin(self) -> None:
        lock = self._lock
        assert lock is not None, "it was just taken"
        self._rooms.db.fence(lock)
        self._engine = Engine(self._rooms, report=_log.error, rested=give_back, served=True)
        self._engine.recover()
        self._halt.clear()
        lock.on_loss(self._halt.set)

    def _take_again(self) -> bool:
        """Wait for the lock; False where the server ends before it is had."""
        refused = ""
        while not self._stop.wait(RETRY_S):
            try:
                self._lock = self._rooms.db.lock(ENGINE_LOCK, "clew server")
                self._begin()
            except (Conflict, Unavailable) as error:
                self.let_go()
                if str(error) != refused:
                    refused = str(error)
                    _log.error("the lock of the engine cannot be had: %s", refused)
                continue
            if self._stop.is_set():  # it came between: what was cleared has to stay set
                self._halt.set()
            _log.warning("the lock of the engine is had again: work goes on")
            return True
        return False


def _take(workspace: Workspace) -> Lock:
    try:
        return workspace.rooms.db.lock(ENGINE_LOCK, "clew server")
    except Conflict as error:
        home = workspace.rooms.settings.home
        running = running_server(home)
        where = f" It answers at {running.url}." if running else ""
        raise Conflict(
            "workspace.served",
            f"Another process works on {home}: {error.message}{where}",
            hint="Use that one, wait until it ends, or stop it.",
        ) from None
