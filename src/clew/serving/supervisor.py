"""Serving processes as children: start, wait until ready, restart what dies, stop.

Knows no requests. The listening socket stays here, so a restart loses no connection that waits in
its queue, and several processes share it.
"""

from __future__ import annotations

import logging
import os
import selectors
import socket
import subprocess
import threading
import time
from contextlib import ExitStack
from importlib.util import find_spec

import msgspec

from clew.base.errors import Unavailable, from_wire
from clew.base.tls import ServerTls
from clew.base.untold import UNTOLD
from clew.serving.config import ON_RAY, ProcessConfig, ServingSettings
from clew.serving.unix import UnixSocket

START_S = 120.0
LAY_OUT_S = 900.0
"""How long it may take until all that is live is held by replicas on a cluster."""
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Threads inside one small prediction cost more than they give (gradient boosting of one row: 3 ms
with two, 0.9 ms with one); processes and batches are what scales."""
STOP_S = 35.0
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - told to clients, not bound
"""Where a client on this machine finds what listens on all addresses."""
_log = logging.getLogger("clew.serving")


class ServingProcess:
    """One or more serving processes on one socket. Thread-safe. Start it with :meth:`start`."""

    def __init__(
        self,
        settings: ServingSettings,
        listener: socket.socket,
        grpc: socket.socket | None = None,
        unix: UnixSocket | None = None,
        inner: socket.socket | None = None,
    ) -> None:
        self._settings = settings
        self._listener, self._grpc, self._unix = listener, grpc, unix
        self._inner = inner
        self.url = f"http://{_address(inner or listener)}"
        """Where this machine's own processes ask."""
        self.grpc_address = _address(grpc) if grpc else ""
        """HOST:PORT for gRPC, as a client on this machine reaches it; '' where there is none."""
        self.unix_url = f"unix://{unix.path}" if unix else ""
        """Its Unix socket; '' where there is none."""
        shown = f"https://{_address(listener)}" if inner else self.url
        self.public_url = settings.cluster.url if settings.cluster else shown
        """Where endpoints answer: here, or on a cluster."""
        self.traces = settings.traces and settings.cluster is None and has_traces()
        """Whether its processes send traces; replicas on a cluster do not."""
        self._children: list[subprocess.Popen[bytes]] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._supervise, name="serving", daemon=True)

    @classmethod
    def start(cls, settings: ServingSettings) -> ServingProcess:
        """Serve; returns when every process has loaded what is live.

        Raises:
            Unavailable: ``port.in_use``, ``socket.in_use``, ``socket.unusable``;
                ``serving.start`` where a process ends before it serves; ``serving.cluster``,
                ``ray.missing`` where endpoints are on a cluster; ``grpc.missing``.
            Invalid: ``socket.too_long``, ``socket.not_one``; ``tls.incomplete``,
                ``tls.unreadable``, ``tls.mismatch``, ``tls.expired``.
        """
        if settings.grpc_port is not None and not has_grpc():
            raise Unavailable(
                "grpc.missing",
                "What answers over gRPC is not installed.",
                hint='Install it: pip install "clew[grpc]"; or leave out --grpc-port.',
            )
        with ExitStack() as undo:
            listener = _listen(settings.host, settings.port)
            undo.callback(listener.close)
            grpc = unix = inner = None
            if settings.tls_certificate or settings.tls_key:
                ServerTls(settings.tls_certificate, settings.tls_key)  # or it says what is wrong
                inner = _listen("127.0.0.1", 0)
                undo.callback(inner.close)
            if settings.grpc_port is not None:
                grpc = _listen(settings.host, settings.grpc_port)
                undo.callback(grpc.close)
            if settings.unix_path is not None:
                unix = UnixSocket.listen(settings.unix_path)
            undo.pop_all()
        self = cls(settings, listener, grpc, unix, inner)
        try:
            count = 1 if settings.cluster else settings.processes
            self._children = [self._spawn() for _ in range(count)]
            for child in self._children:
                _wait_ready(child, settings)
        except BaseException:
            self.stop()
            raise
        self._thread.start()
        return self

    @property
    def pids(self) -> list[int]:
        """Process ids of the children that run now."""
        with self._lock:
            return [child.pid for child in self._children if child.poll() is None]

    def stop(self) -> None:
        """Answer what was asked, and end all processes. Idempotent."""
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            for child in self._children:
                child.terminate()
            for child in self._children:
                _wait_end(child)
            self._children.clear()
        self._listener.close()
        if self._grpc is not None:
            self._grpc.close()
        if self._inner is not None:
            self._inner.close()
        if self._unix is not None:
            self._unix.close()

    def _spawn(self) -> subprocess.Popen[bytes]:
        settings, fd = self._settings, self._listener.fileno()
        grpc = None if self._grpc is None else self._grpc.fileno()
        unix = None if self._unix is None else self._unix.fileno()
        inner = None if self._inner is None else self._inner.fileno()
        config = ProcessConfig(
            database_url=settings.database_url,
            store_address=settings.store_address,
            spool_dir=str(settings.spool_dir),
            url=self.url,
            listener=fd,
            inner_listener=inner,
            tls_certificate=settings.tls_certificate,
            tls_key=settings.tls_key,
            token=settings.token,
            limit_bytes=settings.limit_bytes,
            grpc_listener=grpc,
            unix_listener=unix,
            json_logs=settings.json_logs,
            traces=self.traces,
            max_models=settings.max_models,
            model_idle_s=settings.model_idle_s,
            grpc_connections=settings.grpc_connections,
            cluster=settings.cluster,
        )
        settings.log_file.parent.mkdir(parents=True, exist_ok=True)
        with settings.log_file.open("ab") as log:
            child = subprocess.Popen(
                list(ON_RAY if settings.cluster else settings.command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                pass_fds=[each for each in (fd, inner, grpc, unix) if each is not None],
                env={**UNTOLD, **os.environ, **_ONE_THREAD, **_told(settings)},
            )
        assert child.stdin is not None, "it was asked for"
        child.stdin.write(msgspec.json.encode(config) + b"\n")
        child.stdin.flush()
        return child

    def _supervise(self) -> None:
        pause_s = 0.1
        while not self._closed.wait(0.05):
            with self._lock:
                dead = [child for child in self._children if child.poll() is not None]
            for child in dead:
                _log.warning("a serving process ended with %s; starting another", child.returncode)
                began_s = time.monotonic()
                with self._lock:
                    self._children.remove(child)
                    _let_go(child)
                    self._children.append(self._spawn())
                if self._closed.wait(pause_s):
                    return
                pause_s = min(5.0, pause_s * 2) if time.monotonic() - began_s < 5 else 0.1


def has_grpc() -> bool:
    """Whether what gRPC needs is installed."""
    return all(find_spec(name) is not None for name in ("google", "google.protobuf", "h2"))


def has_traces() -> bool:
    """Whether what sends traces is installed."""
    names = ("opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter")
    return all(find_spec(name) is not None for name in (*names, *_OTLP))


_OTLP = (
    "opentelemetry.exporter.otlp", "opentelemetry.exporter.otlp.proto",
    "opentelemetry.exporter.otlp.proto.http",
)  # fmt: skip


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen(4096)
    except OSError as error:
        found.close()
        raise Unavailable(
            "port.in_use",
            f"Port {port} on {host} cannot be used: {error.strerror}.",
            hint="Give another port, or stop the process that has it.",
        ) from error
    return found


def _address(bound: socket.socket) -> str:
    """HOST:PORT of a socket, as a client on this machine reaches it."""
    host, port = bound.getsockname()[:2]
    host = _LOOPBACK.get(host, host)
    return f"{f'[{host}]' if ':' in host else host}:{port}"


def _told(settings: ServingSettings) -> dict[str, str]:
    """Where environments of models are, as whoever loads them asks for it."""
    return {"CLEW_ENVIRONMENTS": str(settings.environments)} if settings.environments else {}


def _wait_ready(child: subprocess.Popen[bytes], settings: ServingSettings) -> None:
    assert child.stdout is not None, "it was asked for"
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        line = b""
        if selector.select(LAY_OUT_S if settings.cluster else START_S):
            line = child.stdout.readline()
        if line.startswith(b"{"):
            raise from_wire(msgspec.json.decode(line))
        if line:
            return
    raise Unavailable(
        "serving.start",
        "A serving process did not start.",
        hint=f"Its messages are in {settings.log_file}.",
    )


def _wait_end(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(STOP_S)
    except subprocess.TimeoutExpired:
        _log.warning("serving process %d did not end; killing it", child.pid)
        child.kill()
        child.wait()
    _let_go(child)


def _let_go(child: subprocess.Popen[bytes]) -> None:
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            pipe.close()
