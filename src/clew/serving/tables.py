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
    Column("log", Float, nullable=False),
    Column("redact", Json, nullable=False),
    Column("max_queue", Integer, nullable=False),
    Column("isolate", Boolean),
    Column("processing", Json),
    Column("graph", Json),
    Column("alias", Text, nullable=False),
    Column("unloaded", Boolean, nullable=False),
    Column("created_us", BigInteger, nullable=False),
)

# ``processing``: digest of the functions around its model, or of the graph that it is;
# ``functions``: the commit that has them.
# ``since_us``: when its state or step began; ``live_us``: when it last got all traffic;
# ``rollout``: how it takes over where that is not as its endpoint says; ``analysis``: of a canary,
# what both had answered when the step began (``base``), and log e-values of the steps before.
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
    Column("processing", Text, nullable=False),
    Column("functions", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("traffic", Float, nullable=False),
    Column("step", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("live_us", BigInteger),
    Column("rollout", Json),
    Column("analysis", Json),
    UniqueConstraint("endpoint", "number"),
    UniqueConstraint("endpoint", "model_version", "cause"),
    Index("revisions_by_state", "state"),
    Index("revisions_by_change", "global_id"),
)

# What every change of traffic left behind: revision id → percentage, and why.
traffic_changes = Table(
    "traffic_changes",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("reason", Text, nullable=False),
    Column("split", Json, nullable=False),
    Column("evidence", Json),
    Index("traffic_changes_by_endpoint", "endpoint", "seq"),
    sqlite_autoincrement=True,
)

# An A/B test or a bandit of an endpoint, with its arms (revision and percent; the first is the
# control) and the latest look at it. ``base``: what each arm had been assigned when it began.
# ``looked_us``: when it was last looked at. One of an endpoint is ``running`` at most.
traffic_tests = Table(
    "traffic_tests",
    metadata,
    Column("id", Text, primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("rollout", Json, nullable=False),
    Column("state", Text, nullable=False),
    Column("arms", Json, nullable=False),
    Column("base", Json, nullable=False),
    Column("evidence", Json, nullable=False),
    Column("reason", Text, nullable=False),
    Column("global_id", Text, nullable=False),
    Column("begun_us", BigInteger, nullable=False),
    Column("looked_us", BigInteger, nullable=False),
    Column("ended_us", BigInteger),
    Index("traffic_tests_by_endpoint", "endpoint", "state"),
)

# The keys that a running A/B test has assigned, each once: the first that came.
traffic_keys = Table(
    "traffic_keys",
    metadata,
    Column("test", Text, primary_key=True),
    Column("unit", Text, primary_key=True),
    Column("revision", Text, nullable=False),
)

# What became of a prediction, joined to it. ``unit``: its key, or itself; ``predicted_us``: when it
# was made; ``commit``: of the feedback repo, NULL until it is there.
feedback = Table(
    "feedback",
    metadata,
    Column("prediction", Text, primary_key=True),
    Column("row", Integer, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("endpoint", Text, nullable=False),
    Column("revision", Text, nullable=False),
    Column("model_version", Text, nullable=False),
    Column("global_id", Text, nullable=False),
    Column("arm", Text, nullable=False),
    Column("propensity", Float, nullable=False),
    Column("unit", Text, nullable=False),
    Column("label", Json),
    Column("reward", Float),
    Column("correct", Integer),
    Column("error", Float),
    Column("predicted_us", BigInteger, nullable=False),
    Column("at_us", BigInteger, nullable=False),
    Column("commit", Text),
    Index("feedback_by_time", "endpoint", "predicted_us"),
    Index("feedback_by_commit", "commit"),
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

WHOLE = (
    "requests", "errors", "rejected", "nans", "assigned", "compared", "disagreed", "dropped",
)  # fmt: skip
COUNTS = (*WHOLE, "latency_s", "buckets", "outputs")


def _counts() -> list[Column[object]]:
    return [
        *(Column(name, Integer, nullable=False) for name in WHOLE),
        Column("latency_s", Float, nullable=False),
        Column("buckets", Json, nullable=False),
        Column("outputs", Json, nullable=False),
    ]


# All that a revision ever answered, and what it took (stats.Work).
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

OPEN_STATES = ("loading", "shadow", "canary", "arm", "live", "draining")
# Revisions of all endpoints whose story has not ended.
OPEN = (
    select(revisions)
    .where(revisions.c.state.in_(OPEN_STATES))
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

# Whether some feedback is not committed.
WAITING_FEEDBACK = select(feedback.c.prediction).where(feedback.c.commit.is_(None)).limit(1)

# The test of an endpoint that is under way.
RUNNING = select(traffic_tests).where(
    traffic_tests.c.endpoint == bindparam("endpoint"), traffic_tests.c.state == "running"
)
TESTS = select(traffic_tests).where(traffic_tests.c.state == "running")

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
