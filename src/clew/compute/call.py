"""What a call is, how it ends, and the law that every place to run calls keeps.

Knows nothing of processes, of pipelines or of what a payload means.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from msgspec import Struct, field

from clew.base.errors import ClewError, Conflict, Invalid, Unavailable, from_wire
from clew.base.records.pools import PoolInfo

Message = dict[str, object]
Listener = Callable[[Message], Message | None]

LOG_BYTES = 64 * 1024
"""How much of what a call printed is kept: its end."""


class Call(Struct, frozen=True, kw_only=True):
    """One function to run on one payload, somewhere else.

    ``entry`` is ``package.module:function``; the function takes ``(payload, context)``. Payload
    and result are what MessagePack carries: None, bool, int (64 bits), float, str, bytes, list and
    dict. ``label`` names the call in errors. ``timeout_s`` counts from the start of the function,
    not from the queue; ``memory_bytes`` is for the worker and its children together, with all that
    the worker has imported. ``snapshot_dir`` is the user's project, first on ``sys.path``, and
    ``environment`` is set for the time of the call. Higher ``priority`` goes first. ``program`` is
    how its worker process is started in place of this interpreter: the beginning of a command line,
    to which the arguments of a worker are added (see ``compute/worker.py``).

    ``pool`` is the resource pool whose slots it takes ('': the default one), ``resources``
    (``{"CPU": 2, "GPU": 1}``) how many; a call that was given GPUs sees those alone. ``placement``
    (labels of machines, ``{"zone": "eu"}``) says where it may run, on a cluster. There, a text of
    the payload that is the address of the store or ``snapshot_dir`` is replaced by what the worker
    knows it by. ``beside``: what it takes of other machines of the cluster, besides.

    ``prompt``: whoever listens returns at once and never waits, and is told on the thread on which
    a message came in, in place of one of its own.
    """

    entry: str
    payload: Message
    label: str
    timeout_s: float | None = None
    memory_bytes: int | None = None
    snapshot_dir: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    priority: int = 0
    program: tuple[str, ...] = ()
    resources: dict[str, float] = field(default_factory=dict)
    placement: dict[str, str] = field(default_factory=dict)
    pool: str = ""
    beside: dict[str, float] = field(default_factory=dict)
    prompt: bool = False


class CallError(Struct, frozen=True, kw_only=True):
    """Why a call gave no value.

    ``kind``: ``raised`` (the user's code), ``clew`` (a ClewError: ``code``, ``hint`` and
    ``family``, its own kind, are kept), ``timeout``, ``memory``, ``died`` (the process ended),
    ``lost`` (the machine went away with it: nothing is known against the call) or ``cancelled``.
    ``type`` is the name of the exception's class. ``traceback`` shows the user's frames only,
    with paths relative to the snapshot; '' where nothing was raised.
    """

    kind: str
    message: str
    type: str = ""
    traceback: str = ""
    code: str = ""
    hint: str = ""
    family: str = ""

    def said_of(self, whom: str) -> CallError:
        """The same, with ``whom`` in front of its message."""
        return CallError(
            kind=self.kind, message=f"{whom}: {self.message}", type=self.type,
            traceback=self.traceback, code=self.code, hint=self.hint, family=self.family,
        )  # fmt: skip

    def to_error(self) -> ClewError:
        """The error to raise where a caller cannot go on without the value."""
        if self.kind == "clew":
            return from_wire(
                {"kind": self.family, "code": self.code, "message": self.message, "hint": self.hint}
            )
        if self.kind == "raised":
            return Invalid("call.raised", self.message, hint=self.traceback)
        if self.kind == "cancelled":
            return Conflict("call.cancelled", self.message)
        return Unavailable(f"call.{self.kind}", self.message, hint=self.hint)


class Outcome(Struct, frozen=True, kw_only=True):
    """How a call ended: a value, or an error. ``log`` is the end of what it printed, ``slots`` are
    the names of what it ran on.
    """

    value: object
    error: CallError | None
    duration_s: float
    log: str
    slots: tuple[str, ...] = ()

    def unwrap(self) -> object:
        """The value.

        Raises:
            ClewError: what :meth:`CallError.to_error` makes of the error.
        """
        if self.error is not None:
            raise self.error.to_error()
        return self.value


class CallContext(Protocol):
    """What a function sees of its call. Threads of the function may share it."""

    @property
    def call_id(self) -> str:
        """The id of this call."""
        ...

    @property
    def scratch(self) -> Path:
        """An empty directory, the current one; all in it is removed when the call ends."""
        ...

    def send(self, message: Message) -> None:
        """Tell the parent; messages arrive in order. Raises Conflict ``call.ended``."""
        ...

    def ask(self, message: Message) -> Message:
        """Ask the parent and wait for its answer.

        Raises:
            ClewError: what the listener raised, or Invalid ``call.unanswered`` where nobody
                listens, or Conflict ``call.ended``.
        """
        ...


class Handle(Protocol):
    """A call that was submitted. Thread-safe."""

    @property
    def id(self) -> str:
        """The call's id, as its function sees it."""
        ...

    def done(self) -> bool:
        """Whether the outcome is there."""
        ...

    def result(self, timeout: float | None = None) -> Outcome:
        """Wait for the outcome.

        Every message that the call sent has been handled by the listener before.

        Raises:
            NotReady: ``call.running`` after ``timeout`` seconds.
        """
        ...

    def cancel(self) -> None:
        """Ask that the call ends with ``cancelled``: at once in the queue, by killing its process
        when it runs. Nothing happens where the call has ended.
        """
        ...

    def when_done(self, act: Callable[[], None]) -> None:
        """Have ``act`` called once when the outcome is there (now, if it is), on any thread."""
        ...


