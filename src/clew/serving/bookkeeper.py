"""Twice a second: due steps of rollouts are taken, and what this process answered becomes rows.

Knows no transport and no model. One thread, which takes the interpreter from whoever answers: so
rows are written once a second where no rollout reads them. What cannot be written is kept for the
next time.
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
from clew.serving.sketches import sketch
from clew.serving.stats import Counts

INTERVAL_S = 0.5
CALM_S = 1.0
"""How often rows are written while no rollout is under way. Whoever asks for counts has them
written first."""
_log = logging.getLogger("clew.serving")


class Bookkeeper:
    """Writes the counts of one serving process. ``gauges``: what it has now. Thread-safe."""

    def __init__(
        self,
        db: Database,
        rollouts: Rollouts,
        *,
        process: str,
        url: str,
        seen: Callable[[], Sequence[Runtime]],
        gauges: Callable[[], dict[str, float]],
    ) -> None:
        self._db, self._rollouts, self._process, self._url = db, rollouts, process, url
        self._seen, self._gauges = seen, gauges
        self._lock = threading.Lock()
        self._written: dict[Runtime, Counts] = {}
        self._beat_s = 0.0
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
        self.write()
        with self._db.begin() as tx:
            accounts.leave(tx, self._process)

    def _run(self) -> None:
        written_s = 0.0
        while not self._closed.wait(INTERVAL_S):
            try:
                now_s = time.monotonic()
                if self._rollouts.under_way or now_s - written_s > CALM_S - INTERVAL_S / 2:
                    self.write()
                    written_s = now_s
                self._rollouts.tick()
            except ClewError as error:
                _log.error("the counts cannot be written: %s", error)

    def write(self) -> None:
        """Write what was answered until now, so that whoever reads the rows sees it.

        Raises:
            Unavailable: the rows cannot be written; what was answered is kept for the next time.
        """
        with self._lock:
            self._write()

    def _write(self) -> None:
        news = self._news()
        now_s = time.monotonic()
        if not news and now_s - self._beat_s < accounts.BEAT_S:
            return
        with self._db.begin() as tx:
            accounts.beat(tx, self._process, self._gauges())
            accounts.add_counts(tx, self._sums(news))
        self._beat_s = now_s
        self._written.update(news)

    def _news(self) -> dict[Runtime, Counts]:
        """Runtimes that have answered since the last time, with their counts so far."""
        seen = set(self._seen())
        for runtime in seen:
            self._written.setdefault(runtime, Counts())
            _count_answers(runtime)
        for runtime in self._written.keys() - seen:
            if not runtime.waiting and runtime.account.snapshot() == self._written[runtime]:
                del self._written[runtime]
        counts = {runtime: runtime.account.snapshot() for runtime in self._written}
        return {runtime: now for runtime, now in counts.items() if now != self._written[runtime]}

    def _sums(self, news: dict[Runtime, Counts]) -> dict[tuple[str, str], Counts]:
        """What is new, by endpoint and revision (which may have been unloaded and loaded again)."""
        sums: dict[tuple[str, str], Counts] = {}
        for runtime, now in news.items():
            key = runtime.identity.endpoint, runtime.identity.revision
            sums[key] = sums.get(key, Counts()) + (now - self._written[runtime])
        return sums


def _count_answers(runtime: Runtime) -> None:
    """Take what the data plane has noted of answers into the account."""
    if runtime.watch:
        noted, runtime.watch = runtime.watch, []
        runtime.account.outputs = sketch(noted, runtime.account.outputs)
