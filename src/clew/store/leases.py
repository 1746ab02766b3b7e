"""Leases: who may be leaning on objects that no row names yet, so that collecting waits for them.

Knows tokens and where they are posted; knows nothing of objects. The argument stands in
design/0013-garbage-collection.md.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from clew.base.errors import Unavailable
from clew.base.ids import new_id
from clew.store.local import storage_errors
from clew.store.shelf import Shelf

SUFFIX = ".lease"
LINGER_S = 5.0
"""How long a token outlives the last work under it: for rows that are written just after."""
ROTATE_S = 10.0
"""After so long a token takes in no new work, so that it ends although others begin."""
BEAT_S = 60.0
EXPIRE_S = 900.0
"""A token on a bucket that was not renewed for so long belongs to a process that died."""


class Board(Protocol):
    """Where tokens hang, for every process to see. Thread-safe; need not survive loss of power.

    A token that :meth:`post` has hung up is in every answer of :meth:`standing` that begins later,
    until it is taken down or its process is dead.
    """

    def post(self, token: str) -> None:
        """Hang up a token of this process."""
        ...

    def renew(self, token: str) -> None:
        """Say that this process still lives; called every ``BEAT_S``."""
        ...

    def lapsed(self, token: str) -> bool:
        """Whether others may have taken this process for dead since the token was posted."""
        ...

    def take_down(self, token: str) -> None:
        """End a token; doing so again is harmless."""
        ...

    def standing(self) -> set[str]:
        """Tokens of processes that live, of all processes; those of dead ones are removed."""
        ...


class LocalBoard:
    """A file for each token, locked (flock) as long as its process lives."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._held: dict[str, int] = {}

    def post(self, token: str) -> None:
        """See :meth:`Board.post`. It is locked before it has its name: nobody takes it for dead."""
        path = self._directory / token
        early = self._directory / f"{token}.new"
        with storage_errors(self._directory):
            self._directory.mkdir(exist_ok=True)
            descriptor = os.open(early, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            early.rename(path)
        self._held[token] = descriptor

    def renew(self, token: str) -> None:
        """Nothing to do: the operating system knows who lives."""

    def lapsed(self, token: str) -> bool:  # noqa: ARG002 - the protocol's signature
        """Never: a process that lives holds its lock."""
        return False

    def take_down(self, token: str) -> None:
        """See :meth:`Board.take_down`."""
        descriptor = self._held.pop(token, None)
        if descriptor is None:
            return
        with suppress(OSError):  # somebody has removed the directory: then nobody waits either
            (self._directory / token).unlink(missing_ok=True)
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # aloud: a child being started may hold a copy
        os.close(descriptor)

    def standing(self) -> set[str]:
        """See :meth:`Board.standing`."""
        found = set()
        with storage_errors(self._directory):
            for path in self._directory.glob("*"):
                if path.name in self._held or self._lives(path):
                    found.add(path.name)
        return {name for name in found if name.endswith(SUFFIX)}

    def _lives(self, path: Path) -> bool:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if path.name.endswith(SUFFIX):
                path.unlink(missing_ok=True)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False


class ShelfBoard:
    """Tokens as names on a shelf, with the time at which they were renewed last in the name."""

    def __init__(self, shelf: Shelf, now: Callable[[], float] = time.time) -> None:
        self._shelf = shelf
        self._now = now
        self._names: dict[str, str] = {}
        self._lapsed: set[str] = set()

    def post(self, token: str) -> None:
        """See :meth:`Board.post`."""
        name = self._name(token)
        self._shelf.put(name, [b"lease"])
        self._names[token] = name

    def renew(self, token: str) -> None:
        """See :meth:`Board.renew`."""
        old = self._names[token]
        self.lapsed(token)
        self.post(token)
        if self._names[token] != old:
            self._shelf.remove(old)

    def lapsed(self, token: str) -> bool:
        """See :meth:`Board.lapsed`."""
        if self._now() - _beat(self._names[token]) > EXPIRE_S / 2:
            self._lapsed.add(token)
        return token in self._lapsed

    def take_down(self, token: str) -> None:
        """See :meth:`Board.take_down`."""
        name = self._names.pop(token, None)
        self._lapsed.discard(token)
        if name is not None:
            self._shelf.remove(name)

    def standing(self) -> set[str]:
        """See :meth:`Board.standing`."""
        found = set()
        for name in self._shelf.list():
            if not name.endswith(SUFFIX):
                continue
            if self._now() - _beat(name) > EXPIRE_S:
                self._shelf.remove(name)
            else:
                found.add(name.partition(".")[0] + SUFFIX)
        return found

    def _name(self, token: str) -> str:
        return f"{token.removesuffix(SUFFIX)}.{int(self._now())}{SUFFIX}"


def _beat(name: str) -> int:
    beat = name.removesuffix(SUFFIX).rpartition(".")[2]
    return int(beat) if beat.isdigit() else 0


class _Token(Struct):
    name: str
    posted_at: float
    open: int = 0
    idle_since: float = -inf


class Lease:
    """A stretch of work that may lean on objects. Ends by :meth:`end`, or when it is let go of."""

    __slots__ = ("_leases", "_lingers", "_token")

    def __init__(self, leases: Leases, token: _Token, *, lingers: bool) -> None:
        self._leases = leases
        self._lingers = lingers
        self._token: _Token | None = token

    def check(self) -> None:
        """Refuse to go on where others may have taken this process for dead meanwhile.

        Raises:
            Unavailable: ``store.lease_lost``.
        """
        if self._token is not None and self._leases.board.lapsed(self._token.name):
            raise Unavailable(
                "store.lease_lost",
                "This process was held up for so long that what it leans on may be collected.",
                hint="Nothing was committed; do it again.",
            )

    def end(self) -> None:
        """The work is over: what it made is named by a row, or will be within ``LINGER_S``."""
        if self._token is not None:
            token, self._token = self._token, None
            self._leases.ended(token, lingers=self._lingers)

    def __del__(self) -> None:
        self.end()


class Leases:
    """The leases of one process on one store. Thread-safe.

    Many stretches of work share a token; a thread, alive only while tokens stand, renews them and
    takes them down.
    """

    def __init__(self, board: Board, linger_s: float = LINGER_S) -> None:
        self.board = board
        self.linger_s = linger_s
        self._tokens: list[_Token] = []
        self._changed = threading.Condition()
        self._keeper: threading.Thread | None = None
        self._pid = os.getpid()
        # A process which ends by itself leaves no token on a bucket.
        weakref.finalize(self, _take_down, self.board, self._tokens, self._pid)

    def begin(self, *, lingers: bool = True) -> Lease:
        """A lease that stands, for others to see, when this returns."""
        if self._pid != os.getpid():  # after a fork: the tokens, and perhaps the lock, are not ours
            self._pid, self._tokens, self._keeper = os.getpid(), [], None
            self._changed = threading.Condition()
        with self._changed:
            token = self._current()
            token.open += 1
            if self._keeper is None:
                self._keeper = threading.Thread(target=self._keep, name="clew-leases", daemon=True)
                self._keeper.start()
            return Lease(self, token, lingers=lingers)

    @contextmanager
    def held(self) -> Iterator[Lease]:
        """A lease for a block."""
        lease = self.begin()
        try:
            yield lease
        finally:
            lease.end()

    def others(self) -> set[str]:
        """Tokens that stand now, but for those of this process under which no work is going on.

        A caller that has just condemned something waits until none of these is left.
        """
        standing = self.board.standing()
        now = time.monotonic()
        with self._changed:
            idle = {one.name for one in self._tokens if self._over(one, now)}
        return standing - idle

    def close(self) -> None:
        """Take down what no work stands under: nothing of this process will be written any more."""
        with self._changed:
            for token in [token for token in self._tokens if not token.open]:
                self._tokens.remove(token)
                self.board.take_down(token.name)
            self._changed.notify()

    def ended(self, token: _Token, *, lingers: bool) -> None:
        """One stretch of work under a token is over."""
        if self._pid != os.getpid():  # the token is the parent's
            return
        with self._changed:
            token.open -= 1
            if lingers:
                token.idle_since = time.monotonic()
            self._changed.notify()

    def _current(self) -> _Token:
        now = time.monotonic()
        if self._tokens and now - self._tokens[-1].posted_at < ROTATE_S:
            return self._tokens[-1]
        token = _Token(new_id() + SUFFIX, now)
        self.board.post(token.name)
        self._tokens.append(token)
        return token

    def _over(self, token: _Token, now: float) -> bool:
        return token.open == 0 and now - token.idle_since >= self.linger_s

    def _keep(self) -> None:
        beaten = time.monotonic()
        with self._changed:
            while self._keeper is threading.current_thread():
                now = time.monotonic()
                for token in [token for token in self._tokens if self._over(token, now)]:
                    self._tokens.remove(token)
                    with suppress(Unavailable):
                        self.board.take_down(token.name)
                if not self._tokens:
                    self._keeper = None
                    return
                if now - beaten >= BEAT_S:
                    beaten = now
                    with suppress(Unavailable):  # lapses if that goes on, and then work is refused
                        for token in self._tokens:
                            self.board.renew(token.name)
                self._changed.wait(self._pause_s(now, beaten))

    def _pause_s(self, now: float, beaten: float) -> float:
        ends = [one.idle_since + self.linger_s - now for one in self._tokens if not one.open]
        return max(0.01, min([*ends, beaten + BEAT_S - now]))


def _take_down(board: Board, tokens: list[_Token], pid: int) -> None:
    if pid == os.getpid():
        with suppress(Unavailable):
            for token in tokens:
                board.take_down(token.name)
