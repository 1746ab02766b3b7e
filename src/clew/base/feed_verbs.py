"""The verbs about what comes in by itself: sources that poll, watch and listen.

A part of ``clew.base.verbs.Verbs``. A source is named ``pipeline/source``, or by its last part
where that is clear.
"""

from __future__ import annotations

from typing import Protocol

from clew.base.records import Commit
from clew.base.records.feeds import SourceInfo


class FeedVerbs(Protocol):
    """Everything that may be asked of sources that commit by themselves."""

    def sources(self) -> list[SourceInfo]:
        """All sources that commit by themselves, by name: state, lag, last error."""
        ...

    def source(self, name: str) -> SourceInfo:
        """One of them. Raises NotFound ``source.unknown``."""
        ...

    def pause_source(self, name: str, *, paused: bool = True) -> SourceInfo:
        """Read it no more; ``paused=False`` resumes it. What waits there is read then."""
        ...

    def poll_source(self, name: str) -> list[Commit]:
        """Read it now, until nothing more is there; the commits that came of it.

        A server reads its sources by itself; without one this is what does. Raises Conflict
        ``source.paused``, and what kept it from being read.
        """
        ...
