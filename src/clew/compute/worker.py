"""A worker process: takes calls from its pipe, one at a time, until the pipe ends.

Knows nothing of queues, limits or other workers; its parent does.
Started as ``python -m clew.compute.worker DESCRIPTOR PARENT_PID SCRATCH [MODULE ...]``; the modules
are imported before the first call.
"""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import socket
import sys
import threading
import time
from importlib import import_module
from pathlib import Path

import msgspec

from clew.base.errors import Conflict, from_wire
from clew.compute.frames import (
    HEADER_BYTES,
    Answer,
    FromWorker,
    Ready,
    Run,
    Said,
    ToWorker,
    body_bytes,
    decode,
    pack,
    to_worker,
)
from clew.compute.running import Context, Output, run_call

_PR_SET_PDEATHSIG = 1


class Pipe:
    """The worker's end of the pipe. Writing is thread-safe; one thread reads at a time."""

    def __init__(self, descriptor: int) -> None:
        os.set_inheritable(descriptor, False)
        self._socket = socket.socket(fileno=descriptor)
        self._owner = os.getpid()
        self._writing = threading.Lock()
        self._asking = threading.Lock()

    def write(self, frame: FromWorker) -> None:
        """Send one frame. Blocks while the parent does not read."""
        if os.getpid() != self._owner:
            raise Conflict(
                "call.ended",
                "A process that user code forked has no way to the parent of the worker.",
                hint="Send messages from the process that runs the call.",
            )
        data = pack(frame)
        with self._writing:
            self._socket.sendall(data)

    def read(self) -> ToWorker | None:
        """Wait for a frame; None where the parent has closed the pipe or is gone."""
        header = self._read_bytes(HEADER_BYTES)
        body = self._read_bytes(body_bytes(header)) if header else b""
        return to_worker.decode(body) if body else None

    def say(self, message: msgspec.Raw, wants_answer: bool) -> object:
        """Send a message of the call, and return its answer where one is wanted."""
        if not wants_answer:
            self.write(Said(message, False))
            return None
        with self._asking:
            self.write(Said(message, True))
            answer = self.read()
        if not isinstance(answer, Answer):
            raise Conflict("call.ended", "The parent of this worker is gone.")
        if answer.error is not None:
            raise from_wire(answer.error)
        return decode(answer.value)

    def _read_bytes(self, size: int) -> bytes | bytearray:
        """Exactly ``size`` bytes, or none where the pipe ends."""
        data = self._socket.recv(size)
        if len(data) == size:
            return data
        gathered = bytearray(data)
        while len(gathered) < size:
            data = self._socket.recv(min(size - len(gathered), 1 << 20))
            if not data:
                return b""
            gathered += data
        return gathered


def main(arguments: list[str]) -> None:
    """Serve the pipe until it ends."""
    descriptor, parent, scratch = int(arguments[0]), int(arguments[1]), Path(arguments[2])
    _die_with(parent)
    pipe = Pipe(descriptor)
    output = Output(os.dup(1))
    for name in arguments[3:]:
        import_module(name)
    pipe.write(Ready())
    while True:
        frame = pipe.read()
        if not isinstance(frame, Run):
            gc.freeze()  # the process ends: what is loaded need not be searched for garbage
            return
        done = run_call(frame, Context(frame.call_id, scratch, pipe.say), output)
        pipe.write(done)


def _die_with(parent: int) -> None:
    """End this process when its parent ends, also in the middle of user code."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
