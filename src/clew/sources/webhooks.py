"""What others post: who may, what is kept at once, and batches of it.

Knows signatures and rows; nothing of HTTP but the names of headers.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable, Mapping

import msgspec
from msgspec import Struct
from sqlalchemy import delete, select, update

from clew.base import clock
from clew.base.errors import Denied, Invalid
from clew.base.ids import new_id
from clew.db import Tx
from clew.sources import tables
from clew.sources.definitions import Feed, FeedDefinition
from clew.sources.reading import Increment, Place, Position, Standing, Surroundings, plain_wait

_KEYS = ("idempotency-key", "x-github-delivery", "webhook-id", "x-request-id")
_KEEP_US = 30 * 86_400 * 1_000_000
"""So long a key is known after its body was committed."""


class _Options(msgspec.Struct, kw_only=True):
    secret: str = ""
    suffix: str = ""
    max_bytes: int = 10_000_000


class Delivery(Struct, frozen=True, kw_only=True):
    """What became of a POST. ``id`` is its idempotency key, or a new one; ``path`` is where the
    body will stand; ``duplicate`` says that it was there already.
    """

    id: str
    path: str
    duplicate: bool


def receive(
    tx: Tx, definition: FeedDefinition, body: bytes, headers: Mapping[str, str]
) -> Delivery:
    """Keep a body, once for each idempotency key; durable when ``tx`` is.

    ``hook.received`` is emitted for a body that is new, with what its JSON says at the top level.

    Raises:
        Invalid: ``hook.too_large``, ``hook.key``.
    """
    options = msgspec.convert(definition.feed.options, _Options)
    if len(body) > options.max_bytes:
        raise Invalid(
            "hook.too_large",
            f"The body has {len(body):,} bytes; {definition.name} takes {options.max_bytes:,}.",
            hint="Send less, or raise max_bytes= of the webhook.",
        )
    key = _key(headers)
    known = tx.execute(
        select(tables.feed_inbox.c.path).where(
            tables.feed_inbox.c.feed == definition.name, tables.feed_inbox.c.item == key
        )
    ).scalar()
    if known is not None:
        return Delivery(id=key, path=known, duplicate=True)
    now = clock.now()
    suffix = options.suffix or _suffix(headers.get("content-type", ""))
    path = f"/{now:%Y-%m-%d}/{now:%H%M%S}.{now.microsecond:06d}-{_file_name(key)}{suffix}"
    row = {
        "feed": definition.name,
        "item": key,
        "body": body,
        "path": path,
        "received_us": clock.to_us(now),
    }
    tx.execute(tables.feed_inbox.insert(), row)
    data = {"source": definition.name, "pipeline": definition.pipeline, "size_bytes": len(body)}
    tx.emit("hook.received", subject=key, data={**_fields(body), **data})
    return Delivery(id=key, path=path, duplicate=False)


def check_sender(
    definition: FeedDefinition,
    body: bytes,
    headers: Mapping[str, str],
    secret: Callable[[str], str],
    *,
    trusted: bool,
) -> None:
    """Refuse who does not know the secret. ``trusted``: the request has the server's own login.

    Raises:
        Denied: ``hook.denied``.
    """
    reference = str(definition.feed.options.get("secret", ""))
    if not reference:
        if trusted:
            return
        raise _denied("it needs the login of the server, or a secret of its own")
    key = secret(reference)
    signature = headers.get("x-hub-signature-256", "")
    if signature:
        wanted = "sha256=" + hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
        if hmac.compare_digest(signature.encode("utf-8", "replace"), wanted.encode()):
            return
        raise _denied("the signature is not that of this body with the secret")
    scheme, _, token = headers.get("authorization", "").partition(" ")
    given = token.strip().encode("utf-8", "replace")
    if scheme.lower() == "bearer" and hmac.compare_digest(given, key.encode()):
        return
    raise _denied("no signature and no token came with it")


class WebhookReader:
    """Commits bodies that were posted, in batches. Keeps ``clew.sources.reading.Reader``."""

    def __init__(self, name: str, feed: Feed, around: Surroundings) -> None:
        self._name = name
        self._feed = feed
        self._around = around
        self._standing = Standing(lag=0)

    def read(self, place: Place, stop: Callable[[], bool]) -> Increment | None:  # noqa: ARG002 - it is short
        """See :meth:`Reader.read`."""
        count = self._feed.batch_count
        with self._around.read() as tx:
            waiting, oldest_us, _ = tx.execute(tables.WAITING_COUNT, {"feed": self._name}).one()
            rows = tx.execute(tables.WAITING.limit(max(count, 1000)), {"feed": self._name}).all()
        self._standing = Standing(lag=waiting)
        age_us = self._around.clock.now_us() - (oldest_us or 0)
        if not rows or (waiting < count and age_us < self._feed.batch_s * 1e6):
            return None
        seqs = [row.seq for row in rows]
        return Increment(
            puts={row.path: row.body for row in rows},
            position={"seq": seqs[-1]},
            items=len(rows),
            size_bytes=sum(len(row.body) for row in rows),
            more=waiting > len(rows),
            message=f"{len(rows):,} posted",
            check=lambda tx: _taken(tx, self._name, seqs),
        )

    def committed(self, position: Position) -> None:
        """Nothing: the rows went with the commit."""

    def standing(self) -> Standing:
        """See :meth:`Reader.standing`."""
        return self._standing

    def wait(self, timeout_s: float, stopped: Callable[[float], bool]) -> bool:
        """See :meth:`Reader.wait`."""
        return plain_wait(min(timeout_s, 0.2), stopped)

    def close(self) -> None:
        """Nothing is open."""


def _taken(tx: Tx, name: str, seqs: list[int]) -> None:
    """Let go of the bodies that are committed; their keys stay for a while."""
    table = tables.feed_inbox
    for start in range(0, len(seqs), 500):
        tx.execute(
            update(table).where(table.c.seq.in_(seqs[start : start + 500])).values(body=None)
        )
    old_us = clock.to_us(clock.now()) - _KEEP_US
    tx.execute(
        delete(table).where(
            table.c.feed == name, table.c.body.is_(None), table.c.received_us < old_us
        )
    )


def _key(headers: Mapping[str, str]) -> str:
    found = next((headers[name] for name in _KEYS if headers.get(name)), "") or new_id()
    if len(found) > 200:
        raise Invalid(
            "hook.key",
            "The idempotency key is longer than 200 characters.",
            hint="Send a shorter one: a UUID, say.",
        )
    return found


def _file_name(key: str) -> str:
    plain = re.sub(r"[^\w.-]", "_", key, flags=re.ASCII)[:64]
    return plain if plain == key else f"{plain}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"


def _suffix(content_type: str) -> str:
    kind = content_type.partition(";")[0].strip().lower()
    return {
        "application/json": ".json",
        "text/csv": ".csv",
        "text/plain": ".txt",
        "application/xml": ".xml",
        "application/x-ndjson": ".jsonl",
    }.get(kind, ".json" if kind.endswith("+json") else ".bin")


def _fields(body: bytes) -> dict[str, object]:
    """Texts, numbers and truths at the top level of a JSON body: what triggers may ask for."""
    if len(body) > 100_000:
        return {}
    try:
        told = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return {}
    if not isinstance(told, dict):
        return {}
    plain = {name: value for name, value in told.items() if isinstance(value, str | int | float)}
    return dict(list({k: v for k, v in plain.items() if len(str(v)) < 200}.items())[:20])


def _denied(why: str) -> Denied:
    return Denied(
        "hook.denied",
        f"The webhook refuses this request: {why}.",
        hint="Sign the body (X-Hub-Signature-256), or send Authorization: Bearer SECRET.",
    )
