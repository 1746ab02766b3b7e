"""Feeds of sources, as a user writes them and as the room of sources gets them.

Knows names and shapes; what a feed reads is for that room.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clew.authoring.checks import invalid
from clew.sources import Feed, database


def feed_of(name: str, feed: Feed | None, sql: str, polling: Mapping[str, Any]) -> Feed | None:
    """The feed of a source, however it was written.

    Raises:
        Invalid: ``pipeline.definition`` for what is no feed, or where there are two.
    """
    if sql:
        if feed is not None:
            raise invalid(f"The source {name!r} has two feeds", "Give sql= or a feed.")
        if "url" not in polling:
            raise invalid(f"The source {name!r} has sql= without url=", 'Add url="env:NAME".')
        try:
            return database(sql, **polling)
        except TypeError as error:
            raise invalid(f"The source {name!r}: {error}", "See clew.database.") from None
    if polling:
        raise invalid(
            f"The source {name!r} has no {next(iter(polling))}=", "It belongs to sql=, or a feed."
        )
    if feed is not None and not isinstance(feed, Feed):
        raise invalid(f"{feed!r} is no feed of a source", "Give clew.directory(...), say.")
    return feed
