"""Rows → routes: loads what should be served, warms it, and switches traffic.

Knows no transport. Two threads: one follows the rows (a change of traffic is in force within
milliseconds), one loads models (a slow load delays no rollback).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from queue import SimpleQueue
from typing import Any, TypeVar

import msgspec
from msgspec import Struct
from sqlalchemy import select

from clew.base.errors import ClewError
from clew.base.records import Signature
from clew.db import Database
from clew.serving import accounts, tables
from clew.serving.dataplane import Route
from clew.serving.graph_settling import settle_graphs
from clew.serving.overlaying import asked_by_graphs
from clew.serving.rollouts import Rollouts
from clew.serving.router import Arm
from clew.serving.runtime import Identity, Load, Runtime
from clew.serving.sleeping import RESTLESS, Holding, Wake, Wakes, sleepers
from clew.serving.standing import StandIns

KINDS = (
    "revision.created", "revision.changed", "traffic.changed", "pipeline.applied",
    "endpoint.loaded", "endpoint.unloaded",
)  # fmt: skip
HEAVY_S = 0.1
"""A model whose example takes longer holds up the others of its process: it gets its own."""
REFRESH_S = 2.0
"""How late at most a changed setting of an endpoint is in force."""
_log = logging.getLogger("clew.serving")
T = TypeVar("T")
_FIRST = {"live": 0, "canary": 1, "arm": 1, "shadow": 2, "loading": 3}


class Wanted(Struct, frozen=True, kw_only=True):
    """A revision that should be in memory, its state, and its share of the traffic.

    ``copied``: the share of the requests (from 0 to 1) that a shadow gets copies of.
    """

    identity: Identity
    tree: str
    state: str
    traffic: float
    copied: float
    isolate: bool | None = None
    """In a process of its own: yes, no, or (None) where it is heavy."""


class Watcher:
    """Follows the rows of a workspace in one serving process.

    ``publish`` is called, on any thread, with all routes whenever they change. Where ``holding``
    does not hold everything, a revision that is live, or could be again, is loaded when it is asked
    for (:meth:`wake`); what is coming or compared is in memory, and so is all of its endpoint.
    ``opened`` brings a revision into memory, and may raise anything; by default here, by ``load``.
    """

    def __init__(
        self,
        db: Database,
        rollouts: Rollouts,
        load: Load,
        *,
        process: str,
        publish: Callable[[dict[str, Route]], None],
        holding: Holding = Holding(),  # noqa: B008 - a frozen record
        opened: Callable[[Wanted], Runtime] | None = None,
    ) -> None:
        self._db, self._rollouts, self._load = db, rollouts, load
        self._holding = holding
        self._open = opened or self._warmed
        self._asleep: dict[str, str] = {}  # revision → '', or why it could not be loaded
        self._rising: set[str] = set()  # it slept, and is being loaded beside what came
        self._wakes = Wakes()
        self._process, self._publish = process, publish
        self._lock = threading.Lock()
        self._endpoints: list[Any] = []
        self._signatures: dict[str, Any] = {}
        self._wanted: dict[str, Wanted] = {}
        self._loaded: dict[str, Runtime] = {}
        self._dropped: list[Runtime] = []
        self._standing: StandIns[Runtime] = StandIns()
        self._asked: set[str] = set()
        self._queue: SimpleQueue[Wanted | threading.Event | None] = SimpleQueue()
        self._closed = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow, name="watcher", daemon=True),
            threading.Thread(target=self._load_all, name="loader", daemon=True),
            threading.Thread(target=self._wake_all, name="waker", daemon=True),
        ]

    def start(self) -> None:
        """Load what is served now, then follow. Returns when the first loads have been tried."""
        self._seen = self._db.events.last()
        self.refresh()
        first = threading.Event()
        self._queue.put(first)
        for thread in self._threads:
            thread.start()
        first.wait()

    def close(self) -> None:
        """Follow no more."""
        self._closed.set()
        self._queue.put(None)
        self._wakes.ask(None)
        self._threads[0].join()

    def loaded(self) -> list[Runtime]:
        """What is in memory now."""
        with self._lock:
            return list(self._loaded.values())

    def wanted(self) -> list[Wanted]:
        """What should be in memory, in the order in which it is loaded."""
        with self._lock:
            return list(self._wanted.values())

    def seen(self) -> list[Runtime]:
        """What is in memory now, and what was dropped since the last call: its last answers are
        to be counted too.
        """
        with self._lock:
            dropped, self._dropped = self._dropped, []
            return [*self._loaded.values(), *self._standing.values(), *dropped]

    def refresh(self) -> None:
        """Read the rows; publish what they say, and ask for what is not loaded."""
        with self._db.read() as tx:
            endpoints = list(tx.execute(select(tables.endpoints)))
            rows = [*tx.execute(tables.OPEN), *tx.execute(tables.FORMERS)]
            told = accounts.loads_of(tx, self._process)
        asleep = {row.name for row in endpoints if row.unloaded}
        rows = [row for row in rows if row.endpoint not in asleep]
        rows.sort(key=lambda row: (_FIRST.get(row.state, 4), row.number))
        with self._lock:
            self._endpoints = endpoints
            live = [row for row in rows if row.state == "live" and row.model_version]
            self._signatures = {row.endpoint: row.signature for row in live}
            rollouts = {row.name: row.rollout for row in endpoints}
            isolates = {row.name: row.isolate for row in endpoints}
            self._wanted = {
                row.id: _wanted(row, rollouts.get(row.endpoint), isolates.get(row.endpoint))
                for row in rows
            }
            gone = {id: each for id, each in self._loaded.items() if id not in self._wanted}
            for id in gone:  # requests in flight hold it until they are answered
                del self._loaded[id]
            back = self._standing.back(self._wanted)
            self._loaded |= back
            self._asked |= back.keys()
            self._asked &= self._wanted.keys()
            self._wakes.keep(self._wanted)
            dozing = self._doze()
            lacking = self._lacking()
            named = {id: (each.identity.endpoint, each) for id, each in gone.items()}
            self._standing.take(named, lacking)
            let_go = {id: each for id, each in gone.items()
                      if id not in self._standing.of(each.identity.endpoint)}  # fmt: skip
            let_go |= self._standing.leave(lacking)
            self._dropped += let_go.values()
            missing = [
                each
                for id, each in self._wanted.items()
                if id not in self._asked and id not in self._asleep
            ]
            self._asked.update(each.identity.revision for each in missing)
            again = [  # it comes back, and was in memory all the time
                id
                for id, each in self._wanted.items()
                if each.state == "loading" and id in self._loaded and id not in told
            ]
            self._publish(self._routes())
        for each in missing:
            self._queue.put(each)
        for revision in let_go:
            self._forget(revision)
        for revision in again:
            self._rollouts.report(revision, self._process)
        self._tell_asleep(dozing)

    def _lacking(self) -> set[str]:
        """Endpoints with traffic of which nothing that should answer is in memory, or sleeps."""
        asleep = self._asleep_by_endpoint()
        wanted: dict[str, bool] = {}
        for id, each in self._wanted.items():
            if each.traffic > 0:
                name = each.identity.endpoint
                here = id in self._loaded or "" in asleep.get(name, ())
                wanted[name] = wanted.get(name, False) or here
        return {name for name, here in wanted.items() if not here}

    # what sleeps --------------------------------------------------------------------------------

    def wake(self, endpoint: str, version: str = "") -> None:
        """Have a version loaded, if it sleeps ('': what has the traffic); routes are published
        when it is in memory, or when it cannot come.
        """
        self._wakes.ask(Wake(endpoint, version))

    def wake_now(self, endpoint: str) -> str:
        """The same, and wait for it; why it cannot be loaded, or ''."""
        done = threading.Event()
        self._wakes.ask(Wake(endpoint, "", done))
        while not done.wait(0.1) and not self._closed.is_set():
            pass
        with self._lock:
            of_endpoint = [id for id in self._asleep if self._named(id) == endpoint]
            return next((self._asleep[id] for id in of_endpoint if self._asleep[id]), "")

    def _named(self, revision: str) -> str:
        return self._wanted[revision].identity.endpoint

    def _doze(self) -> list[str]:
        """Let sleep what is new and may; what was asleep and may not any more is loaded. The
        first, to be told of.
        """
        sleepy = self._sleepy()
        self._rising = (self._rising | (self._asleep.keys() - sleepy)) & self._wanted.keys()
        self._asleep = {id: why for id, why in self._asleep.items() if id in sleepy}
        new = [id for id in self._wanted if id in sleepy - self._asked - self._asleep.keys()]
        self._asleep |= dict.fromkeys(new, "")
        return new

    def _sleepy(self) -> set[str]:
        """Revisions that need not be in memory until they are asked for."""
        if self._holding.all:
            return set()
        busy = {self._named(id) for id, each in self._wanted.items() if each.state in RESTLESS}
        busy |= asked_by_graphs(self._endpoints)  # a graph asks its nodes as they are
        for runtime in self._loaded.values():
            if runtime.graph is not None:  # also on an endpoint of a model
                busy |= {runtime.identity.endpoint, *runtime.graph.graph.endpoints}
        return {id for id in self._wanted if self._named(id) not in busy}

    def _let_sleep(self, room: int = 0) -> None:
        """Let go of what nobody asks for, and of what is beyond the limit with ``room`` more."""
        if self._holding.all:
            return
        with self._lock:
            sleepy = self._sleepy()
            held = {id: each for id, each in self._loaded.items() if id in sleepy}
            others = len(self._loaded) - len(held)
            going = sleepers(held, self._holding, accounts.now_us(), others + room)
            if not going:
                return
            self._dropped += [self._loaded.pop(id) for id in going]
            self._asked.difference_update(going)
            self._asleep |= dict.fromkeys(going, "")
            self._publish(self._routes())
        self._tell_asleep(going)

    def _tell_asleep(self, revisions: Sequence[str]) -> None:
        """Tell that this process will hold them when they are asked for."""

        def tell() -> None:
            with self._db.begin() as tx:
                for revision in revisions:
                    accounts.loaded(tx, revision, self._process, accounts.ASLEEP)

        if revisions:
            self._insist(tell)

    def _wake_all(self) -> None:
        while True:
            wake, asked = self._wakes.get()
            if wake is None:
                return
            with self._lock:
                meant = [self._wanted[id] for id in self._asleep if self._is_meant(id, wake)]
            for wanted in meant:
                if self._wakes.is_new(wanted.identity.revision, asked):
                    self._load_one(wanted)
            if wake.done is not None:
                wake.done.set()

    def _is_meant(self, revision: str, wake: Wake) -> bool:
        wanted = self._wanted[revision]
        if wanted.identity.endpoint != wake.endpoint:
            return False
        return wanted.identity.version == wake.version if wake.version else wanted.traffic > 0

    # rows and routes ----------------------------------------------------------------------------

    def _forget(self, revision: str) -> None:
        """Tell that this process does not hold a revision any more."""
        with self._db.begin() as tx:
            accounts.unloaded(tx, revision, self._process)

    def _routes(self) -> dict[str, Route]:
        arms: dict[str, list[Arm[Runtime]]] = {row.name: [] for row in self._endpoints}
        shadows: dict[str, list[tuple[Runtime, float]]] = {}
        asleep = self._asleep_by_endpoint()
        for id, wanted in self._wanted.items():
            endpoint, runtime = wanted.identity.endpoint, self._loaded.get(id)
            if runtime is None or endpoint not in arms:
                continue
            if wanted.state == "shadow":
                shadows.setdefault(endpoint, []).append((runtime, wanted.copied))
            else:  # nobody takes the share of one that is being woken
                share = 0.0 if "" in asleep.get(endpoint, ()) else wanted.traffic
                arms[endpoint].append(Arm(runtime, id, share, wanted.state))
        for name, of_name in arms.items():
            sharing = [arm.value for arm in of_name if arm.weight > 0]
            if sharing:
                self._standing.answered_by(name, (one.identity.revision for one in sharing))
            else:
                of_name += [Arm(one, id, 100) for id, one in self._standing.of(name).items()]
            compared = len(sharing) > 1 or name in shadows
            for arm in of_name:
                _watch(arm.value, on=compared and arm.value in sharing)
        for runtime, _ in chain.from_iterable(shadows.values()):
            _watch(runtime, on=True)
        routes = {
            row.name: Route(
                row.name,
                arms[row.name],
                log=row.log,
                redact=frozenset(row.redact),
                max_queue=row.max_queue,
                unloaded=row.unloaded,
                shadows=tuple(shadows.get(row.name, ())),
                asleep=asleep.get(row.name, {}),
            )
            for row in self._endpoints
        }
        settle_graphs(routes, self._told)
        return routes

    def _told(self, endpoint: str) -> Signature | None:
        """What a client sends to the model that is live on an endpoint, loaded or not."""
        found = self._signatures.get(endpoint)
        return None if found is None else msgspec.convert(found, Signature)

    def _asleep_by_endpoint(self) -> dict[str, dict[str, str]]:
        """Endpoint → what sleeps, by version, and '' where that has the traffic."""
        found: dict[str, dict[str, str]] = {}
        for id, why in [*self._asleep.items(), *((id, "") for id in self._rising)]:
            wanted = self._wanted[id]
            of_endpoint = found.setdefault(wanted.identity.endpoint, {})
            of_endpoint[wanted.identity.version] = why
            if wanted.traffic > 0:
                of_endpoint[""] = why
        return found

    def _follow(self) -> None:
        refreshed_s = time.monotonic()
        while not self._closed.is_set():
            try:
                news = self._news()
                if news or time.monotonic() - refreshed_s > REFRESH_S:
                    self.refresh()
                    refreshed_s = time.monotonic()
                self._let_sleep()
            except ClewError as error:
                _log.error("the routes cannot be read: %s", error)
                self._closed.wait(1.0)

    def _news(self) -> bool:
        """Whether revisions have changed; waits a while for it."""
        if not self._db.events.wait(self._seen, 0.5):
            return False
        last = self._db.events.last()
        news = self._db.events.any_after(self._seen, kinds=KINDS)
        self._seen = last
        return news

    # loading ------------------------------------------------------------------------------------

    def _load_all(self) -> None:
        while (item := self._queue.get()) is not None:
            if isinstance(item, threading.Event):
                item.set()
            elif item.identity.revision in self._wanted:
                self._load_one(item)

    def _load_one(self, wanted: Wanted) -> None:
        revision = wanted.identity.revision
        self._let_sleep(room=1)
        if not self._insist(lambda: self._rollouts.may_load(revision, self._process)):
            return
        error = ""
        try:
            runtime = self._open(wanted)
        except Exception as raised:  # noqa: BLE001 - the model is the user's code
            error = f"{type(raised).__name__}: {raised}"
            _log.warning("revision %s cannot be loaded: %s", revision, error)
            with self._lock:
                self._rising.discard(revision)
                slept = revision in self._asleep
                if slept:
                    self._asleep[revision] = error
                    self._wakes.fail(revision)
                self._publish(self._routes())
            if slept:  # it has been in memory, so it stays what it is, and is tried again
                self._tell_asleep([revision])
                return
        else:
            with self._lock:
                if revision in self._wanted:
                    self._loaded[revision] = runtime
                    self._asked.add(revision)
                    self._asleep.pop(revision, None)
                    self._rising.discard(revision)
                relieved = self._standing.leave(self._lacking())
                self._dropped += relieved.values()
                self._publish(self._routes())
                error = self._turned_away(runtime)
            for each in relieved:
                self._insist(partial(self._forget, each))
        if revision in self._wanted:
            self._insist(lambda: self._rollouts.report(revision, self._process, error))
        else:
            self._insist(lambda: self._forget(revision))

    def _turned_away(self, runtime: Runtime) -> str:
        """Why a graph that is coming does not fit where it is to stand; then it is let go."""
        revision = runtime.identity.revision
        wanted = self._wanted.get(revision)
        if not runtime.misfit or wanted is None or wanted.state != "loading":
            return ""
        self._loaded.pop(revision, None)
        self._publish(self._routes())
        return runtime.misfit

    def _warmed(self, wanted: Wanted) -> Runtime:
        """The revision in memory, asked once; in a process of its own where it is heavy."""
        runtime = self._opened(wanted, wanted.isolate)
        if wanted.isolate is None and runtime.took_s > HEAVY_S and not runtime.apart:
            del runtime  # before its memory is asked for again
            runtime = self._opened(wanted, True)
        return runtime

    def _opened(self, wanted: Wanted, isolate: bool | None) -> Runtime:
        model, example = self._load(wanted.tree, isolate)
        runtime = Runtime(wanted.identity, model)
        runtime.tree = wanted.tree
        runtime.warm(example)
        return runtime

    def _insist(self, act: Callable[[], T]) -> T | None:
        """Do what needs the database, again and again until it can be done or this is closed."""
        while not self._closed.is_set():
            try:
                return act()
            except ClewError as refused:
                _log.error("what is loaded cannot be told: %s", refused)
                self._closed.wait(1.0)
        return None


def _wanted(row: Any, rollout: Any, isolate: bool | None) -> Wanted:
    identity = Identity(
        endpoint=row.endpoint,
        revision=row.id,
        number=row.number,
        model_version=row.model_version,
        version=row.version,
        global_id=row.global_id,
    )
    told = rollout if row.rollout is None else row.rollout
    copied = told["weight"] if told and told["kind"] == "shadow" else 0.0
    return Wanted(
        identity=identity,
        tree=row.tree,
        state=row.state,
        traffic=row.traffic,
        copied=(copied or 100.0) / 100,
        isolate=isolate,
    )


def _watch(runtime: Runtime, *, on: bool) -> None:
    if on and runtime.watch is None:
        runtime.watch = []
    elif not on:
        runtime.watch = None
