"""Lanes on the machines of a cluster behind one queue: who runs what, and what becomes of it.

Knows calls, demands and lanes; knows nothing of Ray but that a bridge leads there. One thread owns
all state; others leave it commands.
"""

from __future__ import annotations

import bisect
import itertools
import platform
import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct, field

from clew import __version__
from clew.base.clock import now
from clew.base.errors import ClewError, Unavailable
from clew.base.pools import PoolSize
from clew.base.records.pools import PoolInfo
from clew.compute.bridge import Bridge, refusal
from clew.compute.bridge_frames import FromBridge, Gone, Heard, Joined, Machines, Refused
from clew.compute.cluster_pools import ClusterPools, Runs, node_slot
from clew.compute.demands import Demand, Machine, demand_of, room_for, shown
from clew.compute.elsewhere import Code, identity
from clew.compute.endings import refused, without_value
from clew.compute.frames import Answer, Said
from clew.compute.handles import Couriers, Submitted
from clew.compute.lane_frames import (
    Begin,
    Greeting,
    Hello,
    Reply,
    Stop,
    Wish,
    encode_frame,
    from_lane,
)
from clew.store import Store

_LOOK_AHEAD = 8
_STOP_S = 5.0
"""A lane that does not end a cancelled call within this time is ended itself."""
_CROWDED_S = 1.0
"""So long a lane may wait for a machine before idle lanes with other demands make room."""
_STARVED_S = 5.0
"""So long calls of one demand may wait, before a busy lane of another is given up between calls."""
_BIRTHS = 3
"""After so many lanes that could not start, one after the other, the calls for them are told so."""
_PAUSE_S = 1.0
_CARRIERS = 8


class Terms(Struct, frozen=True, kw_only=True):
    """How a fleet works. ``size``: calls at a time, 0 for one a core of the cluster. ``sharing``:
    ``auto``, ``shared`` or ``relay``. ``idle_s``: a lane without work is given back after that.
    ``wait_s``: so long a call waits for a machine that could hold it, or for the cluster.
    """

    address: str
    size: int = 0
    sharing: str = "auto"
    idle_s: float = 60.0
    wait_s: float = 60.0
    preload: tuple[str, ...] = ()
    log: Path = Path("ray.log")
    pools: tuple[PoolSize, ...] = ()


class _Relay(Protocol):
    """What reads and writes the store for a lane."""

    def answer(self, request: bytes, /) -> bytes: ...
    def end(self) -> None: ...


class _Lane(Struct, eq=False):
    number: int
    demand: Demand
    since: float
    relay: _Relay
    ready: Hello | None = None
    call: Submitted | None = None
    begun: datetime = field(default_factory=now)
    stopping: float | None = None
    snapshot: str | None = None
    affinity: str = ""
    used: int = 0


class _Trouble(Struct):
    """Why calls of a demand wait: lanes that could not start, or machines that there are not."""

    births: int = 0
    not_before: float = 0.0
    why: str = ""
    since: float | None = None


