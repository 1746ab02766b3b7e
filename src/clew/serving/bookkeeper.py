"""Twice a second: what this process answered becomes rows, and due steps of rollouts are taken.

Knows no transport and no model. One thread; what cannot be written is kept for the next time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from clew.base.errors import ClewError
from clew.db import Database
from clew.serving import accounts
from clew.serving.rollouts import Rollouts
from clew.serving.runtime import Runtime
from clew.serving.stats import Counts

INTERVAL_S = 0.5
_PRUNE_S = 300.0
_log = logging.getLogger("clew.serving")


class Bookkeeper:
    """Writes the counts of one serving process. ``totals``: those of all, as last read."""

    def __init__(
        self,
        db: Database,
        rollouts: Rollouts,
        *,
        process: str,
        url: str,
        loaded: Callable[[], Sequence[Runtime]],
    ) -> None:
        self._db, self._rollouts, self._process, self._url = db, rollouts, process, url
        self._loaded = loaded
        self._written: dict[Runtime, Counts] = {}
        self._beat_s = 0.0
        self._prune_s = time.monotonic()
        self.totals: dict[tuple[str, str], Counts] = {}
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bookkeeper", daemon=True)

    def start(self) -> None:
        """Tell that this process serves, and go on telling."""
        with self._db.begin() as tx:
            accounts.register(tx, self._process, self._url)
        self._beat_s = time.monotonic()
        self._thread.start()

    def close(self) -> None:
        """Write what is left and tell that this process serves no more."""
        self._closed.set()
        self._thread.join()
        self._write()
        with self._db.begin() as tx:
            accounts.leave(tx, self._process)

    def _run(self) -> None:
        while not self._closed.wait(INTERVAL_S):
            try:
                self._write()
                self._rollouts.tick()
            except ClewError as error:
                _log.error("the counts cannot be written: %s", error)

    def _write(self) -> None:
        news = self._news()
        now_s = time.monotonic()
        if not news and now_s - self._beat_s < accounts.BEAT_S:
            return
        with self._db.begin() as tx:
            accounts.beat(tx, self._process)
            accounts.add_counts(tx, self._process, self._sums(news))
            if now_s - self._prune_s > _PRUNE_S:
                accounts.prune(tx)
                self._prune_s = now_s
            self.totals = accounts.all_totals(tx)
        self._beat_s = now_s
        self._written.update(news)

    def _news(self) -> dict[Runtime, Counts]:
        """Runtimes that have answered since the last time, with their counts so far."""
        loaded = set(self._loaded())
        for runtime in [each for each in self._written if each not in loaded]:
            if not runtime.waiting and runtime.account.requests == self._written[runtime].requests:
                del self._written[runtime]
        counts = {runtime: runtime.account.snapshot() for runtime in loaded | self._written.keys()}
        return {
            runtime: now
            for runtime, now in counts.items()
            if now.requests != self._written.get(runtime, Counts()).requests
        }

    def _sums(self, news: dict[Runtime, Counts]) -> dict[tuple[str, str], Counts]:
        return {
            (runtime.identity.endpoint, runtime.identity.revision): now
            - self._written.get(runtime, Counts())
            for runtime, now in news.items()
        }
