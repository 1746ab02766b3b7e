"""Shadows: copies of answered requests go to other revisions, and their answers to the log.

Knows no transport. A copy is taken after the live answer is made, and computed by a thread that
its shadow has for itself, so that it delays nothing, its failure is nobody's, and a slow shadow
takes nothing from another. All together they compute a quarter of the time of one core at most
(``REST``). Copies that come while the room of a shadow is full are dropped and counted.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from clew.base.ids import PredictionIds
from clew.serving.runtime import Runtime, has_nan, nan_rows
from clew.serving.sketches import MOST_BATCHES
from clew.serving.spool import Record, Spool, frame
from clew.serving.tensors import InputError

MOST_COPIES = 512
MOST_BYTES = 16 << 20
"""Copies that wait for one shadow in one process, and the bytes of their requests."""
BATCH = 64
REST = 4.0
"""After each batch a thread rests until it has computed one in so many parts of the time; with n
shadows one in n times as many, so that all together compute one."""
MOST_REST_S = 1.0
CLOSE_S = 5.0
"""A shadow that does not come back by then is left behind when the process ends."""
NEAR = 0.05
"""Numbers of two answers agree within so much of the greater of them."""
CHANCE = 0.1
"""Probabilities agree within so much."""
_log = logging.getLogger("clew.serving")


class Lost(Exception):
    """A copy that was not answered for no fault of the shadow: it counts as dropped."""


class Copy:
    """An answered request (``call``, its prediction ``of``), for a shadow that gets such a share of
    all. The live answer is ``arrays``, from row ``at`` to ``stop``. A graph gives its answer an id
    and says what it has asked (``parts``).
    """

    __slots__ = (
        "arrays", "at", "call", "id", "of", "parts", "rows", "runtime", "share", "stop", "values",
    )  # fmt: skip

    def __init__(
        self, runtime: Runtime, share: float, call: Any, of: str, arrays: Any, at: int, stop: int
    ) -> None:
        self.runtime, self.share, self.call, self.of = runtime, share, call, of
        self.arrays, self.at, self.stop = arrays, at, stop
        self.values: Any = None
        self.rows = 0
        self.id = ""
        self.parts: tuple[str, ...] = ()


Predict = Callable[[Runtime, list[Any]], Any]
"""A runtime and calls with ``values`` and ``rows`` → (calls, outputs or error, …) each."""
Keep = Callable[[Copy, Any, int, int, str, float, str], "Record | None"]
"""A copy, its outputs (or None), their rows, an id, seconds and an error → what the log keeps."""
AskGraph = Callable[[Copy, Callable[[Any], None]], None]
"""On the loop: asks the nodes of a graph about a copy; outputs or an error go to a function."""


class Shadows:
    """The shadows of a serving process. ``loop`` and ``graph``: where and how graphs are asked."""

    def __init__(
        self, spool: Spool | None, predict: Predict, keep: Keep, loop: Any, graph: AskGraph
    ) -> None:
        self._given = (spool, predict, keep, loop, graph)
        self._desks: dict[Runtime, _Desk] = {}
        self._draw = random.Random().random  # noqa: S311 - not a secret

    def offer(self, copy: Copy) -> None:
        """Take a copy, unless it is not drawn or there is no room. On the loop."""
        if copy.share < 1 and self._draw() >= copy.share:
            return
        desk = self._desks.get(copy.runtime)
        if desk is None:
            desk = self._desks[copy.runtime] = _Desk(*self._given)
            self._share_out()
        desk.offer(copy)

    def keep(self, runtimes: Collection[Runtime]) -> None:
        """Go on with these alone; copies that wait for others are dropped and counted. Waits for
        nobody.
        """
        for runtime in [each for each in self._desks if each not in runtimes]:
            self._desks.pop(runtime).end()
            self._share_out()

    def close(self) -> None:
        """Compute no more; copies that wait are dropped and counted."""
        desks, self._desks = list(self._desks.values()), {}
        for desk in desks:
            desk.end()
        for desk in desks:
            desk.join()

    def _share_out(self) -> None:
        for desk in self._desks.values():
            desk.rest = REST * len(self._desks) - 1


class _Desk:
    """One shadow: its room, and the thread that computes, begun with the first copy."""

    def __init__(
        self, spool: Spool | None, predict: Predict, keep: Keep, loop: Any, graph: AskGraph
    ) -> None:
        self.rest = REST - 1
        self._spool, self._predict, self._record = spool, predict, keep
        self._loop, self._graph = loop, graph
        self._room: deque[Copy] = deque()
        self._came_bytes = self._left_bytes = 0  # the loop writes one, the thread the other
        self._ids = PredictionIds()
        self._come = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def offer(self, copy: Copy) -> None:
        """Take a copy, if there is room. On the loop."""
        size = len(copy.call.body)
        waiting = self._came_bytes - self._left_bytes
        if len(self._room) >= MOST_COPIES or waiting + size > MOST_BYTES:
            copy.runtime.account.dropped += 1
            return
        self._came_bytes += size
        self._room.append(copy)
        self._come.set()

    def end(self) -> None:
        """Compute no more."""
        self._closed.set()
        self._come.set()

    def join(self) -> None:
        """Wait until nothing is computed any more, but not for ever."""
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while not self._closed.is_set():
            self._come.wait()
            self._come.clear()
            while self._room and not self._closed.is_set():
                begun_s = time.perf_counter()
                self._turn()
                took_s = time.perf_counter() - begun_s
                self._closed.wait(min(MOST_REST_S, self.rest * took_s))
        while self._room:
            self._room.popleft().runtime.account.dropped += 1

    def _turn(self) -> None:
        copies: list[Copy] = []
        most = 1 if self._room[0].runtime.graph is not None else BATCH
        while self._room and len(copies) < most:
            copy = self._room.popleft()
            self._left_bytes += len(copy.call.body)
            copies.append(copy)
        runtime = copies[0].runtime
        try:
            self._answer(runtime, copies)
        except Exception:  # noqa: BLE001 - a shadow costs nobody anything
            _log.exception("copies for revision %s were lost", runtime.identity.revision)
            runtime.account.dropped += len(copies)

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
            answers = (
                self._predict(runtime, ready)
                if runtime.graph is None
                else [(ready, self._asked(ready[0]))]
            )
            for group, outputs, *_ in answers:
                took_s = (time.perf_counter() - begun_s) / len(ready)
                self._take(runtime, group, outputs, took_s, frames)
        if frames and self._spool is not None:
            try:
                self._spool.append(frames)
            except OSError as error:
                _log.error("answers of a shadow cannot be logged: %s", error)

    def _asked(self, copy: Copy) -> Any:
        """What a graph answers to a copy: one at a time, since its nodes serve others too."""
        found: list[Any] = []
        done = threading.Event()

        def take(outputs: Any) -> None:
            found.append(outputs)
            done.set()

        try:
            self._loop.call_soon_threadsafe(self._graph, copy, take)
        except RuntimeError:  # the loop has ended
            return Lost("the process ends")
        while not done.wait(0.1):
            if self._closed.is_set():
                return Lost("it is no shadow any more")
        return found[0]

    def _take(
        self, runtime: Runtime, group: list[Copy], outputs: Any, took_s: float, frames: list[bytes]
    ) -> None:
        if isinstance(outputs, Lost):
            runtime.account.dropped += len(group)
            return
        if isinstance(outputs, Exception):
            for copy in group:
                runtime.account.errors += 1
                self._note(copy, None, 0, 0, str(outputs), took_s, frames)
            return
        at, nan = 0, has_nan(outputs)
        watch = runtime.watch
        if watch is not None and len(watch) < MOST_BATCHES:
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
        id = copy.id or self._ids.next()
        record = self._record(copy, outputs, at, stop, id, took_s, error)
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
