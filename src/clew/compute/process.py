"""One worker process as its pool sees it: start, write, read, measure, kill.

Knows nothing of queues and outcomes. All methods are for the pool's one thread.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec

from clew.base.own_code import for_another_python
from clew.base.untold import UNTOLD
from clew.compute.family import MARK, end_family, end_group
from clew.compute.frames import FromWorker, Inbox, Outbox, from_worker
from clew.compute.handles import Submitted
from clew.compute.memory import MemoryGauge
from clew.compute.running import take_tail

_CHUNK = 1 << 18
_MOST_CHUNKS = 16
"""So much is read before what it says is heard: a flood is held back, not kept."""

_LOG_LIMIT_BYTES = 32 * 1024 * 1024
_PROGRAM = ("-P", "-X", "faulthandler", "-m", "clew.compute.worker")

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "POLARS_MAX_THREADS",
    "LOKY_MAX_CPU_COUNT",
)


def environment_of_workers(given: Mapping[str, str] | None, size: int) -> dict[str, str]:
    """``given``, or that of this process, with an equal share of the cores for each of ``size``
    workers where it does not say otherwise, and libraries that tell nobody of it.
    """
    share = str(max(1, (os.cpu_count() or 1) // size))
    known = os.environ if given is None else given
    return {**dict.fromkeys(_THREAD_VARIABLES, share), **UNTOLD, **known}


class Worker:
    """A process with a pipe to it. ``call`` is what it runs now, ``snapshot`` what it is warm for.

    ``deadline`` and ``started`` are of the monotonic clock and stand while a call runs.
    """

    def __init__(
        self,
        number: int,
        scratch: Path,
        log: Path,
        environment: Mapping[str, str],
        preload: tuple[str, ...] = (),
        program: tuple[str, ...] = (),
        mark: str = "",
    ) -> None:
        self.number = number
        self.program = program
        self.paused = False
        self._mark = mark
        self.scratch = scratch
        self.log_path = log
        self.call: Submitted | None = None
        self.snapshot: str | None = None
        self.affinity = ""
        self.devices = ""
        """The GPUs that it has run on, and what it did there: it is for more of that alone."""
        self.label = ""
        self.ready = False
        self.started: float | None = None
        self.deadline: float | None = None
        self.gauge: MemoryGauge | None = None
        self.used = 0
        self._inbox = Inbox()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._log = os.open(log, flags, 0o600)
        self._socket, theirs = socket.socketpair()
        outbox = Outbox(self._socket, 4 * _CHUNK)
        self.write, self.flush = outbox.write, outbox.flush
        try:
            self._process = self._start(theirs.fileno(), environment, preload)
        except OSError:
            os.close(self._log)
            self._socket.close()
            raise
        finally:
            theirs.close()
        self._socket.setblocking(False)
        self.pidfd = self._open_pidfd()

    def _start(
        self, descriptor: int, environment: Mapping[str, str], preload: tuple[str, ...]
    ) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C is for the parent, and kill reaches the user's children too.
        # The system ends it with the thread that started it, so that is the pool's own thread.
        arguments = [str(descriptor), str(os.getpid()), str(self.scratch), *preload]
        if self.program:
            environment = for_another_python(environment)
        return subprocess.Popen(
            [*(self.program or (sys.executable, *_PROGRAM)), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            pass_fds=[descriptor],
            env={**environment, MARK: self._mark},
            start_new_session=True,
        )

    def _open_pidfd(self) -> int | None:
        """Tells of the end of the process, also while a child of it holds the pipe open."""
        if not hasattr(os, "pidfd_open"):
            return None
        try:
            return os.pidfd_open(self._process.pid)
        except OSError:
            return None  # an old kernel: the end of the pipe has to do

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def fileno(self) -> int:
        """The pipe, for the selector."""
        return self._socket.fileno()

    def begin_clock(self) -> None:
        """Count time and memory of the call from now."""
        assert self.call is not None
        call = self.call.call
        self.started = time.monotonic()
        self.deadline = None if call.timeout_s is None else self.started + call.timeout_s
        self.gauge = None if call.memory_bytes is None else MemoryGauge(self.pid)

    def end_clock(self) -> float:
        """Seconds since the clock of the call began."""
        elapsed = 0.0 if self.started is None else time.monotonic() - self.started
        self.started = self.deadline = self.gauge = None
        return elapsed

    def read(self) -> tuple[list[FromWorker], bool]:
        """The frames that have come, and whether the pipe is still open (and sound)."""
        frames: list[FromWorker] = []
        for _ in range(_MOST_CHUNKS):
            try:
                data = self._socket.recv(_CHUNK)
            except BlockingIOError:
                return frames, True
            except ConnectionResetError:
                return frames, False
            try:
                frames += [from_worker.decode(body) for body in self._inbox.add(data)]
            except msgspec.DecodeError:  # the user's code wrote to the pipe
                return frames, False
            if len(data) < _CHUNK:
                return frames, bool(data)
        return frames, True

    def trim_log(self) -> None:
        """Keep only the end of an output that grows without bound."""
        if os.fstat(self._log).st_size > _LOG_LIMIT_BYTES:
            os.write(self._log, take_tail(self._log).encode())

    def hang_up(self) -> None:
        """Close the pipe, upon which an idle worker ends by itself."""
        self._socket.close()

    def ended_within(self, seconds: float) -> bool:
        """Whether the process has ended, after waiting so long for it."""
        try:
            self._process.wait(max(seconds, 0.0))
        except subprocess.TimeoutExpired:
            return False
        return True

    def kill(self, *, thorough: bool = True) -> tuple[int, str]:
        """End the process and its children now; its exit status (as Popen's) and its output.

        Children in sessions of their own are looked for where it is ``thorough``.
        """
        if thorough:
            end_family(self.pid, self._mark)
        else:
            end_group(self.pid)
        status = self._process.wait()
        self._socket.close()
        if self.pidfd is not None:
            os.close(self.pidfd)
            self.pidfd = None
        output = take_tail(self._log)
        os.close(self._log)
        self.log_path.unlink(missing_ok=True)
        return status, output
