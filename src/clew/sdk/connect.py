"""Find the workspace that is meant: a server by URL, the server of this directory, or the files.

The two implementations are loaded by name when they are needed, so that ``clew --help`` and a
client of a remote workspace do not pay for the rooms of the embedded one.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from clew.base.autologging import listen
from clew.base.errors import NotFound
from clew.base.running import RunningServer, running_server
from clew.base.settings import Settings, read_settings
from clew.base.tracking import Tracking

if TYPE_CHECKING:
    from clew.base.verbs import Verbs

ENDING_S = 15.0
"""A server of this directory that does not listen any more is waited for so long."""


def connect(
    url: str = "", *, token: str = "", directory: Path | str = ".", working: bool = False
) -> Verbs:
    """A workspace with every verb.

    The one at ``url`` (else CLEW_URL); else the one in ``directory`` or above it: through its
    server where one is running, on its files where not. ``working`` says that user code is about
    to run, so that on files a worker can start ahead. In a notebook, what it trains from then on is
    logged to the server's MLflow.

    Raises:
        NotFound: ``workspace.missing`` where there is none.
        Unavailable: ``server.unreachable``; ``server.untrusted`` where CLEW_CA lacks the authority
            that signed the certificate of an ``https://`` one.
        Invalid: ``tls.unreadable`` for what CLEW_CA names.
    """
    settings = read_settings(os.environ, Path(directory))
    target = url or settings.url
    if target:
        return _remote(target, token or settings.token, settings)
    server = _listening_server(settings.home)
    if server is not None:
        return _remote(server.url, token or settings.token or server.token, settings, near=True)
    return connect_embedded(settings, working=working)


def _listening_server(home: Path) -> RunningServer | None:
    """The server that works on ``home``; None where there is none, or none that listens.

    One that is about to end is waited for: its process lives a while after its last answer.
    """
    end = time.monotonic() + ENDING_S
    while (server := running_server(home)) is not None:
        if _listens(server.url):
            return server
        if time.monotonic() > end:
            return None
        time.sleep(0.05)
    return None


def _listens(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 80), timeout=5).close()
    except ConnectionRefusedError:
        return False
    except OSError:  # whoever asks it says what is wrong
        return True
    return True


def connect_embedded(settings: Settings, *, create: bool = False, working: bool = False) -> Verbs:
    """The workspace on the files in ``settings.home``, made where ``create`` says so.

    Raises:
        NotFound: ``workspace.missing``.
    """
    if not create and not settings.made:
        raise NotFound(
            "workspace.missing",
            f"There is no workspace at {settings.home}.",
            hint="Run `clew init` in the directory of your project, or set CLEW_URL.",
        )
    workspace = import_module("clew.workspace")
    return cast("Verbs", workspace.open_workspace(settings, create=create, working=working))


def _remote(url: str, token: str, settings: Settings, *, near: bool = False) -> Verbs:
    if "ipykernel" in sys.modules and settings.autolog and find_spec("mlflow") is not None:
        _log_training(url, token, settings.ca)
    client = import_module("clew.client")
    return cast("Verbs", client.RemoteWorkspace(url, token=token, near=near, ca=settings.ca))


def _log_training(url: str, token: str, ca: str) -> None:
    """Let MLflow log what this notebook trains from now on, unless it logs elsewhere already."""
    if os.environ.get("MLFLOW_TRACKING_URI", url) != url:
        return
    tracking = Tracking()
    tracking.begin(url, token)
    notebook = Path(os.environ.get("JPY_SESSION_NAME", "notebook")).stem
    for name, value in tracking.variables("", notebook).items():
        os.environ.setdefault(name, value)
    if ca and url.startswith("https:"):
        os.environ.setdefault("MLFLOW_TRACKING_SERVER_CERT_PATH", ca)
    listen(on=True)
