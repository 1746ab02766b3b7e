"""Revisions that go on answering in place of one that has the traffic and is not loaded yet.

Knows names, shares and what is in memory; no rows and no requests. Two rollbacks within a second
take an endpoint to a revision that nobody holds: until it is there, what was answering answers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class StandIns(Generic[T]):
    """What stands in, by endpoint and revision. Not thread-safe: its owner holds a lock."""

    def __init__(self) -> None:
        self._answering: dict[str, set[str]] = {}  # endpoint → who had its traffic last
        self._held: dict[str, tuple[str, T]] = {}  # revision → its endpoint, and itself

    def values(self) -> list[T]:
        """All that stand in."""
        return [one for _, one in self._held.values()]

    def of(self, endpoint: str) -> dict[str, T]:
        """Those of an endpoint, by revision."""
        return {id: one for id, (name, one) in self._held.items() if name == endpoint}

    def answered_by(self, endpoint: str, revisions: Iterable[str]) -> None:
        """These have the traffic of an endpoint now, and are in memory."""
        self._answering[endpoint] = set(revisions)

    def take(self, gone: Mapping[str, tuple[str, T]], lacking: Collection[str]) -> None:
        """Keep those of ``gone`` (revision → endpoint, itself) that answered for an endpoint that
        is ``lacking``: nothing that has its traffic is in memory.
        """
        for id, (name, one) in gone.items():
            if name in lacking and id in self._answering.get(name, ()):
                self._held[id] = (name, one)

    def back(self, wanted: Collection[str]) -> dict[str, T]:
        """Those that are wanted again; they stand in no more."""
        return {id: self._held.pop(id)[1] for id in [*self._held] if id in wanted}

    def leave(self, lacking: Collection[str]) -> dict[str, T]:
        """Those whose endpoint lacks nothing any more; they stand in no more."""
        going = [id for id, (name, _) in self._held.items() if name not in lacking]
        return {id: self._held.pop(id)[1] for id in going}
