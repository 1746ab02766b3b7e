"""Tables of sources: where each has got to, what it has marked, and what was posted to it.

Knows nothing of how a source is read.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    Select,
    Table,
    Text,
    bindparam,
    func,
    select,
    update,
)

from clew.db import Json, metadata

Rows = Select[*tuple[Any, ...]]

# ``position`` is where reading goes on; ``version`` counts its moves, each in the transaction of
# the commit that it stands for. ``state``: waiting, polling, paused or failing.
feeds = Table(
    "feeds",
    metadata,
    Column("name", Text, primary_key=True),
    Column("pipeline", Text, nullable=False),
    Column("definition", Json, nullable=False),
    Column("identity", Text, nullable=False),
    Column("position", Json, nullable=False),
    Column("version", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("polled_us", BigInteger),
    Column("committed_us", BigInteger),
    Column("commit_id", Text),
    Column("commits", BigInteger, nullable=False),
    Column("items", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("lag", BigInteger),
    Column("note", Text, nullable=False),
    Column("error_code", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("due_us", BigInteger, nullable=False),
)

# What a source has committed, by its own names: paths, keys, hashes of rows.
feed_marks = Table(
    "feed_marks",
    metadata,
    Column("feed", Text, primary_key=True),
    Column("item", Text, primary_key=True),
    Column("mark", Text, nullable=False),
)

# Bodies that were posted; one that was committed stays without its bytes, so that its key is known.
feed_inbox = Table(
    "feed_inbox",
    metadata,
    Column("seq", Integer, primary_key=True),
    Column("feed", Text, nullable=False),
    Column("item", Text, nullable=False),
    Column("body", LargeBinary),
    Column("path", Text, nullable=False),
    Column("received_us", BigInteger, nullable=False),
    Index("feed_inbox_by_item", "feed", "item", unique=True),
    Index("feed_inbox_waiting", "feed", "seq"),
)

ALL: Rows = select(feeds).order_by(feeds.c.name)
ONE: Rows = select(feeds).where(feeds.c.name == bindparam("name"))
MARKS: Rows = select(feed_marks.c.item, feed_marks.c.mark).where(
    feed_marks.c.feed == bindparam("feed")
)

# Bodies that wait, oldest first.
WAITING: Rows = (
    select(feed_inbox)
    .where(feed_inbox.c.feed == bindparam("feed"), feed_inbox.c.body.is_not(None))
    .order_by(feed_inbox.c.seq)
)

# How many bodies wait.
WAITING_COUNT: Rows = select(
    func.count(), func.min(feed_inbox.c.received_us), func.sum(func.length(feed_inbox.c.body))
).where(feed_inbox.c.feed == bindparam("feed"), feed_inbox.c.body.is_not(None))

# The position moves only from the version that was read.
MOVED = (
    update(feeds)
    .where(feeds.c.name == bindparam("name_"), feeds.c.version == bindparam("version_"))
    .values(
        version=feeds.c.version + 1,
        position=bindparam("position_"),
        commits=feeds.c.commits + bindparam("commits_"),
        items=feeds.c["items"] + bindparam("items_"),
        size_bytes=feeds.c.size_bytes + bindparam("bytes_"),
    )
)
