"""Calls in this very process, for tests and for very small work.

Knows nothing of limits: nothing can be killed here.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from clew.base.errors import Unavailable, from_wire
from clew.base.records.pools import PoolInfo
from clew.compute.call import Call, CallError, Listener
from clew.compute.frames import NOTHING, Answer, Done, Said, decode, encode_or_refuse
from clew.compute.handles import Couriers, Submitted, answer_of, listener_error
from clew.compute.pool import ProcessPool
from clew.compute.running import Context, Output, run_call


class InlinePool:
    """The law of Compute without other processes: ``submit`` runs the call and then returns.

    What differs: one call at a time; the listener runs on the caller's thread; ``timeout_s`` is
    noticed only afterwards, ``memory_bytes`` never; a crash takes everybody along; what other
    threads print meanwhile is in the log. ``scratch`` is the system's directory for temporary files
    unless given.
    """

    def __init__(self, scratch: Path | None = None) -> None:
        self._scratch = None if scratch is None else scratch.absolute()
        self._lock = threading.RLock()
        self._couriers = Couriers(1)
        self._closed = False
        self._apart: ProcessPool | None = None

    @property
    def size(self) -> int:
        """How many calls run at a time."""
        return 1

    def submit(
        self, call: Call, on_message: Listener | None = None, affinity: str = ""
    ) -> Submitted:
        """Run a call. Raises Unavailable ``pool.closed``, Invalid ``call.payload``.

        One that is to run in another environment is the only kind that gets a process.
        """
        if call.program:
            return self._elsewhere().submit(call, on_message, affinity)
        payload = encode_or_refuse(call.payload, "call.payload", f"The payload of {call.label!r}")
        submitted = Submitted(call, payload, on_message, self._couriers, lambda _submitted: None)
        submitted.affinity = affinity
        with self._lock:
            if self._scratch is not None:
                self._scratch.mkdir(parents=True, exist_ok=True)
            if self._closed:
                raise Unavailable(
                    "pool.closed", "This pool is closed.", hint="Submit before it is closed."
                )
            submitted.finish(self._run(submitted, on_message))
        return submitted

    def check(self, pool: str, resources: Mapping[str, float]) -> None:
        """Everything runs here."""

    @property
    def keeps_off(self) -> Mapping[str, str]:
        """There is no other machine."""
        return {}

    @property
    def spreads(self) -> bool:
        """It is one process."""
        return False

    def room(self, pool: str, resources: Mapping[str, float], ranks: int = 1) -> int:
        """One."""
        del pool, resources, ranks
        return self.size

    def pools(self) -> list[PoolInfo]:
        """None that anybody would have to share."""
        return []

    def exclude(self, slots: Mapping[str, str]) -> None:
        """There is nowhere else to go."""

    def close(self) -> None:
        """Refuse further calls."""
        with self._lock:
            self._closed = True
            apart = self._apart
        if apart is not None:
            apart.close()
        self._couriers.close()

    def _elsewhere(self) -> ProcessPool:
        with self._lock:
            if self._closed:
                raise Unavailable("pool.closed", "This pool is closed.")
            if self._apart is None:
                place = self._scratch or Path(tempfile.gettempdir(), f"clew-inline-{os.getpid()}")
                self._apart = ProcessPool(1, place / "scratch", place / "logs")
            return self._apart

    def _run(self, submitted: Submitted, listener: Listener | None) -> Done:
        failures: list[CallError] = []

        def say(message: msgspec.Raw, wants_answer: bool) -> object:
            said = Said(message, wants_answer)
            if listener is None and not wants_answer:
                return None
            return _hear(answer_of(listener, said, submitted.call.label), said, failures)

        scratch = Path(tempfile.mkdtemp(prefix="clew-call-", dir=self._scratch))
        context = Context(submitted.id, scratch, say)
        try:
            with _output(scratch.with_suffix(".log")) as output:
                done = run_call(submitted.run_frame(), context, output)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return _judged(done, submitted.call, failures)


@contextlib.contextmanager
def _output(path: Path) -> Iterator[Output]:
    """Standard output and error of this process lead to ``path``, then back and it is removed."""
    saved = os.dup(1), os.dup(2)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        yield Output(descriptor)
    finally:
        for number, before in enumerate(saved, start=1):
            os.dup2(before, number)
            os.close(before)
        os.close(descriptor)
        path.unlink()


def _hear(answer: Answer, said: Said, failures: list[CallError]) -> object:
    if answer.error is None:
        return decode(answer.value)
    if said.wants_answer:
        raise from_wire(answer.error)
    failures.append(listener_error(answer.error))
    return None


def _judged(done: Done, call: Call, failures: list[CallError]) -> Done:
    """What became of the call, with what was noticed only afterwards."""
    error = done.error or next(iter(failures), None)
    if call.timeout_s is not None and done.duration_s > call.timeout_s:
        message = f"{call.label} did not end within {call.timeout_s:g} s."
        error = CallError(kind="timeout", message=message, code="call.timeout")
    return done if error is None else Done(NOTHING, error, done.duration_s, done.log)
