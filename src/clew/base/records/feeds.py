"""Records of what comes in by itself and of what is set off by it: sources, triggers, firings.

Plain values that travel over the wire; they know no storage.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct, field


class SourceInfo(Struct, frozen=True, kw_only=True):
    """A source that commits by itself. ``name`` is ``pipeline/source``.

    ``kind``: database, directory, bucket, webhook, redis, kafka. ``state``: waiting, polling,
    paused or failing. ``lag`` is how many of its items (rows, files, messages) wait as far as is
    known; ``note`` says what they wait for. After an error it is tried again at ``next_at``.
    """

    name: str
    kind: str
    place: str
    """Where it reads, without any secret."""
    repo: str
    branch: str
    state: str
    polled_at: datetime | None
    committed_at: datetime | None
    commit: str | None
    commits: int
    items: int
    size_bytes: int
    lag: int | None
    note: str
    error: str
    error_code: str
    failures: int
    next_at: datetime | None
    position: dict[str, object]


class Received(Struct, frozen=True, kw_only=True):
    """What became of a request to a webhook. ``id`` is its idempotency key, or a new one."""

    source: str
    id: str
    path: str
    duplicate: bool


class TriggerInfo(Struct, frozen=True, kw_only=True):
    """A trigger. ``state``: active or paused. ``when`` and ``action`` are in words.

    ``progress`` says of each part of the condition how far it is; ``next_at`` is its next tick.
    """

    name: str
    pipeline: str
    state: str
    when: str
    action: str
    cooldown_s: float
    limit: str
    progress: tuple[str, ...]
    fired: int
    fired_at: datetime | None
    next_at: datetime | None
    held: str = ""
    """Why it does not fire although its condition is met: a cool-down, a limit."""


class FiringInfo(Struct, frozen=True, kw_only=True):
    """One trigger set off. ``state``: pending, done, failed or skipped. ``reason`` is a sentence.

    ``causes`` are what set it off, each once: commits, ticks, values, events. ``effect`` says what
    was done; ``change`` is the global id of what it started, '' where it started nothing.
    """

    id: str
    trigger: str
    pipeline: str
    causes: tuple[str, ...]
    global_id: str
    action: str
    state: str
    reason: str
    attempts: int
    error: str
    effect: str
    change: str
    created_at: datetime
    finished_at: datetime | None


class Replayed(Struct, frozen=True, kw_only=True):
    """When a trigger would have fired over history, and when it did.

    ``kind``: both, only_replayed (it would have, and did not) or only_fired.
    """

    trigger: str
    pipeline: str
    at: datetime
    kind: str
    reason: str
    causes: tuple[str, ...] = ()
    firing: str = ""
    detail: dict[str, object] = field(default_factory=dict)
