"""ETags, and the conditions that name them.

Knows RFC 9110 §13 as S3 reads it; nothing of where objects are.
"""

from __future__ import annotations

from datetime import datetime
from email.utils import parsedate_to_datetime

from clew.server.s3.committing import Check, Stored
from clew.server.s3.errors import NotModified, S3Error, precondition
from clew.server.s3.request import Asked
from clew.store import Entry


def etag_of(entry: Entry, known: str) -> str:
    """The ETag, without quotes: what its client was told, else the digest.

    The digest is written so that nobody takes it for an MD5: 64 hexadecimal digits, a hyphen and
    its tag.
    """
    tag, _, value = entry.digest.partition(":")
    return known or f"{value}-{tag}"


def etag_of_stored(stored: Stored) -> str:
    """The same."""
    return etag_of(stored.entry, stored.facts.etag if stored.facts else "")


def check_read(
    asked: Asked, etag: str, at: datetime, headers: dict[str, str], *, source: bool = False
) -> None:
    """Refuse to send what the conditions of a request do not want.

    ``source``: those of the source of a copy.

    Raises:
        S3Error: ``PreconditionFailed``.
        NotModified: the client has it.
    """
    kind = "x-amz-copy-source-" if source else ""
    match, none = asked.header(f"{kind}if-match"), asked.header(f"{kind}if-none-match")
    since = _time(asked.header(f"{kind}if-modified-since"))
    until = _time(asked.header(f"{kind}if-unmodified-since"))
    moment = at.replace(microsecond=0)
    if match and not _names(match, etag):
        raise precondition("If-Match")
    if until and not match and moment > until:
        raise precondition("If-Unmodified-Since")
    unchanged = _names(none, etag) if none else bool(since and moment <= since)
    if unchanged and source:
        raise precondition("If-None-Match")
    if unchanged:
        raise NotModified(headers)


def check_of_write(asked: Asked) -> Check | None:
    """What a write demands of what is there (If-None-Match, If-Match); None: nothing."""
    match, none = asked.header("if-match"), asked.header("if-none-match")
    if not match and not none:
        return None

    def check(stored: Stored | None) -> None:
        if none and stored is not None and _names(none, etag_of_stored(stored)):
            raise precondition("If-None-Match")
        if match and stored is None:
            raise S3Error("NoSuchKey", "If-Match names a version of what is not there.", 404)
        if match and stored is not None and not _names(match, etag_of_stored(stored)):
            raise precondition("If-Match")

    return check


def _names(header: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")]
    return "*" in tags or etag in tags


def _time(header: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(header) if header else None
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo else None
