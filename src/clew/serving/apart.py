"""A heavy model in a process of its own, behind the same data plane.

Knows no requests and no rows: arrays go over a socket to the process, outputs come back. What kills
the process (a crash in native code, the kernel when memory is short) costs the requests that it was
computing and nothing else; the next request starts another. Its memory goes back to the system when
the model is let go of.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from clew.base.errors import ClewError, Ended, Unavailable
from clew.base.records import Signature
from clew.serving.tensors import Array

FLAG = "--apart"
EXPLAIN = "explain:"
"""Before the tree of a model that is loaded to explain its answers."""
_START_S = 600.0
_END_S = 5.0
_log = logging.getLogger("clew.serving")


class ModelApart:
    """A model as :class:`clew.serving.runtime.Model` wants it, in a child of this process.

    ``command`` starts a serving process; with ``--apart`` it is one model alone. One batch at a
    time. Raises as the loading does where the model cannot be loaded.
    """

    apart = True

    def __init__(self, command: list[str], store_address: str, tree: str) -> None:
        self._command, self._told = command, (store_address, tree)
        self._lock = threading.Lock()
        self._held = _Held()
        weakref.finalize(self, self._held.end)
        self.signature: Signature
        self.platform = ""
        self.example: bytes | None = None
        self._start()

    @property
    def pid(self) -> int | None:
        """The process that has the model in memory now; None where it has ended."""
        return self._held.child.pid if self._held.child is not None else None

    def kill(self) -> None:
        """End what it computes; the next question starts another process."""
        child = self._held.child
        if child is not None:
            child.kill()

    def predict(self, data: Any, /) -> Mapping[str, Array]:
        """As the model itself.

        Raises:
            Ended: the process ended while it computed, or cannot be started again.
            ValueError, ClewError: the model raised one.
            ModelError: the model raised something else.
        """
        with self._lock:
            if self._held.connection is None:
                self._again()
            try:
                assert self._held.connection is not None, "it was just started"
                self._held.connection.send(data)
                kind, said = self._held.connection.recv()
            except (EOFError, OSError):
                why = self._held.end()
                raise Ended(
                    f"The process of the model {why} while it computed this; another is started."
                ) from None
        if kind == "outputs":
            found: Mapping[str, Array] = said
            return found
        if kind == "clew_error":
            raise said
        raise ValueError(said) if kind == "value_error" else ModelError(said)

    def _again(self) -> None:
        try:
            self._start()
        except Exception as error:  # loading runs the user's code: anything may come
            raise Ended(f"The process of the model cannot be started again: {error}") from error

    def _start(self) -> None:
        mine, theirs = socket.socketpair()
        with theirs:
            child = subprocess.Popen(
                [*self._command, FLAG, str(theirs.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # the supervisor's signals are for who answers requests
            )
        connection = Connection(mine.detach())
        self._held.child, self._held.connection = child, connection
        try:
            connection.send(self._told)
            if not connection.poll(_START_S):
                raise Unavailable("model.apart", "The process of the model does not answer.")
            kind, said = connection.recv()
        except (EOFError, OSError):
            why = self._held.end()
            raise Unavailable(
                "model.apart",
                f"The process of the model {why} while it loaded it.",
                hint="Look at .clew/logs for what it wrote last, and at the memory of the machine.",
            ) from None
        except BaseException:
            self._held.end()
            raise
        if kind != "ready":
            self._held.end()
            raise said if isinstance(said, ClewError) else ModelError(str(said))
        self.signature, self.platform, self.example = said


class ModelError(Exception):
    """What a model raised in its process, as text."""


class _Held:
    """The child and the way to it; ended when the model is let go of."""

    def __init__(self) -> None:
        self.child: subprocess.Popen[bytes] | None = None
        self.connection: Connection | None = None

    def end(self) -> str:
        """End the child; how it had ended, in words."""
        child, connection = self.child, self.connection
        self.child = self.connection = None
        if connection is not None:
            connection.close()
        if child is None:
            return "was gone"
        if child.stdin is not None:
            with contextlib.suppress(OSError):
                child.stdin.close()  # it ends at the end of this
        try:
            code = child.wait(_END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            code = child.wait()
        if code >= 0:
            return f"ended with code {code}"
        return f"was killed by {signal.Signals(-code).name}"


def asked_for(argv: list[str]) -> int | None:
    """The descriptor to answer on, where a process is to be one model alone."""
    return int(argv[argv.index(FLAG) + 1]) if FLAG in argv else None


def command() -> list[str]:
    """How this process was started: one model alone is started the same."""
    return list(sys.orig_argv)


def answer(descriptor: int, load: Any) -> None:
    """Be one model: ``load(store_address, tree)`` gives it and its example. Returns at the end."""
    threading.Thread(target=_until_orphaned, daemon=True).start()
    with Connection(descriptor) as connection:
        try:
            model, example = load(*connection.recv())
        except Exception as error:  # noqa: BLE001 - told to who asked
            said = error if isinstance(error, ClewError) else f"{type(error).__name__}: {error}"
            connection.send(("failed", said))
            return
        connection.send(("ready", (model.signature, model.platform, example)))
        with contextlib.suppress(EOFError):
            while True:
                connection.send(_answer(model, connection.recv()))


def _answer(model: Any, data: Any) -> tuple[str, Any]:
    try:
        return "outputs", dict(model.predict(data))
    except ValueError as error:
        return "value_error", str(error)
    except ClewError as error:
        return "clew_error", error
    except Exception as error:  # noqa: BLE001 - the model is the user's code
        return "error", f"{type(error).__name__}: {error}"


def _until_orphaned() -> None:
    """End at once when the serving process is gone, also in the middle of a prediction."""
    while os.read(0, 4096):
        pass
    os._exit(0)