class Fleet:
    """The thread that owns lanes and queue. ``tell``, ``cancel`` and ``wait_joined`` are for any
    thread, everything else runs on its own.
    """

    def __init__(self, terms: Terms, store: Callable[[], Store]) -> None:
        self.couriers = Couriers(_CARRIERS)
        self.pools = ClusterPools(terms.pools)
        self._terms = terms
        self._open_store = store
        self._acts: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._ended = False
        self._stopping = False
        self._bridge: Bridge | None = None
        self._joined = threading.Event()
        self._refused: Unavailable | None = None
        self._away_since: float | None = None
        self._join_at = 0.0
        self._machines: tuple[Machine, ...] = ()
        self._lanes: dict[int, _Lane] = {}
        self._queue: list[tuple[int, int, Submitted]] = []
        self._trouble: dict[Demand, _Trouble] = {}
        self._numbers = itertools.count()
        self._wishes = ThreadPoolExecutor(_CARRIERS, thread_name_prefix="clew-wish")
        self._code = Code()
        self.thread = threading.Thread(target=self._run, name="clew-fleet", daemon=True)

    # from any thread ------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """How many calls run at a time."""
        if self._terms.size:
            return self._terms.size
        return max(1, int(sum(machine.resources.get("CPU", 0.0) for machine in self._machines)))

    def room(self, pool: str, resources: Mapping[str, float], ranks: int) -> int:
        """How many such calls a pool holds at a time."""
        return self.pools.room(pool, resources, self._machines, self.size, ranks)

    def keeps_off(self) -> dict[str, str]:
        """Labels that no excluded machine has."""
        return dict(self.pools.on_allowed(Demand((), ()), self._machines).placement)

    def look(self) -> list[PoolInfo]:
        """The pools as they are now."""
        running = [
            Runs(call=lane.call.call, node=lane.ready.node, since=lane.begun)
            for lane in list(self._lanes.values())
            if lane.call is not None and lane.ready is not None
        ]
        waiting = [entry[2].call for entry in list(self._queue)]
        return self.pools.look(self._machines, running, waiting)

    def exclude(self, slots: Mapping[str, str]) -> None:
        """Give these machines to nobody; idle lanes there are given up."""
        if self.pools.exclude(slots):
            self.tell(self._leave_excluded)

    def tell(self, act: Callable[[], None]) -> bool:
        """Have ``act`` run on the thread; False where that has ended."""
        with self._lock:
            if self._ended:
                return False
            self._acts.put(act)
            return True

    def cancel(self, submitted: Submitted) -> None:
        """End a call as cancelled."""
        self.tell(partial(self._cancel, submitted))

    def wait_joined(self) -> None:
        """Return when the cluster is joined. Raises what keeps it from that."""
        self.tell(self._join)
        self._joined.wait()
        if self._refused is not None:
            raise self._refused

    def stop(self) -> None:
        """End everything and wait for it."""
        self.tell(self._stop)
        self.thread.join()
        self._wishes.shutdown()
        self.couriers.close()

    # the thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopping:
                with suppress(queue.Empty):
                    self._acts.get(timeout=self._patience())()
                    while True:
                        self._acts.get_nowait()()
                self._share()
                self._assign()
                self._check()
        finally:  # also on a fault of ours: nobody may wait for ever
            self._end_all()

    def _patience(self) -> float | None:
        if not self._queue and not self._lanes:
            return None
        busy = self._queue or any(lane.stopping for lane in self._lanes.values())
        if any(lane.call is not None and lane.call.call.beside for lane in self._lanes.values()):
            return _CROWDED_S
        return 0.25 if busy else min(5.0, self._terms.idle_s / 2)

    def enqueue(self, submitted: Submitted) -> None:
        """Put a call in the queue, behind those of its priority."""
        bisect.insort(self._queue, (-submitted.call.priority, next(self._numbers), submitted))

    def _stop(self) -> None:
        self._stopping = True

    def _cancel(self, submitted: Submitted) -> None:
        for lane in self._lanes.values():
            if lane.call is submitted and lane.stopping is None:
                lane.stopping = time.monotonic()
                self._tell(lane, encode_frame(Stop(submitted.id)))
        for entry in [entry for entry in self._queue if entry[2] is submitted]:
            self._queue.remove(entry)
            message = f"{submitted.call.label} was cancelled in the queue."
            submitted.finish(without_value("cancelled", message))

    # the cluster ----------------------------------------------------------------------------

    def _join(self) -> None:
        if self._bridge is not None or time.monotonic() < self._join_at:
            return
        self._join_at = time.monotonic() + _PAUSE_S
        self._joined.clear()
        terms = self._terms
        try:
            self._bridge = Bridge(terms.address, terms.log, self._from_bridge)
        except Unavailable as error:
            self._unjoined(error, lasting=True)

    def _from_bridge(self, frame: FromBridge | None) -> None:
        self.tell(partial(self._hear, self._bridge, frame))

    def _hear(self, _bridge: object, frame: FromBridge | None) -> None:
        if isinstance(frame, Heard):
            self._heard(frame)
        elif isinstance(frame, Gone):
            self._gone(frame)
        elif isinstance(frame, Machines):
            self._machines = tuple(frame.machines)
        elif isinstance(frame, Joined):
            self._machines = tuple(frame.machines)
            self._away_since, self._refused = None, None
            self._joined.set()
        elif isinstance(frame, Refused):
            self._unjoined(refusal(frame), lasting=False)
        else:
            self._bridge_gone()

    def _bridge_gone(self) -> None:
        """The bridge has ended: the head of the cluster is gone, or it could not be joined."""
        bridge, self._bridge = self._bridge, None
        if bridge is not None:
            bridge.close()
        for lane in list(self._lanes.values()):
            self._lose(lane, "the way to the Ray cluster is gone")
        if not self._joined.is_set():
            told = f"The process that leads to the Ray cluster ended; see {self._terms.log}."
            hint = "Check the address and `ray status`."
            self._unjoined(Unavailable("ray.unreachable", told, hint=hint), lasting=False)

    def _unjoined(self, error: Unavailable, *, lasting: bool) -> None:
        now_s = time.monotonic()
        self._refused = error
        self._away_since = self._away_since or now_s
        self._join_at = now_s + _PAUSE_S
        if lasting or now_s - self._away_since >= self._terms.wait_s:
            self._fail(lambda _demand: True, error)
        self._joined.set()

    def _fail(self, which: Callable[[Demand], bool], error: ClewError) -> None:
        """End calls of the queue with an error that is not theirs."""
        for entry in [e for e in self._queue if which(demand_of(e[2].call))]:
            self._queue.remove(entry)
            entry[2].finish(refused(error, entry[2].call.label))

    # lanes ----------------------------------------------------------------------------------

    def _assign(self) -> None:
        ready = self._ready()
        for demand in dict.fromkeys(demand_of(entry[2].call) for entry in ready):
            waiting = [entry for entry in ready if demand_of(entry[2].call) == demand]
            idle = [one for one in self._lanes.values() if _is_idle(one) and one.demand == demand]
            while waiting and idle:
                entry, lane = _match(waiting, idle)
                waiting.remove(entry)
                idle.remove(lane)
                self._queue.remove(entry)
                self._give(entry[2], lane)
            if waiting:
                self._reach_out(demand, len(waiting))

    def _ready(self) -> list[tuple[int, int, Submitted]]:
        """What of the queue may run now as far as the limits of pools go, in order."""
        running = [lane.call.call for lane in self._lanes.values() if lane.call is not None]
        found = []
        for entry in list(self._queue):
            call = entry[2].call
            try:
                if self.pools.holds_back(call, running):
                    continue
            except ClewError as error:
                self._queue.remove(entry)
                entry[2].finish(refused(error, call.label))
                continue
            found.append(entry)
            if call.pool:
                running.append(call)
        return found

    def _leave_excluded(self) -> None:
        for lane in [one for one in self._lanes.values() if _is_idle(one)]:
            if lane.ready is not None and not self.pools.may_have(lane.ready.node):
                self._remove(lane)

    def _share(self) -> None:
        """Where calls of a demand have waited long for a first lane, others make room for it."""
        now_s = time.monotonic()
        served = {lane.demand for lane in self._lanes.values() if lane.ready is not None}
        for starved in list(self._lanes.values()):
            if starved.demand in served or now_s - starved.since < _STARVED_S:
                continue
            idle = [one for one in self._lanes.values() if _is_idle(one)]
            if idle:
                self._remove(min(idle, key=lambda lane: lane.used))
                starved.since = now_s
                return

    def _give(self, submitted: Submitted, lane: _Lane) -> None:
        call = submitted.call
        lane.call, lane.begun = submitted, now()
        submitted.slots = (node_slot(lane.ready.node),) if lane.ready and lane.ready.node else ()
        lane.snapshot = call.snapshot_dir
        lane.affinity = submitted.affinity
        lane.used = next(self._numbers)
        self._code.allow(call.snapshot_dir)
        begin = Begin(submitted.run_frame(), call.timeout_s, call.memory_bytes, call.program)
        self._tell(lane, encode_frame(begin))

    def _reach_out(self, demand: Demand, wanted: int) -> None:
        """Start lanes for a demand, as many as are wanted and as the machines could hold."""
        if self._bridge is None or not self._joined.is_set():
            self._join()
            return
        room = room_for(demand, self.pools.allowed(self._machines))
        trouble = self._trouble.setdefault(demand, _Trouble())
        if not room:
            self._without_room(demand, trouble)
        else:
            trouble.since = None
        if time.monotonic() < trouble.not_before:
            return
        mine = [lane for lane in self._lanes.values() if lane.demand == demand]
        unborn = sum(lane.ready is None for lane in mine)
        most = min(max(1, room), self.size)
        for _ in range(min(wanted - unborn, most - len(mine))):
            self._start(demand)

    def _without_room(self, demand: Demand, trouble: _Trouble) -> None:
        now_s = time.monotonic()
        trouble.since = trouble.since or now_s
        excluded = self.pools.refusal(demand, self._machines)
        if excluded is not None:
            self._fail(lambda other: other == demand, excluded)
            trouble.since = None
            return
        if now_s - trouble.since < self._terms.wait_s:
            return  # a cluster that grows by itself sees the lane that waits
        error = Unavailable(
            "ray.resources",
            f"No machine of the Ray cluster has {demand.words()}.",
            hint=f"There are {shown(self._machines)}. Ask for less, or add a node.",
        )
        for lane in [lane for lane in self._lanes.values() if lane.demand == demand]:
            self._remove(lane)
        self._fail(lambda other: other == demand, error)
        trouble.since = None

    def _start(self, demand: Demand) -> None:
        assert self._bridge is not None
        store = self._open_store()
        lane = _Lane(next(self._numbers), demand, time.monotonic(), store.relay())
        greeting = Greeting(
            version=__version__,
            python=platform.python_version(),
            store=store.address,
            place=None if "://" in store.address else identity(store.address),
            sharing=self._terms.sharing,
            cpus=demand.cpus,
            preload=self._terms.preload,
        )
        self._lanes[lane.number] = lane
        wanted = self.pools.on_allowed(demand, self._machines)
        self._bridge.open(lane.number, wanted, msgspec.msgpack.encode(greeting))

    def _tell(self, lane: _Lane, frame: bytes) -> None:
        if self._bridge is not None:
            self._bridge.tell(lane.number, frame)

    def _heard(self, heard: Heard) -> None:
        lane = self._lanes.get(heard.number)
        for body in heard.frames:
            if lane is None or lane.number not in self._lanes:
                return  # given up meanwhile: nothing that it says counts
            frame = from_lane.decode(body)
            if isinstance(frame, Wish):
                self._wishes.submit(self._grant, lane, frame)
            elif isinstance(frame, Hello):
                self._welcome(lane, frame)
            elif isinstance(frame, Said):
                self._said(lane, frame)
            else:
                call, lane.call, lane.stopping = lane.call, None, None
                lane.since = time.monotonic()
                if call is not None:
                    call.finish(frame)
                if lane.ready is not None and not self.pools.may_have(lane.ready.node):
                    self._remove(lane)

    def _welcome(self, lane: _Lane, hello: Hello) -> None:
        if hello.error is not None:
            error = hello.error
            self._remove(lane)
            self._stillborn(lane.demand, f"{error['message']} {error['hint']}", error["code"])
            return
        self._trouble.pop(lane.demand, None)
        if not self.pools.may_have(hello.node):
            self._remove(lane)
            return
        lane.ready, lane.since = hello, time.monotonic()

    def _said(self, lane: _Lane, said: Said) -> None:
        call = lane.call
        if call is None:
            return

        def reply(answer: Answer) -> None:
            if lane.call is call:
                self._tell(lane, encode_frame(answer))

        call.heard(said, lambda answer: self.tell(partial(reply, answer)))

    def _grant(self, lane: _Lane, wish: Wish) -> None:
        """What a lane needs of this machine; on a thread for that."""
        try:
            if wish.kind == "store":
                body = lane.relay.answer(wish.body)
            else:
                body = self._code.of(wish.body.decode(), name_only=wish.kind == "name")
        except OSError:
            return  # the lane asks for what is not there: it waits, and its call ends with it
        reply = encode_frame(Reply(wish.number, body))
        self.tell(lambda: self._tell(lane, reply))

    # ends -----------------------------------------------------------------------------------

    def _check(self) -> None:
        now_s = time.monotonic()
        lanes = list(self._lanes.values())
        spreading = any(lane.call is not None and lane.call.call.beside for lane in lanes)
        # ranks of a call want the machines that idle lanes hold
        patience_s = min(_CROWDED_S, self._terms.idle_s) if spreading else self._terms.idle_s
        for lane in lanes:
            if lane.stopping is not None and now_s - lane.stopping > _STOP_S:
                self._remove(lane)
                self._finish_lost(lane, "")
            elif _is_idle(lane) and now_s - lane.since > patience_s:
                self._remove(lane)
        crowded = [lane for lane in lanes if lane.ready is None and now_s - lane.since > _CROWDED_S]
        for lane in lanes:
            if _is_idle(lane) and any(lane.demand != other.demand for other in crowded):
                self._remove(lane)
        wanted = {demand_of(entry[2].call) for entry in self._queue}
        for lane in crowded:
            if lane.demand not in wanted and lane.number in self._lanes:
                self._remove(lane)  # nobody waits for it any more

    def _gone(self, gone: Gone) -> None:
        lane = self._lanes.get(gone.number)
        if lane is None:
            return
        if lane.ready is None and gone.unborn:
            self._forget(lane)
            self._stillborn(lane.demand, gone.why, "ray.node")
        else:
            self._lose(lane, gone.why)

    def _stillborn(self, demand: Demand, why: str, code: str) -> None:
        trouble = self._trouble.setdefault(demand, _Trouble())
        trouble.births += 1
        trouble.not_before = time.monotonic() + _PAUSE_S
        if trouble.births < _BIRTHS:
            return
        del self._trouble[demand]
        error = Unavailable(
            code,
            f"No worker can be started in the Ray cluster: {why}",
            hint=f'Every node needs this Python and Clew: pip install "clew[ray]=={__version__}"',
        )
        self._fail(lambda other: other == demand, error)

    def _lose(self, lane: _Lane, why: str) -> None:
        self._forget(lane)
        self._finish_lost(lane, why)

    def _finish_lost(self, lane: _Lane, why: str) -> None:
        call, lane.call = lane.call, None
        if call is None:
            return
        label = call.call.label
        if lane.stopping is not None:
            call.finish(without_value("cancelled", f"{label} was cancelled while it ran."))
            return
        place = lane.ready.host if lane.ready else "its machine"
        message = f"{label} ran on {place}, which is lost: {why}"
        call.finish(without_value("lost", message, hint="It is run again elsewhere."))

    def _remove(self, lane: _Lane) -> None:
        self._forget(lane)
        if self._bridge is not None:
            self._bridge.end(lane.number)

    def _forget(self, lane: _Lane) -> None:
        self._lanes.pop(lane.number, None)
        self._wishes.submit(lane.relay.end)

    def _end_all(self) -> None:
        with self._lock:
            self._ended = True
        with suppress(queue.Empty):
            while True:  # calls that were submitted in the last moment are in the queue too
                self._acts.get_nowait()()
        for _, _, submitted in self._queue:
            message = f"{submitted.call.label}: pool closed."
            submitted.finish(without_value("cancelled", message))
        for lane in list(self._lanes.values()):
            lane.stopping = time.monotonic()
            self._lose(lane, "")
        bridge, self._bridge = self._bridge, None
        if bridge is not None:
            bridge.close()
        self._joined.set()


def _is_idle(lane: _Lane) -> bool:
    return lane.ready is not None and lane.call is None


def _match(
    waiting: list[tuple[int, int, Submitted]], idle: list[_Lane]
) -> tuple[tuple[int, int, Submitted], _Lane]:
    """Which call goes to which lane: one that is warm for it, if that is not far down."""
    first = waiting[0]
    near = [entry for entry in waiting[:_LOOK_AHEAD] if entry[0] == first[0]]
    for place, entry in enumerate(near if first[2].overtaken < _LOOK_AHEAD else near[:1]):
        call = entry[2].call
        fitting = [lane for lane in idle if lane.snapshot in {None, call.snapshot_dir}]
        if fitting:
            for other in near[:place]:
                other[2].overtaken += 1
            warmth = partial(_warmth, entry[2])
            return entry, max(fitting, key=warmth)
    return first, min(idle, key=lambda lane: lane.used)


def _warmth(submitted: Submitted, lane: _Lane) -> tuple[bool, bool, int]:
    return lane.snapshot is not None, lane.affinity == submitted.affinity, lane.used
