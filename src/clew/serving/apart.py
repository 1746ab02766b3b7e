"""A heavy model in a process of its own, behind the same data plane.

Knows no requests and no rows: arrays go over a socket to the process, outputs come back. What kills
the process (a crash in native code, the kernel when memory is short) costs the requests that it was
computing and nothing else; the next request starts another. Its memory goes back to the system when
the model is let go of.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping
from multiprocessing.connection import Connection
from typing import Any

from clew.base.children import Child, until_orphaned
from clew.base.errors import ClewError, ModelError, Unavailable
from clew.base.records import Signature
from clew.serving.tensors import Array

FLAG = "--apart"
EXPLAIN = "explain:"
"""Before the tree of a model that is loaded to explain its answers."""
_START_S = 600.0


class ModelApart:
    """A model as :class:`clew.serving.runtime.Model` wants it, in a child of this process.

    ``command`` starts a serving process; with ``--apart`` it is one model alone. One batch at a
    time. Raises as the loading does where the model cannot be loaded.
    """

    apart = True

    def __init__(self, command: list[str], store_address: str, tree: str) -> None:
        self._command, self._told = command, (store_address, tree)
        self._lock = threading.Lock()
        self._child: Child[Connection] = Child(_connection)
        weakref.finalize(self, self._child.end)
        self.signature: Signature
        self.platform = ""
        self.example: bytes | None = None
        self._start()

    @property
    def pid(self) -> int | None:
        """The process that has the model in memory now; None where it has ended."""
        return self._child.pid

    def kill(self) -> None:
        """End what it computes; the next question starts another process."""
        process = self._child.process
        if process is not None:
            process.kill()

    def predict(self, data: Any, /) -> Mapping[str, Array]:
        """As the model itself.

        Raises:
            Ended: the process ended while it computed, or cannot be started again.
            ValueError, ClewError: the model raised one.
            ModelError: the model raised something else.
        """
        with self._lock:
            connection = self._child.reached(self._start)
            try:
                connection.send(data)
                kind, said = connection.recv()
            except (EOFError, OSError):
                raise self._child.lost() from None
        if kind == "outputs":
            found: Mapping[str, Array] = said
            return found
        if kind == "clew_error":
            raise said
        raise ValueError(said) if kind == "value_error" else ModelError(said)

    def _start(self) -> None:
        connection = self._child.start([*self._command, FLAG], output=subprocess.DEVNULL)
        try:
            connection.send(self._told)
            if not connection.poll(_START_S):
                raise Unavailable("model.apart", "The process of the model does not answer.")
            kind, said = connection.recv()
        except (EOFError, OSError):
            why = self._child.end()
            raise Unavailable(
                "model.apart",
                f"The process of the model {why} while it loaded it.",
                hint="Look at .clew/logs for what it wrote last, and at the memory of the machine.",
            ) from None
        except BaseException:
            self._child.end()
            raise
        if kind != "ready":
            self._child.end()
            raise said if isinstance(said, ClewError) else ModelError(str(said))
        self.signature, self.platform, self.example = said


def _connection(mine: socket.socket) -> Connection:
    return Connection(mine.detach())


def asked_for(argv: list[str]) -> int | None:
    """The descriptor to answer on, where a process is to be one model alone."""
    return int(argv[argv.index(FLAG) + 1]) if FLAG in argv else None


def command() -> list[str]:
    """How this process was started: one model alone is started the same."""
    return list(sys.orig_argv)


def answer(descriptor: int, load: Any) -> None:
    """Be one model: ``load(store_address, tree)`` gives it and its example. Returns at the end."""
    threading.Thread(target=until_orphaned, daemon=True).start()
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