class Compute(Protocol):
    """A place to run calls. Thread-safe.

    - Calls start by priority, then in the order of submission; one that fits a warm worker (the
      same ``snapshot_dir``, then the same ``affinity``) may overtake a few that do not.
    - Whatever user code does (raise, exit, crash, hang, print), the pool goes on and the outcome
      says what happened. ``result`` never raises for it.
    - Calls of different snapshots never see each other's modules.
    - The listener is called with the messages of one call in order, one at a time, on a thread that
      is neither the caller's nor the pool's dispatcher (but see InlinePool), so it may take its
      time. Its answer to ``ask`` goes back, an error of it is raised in ``ask``. An error on a
      message of ``send`` becomes the outcome's error. Without a listener, sent messages are
      dropped.
    - A payload that cannot travel is refused by ``submit``: Invalid ``call.payload``.
    """

    @property
    def size(self) -> int:
        """How many calls run at a time."""
        ...

    def submit(self, call: Call, on_message: Listener | None = None, affinity: str = "") -> Handle:
        """Queue a call.

        Raises:
            Unavailable: ``pool.closed``.
            Invalid: ``call.payload``.
        """
        ...

    def check(self, pool: str, resources: Mapping[str, float]) -> None:
        """Refuse what a pool could never hold, whatever runs.

        Raises:
            Invalid: ``pool.unknown``, ``pool.too_small``.
        """
        ...

    @property
    def keeps_off(self) -> Mapping[str, str]:
        """Labels that what calls start beside them on other machines must ask for, so that it keeps
        off those that are excluded; none where nothing is.
        """
        ...

    @property
    def spreads(self) -> bool:
        """Whether the ranks of one call may be on several machines."""
        ...

    def room(self, pool: str, resources: Mapping[str, float], ranks: int = 1) -> int:
        """How many calls that need ``resources`` a pool holds at a time, as far as is known now;
        excluded slots do not count. ``ranks``: in so many parts, which may be on several machines
        where the place ``spreads`` them.

        Raises:
            Invalid: ``pool.unknown``.
        """
        ...

    def pools(self) -> list[PoolInfo]:
        """The pools with their slots, who has them, and what waits."""
        ...

    def exclude(self, slots: Mapping[str, str]) -> None:
        """Give these slots to no call from now on, and all others again. ``slots``: why, by name.

        What runs on one comes to its end. Calls that only excluded slots could hold end with
        Unavailable ``pool.excluded``.
        """
        ...

    def close(self) -> None:
        """End all calls as cancelled and all workers; returns when they are gone. Idempotent."""
        ...
