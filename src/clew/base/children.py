"""The process that has one model, and the way to it: started, asked by one, ended, started again.

Knows nothing of what is sent, or of what the process does with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from clew.base.errors import Ended

_END_S = 5.0


class Way(Protocol):
    """What frames go over."""

    def close(self) -> None:
        """Hang up."""


W = TypeVar("W", bound=Way)


class Child(Generic[W]):
    """At most one process at a time and the way to it, both None where there is none.

    ``way`` makes the way of this end of a pair of sockets, which it then owns. Not thread-safe: who
    asks keeps the others off.
    """

    def __init__(self, way: Callable[[socket.socket], W]) -> None:
        self._way = way
        self.process: subprocess.Popen[bytes] | None = None
        self.connection: W | None = None

    @property
    def pid(self) -> int | None:
        """The process; None where it has ended."""
        return self.process.pid if self.process is not None else None

    def start(
        self,
        command: Sequence[str],
        *,
        output: int | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> W:
        """Start ``command``, told last which descriptor to answer on; the way to it.

        Its standard input ends when this process does (:func:`until_orphaned`). ``output`` is where
        what it prints goes; signals to the group of this process do not reach it.
        """
        mine, theirs = socket.socketpair()
        with theirs:
            self.process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                stdin=subprocess.PIPE,
                stdout=output,
                pass_fds=[theirs.fileno()],
                env=environment,
                start_new_session=True,  # signals are for who asks
            )
        self.connection = self._way(mine)
        return self.connection

    def reached(self, start: Callable[[], None]) -> W:
        """The way to it; where it has ended, ``start`` starts it before. Raises Ended."""
        if self.connection is None:
            try:
                start()
            except Exception as error:  # loading runs the user's code: anything may come
                raise Ended(f"The process of the model cannot be started again: {error}") from error
        assert self.connection is not None, "it was just started"
        return self.connection

    def lost(self) -> Ended:
        """End it, and say what became of what it computed."""
        return Ended(
            f"The process of the model {self.end()} while it computed this; another is started."
        )

    def end(self) -> str:
        """End the process; how it had ended, in words."""
        process, connection = self.process, self.connection
        self.process = self.connection = None
        if connection is not None:
            connection.close()
        if process is None:
            return "was gone"
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()  # it ends at the end of this
        try:
            code = process.wait(_END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if code >= 0:
            return f"ended with code {code}"
        return f"was killed by {signal.Signals(-code).name}"


def until_orphaned() -> None:
    """End this process at once when who started it is gone, also in the middle of a prediction."""
    while os.read(0, 4096):
        pass
    os._exit(0)
