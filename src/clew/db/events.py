"""Facts in the order in which they were committed, and waiting for the next.

Knows no kind of event: rooms name them where they emit them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from threading import Condition
from typing import Any, Protocol

import sqlalchemy as sa

from clew.base import clock
from clew.base.records import Event
from clew.db.schema import events

# The newest sequence number; NULL while there is no event.
LAST = sa.select(sa.func.max(events.c.seq))
_KEPT = 256

# What came after a number, newest first.
NEWS = (
    sa.select(events.c.seq, events.c.kind)
    .where(events.c.seq > sa.bindparam("seq"))
    .order_by(events.c.seq.desc())
    .limit(_KEPT)
)


class Watch(Protocol):
    """A counter that changes whenever anybody commits events."""

    exact: bool
    """Whether an unchanged counter proves that nothing was committed, this very moment."""

    poll_s: float
    """How late at most the counter is to be looked at where nobody calls ``on_change``."""

    on_change: Callable[[], None]
    """To be called, on any thread, when the counter has changed."""

    def version(self) -> int:
        """Equal to the last answer if and only if nothing was committed in between."""
        ...


class Reader(Protocol):
    """What a read transaction is to this file."""

    def execute(self, statement: sa.Executable, parameters: Any = None) -> Any:
        """Rows of a query."""
        ...


class Events:
    """The events of a database. Thread-safe; several processes see the same sequence.

    Sequence numbers grow in the order of commits (writers are one at a time), so nobody who asks
    for what is after the last number that they have seen can miss one.
    """

    def __init__(self, read: Callable[[], AbstractContextManager[Reader]], watch: Watch) -> None:
        self._read = read
        self._watch = watch
        self._committed = Condition()
        self._own = 0
        self._told = 0
        """How often somebody said that there is news."""
        self._known: tuple[tuple[int, int], int] | None = None
        """The newest sequence number, and the version of the database that it was read at."""
        self._recent: list[tuple[int, str]] = []
        """Numbers and kinds of the newest events, newest first: all after ``_since``."""
        self._since = -1
        self._reading = threading.Lock()
        watch.on_change = self._wake

    def after(
        self,
        seq: int,
        kinds: Collection[str] | None = None,
        global_id: str | None = None,
        limit: int = 1000,
    ) -> list[Event]:
        """Events with a greater number than ``seq``, in order, at most ``limit``."""
        query = sa.select(events).where(events.c.seq > seq).order_by(events.c.seq).limit(limit)
        if kinds is not None:
            query = query.where(events.c.kind.in_(kinds))
        if global_id is not None:
            query = query.where(events.c.global_id == global_id)
        with self._read() as tx:
            return [_event(row) for row in tx.execute(query)]

    def last(self) -> int:
        """The newest sequence number; 0 while there is no event."""
        version, known = self._version(), self._known
        if known is not None and known[0] == version and self._watch.exact:
            return known[1]
        with self._read() as tx:
            if self._since < 0:
                news, last = [], tx.execute(LAST).scalar() or 0
            else:
                before = self._recent[0][0] if self._recent else self._since
                news = [(row.seq, row.kind) for row in tx.execute(NEWS, {"seq": before})]
                last = news[0][0] if news else before
        self._remember(news, last, version)
        return last

    def _remember(self, news: list[tuple[int, str]], last: int, version: tuple[int, int]) -> None:
        """Another thread may have learned the same, or more, meanwhile."""
        with self._reading:
            if self._since < 0:
                self._since = last
            newest = self._recent[0][0] if self._recent else self._since
            fresh = [one for one in news if one[0] > newest]
            if len(news) == _KEPT:  # there may be more before them
                self._recent, self._since = fresh, news[-1][0] - 1
            elif fresh:
                kept = (fresh + self._recent)[:_KEPT]
                if len(kept) < len(fresh) + len(self._recent):
                    self._since = kept[-1][0] - 1
                self._recent = kept
            if last >= newest:
                self._known = (version, last)

    def any_after(
        self, seq: int, *, kinds: Collection[str] | None = None, but: Collection[str] = ()
    ) -> bool:
        """Whether there is an event with a greater number, of one of ``kinds`` (None: of any) and
        of none of ``but``. Asked for what is recent it reads no more than :meth:`last` does.
        """
        self.last()
        with self._reading:
            recent = self._recent if seq >= self._since >= 0 else None
        if recent is not None:
            return any(
                number > seq and kind not in but and (kinds is None or kind in kinds)
                for number, kind in recent
            )
        query = sa.select(events.c.seq).where(events.c.seq > seq).limit(1)
        if kinds is not None:
            query = query.where(events.c.kind.in_(kinds))
        if but:
            query = query.where(events.c.kind.not_in(sorted(but)))
        with self._read() as tx:
            return tx.execute(query).scalar() is not None

    def wait(self, seq: int, timeout_s: float, over: threading.Event | None = None) -> bool:
        """Whether there is an event after ``seq``; if not yet, wait for one up to ``timeout_s``.

        Events of this process wake at once, those of others within 20 ms (SQLite) or as soon as
        the server tells (PostgreSQL). Who sets ``over`` and calls :meth:`notify` ends the waiting.
        """
        deadline = time.monotonic() + timeout_s
        seen = None
        while True:
            told, version = self._told, self._version()
            if version != seen:
                seen = version
                if self.last() > seq:
                    return True
            with self._committed:
                rest_s = deadline - time.monotonic()
                if rest_s <= 0 or (over is not None and over.is_set()):
                    return False
                if self._told == told:
                    self._committed.wait(min(rest_s, self._watch.poll_s))

    def notify(self) -> None:
        """Wake the waiters of this process: events were committed."""
        with self._committed:
            self._own += 1
            self._told += 1
            self._committed.notify_all()

    def _wake(self) -> None:
        with self._committed:
            self._told += 1
            self._committed.notify_all()

    def _version(self) -> tuple[int, int]:
        return self._watch.version(), self._own


def _event(row: Any) -> Event:
    return Event(
        seq=row.seq,
        at=clock.from_us(row.at_us),
        kind=row.kind,
        global_id=row.global_id,
        subject=row.subject,
        data=row.data,
    )
