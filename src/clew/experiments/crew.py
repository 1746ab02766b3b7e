"""Runs of trials on compute, and what they say, in one queue.

Knows nothing of searches: it carries calls out and brings messages in.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

from msgspec import Struct

from clew.base.errors import ClewError, Conflict
from clew.compute import Call, Compute, Handle, Outcome

Message = dict[str, Any]
_AT_ONCE = 10_000


class Said(Struct, frozen=True):
    """A trial sent a message."""

    number: int
    message: Message


class Asked(Struct, frozen=True):
    """A trial is at a rung at ``step`` and waits for the reply."""

    number: int
    step: int
    reply: Future[Message]


class Ended(Struct, frozen=True):
    """The run of a trial is over, or could not be."""

    number: int
    outcome: Outcome | ClewError


News = Said | Asked | Ended


class Berth(Struct, frozen=True, kw_only=True):
    """What runs have of their pool: so many at a time; ``slots`` in all of the ``kind`` that is
    shared (GPUs where runs need some, else processes), of which a run takes ``each``.
    """

    runs: int
    kind: str
    slots: int
    each: int


def berth_in(compute: Compute, pool: str, resources: Mapping[str, float], ranks: int = 1) -> Berth:
    """The berth of runs that need ``resources``, each in so many ``ranks``.

    Raises:
        Invalid: ``pool.unknown``.
    """
    gpus = math.ceil(resources.get("GPU", 0))
    one: dict[str, float] = {"GPU": 1.0} if gpus else {}
    runs = max(1, compute.room(pool, resources, ranks))
    each = gpus or max(1, math.ceil(resources.get("CPU", 1)))
    slots = max(runs * each, compute.room(pool, one))
    return Berth(runs=runs, kind=f"{pool}/{'gpu' if gpus else 'cpu'}", slots=slots, each=each)


class Crew:
    """As many runs at a time as compute has room for. Use as a context: leaving ends all runs.

    A thread for each run, so that a place that runs calls on the caller's thread will do as well.
    """

    def __init__(self, compute: Compute, berth: Berth, *, at_most: int = 0) -> None:
        """``at_most`` runs go on at once (0: as many as there is room for)."""
        self.berth = berth
        self.size = min(berth.runs, at_most) if at_most else berth.runs
        self._compute = compute
        self._threads = ThreadPoolExecutor(self.size, thread_name_prefix="clew-trial")
        self._inbox: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._handles: dict[int, Handle] = {}
        self._waiting: dict[int, Future[Message]] = {}
        self._lock = threading.Lock()
        self._closed = False
        self._doomed: set[int] = set()
        self._pausing: set[int] = set()

    def stop(self, number: int) -> None:
        """End a run now; its outcome says that it was cancelled."""
        with self._lock:
            self._doomed.add(number)
            handle = self._handles.get(number)
        if handle is not None:
            handle.cancel()

    def pause(self, number: int, wanted: bool) -> None:
        """Whether a run should come to an end at its next step, with a checkpoint."""
        with self._lock:
            if wanted:
                self._pausing.add(number)
            else:
                self._pausing.discard(number)

    def send_off(self, number: int, call: Call, affinity: str) -> None:
        """Begin a run; news of it will carry ``number``."""
        self._threads.submit(self._carry_out, number, call, affinity)

    def news(self, timeout_s: float, linger_s: float = 0.0) -> list[News]:
        """What has come in, in order; waits for the first up to ``timeout_s``, and where there is
        one, for more as long as ``linger_s``.
        """
        found: list[News] = []
        try:
            found.append(self._inbox.get(timeout=timeout_s))
            until_s = time.monotonic() + linger_s
            while len(found) < _AT_ONCE:
                rest_s = until_s - time.monotonic()
                if rest_s > 0:
                    found.append(self._inbox.get(timeout=rest_s))
                else:
                    found.append(self._inbox.get_nowait())
        except queue.Empty:
            pass
        return found

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._closed = True
            handles = list(self._handles.values())
            waiting = [reply for reply in self._waiting.values() if not reply.done()]
        for reply in waiting:
            reply.set_exception(_over())
        for handle in handles:
            handle.cancel()
        self._threads.shutdown(cancel_futures=True)

    def _carry_out(self, number: int, call: Call, affinity: str) -> None:
        try:
            handle = self._compute.submit(call, lambda said: self._listen(number, said), affinity)
            with self._lock:
                self._handles[number] = handle
                closed = self._closed or number in self._doomed
            if closed:
                handle.cancel()
            outcome: Outcome | ClewError = handle.result()
        except ClewError as error:
            outcome = error
        with self._lock:
            self._handles.pop(number, None)
            self._doomed.discard(number)
        self._inbox.put(Ended(number, outcome))

    def _listen(self, number: int, message: Message) -> Message | None:
        reply: Future[Message] = Future()
        asks = message["kind"] == "rung"
        with self._lock:  # so that nothing comes in, and nobody waits, after the end
            if self._closed:
                raise _over()
            if message["kind"] == "pulse":
                return {"pause": number in self._pausing}
            if asks:
                self._waiting[number] = reply
                self._inbox.put(Asked(number, message["step"], reply))
            else:
                self._inbox.put(Said(number, message))
        return reply.result() if asks else None


def _over() -> Conflict:
    return Conflict("experiment.over", "The search that this trial belongs to has ended.")
