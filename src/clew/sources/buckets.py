"""Objects below a prefix of a bucket, as they come, change and go.

Knows listings and ETags; what was committed it is told by marks.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec

from clew.base.ids import new_id
from clew.repos import glob_match
from clew.sources.definitions import Feed
from clew.sources.reading import Increment, Place, Position, Standing, Surroundings, plain_wait
from clew.store import Store


class _Options(msgspec.Struct, kw_only=True):
    url: str
    glob: str = "**"
    deletes: bool = False
    into: str = "/"


class BucketReader:
    """Lists one prefix. Keeps ``clew.sources.reading.Reader``.

    An object is new when its ETag is not the one that was committed. It is fetched with one
    request, and marked with the ETag of that answer, so that what changes in between is seen at the
    next listing.
    """

    def __init__(self, name: str, feed: Feed, around: Surroundings) -> None:  # noqa: ARG002 - as every source is made
        self._options = msgspec.convert(feed.options, _Options)
        self._limit = feed.batch_count
        self._glob = glob_match(self._options.glob)
        self._bucket = Store.bucket(around.secret(self._options.url))
        self._scratch = around.scratch / f"bucket-{new_id()}"
        self._left = 0

    def read(self, place: Place, stop: Callable[[], bool]) -> Increment | None:
        """See :meth:`Reader.read`."""
        self._clean()
        marks = place.marks()
        found = {
            path: tag
            for path, tag in self._bucket.listing().items()
            if self._glob.match(f"/{path}") is not None
        }
        changed = sorted(path for path, tag in found.items() if marks.get(path) != tag)
        gone = [path for path in marks if path not in found] if self._options.deletes else []
        self._left = max(0, len(changed) - self._limit)
        fetched: dict[str, tuple[Path, str]] = {}
        for path in changed[: self._limit]:
            if stop():
                return None
            target = self._scratch / str(len(fetched))
            self._scratch.mkdir(parents=True, exist_ok=True)
            try:
                fetched[path] = (target, self._bucket.fetch(path, target))
            except FileNotFoundError:  # it went since the listing: the next one says so
                continue
        if not fetched and not gone:
            return None
        into = self._options.into
        return Increment(
            puts={f"{into}{path}": file for path, (file, _) in fetched.items()},
            deletes=[f"{into}{path}" for path in gone],
            position={},
            marked={path: tag for path, (_, tag) in fetched.items()},
            unmarked=gone,
            items=len(fetched),
            size_bytes=sum(file.stat().st_size for file, _ in fetched.values()),
            more=self._left > 0,
            message=f"{len(fetched):,} objects" + (f", {len(gone):,} gone" if gone else ""),
        )

    def committed(self, position: Position) -> None:  # noqa: ARG002 - all of it
        """See :meth:`Reader.committed`: what was fetched is let go of."""
        self._clean()

    def standing(self) -> Standing:
        """See :meth:`Reader.standing`."""
        return Standing(lag=self._left)

    def wait(self, timeout_s: float, stopped: Callable[[float], bool]) -> bool:
        """See :meth:`Reader.wait`."""
        return plain_wait(timeout_s, stopped)

    def close(self) -> None:
        """See :meth:`Reader.close`."""
        self._clean()

    def _clean(self) -> None:
        shutil.rmtree(self._scratch, ignore_errors=True)
