"""Tables of serving and the statements over them.

Knows nothing of what a revision is or of when traffic moves.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    Table,
    Text,
    UniqueConstraint,
    bindparam,
    func,
    select,
)

from clew.db import Json, metadata

endpoints = Table(
    "endpoints",
    metadata,
    Column("name", Text, primary_key=True),
    Column("pipeline", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("rollout", Json, nullable=False),
    Column("log", Boolean, nullable=False),
    Column("max_queue", Integer, nullable=False),
    Column("unloaded", Boolean, nullable=False),
    Column("created_us", BigInteger, nullable=False),
)

# ``since_us``: when its state or step began; ``live_us``: when it last got all traffic.
revisions = Table(
    "revisions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("commit", Text, nullable=False),
    Column("tree", Text, nullable=False),
    Column("signature", Json, nullable=False),
    Column("global_id", Text, nullable=False),
    Column("cause", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("traffic", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("live_us", BigInteger),
    UniqueConstraint("endpoint", "number"),
    UniqueConstraint("endpoint", "model_version", "cause"),
    Index("revisions_by_state", "state"),
    Index("revisions_by_change", "global_id"),
)

# What every change of traffic left behind: revision id → percentage.
traffic_changes = Table(
    "traffic_changes",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("split", Json, nullable=False),
    Index("traffic_changes_by_endpoint", "endpoint", "seq"),
    sqlite_autoincrement=True,
)

# Which process has which revision in memory. ``error`` '': loaded.
revision_loads = Table(
    "revision_loads",
    metadata,
    Column("revision", Text, primary_key=True),
    Column("process", Text, primary_key=True),
    Column("error", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
)

# ``gauges``: what the process has now, by the name of the metric, as it last told.
serving_processes = Table(
    "serving_processes",
    metadata,
    Column("id", Text, primary_key=True),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("url", Text, nullable=False),
    Column("started_us", BigInteger, nullable=False),
    Column("beat_us", BigInteger, nullable=False),
    Column("gauges", Json, nullable=False),
)

COUNTS = ("requests", "errors", "rejected", "nans", "latency_s", "buckets")


def _counts() -> list[Column[object]]:
    return [
        *(Column(name, Integer, nullable=False) for name in COUNTS[:4]),
        Column("latency_s", Float, nullable=False),
        Column("buckets", Json, nullable=False),
    ]


# What one process answered since its last row; an hour of them is kept.
endpoint_stats = Table(
    "endpoint_stats",
    metadata,
    Column("revision", Text, primary_key=True),
    Column("at_us", BigInteger, primary_key=True),
    Column("process", Text, primary_key=True),
    Column("endpoint", Text, nullable=False),
    *_counts(),
    Index("endpoint_stats_by_time", "at_us"),
)

# The sum of all rows of endpoint_stats, those that are gone too, and what it took (stats.Work).
revision_totals = Table(
    "revision_totals",
    metadata,
    Column("revision", Text, primary_key=True),
    Column("endpoint", Text, nullable=False),
    *_counts(),
    Column("work", Json, nullable=False),
)

# How far each spool file has been committed.
spool_offsets = Table(
    "spool_offsets",
    metadata,
    Column("segment", Text, primary_key=True),
    Column("offset", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
)

# The files of the prediction log, and which ids are in each.
prediction_segments = Table(
    "prediction_segments",
    metadata,
    Column("endpoint", Text, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("repo", Text, nullable=False),
    Column("commit", Text, nullable=False),
    Column("revision", Text, nullable=False),
    Column("global_id", Text, nullable=False),
    Column("min_id", Text, nullable=False),
    Column("max_id", Text, nullable=False),
    Column("requests", Integer, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Index("prediction_segments_by_id", "min_id", "max_id"),
    Index("prediction_segments_by_revision", "revision"),
    Index("prediction_segments_by_change", "global_id"),
)

# Revisions of all endpoints whose story has not ended.
OPEN = (
    select(revisions)
    .where(revisions.c.state.in_(("loading", "canary", "live", "draining")))
    .order_by(revisions.c.endpoint, revisions.c.number)
)

# The same without those of endpoints that a client has unloaded.
AWAKE = OPEN.where(
    revisions.c.endpoint.in_(select(endpoints.c.name).where(endpoints.c.unloaded.is_(False)))
)

# Revisions that had all traffic once and could have it back, the latest first.
FORMER = (
    select(revisions)
    .where(
        revisions.c.endpoint == bindparam("endpoint"),
        revisions.c.state.in_(("draining", "retired")),
        revisions.c.live_us.is_not(None),
    )
    .order_by(revisions.c.live_us.desc())
    .limit(1)
)

# The revision of each endpoint that traffic would go back to.
LATEST_FORMER = (
    select(revisions.c.endpoint, func.max(revisions.c.live_us).label("live_us"))
    .where(revisions.c.state.in_(("draining", "retired")))
    .group_by(revisions.c.endpoint)
    .subquery()
)
FORMERS = select(revisions).join(
    LATEST_FORMER,
    (revisions.c.endpoint == LATEST_FORMER.c.endpoint)
    & (revisions.c.live_us == LATEST_FORMER.c.live_us),
)

# Counts of a revision since a moment.
SINCE = select(endpoint_stats).where(
    endpoint_stats.c.revision == bindparam("revision"),
    endpoint_stats.c.at_us > bindparam("at_us"),
)

# Segments of the log that may hold ids from ``low`` to ``high``, newest first.
HOLDING = (
    select(prediction_segments)
    .where(
        prediction_segments.c.min_id <= bindparam("high"),
        prediction_segments.c.max_id >= bindparam("low"),
    )
    .order_by(prediction_segments.c.max_id.desc())
    .limit(1000)
)
