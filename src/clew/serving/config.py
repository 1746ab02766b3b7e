"""What serving processes are told.

Knows nothing of how they serve.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from clew.serving.clusters import Cluster, cluster_of

COMMAND = (sys.executable, "-P", "-m", "clew.serving.process")
ON_RAY = (sys.executable, "-P", "-m", "clew.serving.ray_process")
LIMIT_BYTES = 64 << 20
MOST_CONNECTIONS = 1000
"""Connections of gRPC that a process takes at a time."""


class ServingSettings(Struct, frozen=True, kw_only=True):
    """Where and what to serve. ``port`` 0: any that is free. ``token`` '': everybody may ask.

    ``grpc_port`` None: no gRPC; 0: any port that is free. ``unix_path``: a Unix socket that is
    listened on too; None: none. ``json_logs``: processes say what they say as lines of JSON.
    ``traces``: they send a span for each request. ``max_models`` and ``model_idle_s``: how many
    models a process holds, and how long nobody must ask for one until it is let go of; 0: all, and
    for ever. ``grpc_connections``: how many of gRPC a process takes at a time.
    ``tls_certificate`` and ``tls_key``: files; '' is no TLS.
    """

    database_url: str
    store_address: str
    spool_dir: Path
    log_file: Path
    host: str = "127.0.0.1"
    port: int = 0
    grpc_port: int | None = None
    unix_path: Path | None = None
    processes: int = 1
    token: str = ""
    limit_bytes: int = LIMIT_BYTES
    json_logs: bool = False
    traces: bool = False
    max_models: int = 0
    model_idle_s: float = 0.0
    grpc_connections: int = MOST_CONNECTIONS
    environments: Path | None = None
    """Where environments of models are, for those that have their own."""
    tls_certificate: str = ""
    tls_key: str = ""
    cluster: Cluster | None = None
    """Where endpoints are served instead of here; this machine then answers all else."""
    command: Sequence[str] = COMMAND

    @staticmethod
    def place(text: str, compute: str, token: str) -> Cluster | None:
        """Where a setting has endpoints served (``clusters.cluster_of``); '' is here, None."""
        return cluster_of(text, compute, token=token) if text else None


class ProcessConfig(Struct, frozen=True, kw_only=True):
    """What a serving process is told, as JSON in the first line of its standard input."""

    database_url: str
    store_address: str
    spool_dir: str
    url: str
    listener: int
    """File descriptor of the listening socket, inherited."""
    inner_listener: int | None = None
    """Where that speaks TLS: a socket on loopback for this machine's own processes, which does not;
    None: it does not either.
    """
    tls_certificate: str = ""
    tls_key: str = ""
    grpc_listener: int | None = None
    """That of gRPC, as inherited; None: no gRPC."""
    unix_listener: int | None = None
    """That of the Unix socket, as inherited; None: there is none."""
    token: str = ""
    limit_bytes: int = LIMIT_BYTES
    json_logs: bool = False
    traces: bool = False
    max_models: int = 0
    model_idle_s: float = 0.0
    grpc_connections: int = MOST_CONNECTIONS
    idle_s: float = 0.5
    cluster: Cluster | None = None
