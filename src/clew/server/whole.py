"""The whole server in one command: engine, workers, endpoints, API and pages.

Knows what belongs together and in which order it starts and ends; each part is behind its door.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection
from contextlib import ExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from clew.base.running import RunningServer, announce_server, withdraw_server
from clew.base.settings import Settings
from clew.base.switching import switching_soon
from clew.base.tls import ServerTls
from clew.server.guard import Rules
from clew.server.mlflow import Door, Grounds
from clew.server.run import check_login, serve
from clew.server.s3 import Gateway
from clew.server.s3 import Rooms as S3Rooms
from clew.server.working import Working
from clew.serving import ServingProcess
from clew.workspace import Workspace, open_workspace, serving_settings

NO_TRACES = 'not sent: pip install "clew[otel]"'
NO_TRACES_THERE = "not sent: endpoints are on a cluster"
_HERE = frozenset({"127.0.0.1", "localhost", "::1"})
"""What another machine cannot reach."""


def run_server(
    settings: Settings,
    *,
    host: str = "127.0.0.1",
    port: int = 8686,
    serving_port: int = 8687,
    grpc_port: int | None = None,
    unix_path: Path | None = None,
    processes: int = 1,
    max_models: int = 0,
    model_idle_s: float = 0.0,
    grpc_connections: int = 1000,
    allowed_hosts: Collection[str] = (),
    s3_gather_s: float = 0,
    grace_s: float = 10,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the workspace in ``settings.home`` until SIGINT or SIGTERM; then end in order.

    ``allowed_hosts``: names that a reverse proxy in front of it passes on as Host.
    ``grpc_port``: where endpoints answer over gRPC too (0: any port; None: nowhere);
    ``unix_path``: a Unix socket on which they answer as over TCP. ``max_models`` and
    ``model_idle_s``: models that a serving process holds, and for how long without a request;
    others are loaded when they are asked for (0: all, and for ever). ``grpc_connections``: how many
    of gRPC a serving process takes at a time; more are refused.
    ``s3_gather_s``: how long a branch must be quiet before what S3 clients wrote is a commit; 0:
    each request is one.

    ``grace_s``: how long datums that run may take at the end; none begins meanwhile.

    Requests and running datums in flight are let finish or are taken up by the next engine; the
    processes that were started end with this one, also when it is killed.

    Raises:
        NotFound: ``workspace.missing``.
        Conflict: ``workspace.served`` where another engine works on it, naming the process.
        Unavailable: ``server.port_in_use``, ``port.in_use``, ``socket.in_use``,
            ``socket.unusable``.
        Invalid: ``socket.too_long``, ``socket.not_one``; ``tls.incomplete``, ``tls.unreadable``,
            ``tls.mismatch``, ``tls.expired``.
        Denied: ``server.no_auth``.
    """
    check_login(host, settings.token)
    tls = None
    if settings.tls_certificate or settings.tls_key:
        tls = ServerTls(settings.tls_certificate, settings.tls_key)
    with ExitStack() as stack:
        stack.enter_context(switching_soon())
        workspace = open_workspace(settings)
        stack.callback(workspace.close)
        working = Working.take(workspace)
        stack.callback(working.let_go)
        serving = ServingProcess.start(
            serving_settings(
                settings,
                host=host,
                port=serving_port,
                grpc_port=grpc_port,
                unix_path=unix_path,
                processes=processes,
                max_models=max_models,
                model_idle_s=model_idle_s,
                grpc_connections=grpc_connections,
                clustered=True,
            )
        )
        stack.callback(serving.stop)
        stack.callback(withdraw_server, settings.home)
        working.start()
        stack.callback(working.end, grace_s)

        urls: list[str] = []
        outside: list[str] = []

        def ready(url: str) -> None:
            urls.append(url)
            shown = outside[0] if outside else url
            _track(workspace, url, shown)
            note = RunningServer(
                pid=os.getpid(), url=url, serving_url=serving.url, token=settings.token
            )
            announce_server(settings.home, note)
            say(f"Clew serves {settings.home}")
            say(f"  pages and API  {shown}")
            say(f"  MLflow         {shown}  (MLFLOW_TRACKING_URI; its pages: {shown}/mlflow/)")
            say(f"  S3 clients     {shown}  (bucket BRANCH.REPO.PROJECT)")
            say(f"  endpoints      {serving.public_url}/v2/models")
            if settings.serving:
                say(f"  their metrics  {serving.url}/metrics")
            if grpc_port is not None:
                say(f"  gRPC           {serving.grpc_address}")
            if serving.unix_url:
                say(f"  Unix socket    {serving.unix_url}")
            if settings.traces and not serving.traces:
                say(f"  traces         {NO_TRACES_THERE if settings.serving else NO_TRACES}")
            say("  Ctrl-C ends it; nothing is lost.")

        uploads = settings.home / "uploads"
        _make_empty(uploads)  # a server that was killed has left what it was sending
        serve(
            workspace,
            host,
            port,
            token=settings.token,
            allowed_hosts=allowed_hosts or None,
            endpoint_url=lambda: serving.url,
            changed=workspace.rooms.db.events.wait,
            scratch=uploads,
            s3=partial(_gateway, workspace, stack, s3_gather_s),
            mlflow=_door(workspace, stack, uploads, lambda: urls[0]),
            ready=ready,
            leaving=partial(withdraw_server, settings.home),  # commands go to the files from now on
            tls=tls,
            outside=outside.append,
        )


def _make_empty(directory: Path) -> None:
    """Nobody else uses it: one server works on a workspace at a time."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(exist_ok=True)


def _gateway(workspace: Workspace, stack: ExitStack, gather_s: float, rules: Rules) -> Gateway:
    rooms = workspace.rooms
    rooms.repos.uploads.sweep()
    ground = S3Rooms(repos=rooms.repos, store=rooms.store, db=rooms.db)
    gateway = Gateway(ground, rules, gather_s=gather_s)
    stack.callback(gateway.close)
    return gateway


def _track(workspace: Workspace, url: str, shown: str) -> None:
    """Let user code log its runs here, where it can reach this server and MLflow is installed."""
    settings = workspace.rooms.settings
    if settings.compute:  # on other machines
        url = shown
    far = bool(settings.compute) and (urlsplit(url).hostname or "") in _HERE
    if not far and find_spec("mlflow") is not None:
        workspace.rooms.tracking.begin(url, settings.token, autolog=settings.autolog)


def _door(workspace: Workspace, stack: ExitStack, scratch: Path, url: Callable[[], str]) -> Door:
    rooms = workspace.rooms
    grounds = Grounds(
        db=rooms.db,
        lineage=rooms.lineage,
        repos=rooms.repos,
        store=rooms.store,
        models=rooms.models,
        database_url=rooms.settings.database_url,
        home=rooms.settings.home,
        scratch=scratch,
        url=url,
        token=rooms.settings.token,
    )
    door = Door(grounds)
    stack.callback(door.close)
    return door
