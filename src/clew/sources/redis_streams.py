"""Entries of a Redis stream, in batches, as a member of a consumer group.

Knows the redis library, and is the only file that does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import msgspec

from clew.base.errors import Invalid, Unavailable
from clew.sources.definitions import Feed
from clew.sources.lines import Batch, line, text_or_base64
from clew.sources.reading import (
    Increment,
    Place,
    Position,
    Standing,
    Surroundings,
    extra_missing,
    file_name,
    plain_wait,
)

_BLOCK_MS = 200
_CONSUMER = "clew"


class _Options(msgspec.Struct, kw_only=True):
    stream: str
    url: str
    group: str = "clew"


class RedisReader:
    """Reads one stream. Keeps ``clew.sources.reading.Reader``.

    An entry is pending in the group until it is acknowledged, which it is after its commit. The
    position names what was committed last and may not have been acknowledged: that is done first,
    whenever a reader begins, so that nothing that is pending then was committed. All Clews of a
    workspace are one consumer: what one leaves pending the next takes up.
    """

    def __init__(self, name: str, feed: Feed, around: Surroundings) -> None:  # noqa: ARG002 - as every source is made
        self._options = msgspec.convert(feed.options, _Options)
        self._feed = feed
        self._around = around
        self._client: Any = None
        self._standing = Standing()

    def read(self, place: Place, stop: Callable[[], bool]) -> Increment | None:
        """See :meth:`Reader.read`."""
        with self._told() as client:
            self._be_member(client, place.position)
            batch = Batch(self._feed)
            self._gather(client, batch, stop)
            self._standing = self._stand(client)
        if not batch.items:
            return None
        number = int(place.position.get("number", 0)) + 1
        ids = [identifier for identifier, _ in batch.items]
        content = b"".join(text for _, text in batch.items)
        path = file_name(self._around.clock.now_us(), number, ".jsonl")
        return Increment(
            puts={path: content} if content else {},
            position={"last": max(ids, key=_order), "pending": ids, "number": number},
            items=len(ids),
            size_bytes=len(content),
            more=batch.full,
            message=f"{len(ids):,} entries up to {ids[-1]}",
        )

    def committed(self, position: Position) -> None:
        """See :meth:`Reader.committed`: acknowledge."""
        pending = position.get("pending", [])
        with self._told() as client:
            for start in range(0, len(pending), 1000):
                client.xack(
                    self._options.stream, self._options.group, *pending[start : start + 1000]
                )

    def standing(self) -> Standing:
        """See :meth:`Reader.standing`."""
        return self._standing

    def wait(self, timeout_s: float, stopped: Callable[[float], bool]) -> bool:
        """See :meth:`Reader.wait`. Reading itself waits."""
        return plain_wait(min(timeout_s, 0.05), stopped)

    def close(self) -> None:
        """See :meth:`Reader.close`."""
        if self._client is not None:
            self._client.close()
            self._client = None

    # ----------------------------------------------------------------------------------------

    def _gather(self, client: Any, batch: Batch, stop: Callable[[], bool]) -> None:
        """What is pending first, then what is new, until the batch is full or its time is over."""
        after: str | None = "0"
        while after is not None and not batch.full and not stop():
            entries = self._entries(client, after, batch.room, None)
            for identifier, fields in entries:
                batch.add(identifier, _line(identifier, fields), time.monotonic())
            after = entries[-1][0] if entries else None
        while not batch.over(time.monotonic()) and not stop():
            for identifier, fields in self._entries(client, ">", batch.room, _BLOCK_MS):
                batch.add(identifier, _line(identifier, fields), time.monotonic())
            if not batch.items:
                return

    def _entries(
        self, client: Any, after: str, count: int, block_ms: int | None
    ) -> list[tuple[str, dict[bytes, bytes] | None]]:
        found = client.xreadgroup(
            self._options.group,
            _CONSUMER,
            {self._options.stream: after},
            count=min(count, 1000),
            block=block_ms,
        )
        if not found:
            return []
        entries = found[0][1] if isinstance(found, list) else next(iter(found.values()))[0]
        return [(identifier.decode(), fields) for identifier, fields in entries]

    def _be_member(self, client: Any, position: Position) -> None:
        """Make the group where it is missing, behind what was committed."""
        from redis.exceptions import ResponseError  # noqa: PLC0415 - an extra

        try:
            client.xgroup_create(
                self._options.stream,
                self._options.group,
                id=position.get("last", "0"),
                mkstream=True,
            )
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):
                raise
        self._claim(client)

    def _claim(self, client: Any) -> None:
        """Take over what another consumer of the group has left for a minute."""
        with suppress(AttributeError):
            client.xautoclaim(
                self._options.stream,
                self._options.group,
                _CONSUMER,
                min_idle_time=60_000,
                count=1000,
                justid=True,
            )

    def _stand(self, client: Any) -> Standing:
        groups = client.xinfo_groups(self._options.stream)
        own: dict[str, Any] = next(
            (one for one in groups if one["name"] == self._options.group.encode()), {}
        )
        lag = own.get("lag")
        return Standing(lag=None if lag is None else int(lag))

    @contextmanager
    def _told(self) -> Iterator[Any]:
        try:
            import redis  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as error:
            raise extra_missing("A source on Redis", error.name, '"clew[redis]"') from None
        try:
            if self._client is None:
                self._client = redis.Redis.from_url(
                    self._around.secret(self._options.url),
                    socket_timeout=30,
                    socket_connect_timeout=5,
                )
            yield self._client
        except (redis.ConnectionError, redis.TimeoutError, OSError) as error:
            self.close()
            raise Unavailable(
                "source.queue",
                f"Redis cannot be reached for the stream {self._options.stream}: {_brief(error)}.",
                hint="Check that it runs, and the URL of the source.",
            ) from None
        except (redis.RedisError, ValueError) as error:
            raise Invalid(
                "source.queue",
                f"Redis refuses the stream {self._options.stream}: {_brief(error)}.",
                hint="Check its name, and the rights of this user.",
            ) from None


def _brief(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def _order(identifier: str) -> tuple[int, int]:
    at_ms, _, number = identifier.partition("-")
    return int(at_ms), int(number or 0)


def _line(identifier: str, fields: dict[bytes, bytes] | None) -> bytes:
    """One entry as JSON; nothing of one that was deleted from the stream while it was pending."""
    if not fields:
        return b""
    plain = {text_or_base64(name): text_or_base64(value) for name, value in fields.items()}
    return line({"id": identifier, **plain})
