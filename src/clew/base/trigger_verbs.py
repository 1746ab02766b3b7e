"""The verbs about triggers: how far each is, what it did, what it would have done.

A part of ``clew.base.verbs.Verbs``. A trigger is named ``pipeline/trigger``, or by its own name
where that is clear.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Protocol

from clew.base.records.feeds import FiringInfo, Replayed, TriggerInfo


class TriggerVerbs(Protocol):
    """Everything that may be asked of triggers."""

    def triggers(self) -> list[TriggerInfo]:
        """All triggers, by name, with how far each is and when it fired last."""
        ...

    def trigger(self, name: str) -> TriggerInfo:
        """One trigger. Raises NotFound ``trigger.unknown``."""
        ...

    def firings(self, trigger: str | None = None, *, limit: int = 100) -> list[FiringInfo]:
        """Firings, newest first, skipped ones included: what set them off, what was done."""
        ...

    def pause_trigger(self, name: str, *, paused: bool = True) -> TriggerInfo:
        """Let it look at nothing; ``paused=False`` resumes it. What it had counted stays."""
        ...

    def fire_trigger(self, name: str, *, reason: str = "") -> FiringInfo:
        """Set it off by hand; the engine does what it does."""
        ...

    def backtest(
        self, trigger: str, *, since: datetime | None = None, until: datetime | None = None
    ) -> list[Replayed]:
        """When a trigger would have fired over the workspace's history, against when it did."""
        ...

    def backtest_file(
        self, file: Path | str, *, since: datetime | None = None, until: datetime | None = None
    ) -> list[Replayed]:
        """The same for every trigger that a file writes; nothing is registered."""
        ...
