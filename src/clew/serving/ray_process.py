"""``python -m clew.serving.ray_process``: the process of a workspace whose endpoints are on Ray.

Knows what belongs together: the deployer, and beside it the server of this machine, which answers
what is no prediction (metrics, statistics, health, load and unload) and passes predictions on.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import importlib.metadata
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import TextIO

import msgspec

from clew.base.errors import ClewError
from clew.db import Database
from clew.serving import late
from clew.serving.clusters import Cluster
from clew.serving.config import ProcessConfig
from clew.serving.deployer import Deployer
from clew.serving.desk import Desk
from clew.serving.doors import Doors
from clew.serving.forwarding import Forwarding
from clew.serving.graph_settling import headers_of
from clew.serving.http import HttpServer
from clew.serving.logs import configure
from clew.serving.ray_serve import Laid
from clew.serving.rest import HEALTH, Rest
from clew.serving.worker import new_loop, until_orphaned
from clew.store import Store

_FOLLOW_S = 0.05


async def _serve(config: ProcessConfig, cluster: Cluster, ready: TextIO) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    threading.Thread(target=until_orphaned, args=(loop, stop), daemon=True).start()
    version = importlib.metadata.version("clew")
    db, store = Database.open(config.database_url), Store.attach(config.store_address)
    laid = await loop.run_in_executor(None, _joined, config, cluster, version)
    deployer = Deployer(db, store, laid, url=cluster.url, spool_dir=Path(config.spool_dir))
    plane = Forwarding(loop, cluster.url, config.token)
    desk = Desk(
        db,
        process=deployer.process,
        write=deployer.write,
        gauges=deployer.gauges,
        wake=deployer.watcher.wake_now,
    )
    rest = Rest(loop, plane, desk, version, None, plane.explain)
    server = HttpServer(rest, limit_bytes=config.limit_bytes, token=config.token, open_paths=HEALTH)
    doors = Doors(config)
    grpc = (
        None
        if config.grpc_listener is None
        else late.GrpcServer(
            loop,
            plane,
            desk,
            version=version,
            token=config.token,
            limit_bytes=config.limit_bytes,
            most_connections=config.grpc_connections,
            tls=doors.grpc_tls,
        )
    )
    await loop.run_in_executor(None, deployer.start)
    gc.collect()
    gc.freeze()
    await doors.open(server)
    if grpc is not None:
        await grpc.start(socket.socket(fileno=config.grpc_listener))
    print("ready", file=ready, flush=True)
    while not stop.is_set():
        if plane.routes is not deployer.routes:
            plane.follow(deployer.routes)
            server.want(headers_of(plane.routes))
        await asyncio.sleep(_FOLLOW_S)
    desk.close()
    doors.close()
    await asyncio.gather(
        server.drain(idle_s=config.idle_s), *([] if grpc is None else [grpc.drain()])
    )
    plane.close()
    await loop.run_in_executor(None, deployer.close)
    laid.close()
    db.close()


def _joined(config: ProcessConfig, cluster: Cluster, version: str) -> Laid:
    told = f"{config.database_url}\0{config.store_address}".encode()
    token = hashlib.sha256(config.token.encode()).hexdigest() if config.token else ""
    space = f"clew-{hashlib.sha256(told).hexdigest()[:12]}"
    return Laid(cluster, space=space, home=config.url, token_digest=token, version=version)


def main() -> int:
    """Serve as the configuration on standard input says, until told to stop."""
    config = msgspec.json.decode(sys.stdin.buffer.readline(), type=ProcessConfig)
    assert config.cluster is not None, "this process is for endpoints on a cluster"
    ready = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    configure(json=config.json_logs)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the supervisor tells when to stop
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(_serve(config, config.cluster, ready))
    except ClewError as error:
        sys.stderr.write(f"{error.message} ({error.code}) {error.hint}\n")
        print(msgspec.json.encode(error.to_wire()).decode(), file=ready, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
