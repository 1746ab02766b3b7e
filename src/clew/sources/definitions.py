"""What a source reads from, as values, and the functions by which a user writes them.

Knows how each kind is described, and nothing of how it is read. Secrets are never part of a
definition: ``env:NAME`` and ``file:PATH`` say where one is found when it is needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from msgspec import Struct, field

from clew.base.durations import seconds
from clew.base.errors import Invalid

Span: TypeAlias = str | float | timedelta
Kind = Literal["database", "directory", "bucket", "webhook", "redis", "kafka"]
REFERENCES = ("env:", "file:")


class Feed(Struct, frozen=True, kw_only=True):
    """Where a source gets its data, and when that becomes a commit.

    ``options`` belong to the kind (a record of the file that reads it). A batch ends with
    ``batch_count`` items or ``batch_bytes`` bytes, and at the latest ``batch_s`` seconds after its
    first item came; ``every_s`` is how often a kind that tells nothing by itself is looked at.
    """

    kind: Kind
    options: dict[str, object] = field(default_factory=dict)
    every_s: float = 60.0
    batch_count: int = 0
    batch_bytes: int = 0
    batch_s: float = 0.0


class FeedDefinition(Struct, frozen=True, kw_only=True):
    """The feed of one source of a pipeline. ``name`` is ``pipeline/source``."""

    name: str
    pipeline: str
    repo: str
    branch: str = "main"
    feed: Feed


def database(
    sql: str,
    *,
    url: str,
    watermark: str = "",
    every: Span = "1m",
    overlap: Span = 0,
    key: str | Sequence[str] = (),
    batch_rows: int = 100_000,
) -> Feed:
    """The rows of a query (or of a table), polled.

    With a ``watermark`` (a column that grows, such as ``updated_at`` or ``id``) every poll commits
    the rows that are new since the last as one more Parquet file; a row that came late is still
    found within ``overlap`` (a span of time, or a number for a watermark that is one). ``key``
    names the columns that tell rows apart; without it all their values do. Without a watermark the
    whole answer is one file, committed when it differs.

    Args:
        sql: One SELECT, or the name of a table.
        url: ``postgresql://``, ``mysql://``, ``sqlite:///``, or where it is found: ``env:NAME``.
        watermark: The column that grows.
        every: How often it is asked.
        overlap: How late rows may come.
        key: Columns that tell rows apart.
        batch_rows: The most rows of one commit.

    Raises:
        Invalid: ``source.definition``, ``source.secret``, ``duration.invalid``.
    """
    _check_text(sql, "a query")
    _check_url(url, ("postgresql", "postgres", "mysql", "mariadb", "sqlite", "duckdb"))
    if batch_rows < 1:
        raise _wrong(f"batch_rows={batch_rows} is no number of rows", "Give 1 or more.")
    if overlap and not watermark:
        raise _wrong("overlap= says nothing without watermark=", "Name the column that grows.")
    is_number = isinstance(overlap, int | float)
    return Feed(
        kind="database",
        every_s=_every(every),
        batch_count=batch_rows,
        options={
            "sql": sql,
            "url": url,
            "watermark": watermark,
            "overlap": float(overlap) if is_number else seconds(overlap, "overlap="),  # type: ignore[arg-type]  # a number was just told apart
            "key": [key] if isinstance(key, str) else list(key),
        },
    )


def directory(
    path: str,
    *,
    glob: str = "**",
    every: Span = "10s",
    settle: Span = "2s",
    deletes: bool = False,
    into: str = "/",
) -> Feed:
    """The files of a directory of the machine that the server runs on, as they come.

    A file counts once it has not changed for ``settle``, so that none is taken half-written. What
    came while nobody looked is found at the start. ``deletes``: files that went go from the repo
    too. ``into`` is where they stand in the repo.

    Raises:
        Invalid: ``source.definition``, ``duration.invalid``.
    """
    _check_text(path, "a directory")
    options: dict[str, object] = {
        "path": path,
        "glob": glob,
        "settle_s": seconds(settle, "settle="),
        "deletes": deletes,
        "into": _into(into),
    }
    return Feed(kind="directory", every_s=_every(every), options=options)


def bucket(
    url: str,
    *,
    glob: str = "**",
    every: Span = "1m",
    deletes: bool = False,
    into: str = "/",
    batch_files: int = 1000,
) -> Feed:
    """The objects below a prefix of a bucket (``s3://``, ``gs://``, ``az://``), as they come.

    Listed ``every`` so often; an object counts as new when its ETag differs. Keys come from the
    environment of the server, as the provider's own tools look for them.

    Raises:
        Invalid: ``source.definition``, ``source.secret``, ``duration.invalid``.
    """
    _check_url(url, ("s3", "gs", "az"))
    options: dict[str, object] = {
        "url": url,
        "glob": glob,
        "deletes": deletes,
        "into": _into(into),
    }
    return Feed(kind="bucket", every_s=_every(every), batch_count=batch_files, options=options)


def webhook(
    *,
    secret: str = "",
    batch_count: int = 1,
    batch_every: Span = 0,
    suffix: str = "",
    max_bytes: int = 10_000_000,
) -> Feed:
    """What others POST to ``/api/v1/hooks/PIPELINE/SOURCE``: each body is kept as a file.

    ``secret`` says where it is found (``env:NAME``, ``file:PATH``). A request shows that it knows
    it by ``X-Hub-Signature-256`` (HMAC-SHA256 of the body, as GitHub signs) or as a bearer token.
    Without a secret a request needs the login of the server. Of several with one
    ``Idempotency-Key`` (or ``X-GitHub-Delivery``) the first counts. What was answered with 202 is
    durable. A commit holds ``batch_count`` bodies, or those of ``batch_every``.

    Raises:
        Invalid: ``source.definition``, ``source.secret``, ``duration.invalid``.
    """
    if secret:
        check_reference(secret)
    if batch_count < 1 or max_bytes < 1:
        raise _wrong("batch_count and max_bytes are 1 or more", "Leave them out.")
    return Feed(
        kind="webhook",
        options={"secret": secret, "suffix": suffix, "max_bytes": max_bytes},
        batch_count=batch_count,
        batch_s=seconds(batch_every, "batch_every="),
    )


def redis_stream(
    stream: str,
    *,
    url: str = "redis://127.0.0.1:6379/0",
    group: str = "clew",
    batch_count: int = 10_000,
    batch_bytes: int = 32_000_000,
    batch_every: Span = "5s",
) -> Feed:
    """The entries of a Redis stream, as JSON lines; needs ``pip install "clew[redis]"``.

    Read as a member of a consumer ``group``: entries are acknowledged once their commit is
    durable, and one that is delivered again is not committed again.

    Raises:
        Invalid: ``source.definition``, ``source.secret``, ``duration.invalid``.
    """
    _check_text(stream, "a stream")
    _check_url(url, ("redis", "rediss", "unix"))
    options: dict[str, object] = {"stream": stream, "url": url, "group": group}
    return _batched("redis", options, batch_count, batch_bytes, batch_every)


def kafka(
    topic: str,
    *,
    servers: str,
    group: str = "clew",
    start: Literal["earliest", "latest"] = "earliest",
    config: Mapping[str, str] | None = None,
    batch_count: int = 10_000,
    batch_bytes: int = 32_000_000,
    batch_every: Span = "5s",
) -> Feed:
    """The messages of a Kafka topic, as JSON lines; needs ``pip install "clew[kafka]"``.

    The offsets are kept with the commit: each message is in exactly one, whatever dies when. They
    are told to the group too, for tools that show its lag. ``config`` goes to librdkafka; a secret
    in it is a reference: ``{"sasl.password": "env:KAFKA_PASSWORD"}``.

    Raises:
        Invalid: ``source.definition``, ``source.secret``, ``duration.invalid``.
    """
    _check_text(topic, "a topic")
    _check_text(servers, "servers")
    for name, value in (config or {}).items():
        if any(word in name for word in ("password", "secret", "token", ".pem")):
            check_reference(value)
    if start not in ("earliest", "latest"):
        raise _wrong(f"start={start!r}", "Write earliest or latest.")
    options: dict[str, object] = {
        "topic": topic,
        "servers": servers,
        "group": group,
        "start": start,
        "config": dict(config or {}),
    }
    return _batched("kafka", options, batch_count, batch_bytes, batch_every)


def check_reference(text: str) -> str:
    """A reference to a secret, if it is one.

    Raises:
        Invalid: ``source.secret``.
    """
    if not isinstance(text, str) or not text.startswith(REFERENCES):
        raise Invalid(
            "source.secret",
            "A secret stands in the definition of a source, which is kept and shown.",
            hint="Say where it is found: env:NAME (of the server's environment) or file:PATH.",
        )
    return text


def _batched(kind: Kind, options: dict[str, object], count: int, size: int, every: Span) -> Feed:
    if count < 1 or size < 1:
        raise _wrong("batch_count and batch_bytes are 1 or more", "Leave them out.")
    return Feed(
        kind=kind,
        options=options,
        batch_count=count,
        batch_bytes=size,
        batch_s=seconds(every, "batch_every="),
    )


def _check_url(url: str, schemes: Sequence[str]) -> None:
    _check_text(url, "a URL")
    if url.startswith(REFERENCES):
        return
    scheme = urlsplit(url).scheme.partition("+")[0]
    if scheme not in schemes:
        raise _wrong(f"{scheme or url!r} is no address of it", f"It begins with {schemes[0]}://")
    user = urlsplit(url).netloc.rpartition("@")[0]
    if ":" in user or re.search(r"(?i)[?&][^=]*(password|secret|token)[^=]*=", url):
        check_reference(url)  # says that a password does not belong there


def _check_text(text: str, what: str) -> None:
    if not isinstance(text, str) or not text.strip():
        raise _wrong(f"{text!r} is not {what}", "Give it as text.")


def _every(span: Span) -> float:
    found = seconds(span, "every=")
    if found < 0.01:
        raise _wrong(f"every={span!r} is too often", 'Write such as "30s" or "5m".')
    return found


def _into(path: str) -> str:
    return "/" + path.strip("/") + ("/" if path.strip("/") else "")


def _wrong(what: str, hint: str) -> Invalid:
    return Invalid("source.definition", f"{what}.", hint=hint)
