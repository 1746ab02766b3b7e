"""One replica of an endpoint on a cluster: it serves what it is told, logs, and reports.

Knows a post that brings plans and files and takes reports and logs; neither Ray nor a database.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import hmac
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec

from clew.base.errors import Unavailable
from clew.models import load_model
from clew.serving.dataplane import Answer, DataPlane, Route, refusal
from clew.serving.explaining_there import ExplainingThere, files_of
from clew.serving.graph_model import graph_in
from clew.serving.graph_settling import headers_of, settle_graphs
from clew.serving.plans import Contents, Held, Plan, PlannedArm, Report
from clew.serving.requests import answer_headers, request_of
from clew.serving.rest import Rest
from clew.serving.router import Arm
from clew.serving.runtime import Runtime
from clew.serving.sketches import sketch
from clew.serving.spool import Spool, segments
from clew.serving.stats import Counts
from clew.serving.worker import open_model

INTERVAL_S = 0.5
AGAIN_S = 1.0
_log = logging.getLogger("clew.serving")


class Post(Protocol):
    """The way to the workspace. Each call waits; any may raise where the way is closed for now."""

    def follow(self, endpoint: str, seen: int) -> tuple[int, Plan | None]:
        """The plan of an endpoint with its number, as soon as that is another than ``seen``; None
        where the endpoint is served no more. The same number after some seconds without news.
        """
        ...

    def fetch(self, tree: str) -> Contents:
        """The files of a model version."""
        ...

    def report(self, report: Report) -> None:
        """Tell what this replica holds and did."""
        ...

    def deliver(self, name: str, data: bytes) -> bool:
        """Hand over a file of the log; whether it is safe at the workspace (else: try later)."""
        ...


class _Clerk:
    """Counts of all replicas are with the workspace: one of many does not know them."""

    def __init__(self, home: str) -> None:
        self._home = home

    def metrics(self) -> str:
        raise self._elsewhere()

    def statistics(self, *_: str) -> list[dict[str, object]]:
        raise self._elsewhere()

    def load(self, *_: str) -> None:
        raise self._elsewhere()

    def unload(self, *_: str) -> None:
        raise self._elsewhere()

    def _elsewhere(self) -> Unavailable:
        return Unavailable(
            "serving.elsewhere",
            f"One replica of many does not know this: ask {self._home}.",
        )


class Seat:
    """What a replica is made of. Belongs to one event loop; make it there.

    Args:
        name: Of the replica.
        endpoint: What it serves.
        spool: Where its log is until the workspace has it, on this machine.
        home: Where the workspace's own server answers.
        token_digest: SHA-256 of the token that callers must have, '' for none.
        version: Of Clew.
    """

    def __init__(
        self,
        post: Post,
        *,
        name: str,
        endpoint: str,
        spool: Path,
        home: str,
        token_digest: str,
        version: str,
        limit_bytes: int,
    ) -> None:
        self._post, self._name, self._endpoint = post, name, endpoint
        self._token, self._limit = token_digest, limit_bytes
        self._loop = asyncio.get_running_loop()
        self._directory = spool
        self._spool = Spool(spool)
        self._plane = DataPlane(self._loop, self._spool)
        self._explaining = ExplainingThere(self._loop, self._plane, self._spool, post)
        ask_why = self._explaining.ask
        self._rest = Rest(self._loop, self._plane, _Clerk(home), version, None, ask_why)
        self._headers: set[bytes] = set()
        self._loaded: dict[str, Runtime] = {}
        self._dropped: list[Runtime] = []
        self._held: dict[str, Held] = {}
        self._written: dict[Runtime, Counts] = {}
        self._seen = 0
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._first = threading.Event()
        self._threads = [
            threading.Thread(target=work, name=f"clew-{work.__name__.strip('_')}", daemon=True)
            for work in (self._follow, self._tell, self._ship)
        ]

    def start(self) -> None:
        """Serve; returns when the first plan has been carried out."""
        for thread in self._threads:
            thread.start()
        self._first.wait()

    def close(self) -> None:
        """End; the log is on the disk, where the next replica on this machine finds it."""
        self._closed.set()
        with suppress(Exception):  # the way may be closed by now
            self._report()
        self._explaining.close()
        self._plane.close()
        self._spool.close()
        with suppress(Exception):
            self._ship_once()

    # requests -----------------------------------------------------------------------------------

    async def answer(
        self, method: str, target: bytes, headers: Mapping[bytes, bytes], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer to a request."""
        path = headers.get(b"clew-path", target)
        asked = request_of(method, path, headers, body, self._limit, self._headers)
        if self._token and not self._may(headers):
            asked = refusal(401, "This server asks for a bearer token.")
        if isinstance(asked, Answer):
            answer = asked
        else:
            done: asyncio.Future[Answer] = self._loop.create_future()
            self._rest(asked, partial(_settle, done))
            answer = await done
        return answer.status, answer_headers(answer), answer.body

    def _may(self, headers: Mapping[bytes, bytes]) -> bool:
        given = headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        return hmac.compare_digest(hashlib.sha256(given).hexdigest(), self._token)

    # plans --------------------------------------------------------------------------------------

    def _follow(self) -> None:
        while not self._closed.is_set():
            try:
                number, plan = self._post.follow(self._endpoint, self._seen)
                if number != self._seen and plan is not None:
                    self._carry_out(plan)
                    self._first.set()
                    self._seen = number
                    self._report()
            except Exception as error:  # noqa: BLE001 - what is served goes on without the way
                _log.warning("the plan of %s cannot be followed: %s", self._endpoint, error)
                self._closed.wait(AGAIN_S)

    def _carry_out(self, plan: Plan) -> None:
        """Load what is new, then switch, then let go of what is not in the plan."""
        held = {arm.identity.revision: arm for arm in plan.held}
        for revision, arm in held.items():
            if revision not in self._loaded:
                self._load(arm)
        gone = [each for revision, each in self._loaded.items() if revision not in held]
        loaded = {name: each for name, each in self._loaded.items() if name in held}
        for revision, runtime in loaded.items():
            runtime.watch = (runtime.watch or []) if held[revision].watched else None
        routes = {one.endpoint: _route(one, loaded) for one in (plan, *plan.nodes)}
        settle_graphs(routes)
        self._headers |= headers_of(routes)
        self._loop.call_soon_threadsafe(self._plane.follow, routes)
        with self._lock:
            self._loaded, self._dropped = loaded, [*self._dropped, *gone]
            self._held = {name: each for name, each in self._held.items() if name in held}

    def _load(self, arm: PlannedArm) -> None:
        revision = arm.identity.revision
        try:
            files: Any = files_of(self._post.fetch(arm.tree))
            graph = graph_in(files, "")
            model, example = open_model(files, _served, "") if graph is None else (graph, None)
            runtime = Runtime(arm.identity, model)
            runtime.tree = arm.tree
            runtime.warm(example)
        except (OSError, EOFError):
            raise  # of the way to the workspace: tried again
        except Exception as error:  # noqa: BLE001 - the model is the user's code
            _log.warning("revision %s cannot be loaded: %s", revision, error)
            held = Held(error=f"{type(error).__name__}: {error}")
        else:
            self._loaded[revision] = runtime
            held = Held(
                platform=runtime.model.platform,
                outputs=tuple(runtime.outputs),
                signature=runtime.model.signature,
            )
        with self._lock:
            self._held[revision] = held

    # reports ------------------------------------------------------------------------------------

    def _tell(self) -> None:
        while not self._closed.wait(INTERVAL_S):
            try:
                self._report()
            except Exception as error:  # noqa: BLE001 - counted on, and told the next time
                _log.warning("what was answered cannot be told: %s", error)

    def _report(self) -> None:
        with self._lock:
            runtimes = {*self._loaded.values(), *self._dropped, *self._written}
            news = {runtime: _snapshot(runtime) for runtime in runtimes}
            sums: dict[str, Counts] = {}
            for runtime, now in news.items():
                before, revision = self._written.get(runtime, Counts()), runtime.identity.revision
                if now != before:
                    sums[revision] = sums.get(revision, Counts()) + (now - before)
            report = Report(
                replica=self._name,
                endpoint=self._endpoint,
                held=dict(self._held),
                in_flight=self._plane.in_flight,
                unlogged=self._plane.log_failures,
                counts={name: msgspec.msgpack.encode(each) for name, each in sums.items()},
            )
            self._post.report(report)
            idle = {each for each in self._dropped if not each.waiting}
            self._written = {one: now for one, now in news.items() if one not in idle}
            self._dropped = [each for each in self._dropped if each not in idle]

    # the log ------------------------------------------------------------------------------------

    def _ship(self) -> None:
        while not self._closed.wait(INTERVAL_S):
            try:
                self._ship_once()
            except Exception as error:  # noqa: BLE001 - it stays on this disk until it can be sent
                _log.warning("the log cannot be handed over: %s", error)
                self._closed.wait(AGAIN_S)

    def _ship_once(self) -> None:
        """Hand over files that are complete, also those of replicas that are gone; one replica of
        a machine at a time does so.
        """
        with _alone(self._directory / "ship.lock") as alone:
            for segment in segments(self._directory) if alone else ():
                data = _whole(segment.path) if segment.final else b""
                if segment.final and (not data or self._post.deliver(segment.name, data)):
                    segment.delete()


_served = partial(load_model, served=True)


def _settle(done: asyncio.Future[Answer], answer: Answer) -> None:
    if not done.done():  # whoever asked may have gone
        done.set_result(answer)


def _whole(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return path.with_suffix(".log").read_bytes()


def _snapshot(runtime: Runtime) -> Counts:
    if runtime.watch:
        noted, runtime.watch = runtime.watch, []
        runtime.account.outputs = sketch(noted, runtime.account.outputs)
    return runtime.account.snapshot()


def _route(plan: Plan, loaded: Mapping[str, Runtime]) -> Route:
    arms = [
        Arm(loaded[arm.identity.revision], arm.identity.revision, arm.weight, arm.role)
        for arm in plan.arms
        if arm.identity.revision in loaded
    ]
    shadows = [
        (loaded[arm.identity.revision], arm.copied)
        for arm in plan.shadows
        if arm.identity.revision in loaded
    ]
    return Route(
        plan.endpoint,
        arms,
        log=plan.log,
        redact=frozenset(plan.redact),
        max_queue=plan.max_queue,
        shadows=tuple(shadows),
    )


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """Whether nobody else does it now; and nobody does while this is held."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)
