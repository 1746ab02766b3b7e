"""The note that a running server leaves beside its workspace, and whether it is still true.

Knows the file only; who may run a server is for the lock that the server holds.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

FILE_NAME = "server.json"


@dataclass(frozen=True, kw_only=True)
class RunningServer:
    """A server of this machine: its process, where it answers, and the token it asks for."""

    pid: int
    url: str
    serving_url: str = ""
    token: str = ""


def running_server(home: Path) -> RunningServer | None:
    """The server that works on ``home`` now; None where there is none or its process is gone."""
    try:
        server = RunningServer(**json.loads((home / FILE_NAME).read_bytes()))
        os.kill(server.pid, 0)
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError, ValueError, TypeError):
        return None
    except PermissionError:  # the process lives and belongs to somebody else
        return server
    return server


def announce_server(home: Path, server: RunningServer) -> None:
    """Write the note, readable by its owner alone; replaces an older one atomically."""
    temporary = home / f"{FILE_NAME}.{os.getpid()}"
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps(asdict(server)))
    temporary.replace(home / FILE_NAME)


def withdraw_server(home: Path) -> None:
    """Take the note away at the end of the server."""
    (home / FILE_NAME).unlink(missing_ok=True)
