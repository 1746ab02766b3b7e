"""Shadows: copies of answered requests go to another revision, and its answers to the log.

Knows no transport. A copy is taken after the live answer is made, and computed by a thread of its
own, so that it delays nothing and its failure is nobody's. The thread takes at most a quarter of
one core (``REST``); copies that come while the room for them is full are dropped and counted.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from clew.base.ids import PredictionIds
from clew.serving.runtime import Runtime, has_nan, nan_rows
from clew.serving.spool import Record, Spool, frame
from clew.serving.tensors import InputError

MOST_COPIES = 512
MOST_BYTES = 16 << 20
"""Copies that wait in one process, and the bytes of their requests."""
BATCH = 64
REST = 3.0
"""After each batch the thread rests so many times as long as it took."""
NEAR = 0.05
"""Numbers of two answers agree within so much of the greater of them."""
CHANCE = 0.1
"""Probabilities agree within so much."""
_log = logging.getLogger("clew.serving")


class Copy:
    """An answered request (``call``, its prediction ``of``), for a shadow. The live answer is
    ``arrays``, from row ``at`` to ``stop``.
    """

    __slots__ = ("arrays", "at", "call", "of", "rows", "runtime", "stop", "values")

    def __init__(
        self, runtime: Runtime, call: Any, of: str, arrays: Any, at: int, stop: int
    ) -> None:
        self.runtime, self.call, self.of = runtime, call, of
        self.arrays, self.at, self.stop = arrays, at, stop
        self.values: Any = None
        self.rows = 0


class Shadows:
    """The shadow thread of one serving process, begun with the first copy.

    ``predict``: a runtime and calls with ``values`` and ``rows`` → (calls, outputs or error) each.
    ``record``: a copy, its outputs (or None), an id and an error → what the log keeps, or None.
    """

    def __init__(
        self,
        spool: Spool | None,
        predict: Callable[[Runtime, list[Any]], Any],
        record: Callable[[Copy, Any, int, int, str, float, str], Record | None],
    ) -> None:
        self._spool, self._predict, self._record = spool, predict, record
        self._room: deque[Copy] = deque()
        self._bytes = 0
        self._ids = PredictionIds()
        self._draw = random.Random().random  # noqa: S311 - not a secret
        self._come = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None

    def offer(self, copy: Copy, share: float) -> None:
        """Take a copy, unless it is not drawn (``share`` of 1) or there is no room. On the loop."""
        if share < 1 and self._draw() >= share:
            return
        size = len(copy.call.body)
        if len(self._room) >= MOST_COPIES or self._bytes + size > MOST_BYTES:
            copy.runtime.account.dropped += 1
            return
        self._bytes += size
        self._room.append(copy)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
            self._thread.start()
        self._come.set()

    def close(self) -> None:
        """Compute no more; copies that wait are dropped and counted."""
        self._closed = True
        self._come.set()
        if self._thread is not None:
            self._thread.join()
        while self._room:
            self._room.popleft().runtime.account.dropped += 1

    def _run(self) -> None:
        while not self._closed:
            self._come.wait()
            self._come.clear()
            while self._room and not self._closed:
                begun_s = time.perf_counter()
                self._turn()
                time.sleep(min(1.0, REST * (time.perf_counter() - begun_s)))

    def _turn(self) -> None:
        copies: list[Copy] = []
        while self._room and len(copies) < BATCH:
            copy = self._room.popleft()
            self._bytes -= len(copy.call.body)
            copies.append(copy)
        by_runtime: dict[Runtime, list[Copy]] = {}
        for copy in copies:
            by_runtime.setdefault(copy.runtime, []).append(copy)
        for runtime, group in by_runtime.items():
            try:
                self._answer(runtime, group)
            except Exception:  # noqa: BLE001 - a shadow costs nobody anything
                _log.exception("copies for revision %s were lost", runtime.identity.revision)
                runtime.account.dropped += len(group)

    def _answer(self, runtime: Runtime, copies: list[Copy]) -> None:
        frames: list[bytes] = []
        ready = []
        for copy in copies:
            try:
                copy.values, copy.rows = copy.call.check(runtime.contract)
            except InputError as error:
                runtime.account.rejected += 1
                self._note(copy, None, 0, 0, error.message, 0.0, frames)
            else:
                ready.append(copy)
        if ready:
            begun_s = time.perf_counter()
            for group, outputs, *_ in self._predict(runtime, ready):
                took_s = (time.perf_counter() - begun_s) / len(ready)
                self._take(runtime, group, outputs, took_s, frames)
        if frames and self._spool is not None:
            try:
                self._spool.append(frames)
            except OSError as error:
                _log.error("answers of a shadow cannot be logged: %s", error)

    def _take(
        self, runtime: Runtime, group: list[Copy], outputs: Any, took_s: float, frames: list[bytes]
    ) -> None:
        if isinstance(outputs, Exception):
            for copy in group:
                runtime.account.errors += 1
                self._note(copy, None, 0, 0, str(outputs), took_s, frames)
            return
        at, nan = 0, has_nan(outputs)
        watch = runtime.watch
        if watch is not None:
            watch.append((outputs.arrays, [copy.rows for copy in group]))
        for copy in group:
            stop = at + copy.rows
            if nan and nan_rows(outputs, at, stop):
                runtime.account.nans += 1
            self._note(copy, outputs, at, stop, "", took_s, frames)
            at = stop

    def _note(
        self,
        copy: Copy,
        outputs: Any,
        at: int,
        stop: int,
        error: str,
        took_s: float,
        frames: list[bytes],
    ) -> None:
        account = copy.runtime.account
        account.add(took_s)
        account.compared += 1
        mine = None if outputs is None else outputs.arrays
        if mine is None or differ(copy.arrays, copy.at, copy.stop, mine, at, stop):
            account.disagreed += 1
        record = self._record(copy, outputs, at, stop, self._ids.next(), took_s, error)
        if record is not None:
            frames.append(frame(record))


def differ(theirs: Any, at: int, stop: int, mine: Any, start: int, end: int) -> bool:
    """Whether two answers to the same rows differ, by the outputs that both have.

    Classes, texts and whole numbers differ unless equal; where there are such outputs they decide.
    Else probabilities differ by more than ``CHANCE`` or by lying on two sides of one half, other
    numbers by more than ``NEAR`` of the greater. Answers of other outputs or shapes differ.
    """
    names = [name for name in theirs if name in mine]
    if not names or stop - at != end - start:
        return True
    pairs = [(theirs[name][at:stop], mine[name][start:end]) for name in names]
    if any(one.shape != other.shape for one, other in pairs):
        return True
    exact = [(a, b) for a, b in pairs if a.dtype.kind != "f" or b.dtype.kind != "f"]
    if exact:
        return any(not bool(np.array_equal(a.astype(str), b.astype(str))) for a, b in exact)
    return any(_far(name, a, b) for name, (a, b) in zip(names, pairs, strict=True))


def _far(name: str, one: Any, other: Any) -> bool:
    missing = np.isnan(one) != np.isnan(other)
    with np.errstate(invalid="ignore"):  # of two infinities
        gap = np.abs(one - other)
    if name.startswith("probabilit"):
        far = (gap > CHANCE) | ((one >= 0.5) != (other >= 0.5))
    else:
        far = gap > NEAR * np.maximum(np.abs(one), np.abs(other))
    both = ~(np.isnan(one) | np.isnan(other))
    return bool((missing | (far & both)).any())
