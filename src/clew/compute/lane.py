"""One lane of a cluster: a warm worker process on some machine, and the way back to the engine.

Knows the pool of this machine and what may be missing here; knows nothing of Ray, which runs it as
an actor, nor of who else has lanes.
"""

from __future__ import annotations

import os
import platform
import queue
import shutil
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from itertools import count
from pathlib import Path

import msgspec

from clew import __version__
from clew.base.errors import ClewError, Conflict, Unavailable
from clew.compute.call import Call
from clew.compute.elsewhere import identity, is_same, lay_out, translated
from clew.compute.endings import refused, without_value
from clew.compute.frames import Answer, Done, Said
from clew.compute.handles import Couriers, Submitted
from clew.compute.lane_frames import (
    Begin,
    FromLane,
    Greeting,
    Hello,
    Reply,
    Stop,
    Wish,
    encode_frame,
    to_lane,
)
from clew.compute.pool import ProcessPool
from clew.compute.process import environment_of_workers
from clew.compute.scratch import ScratchSpace
from clew.store import Store

HEAR_S = 10.0
"""How long :meth:`Lane.hear` waits for something to say."""
ALONE_S = 90.0
"""A lane that nobody has listened to for so long ends: its engine is gone."""
_AT_ONCE_BYTES = 16 << 20
_REMEMBERED = 100


class Lane:
    """Runs calls one at a time for an engine far away, which talks to it by ``hear`` and ``tell``.

    Both are called from several threads. Never raises: what is wrong here is in its first frame.
    ``node`` is what the cluster calls this machine.
    """

    def __init__(self, greeting: bytes, node: str = "") -> None:
        told = msgspec.msgpack.decode(greeting, type=Greeting)
        self._outbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._heard_at = time.monotonic()
        self._lock = threading.Lock()
        self._wishes: dict[int, Future[bytes]] = {}
        self._numbers = count()
        self._calls: dict[str, _Carried] = {}
        self._stopped: deque[str] = deque(maxlen=_REMEMBERED)
        self._code: dict[str, str] = {}
        self._store = told.store
        root = Path(tempfile.gettempdir(), f"clew-lanes-{os.getuid()}")
        try:
            _check(told)
            root.mkdir(mode=0o700, exist_ok=True)
            self._settle(told, root)
        except (ClewError, OSError) as error:
            wrong = error if isinstance(error, ClewError) else _no_room(error)
            self._say(Hello(socket.gethostname(), False, wrong.to_wire()))
            return
        self._say(Hello(socket.gethostname(), self._direct, None, node))
        threading.Thread(target=self._watch, name="clew-lane-watch", daemon=True).start()

    def _settle(self, told: Greeting, root: Path) -> None:
        cpus = os.cpu_count() or 1
        self._code_dir = root / "code"
        self._space = ScratchSpace(root / "lanes", root / "logs")
        self._pool = ProcessPool(
            1,
            root / "scratch",
            root / "logs",
            environment=environment_of_workers(None, max(1, int(cpus / max(told.cpus, 1)))),
            preload=told.preload,
        )
        self._direct = _reachable(told)
        self._names: dict[str, str] = {}
        if not self._direct:
            place = self._space.directory(0) / "store"
            self._switchboard = Store.switchboard(place, self._ask_store)
            self._names[told.store] = self._switchboard.address
        elif "://" in told.store:
            self._names[told.store] = Store.elsewhere(told.store, root / "cache")
        self._pool.start()

    # what Ray calls -------------------------------------------------------------------------

    def hear(self) -> list[bytes]:
        """What there is to say, in order; waits for the first up to ``HEAR_S``. One at a time."""
        self._heard_at = time.monotonic()
        frames: list[bytes] = []
        size = 0
        try:
            frames.append(self._outbox.get(timeout=HEAR_S))
            while size < _AT_ONCE_BYTES:
                size += len(frames[-1])
                frames.append(self._outbox.get_nowait())
        except queue.Empty:
            pass
        self._heard_at = time.monotonic()
        return frames

    def tell(self, frames: list[bytes]) -> None:
        """Take frames in. Those of different calls of this may overtake each other."""
        self._heard_at = time.monotonic()
        for body in frames:
            frame = to_lane.decode(body)
            if isinstance(frame, Begin):
                threading.Thread(target=self._begin, args=(frame,), daemon=True).start()
            elif isinstance(frame, Stop):
                self._stop(frame.call_id)
            elif isinstance(frame, Reply):
                wish = self._wishes.pop(frame.number, None)
                if wish is not None:
                    wish.set_result(frame.body)
            else:
                for carried in list(self._calls.values()):
                    carried.answered(frame)

    def close(self) -> None:
        """End the call and the worker; what is here of this lane is removed."""
        self._pool.close()
        self._space.close()

    # calls ----------------------------------------------------------------------------------

    def _begin(self, begin: Begin) -> None:
        """On a thread of its own: whatever goes wrong here is the end of the call, and told."""
        run = begin.run
        try:
            self._carry(begin)
        except ClewError as error:  # the engine is gone
            self._say(refused(error, run.label))
        except OSError as error:
            self._say(refused(_no_room(error), run.label))
        except Exception as error:  # noqa: BLE001 - nobody else would hear of it
            self._say(refused(_unforeseen(error), run.label))

    def _carry(self, begin: Begin) -> None:
        run = begin.run
        _check_program(begin)
        directory = self._directory(run.snapshot_dir)
        names = self._names | {run.snapshot_dir: directory} if run.snapshot_dir else self._names
        call = Call(
            entry=run.entry,
            payload={},
            label=run.label,
            timeout_s=begin.timeout_s,
            memory_bytes=begin.memory_bytes,
            snapshot_dir=directory,
            environment=run.environment,
            program=begin.program,
        )
        carried = _Carried(run.call_id, call, translated(run.payload, names), self._said, self._end)
        with self._lock:
            if run.call_id in self._stopped:
                message = f"{run.label} was cancelled in the queue."
                self._say(without_value("cancelled", message))
                return
            self._calls[run.call_id] = carried
            self._pool.carry(carried)

    def _stop(self, call_id: str) -> None:
        with self._lock:
            carried = self._calls.get(call_id)
            self._stopped.append(call_id)
            if carried is not None:
                self._pool.cancel(carried)

    def _said(self, said: Said) -> None:
        self._say(said)

    def _end(self, carried: _Carried, done: Done) -> None:
        with self._lock:
            self._calls.pop(carried.id, None)
        self._say(done)

    def _directory(self, snapshot_dir: str) -> str:
        """Where the files of a snapshot are here; they are fetched where they are not."""
        if not snapshot_dir or (self._direct and Path(snapshot_dir).is_dir()):
            return snapshot_dir
        if snapshot_dir not in self._code:
            name = self._ask("name", snapshot_dir.encode()).decode()
            target = self._code_dir / name
            if not target.is_dir():
                lay_out(self._ask("code", snapshot_dir.encode()), target)
            self._code[snapshot_dir] = str(target)
        return self._code[snapshot_dir]

    # the engine -----------------------------------------------------------------------------

    def _say(self, frame: FromLane) -> None:
        self._outbox.put(encode_frame(frame))

    def _ask_store(self, request: bytes) -> bytes:
        return self._ask("store", request)

    def _ask(self, kind: str, body: bytes) -> bytes:
        """What the engine answers; raises Unavailable ``ray.engine_gone`` where it does not."""
        number = next(self._numbers)
        wish: Future[bytes] = Future()
        self._wishes[number] = wish
        self._say(Wish(number, kind, body))
        try:
            return wish.result(ALONE_S)
        except TimeoutError:
            self._wishes.pop(number, None)
            raise Unavailable(
                "ray.engine_gone",
                "The engine that this worker belongs to does not answer.",
                hint="Its work is done again by the next engine.",
            ) from None

    def _watch(self) -> None:
        """End with an engine that is gone, however it went."""
        while time.monotonic() - self._heard_at < ALONE_S:
            time.sleep(HEAR_S / 4)
        os._exit(1)  # the worker ends with this process


