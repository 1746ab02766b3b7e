"""A listening Unix socket at a path: its owner's alone, in the place of one that was left behind.

Knows nothing of who accepts on it.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import stat
from pathlib import Path

from clew.base.errors import Invalid, Unavailable

PATH_BYTES = 107
"""What the kernel takes as the name of a socket, but for the byte that ends it (``unix(7)``)."""


class UnixSocket:
    """A socket that listens at ``path``, until it is closed. Make one with :meth:`listen`."""

    def __init__(self, path: Path, listener: socket.socket) -> None:
        self.path = path
        self._listener = listener
        self._inode = path.stat().st_ino

    @classmethod
    def listen(cls, path: Path) -> UnixSocket:
        """Listen at a path; only its owner can connect (mode 0600).

        It is made beside and renamed, so at the path there is always a socket that is listened on:
        what a killed server has left is replaced, what another one listens on is not.

        Raises:
            Invalid: ``socket.too_long``; ``socket.not_one`` where something else is at the path.
            Unavailable: ``socket.in_use``; ``socket.unusable`` where it cannot be made.
        """
        path = path.absolute()
        beside = path.with_name(f".{secrets.token_hex(3)}")
        if max(len(os.fsencode(path)), len(os.fsencode(beside))) > PATH_BYTES:
            raise Invalid(
                "socket.too_long",
                f"{path} has {len(os.fsencode(path))} bytes; a Unix socket's path may have "
                f"{PATH_BYTES}.",
                hint="Give a shorter path, such as /run/clew.sock.",
            )
        _check_free(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(str(beside))
            beside.chmod(0o600)
            listener.listen(4096)
            beside.rename(path)
            return cls(path, listener)
        except OSError as error:
            listener.close()
            beside.unlink(missing_ok=True)
            raise Unavailable(
                "socket.unusable",
                f"A Unix socket cannot be made at {path}: {error.strerror}.",
                hint="Name a file in a directory that is there and that you may write to.",
            ) from error

    def fileno(self) -> int:
        """Its descriptor, for the processes that accept on it."""
        return self._listener.fileno()

    def close(self) -> None:
        """Listen no more; the path is taken away where it is still this socket's. Idempotent."""
        if self._listener.fileno() < 0:
            return
        self._listener.close()
        try:
            if self.path.stat().st_ino == self._inode:
                self.path.unlink()
        except FileNotFoundError:
            pass


def _check_free(path: Path) -> None:
    """Refuse a path that is something else, or that somebody listens at."""
    try:
        mode = path.lstat().st_mode
    except OSError:
        return  # nothing is there; whether something can be is seen when it is made
    if not stat.S_ISSOCK(mode):
        raise Invalid(
            "socket.not_one",
            f"{path} is there and is no socket.",
            hint="Give another path, or remove it.",
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        code = probe.connect_ex(str(path))
    if code != errno.ECONNREFUSED:
        raise Unavailable(
            "socket.in_use",
            f"Somebody listens at {path} already.",
            hint="Give another path, or stop the process that has it.",
        )
