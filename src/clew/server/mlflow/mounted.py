"""``python -m clew.server.mlflow.mounted SOCKET``: MLflow's own application, for the door alone.

Runs in a process of its own, since MLflow sets the tracking URI of the whole process it is in.
Knows nothing of Clew: its settings come in variables, its artifacts go back through the door.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import warnings
from typing import Any

import uvicorn


def main(place: str) -> None:
    """Serve on a Unix socket until standard input ends, which it does with the parent."""
    threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
    app = _application()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(place)
    listener.listen(512)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    config = uvicorn.Config(
        app, http="httptools", ws="none", access_log=False, log_level="warning", lifespan="off"
    )
    uvicorn.Server(config).run(sockets=[listener])


def _application() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.server.fastapi_app import create_fastapi_app  # noqa: PLC0415 - see below
        from mlflow.server.handlers import initialize_backend_stores  # noqa: PLC0415 - see below
    # Imported here: the thread that watches for the end of the parent has to run before.
    url = os.environ["_MLFLOW_SERVER_FILE_STORE"]
    initialize_backend_stores(url, url, os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"])
    return create_fastapi_app()


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
