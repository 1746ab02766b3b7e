"""A submitted call as its owner sees it, and the threads that carry its messages.

Knows nothing of workers: the pool hands in what they said.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections import deque
from collections.abc import Callable

import msgspec

from clew.base.errors import ClewError, Invalid, NotReady
from clew.base.ids import new_id
from clew.compute.call import Call, CallError, Listener, Outcome
from clew.compute.frames import (
    NOTHING,
    Answer,
    Done,
    Run,
    Said,
    decode,
    encode_or_refuse,
)
from clew.compute.running import describe
from clew.compute.slots import Grant

Act = Callable[[], None]
MOST_WAITING = 1000
"""So many messages of a call may wait for its listener before its worker is held back."""


class Couriers:
    """A few threads that run what may take time, started with the first of it."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._acts: queue.SimpleQueue[Act | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def run(self, act: Act) -> None:
        """Have ``act`` run soon, in no order with others. What it raises ends in the excepthook."""
        with self._lock:
            if len(self._threads) < self._count:
                thread = threading.Thread(target=self._work, name="clew-courier", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._acts.put(act)

    def close(self) -> None:
        """Return when all acts have run, unless one of them is calling."""
        with self._lock:
            threads, self._threads = self._threads, []
        for _ in threads:
            self._acts.put(None)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()

    def _work(self) -> None:
        act: Act | None
        while (act := self._acts.get()) is not None:
            try:
                act()
            except Exception:  # noqa: BLE001 - not ours: shown, and the thread goes on
                here = threading.current_thread()
                threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), here)))
            act = None  # what it holds is not kept until the next one comes


class Submitted:
    """A call that was submitted (the Handle), from the queue to its outcome.

    The pool calls ``heard`` and ``finish`` from one thread; everything else is thread-safe.
    """

    def __init__(
        self,
        call: Call,
        payload: msgspec.Raw,
        listener: Listener | None,
        couriers: Couriers,
        cancel: Callable[[Submitted], None],
    ) -> None:
        self.call = call
        self.affinity = ""
        self.grant: Grant | None = None
        """The slots that it runs on."""
        self.slots: tuple[str, ...] = ()
        self.overtaken = 0
        self._id = new_id()
        self._payload = payload
        self._listener = listener
        self._couriers = couriers
        self._cancel = cancel
        self._lock = threading.Lock()
        self._inbox: deque[Act] = deque()
        self._busy = False
        self._calm: Callable[[], object] | None = None
        self._listener_error: CallError | None = None
        self._end: Done | None = None
        self._ended = threading.Event()
        self._outcome: Outcome | None = None
        self._when_done: list[Act] = []

    # the owner's side -----------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The call's id."""
        return self._id

    def done(self) -> bool:
        """Whether the outcome is there."""
        return self._ended.is_set()

    def result(self, timeout: float | None = None) -> Outcome:
        """Wait for the outcome. Raises NotReady ``call.running`` after ``timeout`` seconds."""
        if not self._ended.wait(timeout):
            raise NotReady(
                "call.running",
                f"{self.call.label} has not ended after {timeout} s.",
                hint="Wait longer, or cancel it.",
            )
        with self._lock:
            if self._outcome is None:
                self._outcome = self._read_outcome()
            return self._outcome

    def cancel(self) -> None:
        """Ask that the call ends as cancelled."""
        if not self._ended.is_set():
            self._cancel(self)

    def when_done(self, act: Act) -> None:
        """Have ``act`` called once when the outcome is there."""
        with self._lock:
            if not self._ended.is_set():
                self._when_done.append(act)
                return
        act()

    # the pool's side ------------------------------------------------------------------------

    def run_frame(self) -> Run:
        """What to send to a worker."""
        call = self.call
        given = call.environment
        if self.grant is not None and self.grant.gpus:
            given = {**given, **self.grant.environment}
        return Run(self._id, call.entry, call.label, call.snapshot_dir, given, self._payload)

    def heard(self, said: Said, answer: Callable[[Answer], object]) -> None:
        """A message came: hand it to the listener, and its answer to ``answer``."""
        if self._listener is None and not said.wants_answer:
            return
        self._deliver(lambda: self._listen(said, answer))

    def behind(self, calm: Callable[[], object]) -> bool:
        """Whether so many messages wait that no more should come; then ``calm`` is called once when
        they have been handled.
        """
        with self._lock:
            if len(self._inbox) < MOST_WAITING:
                return False
            self._calm = calm
            return True

    def finish(self, done: Done) -> None:
        """The call has ended; its outcome appears when all messages have been handled."""
        with self._lock:
            direct = not self._busy
        if direct:
            self._conclude(done)
        else:
            self._deliver(lambda: self._conclude(done))

    def _deliver(self, act: Act) -> None:
        if self.call.prompt:
            act()
            return
        with self._lock:
            self._inbox.append(act)
            if self._busy:
                return
            self._busy = True
        self._couriers.run(self._drain)

    def _drain(self) -> None:
        while True:
            with self._lock:
                calm = self._calm if len(self._inbox) <= MOST_WAITING // 2 else None
                if calm is not None:
                    self._calm = None
                act = self._inbox.popleft() if self._inbox else None
                self._busy = act is not None
            if calm is not None:
                calm()
            if act is None:
                return
            act()

    def _listen(self, said: Said, answer: Callable[[Answer], object]) -> None:
        reply = answer_of(self._listener, said, self.call.label)
        if said.wants_answer:
            answer(reply)
        elif reply.error is not None and self._listener_error is None:
            self._listener_error = listener_error(reply.error)

    def _conclude(self, done: Done) -> None:
        with self._lock:
            self._end = done
            self._ended.set()
            acts, self._when_done = self._when_done, []
        for act in acts:
            if self.call.prompt:
                act()
            else:
                self._couriers.run(act)

    def _read_outcome(self) -> Outcome:
        end = self._end
        assert end is not None
        error = end.error or self._listener_error
        value = decode(end.value) if error is None else None
        return Outcome(
            value=value, error=error, duration_s=end.duration_s, log=end.log, slots=self.slots
        )


def answer_of(listener: Listener | None, said: Said, label: str) -> Answer:
    """What the listener answers to a message, or the error it raised, ready to travel."""
    try:
        if listener is None:
            raise Invalid(
                "call.unanswered",
                f"{label} asked, and nobody listens.",
                hint="Submit the call with on_message.",
            )
        message = decode(said.message)
        assert isinstance(message, dict)
        return Answer(encode_or_refuse(listener(message) or {}, "call.message", "The answer"), None)
    except ClewError as error:
        return Answer(NOTHING, error.to_wire())
    except Exception as error:  # noqa: BLE001 - the boundary with the listener, whose call ends with it
        told = describe(error, "")
        wire = Invalid("call.listener", f"The listener of {label} failed: {told.message}").to_wire()
        return Answer(NOTHING, {**wire, "hint": told.traceback})


def listener_error(wire: dict[str, str]) -> CallError:
    """The outcome's error where the listener failed on a message."""
    return CallError(
        kind="clew", message=wire["message"], code=wire["code"], hint=wire["hint"],
        family=wire["kind"], type=wire["kind"],
    )  # fmt: skip
