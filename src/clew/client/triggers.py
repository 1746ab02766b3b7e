"""The verbs about triggers, of a workspace that a server holds.

Knows which route answers which verb, and nothing of how HTTP is spoken.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from urllib.parse import quote

from clew.base.archive import MEDIA_TYPE, pack
from clew.base.project import project_files
from clew.base.records.feeds import FiringInfo, Replayed, TriggerInfo
from clew.client.wire import Wire


class RemoteTriggers:
    """A part of :class:`clew.client.RemoteWorkspace`."""

    _wire: Wire

    def triggers(self) -> list[TriggerInfo]:
        """All triggers, with how far each is."""
        return self._wire.get("/triggers", list[TriggerInfo])

    def trigger(self, name: str) -> TriggerInfo:
        """One trigger."""
        return self._wire.get(f"/triggers/{quote(name)}", TriggerInfo)

    def firings(self, trigger: str | None = None, *, limit: int = 100) -> list[FiringInfo]:
        """Firings, newest first."""
        return self._wire.get("/firings", list[FiringInfo], trigger=trigger, limit=limit)

    def pause_trigger(self, name: str, *, paused: bool = True) -> TriggerInfo:
        """Let it look at nothing, until it is resumed."""
        return self._wire.post("/triggers/pause", TriggerInfo, {"name": name, "paused": paused})

    def fire_trigger(self, name: str, *, reason: str = "") -> FiringInfo:
        """Set it off by hand."""
        return self._wire.post("/triggers/fire", FiringInfo, {"name": name, "reason": reason})

    def backtest(
        self, trigger: str, *, since: datetime | None = None, until: datetime | None = None
    ) -> list[Replayed]:
        """When a trigger would have fired over history, against when it did."""
        return self._wire.get(
            "/backtest", list[Replayed], trigger=trigger, since=_text(since), until=_text(until)
        )

    def backtest_file(
        self, file: Path | str, *, since: datetime | None = None, until: datetime | None = None
    ) -> list[Replayed]:
        """The same for every trigger that a file writes."""
        files, entry = project_files(Path(file))
        bounds = {"since": _text(since), "until": _text(until)}
        return self._wire.upload(
            "/backtest", list[Replayed], pack(files), MEDIA_TYPE, entry=entry, **bounds
        )


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
