"""One serving process: wires the data plane, the HTTP server and the rows, and drains at its end.

Knows no supervisor: it is told a socket, serves until SIGTERM or the end of its standard input,
and answers everything that was asked before it goes.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.metadata
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TextIO

import msgspec

from clew.base.asking import request_of
from clew.base.extras import check_explains
from clew.base.ids import new_id
from clew.base.records import Signature
from clew.base.records.processing import ROWS
from clew.base.structs import KNOWN
from clew.base.switching import switching_soon
from clew.db import Database
from clew.lineage import Lineage
from clew.serving import apart, late
from clew.serving.bookkeeper import Bookkeeper
from clew.serving.config import ProcessConfig
from clew.serving.contract import contract_of
from clew.serving.dataplane import DataPlane, Route
from clew.serving.desk import Desk
from clew.serving.doors import Doors
from clew.serving.explaining import Explaining
from clew.serving.graph_model import graph_in
from clew.serving.graph_settling import headers_of
from clew.serving.http import HttpServer
from clew.serving.logs import configure
from clew.serving.overlaying import EXAMPLE
from clew.serving.rest import HEALTH, Rest
from clew.serving.rollouts import Rollouts
from clew.serving.runtime import Load, Model
from clew.serving.shedding import Shedding
from clew.serving.sleeping import Holding
from clew.serving.spool import Spool
from clew.serving.watcher import Watcher
from clew.store import Store

ENVIRONMENT = "/clew/environment.json"
"""Where the original of a version has an environment, and so a process, of its own."""

HEAVY_BYTES = 512 << 20
"""A version whose files are larger gets a process of its own."""

Loader = Callable[[Store, str], Model]


def serve(load_model: Loader, check: Callable[[], None] = check_explains) -> None:
    """Serve as the configuration on standard input says, until told to stop. ``check``: that
    answers can be explained here.

    Writes one line to standard output when it serves; whatever user code prints goes to the error
    stream.
    """
    descriptor = apart.asked_for(sys.argv)
    if descriptor is not None:
        os.dup2(2, 1)
        apart.answer(descriptor, partial(_alone, load_model))
        return
    config = msgspec.json.decode(sys.stdin.buffer.readline(), type=ProcessConfig)
    ready = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    configure(json=config.json_logs)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor tells when to stop
    with switching_soon(), asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_serve(config, load_model, check, ready))


def new_loop() -> asyncio.AbstractEventLoop:
    """The quickest event loop that there is here."""
    try:
        import uvloop  # noqa: PLC0415 - not on every system
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _serve(
    config: ProcessConfig, load_model: Loader, check: Callable[[], None], ready: TextIO
) -> None:
    KNOWN.several_threads()
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    threading.Thread(target=until_orphaned, args=(loop, stop), daemon=True).start()
    db, store = Database.open(config.database_url), Store.attach(config.store_address)
    serving = _Serving(config, db, _loader(store, load_model, apart.command()), check, loop)
    await serving.start()
    print("ready", file=ready, flush=True)
    await stop.wait()
    await serving.stop()
    db.close()


def _loader(store: Store, load_model: Loader, command: list[str]) -> Load:
    def load(tree: str, isolate: bool | None) -> tuple[Model, bytes | None]:
        graph = graph_in(store, tree)
        if graph is not None:
            return graph, None
        heavy = isolate is None and _size_bytes(store, tree) > HEAVY_BYTES
        if isolate or (heavy and store.get(tree, ENVIRONMENT) is None):  # else it has one anyway
            model = apart.ModelApart(command, store.address, tree)
            return model, model.example
        return open_model(store, load_model, tree)

    return load


def _size_bytes(store: Store, tree: str) -> int:
    return sum(entry.size_bytes for entry in store.entries(tree))


def open_model(store: Store, load_model: Loader, tree: str) -> tuple[Model, bytes | None]:
    """A model, and what it may be asked, as a v2 request."""
    model = load_model(store, tree)
    return model, _example(store, tree, model.signature)


def _alone(load_model: Loader, address: str, tree: str) -> tuple[Model, bytes | None]:
    """What a process of its own has: a model, or what explains one (that has no example)."""
    store = Store.attach(address)
    if tree.startswith(apart.EXPLAIN):
        return load_model(store, tree), None
    return open_model(store, load_model, tree)


def _example(store: Store, tree: str, signature: Signature) -> bytes | None:
    """What a client may ask a revision, as a v2 request; None where there is no example.

    Raises Invalid ``predict.rows`` where the rows of an endpoint's example are not its inputs.
    """
    rows = store.get(tree, ROWS)
    if rows is not None:
        inputs = contract_of(signature).describe()
        return request_of(inputs, msgspec.json.decode(store.read(rows.digest)))
    entry = store.get(tree, EXAMPLE)
    return None if entry is None else store.read(entry.digest)


def until_orphaned(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """Stop when the supervisor is gone: the end of standard input is the end of its process."""
    while os.read(0, 4096):
        pass
    if not loop.is_closed():
        loop.call_soon_threadsafe(stop.set)


class _Serving:
    """The parts of a serving process, in the order in which they start and stop."""

    def __init__(
        self,
        config: ProcessConfig,
        db: Database,
        load: Load,
        check: Callable[[], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._config, self._loop = config, loop
        process = new_id()
        rollouts = Rollouts(db, Lineage(db))
        self._spool = Spool(Path(config.spool_dir))
        self._plane = DataPlane(loop, self._spool)
        holding = Holding(most=config.max_models, idle_s=config.model_idle_s)
        self._watcher = Watcher(
            db, rollouts, load, process=process, publish=self._publish, holding=holding
        )
        self._plane.parked.wake = self._watcher.wake
        self._books = Bookkeeper(
            db,
            rollouts,
            process=process,
            url=config.url,
            seen=self._watcher.seen,
            gauges=self._gauges,
        )
        self._desk = Desk(
            db,
            process=process,
            write=self._books.write,
            gauges=self._gauges,
            wake=self._watcher.wake_now,
        )
        version = importlib.metadata.version("clew")
        self._tracer = late.Tracer(version, self._redacts) if config.traces else None
        around = self._tracer.around if self._tracer else None
        self._explaining = Explaining(
            loop,
            self._plane,
            self._spool,
            command=apart.command(),
            store_address=config.store_address,
            check=check,
        )
        rest = Rest(loop, self._plane, self._desk, version, around, self._explaining.ask)
        shedding = Shedding(self._plane)
        self._http = HttpServer(
            rest,
            limit_bytes=config.limit_bytes,
            token=config.token,
            open_paths=HEALTH,
            full=shedding.full,
            refused=shedding.refused,
        )
        self._doors = Doors(config)
        self._grpc = (
            None
            if config.grpc_listener is None
            else late.GrpcServer(
                loop,
                self._plane,
                self._desk,
                version=version,
                token=config.token,
                limit_bytes=config.limit_bytes,
                around=around,
                most_connections=config.grpc_connections,
                tls=self._doors.grpc_tls,
            )
        )

    async def start(self) -> None:
        """Serve; returns when what is live has been loaded."""
        await self._loop.run_in_executor(None, self._books.start)
        await self._loop.run_in_executor(None, self._watcher.start)
        gc.collect()
        gc.freeze()
        await self._doors.open(self._http)
        if self._grpc is not None:
            await self._grpc.start(socket.socket(fileno=self._config.grpc_listener))

    async def stop(self) -> None:
        """Answer everything, then keep everything."""
        self._doors.close()
        self._desk.close()
        await asyncio.gather(
            self._http.drain(idle_s=self._config.idle_s),
            *([] if self._grpc is None else [self._grpc.drain()]),
        )
        await self._loop.run_in_executor(None, self._close)

    def _close(self) -> None:
        self._watcher.close()
        self._explaining.close()
        self._plane.close()
        self._spool.close()
        self._books.close()
        if self._tracer is not None:
            self._tracer.close()

    def _publish(self, routes: dict[str, Route]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._take, routes)

    def _take(self, routes: dict[str, Route]) -> None:
        self._plane.follow(routes)
        if self._grpc is not None:
            self._grpc.follow()
        self._http.want(headers_of(routes))

    def _redacts(self, endpoint: str) -> bool:
        route = self._plane.routes.get(endpoint)
        return route is None or bool(route.redact)

    def _gauges(self) -> dict[str, float]:
        """What this process has now, by the name of the metric."""
        grpc = self._grpc
        return {
            "clew_requests_in_flight": self._plane.in_flight,
            "clew_serving_processes": 1,
            "clew_unlogged_total": self._plane.log_failures,
            "clew_grpc_connections": grpc.connections if grpc else 0,
            "clew_grpc_connections_refused_total": grpc.refused if grpc else 0,
        }