class _Carried(Submitted):
    """A call whose messages and end go to the engine as they are."""

    def __init__(
        self,
        call_id: str,
        call: Call,
        payload: msgspec.Raw,
        say: Callable[[Said], None],
        end: Callable[[_Carried, Done], None],
    ) -> None:
        super().__init__(call, payload, None, Couriers(1), lambda _: None)
        self._id = call_id
        self._to_engine = say
        self._at_end = end
        self._reply: Callable[[Answer], object] | None = None

    def heard(self, said: Said, answer: Callable[[Answer], object]) -> None:
        """Pass a message on, and remember whom to answer."""
        if said.wants_answer:
            self._reply = answer
        self._to_engine(said)

    def answered(self, answer: Answer) -> None:
        """The engine's answer to the last question."""
        reply, self._reply = self._reply, None
        if reply is not None:
            reply(answer)

    def finish(self, done: Done) -> None:
        """The call has ended here."""
        self._at_end(self, done)


def _check(told: Greeting) -> None:
    here = platform.python_version_tuple()[:2]
    if told.version == __version__ and tuple(told.python.split(".")[:2]) == here:
        return
    raise Conflict(
        "ray.version",
        f"{socket.gethostname()} has Clew {__version__} on Python {'.'.join(here)}, and the engine "
        f"Clew {told.version} on Python {told.python}.",
        hint=f'Install the same on every node: pip install "clew[ray]=={told.version}"',
    )


def _reachable(told: Greeting) -> bool:
    """Whether workers here may use the engine's store as it is named there."""
    if told.sharing == "relay":
        return False
    if "://" not in told.store:
        return is_same(identity(told.store), told.place, vouched=told.sharing == "shared")
    try:
        Store.attach(told.store)
    except ClewError:
        if told.sharing == "shared":
            raise
        return False  # no way, or no keys: then through the engine
    return True


def _check_program(begin: Begin) -> None:
    if begin.program and shutil.which(begin.program[0]) is None:
        raise Unavailable(
            "ray.program",
            f"{socket.gethostname()} has no {begin.program[0]}, which this step runs in.",
            hint="Environments of steps are made by the server: give it and the nodes one disk "
            "with the same paths, or install the packages on the nodes.",
        )


def _unforeseen(error: Exception) -> Unavailable:
    return Unavailable(
        "ray.node",
        f"{socket.gethostname()} cannot begin with it: {type(error).__name__}: {error}.",
        hint="Check that every node has the same Python, Clew and libraries, and report it.",
    )


def _no_room(error: OSError) -> Unavailable:
    return Unavailable(
        "ray.node",
        f"{socket.gethostname()} has no place for a worker: {error}.",
        hint="Check the directory for temporary files on that node (TMPDIR).",
    )
