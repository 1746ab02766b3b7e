"""Sources that commit by themselves: databases, directories, buckets, webhooks, queues.

Knows repos, and nothing of what runs on what it commits.
"""

from typing import TYPE_CHECKING

from clew.base.doors import on_demand
from clew.sources.definitions import (
    Feed,
    FeedDefinition,
    bucket,
    database,
    directory,
    kafka,
    redis_stream,
    webhook,
)

if TYPE_CHECKING:
    from clew.sources.databases import ask
    from clew.sources.feeding import Feeding
    from clew.sources.sources import Sources

__all__ = [
    "Feed",
    "FeedDefinition",
    "Feeding",
    "Sources",
    "ask",
    "bucket",
    "database",
    "directory",
    "kafka",
    "redis_stream",
    "webhook",
]

__getattr__ = on_demand(__name__, {"Sources": "sources", "ask": "databases", "Feeding": "feeding"})
