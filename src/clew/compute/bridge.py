"""The engine's end of the bridge to a cluster: a process that is started, told and heard.

Knows frames and one process; knows nothing of lanes, nor of what is at the other end.
"""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from clew.base.errors import Unavailable, from_wire
from clew.compute.bridge_frames import (
    Close,
    FromBridge,
    Open,
    Refused,
    Tell,
    ToBridge,
    from_bridge,
    write_frame,
)
from clew.compute.demands import Demand
from clew.compute.frames import Inbox

PROGRAM = "clew.compute.ray"
_CHUNK = 1 << 20
_FAREWELL_S = 8.0


class Bridge:
    """A way to a Ray cluster. ``heard`` is called with each frame, and last with None, on a thread
    of its own. Telling is for one thread.

    Raises:
        Unavailable: ``ray.missing``.
    """

    def __init__(self, address: str, log: Path, heard: Callable[[FromBridge | None], None]) -> None:
        if importlib.util.find_spec("ray") is None:
            raise Unavailable(
                "ray.missing",
                "A Ray cluster is named, and Ray is not installed here.",
                hint='pip install "clew[ray]"',
            )
        self._heard = heard
        self._socket, theirs = socket.socketpair()
        log.parent.mkdir(parents=True, exist_ok=True)
        with theirs, log.open("ab") as output:
            descriptor = theirs.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", PROGRAM, str(descriptor), address],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[descriptor],
                start_new_session=True,  # Ctrl-C is for the engine, which then says good-bye
                cwd=os.sep,
            )
        self._thread = threading.Thread(target=self._listen, name="clew-bridge", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int:
        """The process id of the other end."""
        return self._process.pid

    def open(self, number: int, demand: Demand, greeting: bytes) -> None:
        """Start a lane where ``demand`` is to be had."""
        self._send(Open(number, demand, greeting))

    def tell(self, number: int, *frames: bytes) -> None:
        """Tell a lane."""
        self._send(Tell(number, list(frames)))

    def end(self, number: int) -> None:
        """End a lane."""
        self._send(Close(number))

    def close(self) -> None:
        """End all lanes and the process; returns when it is gone."""
        with suppress(OSError):  # it may have gone first
            self._socket.shutdown(socket.SHUT_WR)
        try:
            self._process.wait(_FAREWELL_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._socket.close()

    def _send(self, frame: ToBridge) -> None:
        try:
            write_frame(self._socket, frame)
        except OSError:
            return  # it is gone, which the listener tells

    def _listen(self) -> None:
        inbox = Inbox()
        try:
            while data := self._socket.recv(_CHUNK):
                for body in inbox.add(data):
                    self._heard(from_bridge.decode(body))
        except OSError:
            pass
        self._heard(None)


def refusal(frame: Refused) -> Unavailable:
    """Why the cluster cannot be joined."""
    error = from_wire(frame.error)
    assert isinstance(error, Unavailable)
    return error
