"""The verbs about triggers, on the files of one directory.

Knows the room of triggers, and where the past is that a replay goes over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from clew.base import clock
from clew.base.limits import check_limit
from clew.base.project import read_project
from clew.base.records import Event
from clew.base.records.feeds import FiringInfo, Replayed, TriggerInfo
from clew.triggers import Trigger, info_of, replay
from clew.workspace.acting import measure
from clew.workspace.applying import triggers_of
from clew.workspace.rooms import Rooms

_BATCH = 5000


class Reacting:
    """A part of :class:`clew.workspace.Workspace`."""

    rooms: Rooms

    def triggers(self) -> list[TriggerInfo]:
        """All triggers, with how far each is."""
        return list(self.rooms.triggers.infos())

    def trigger(self, name: str) -> TriggerInfo:
        """One trigger."""
        return self.rooms.triggers.info(name)

    def firings(self, trigger: str | None = None, *, limit: int = 100) -> list[FiringInfo]:
        """Firings, newest first."""
        room, limit = self.rooms.triggers, check_limit(limit)
        if trigger is None:
            return [info_of(one) for one in room.firings(limit=limit)]
        info = room.info(trigger)
        found = room.firings(trigger=info.name, pipeline=info.pipeline, limit=limit)
        return [info_of(one) for one in found]

    def pause_trigger(self, name: str, *, paused: bool = True) -> TriggerInfo:
        """Let it look at nothing, until it is resumed."""
        self.rooms.triggers.pause(name, paused=paused)
        return self.rooms.triggers.info(name)

    def fire_trigger(self, name: str, *, reason: str = "") -> FiringInfo:
        """Set it off by hand."""
        return info_of(self.rooms.triggers.fire(name, reason=reason))

    def backtest(
        self, trigger: str, *, since: datetime | None = None, until: datetime | None = None
    ) -> list[Replayed]:
        """When a trigger would have fired over history, against when it did."""
        pipeline, found = self.rooms.triggers.find(trigger)
        return self._replayed(pipeline, found, since, until)

    def backtest_file(
        self, file: Path | str, *, since: datetime | None = None, until: datetime | None = None
    ) -> list[Replayed]:
        """The same for every trigger that a file writes, without applying it."""
        files, entry = read_project(Path(file))
        return self.backtest_files(files, entry, since=since, until=until)

    def backtest_files(
        self,
        files: Mapping[str, bytes],
        entry: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Replayed]:
        """The same, of ``entry`` among the files of its project."""
        return [
            one
            for pipeline, trigger in triggers_of(self.rooms, files, entry)
            for one in self._replayed(pipeline, trigger, since, until)
        ]

    def _replayed(
        self, pipeline: str, trigger: Trigger, since: datetime | None, until: datetime | None
    ) -> list[Replayed]:
        start = since or next((one.at for one in self._events(None, None)), clock.now())
        end = until or clock.now()
        fired = [
            one
            for one in self.rooms.triggers.firings(
                trigger=trigger.name, pipeline=pipeline, limit=1_000_000
            )
            if _aware(start) <= one.at <= _aware(end)
        ]
        return replay(
            pipeline,
            trigger,
            self._events(_aware(start), _aware(end)),
            since=_aware(start),
            until=_aware(end),
            measure=lambda commit, names: measure(self.rooms, commit, names),
            fired=fired,
        )

    def _events(self, since: datetime | None, until: datetime | None) -> Iterator[Event]:
        """Events of a span of time, in order."""
        seq = 0
        while found := self.rooms.db.events.after(seq, limit=_BATCH):
            for event in found:
                if (since is None or event.at >= since) and (until is None or event.at <= until):
                    yield event
            seq = found[-1].seq


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
