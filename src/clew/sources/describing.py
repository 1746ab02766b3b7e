"""A source in words, and what makes it the same source as before.

Knows definitions and rows; no kind is read here.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import msgspec

from clew.base import clock
from clew.base.records.feeds import SourceInfo
from clew.sources.definitions import REFERENCES, FeedDefinition

_IDENTITY = {
    "database": ("watermark",),
    "directory": ("path", "into"),
    "bucket": ("url", "into"),
    "webhook": (),
    "redis": ("stream", "group"),
    "kafka": ("topic",),
}
"""Options that say what a position means: where one of them is another, reading begins anew."""


def identity_of(definition: FeedDefinition) -> str:
    """What a position of this source means; equal where reading can go on."""
    feed = definition.feed
    told = [f"{name}={feed.options.get(name, '')}" for name in _IDENTITY[feed.kind]]
    return " ".join([feed.kind, definition.repo, definition.branch, *told])


def place_of(definition: FeedDefinition) -> str:
    """Where a source reads, as it may be shown: no secret, no password."""
    feed = definition.feed
    options = {name: str(value) for name, value in feed.options.items()}
    match feed.kind:
        case "database":
            return f"{_shown(options['url'])} {' '.join(options['sql'].split())[:60]}"
        case "directory":
            return options["path"]
        case "bucket":
            return _shown(options["url"])
        case "redis":
            return f"{_shown(options['url'])} {options['stream']}"
        case "kafka":
            return f"{_shown(options['servers'])} {options['topic']}"
        case _:
            return f"/api/v1/hooks/{definition.name}"


def _shown(url: str) -> str:
    if url.startswith(REFERENCES) or "://" not in url:
        return url
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    return f"{parts.scheme}://{user.partition(':')[0]}{at}{host}{parts.path}"


def info_of(row: Any) -> SourceInfo:
    """The record of a row of ``feeds``."""
    definition = msgspec.convert(row.definition, FeedDefinition)

    def moment(at_us: int | None) -> Any:
        return None if at_us is None else clock.from_us(at_us)

    return SourceInfo(
        name=row.name,
        kind=definition.feed.kind,
        place=place_of(definition),
        repo=definition.repo,
        branch=definition.branch,
        state=row.state,
        polled_at=moment(row.polled_us),
        committed_at=moment(row.committed_us),
        commit=row.commit_id,
        commits=row.commits,
        items=row.items,
        size_bytes=row.size_bytes,
        lag=row.lag,
        note=row.note,
        error=row.error,
        error_code=row.error_code,
        failures=row.failures,
        next_at=moment(row.due_us) if row.failures else None,
        position={name: one for name, one in row.position.items() if name != "schema"},
    )
