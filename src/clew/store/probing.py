"""Whether a bucket keeps its conditions: seen by trying, never believed.

Knows races on throwaway names; knows nothing of what the conditions are for.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from clew.base.ids import new_id
from clew.store.locking import Conditions
from clew.store.objects import Bucket, Version

WRITERS = 8
_LITTER = timedelta(days=1)


def probe(bucket: Bucket) -> Conditions:
    """Let several writers race for one name, and again for one version of it.

    A bucket keeps conditions if exactly one wins, its bytes are those that stand there, and a
    version that is gone cannot be written over. What earlier probes left behind is removed.

    Raises:
        Unavailable: ``store.unreachable``; Denied: ``store.denied``; NotFound:
            ``store.bucket_missing``.
    """
    name = f"tmp/probe-{new_id()}"
    try:
        if not _race(bucket, name, lambda data: bucket.create(name, data)):
            return Conditions(create=False, update=False)
        for bare in (False, True):
            conditions = Conditions(create=True, update=True, bare=bare)
            if _keeps_updates(bucket, name, conditions):
                return conditions
        return Conditions(create=True, update=False)
    finally:
        bucket.remove(name)
        _sweep(bucket)


def _keeps_updates(bucket: Bucket, name: str, conditions: Conditions) -> bool:
    before = bucket.get(name).version
    named = conditions.name(before)
    if not _race(bucket, name, lambda data: bucket.update(name, data, named)):
        return False
    return bucket.update(name, b"stale", named) is None


def _race(bucket: Bucket, name: str, write: Callable[[bytes], Version | None]) -> bool:
    """Whether exactly one of several writers came through, and what it wrote stands there."""
    entries = [f"{name} {number} {new_id()}".encode() for number in range(WRITERS)]

    def one(data: bytes) -> bytes | None:
        return None if write(data) is None else data

    try:
        with ThreadPoolExecutor(WRITERS) as pool:
            winners = [data for data in pool.map(one, entries) if data is not None]
        return len(winners) == 1 and bucket.get(name).data == winners[0]
    except (NotImplementedError, FileNotFoundError):
        return False


def _sweep(bucket: Bucket) -> None:
    found = bucket.list("tmp")
    horizon = max(found.values(), default=None)
    for name, modified in found.items():
        if horizon is not None and modified < horizon - _LITTER:
            bucket.remove(f"tmp/{name}")
