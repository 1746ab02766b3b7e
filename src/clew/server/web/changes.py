"""A change for people: what started it, how it went, and its story in the order of time.

Knows the records that a change consists of, and nothing of HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from clew.base.records import (
    ChangeStatus,
    Commit,
    DriftReport,
    Experiment,
    Job,
    ModelVersion,
    Revision,
    Verdict,
)

_CHECKPOINTS = ".checkpoints"
Thing = Commit | Job | Experiment | ModelVersion | Verdict | Revision | DriftReport


class Summary(Struct, frozen=True, kw_only=True):
    """One line on a change: ``title`` says what started it, ``place`` the repo where."""

    change: ChangeStatus
    title: str
    place: str
    at: datetime | None


class Entry(Struct, frozen=True, kw_only=True):
    """One thing that a change caused. ``kind`` as in the lineage."""

    at: datetime
    kind: str
    thing: Thing | tuple[Commit, ...]
    """A tuple for what is told as one: the checkpoints of a search."""


def summary(change: ChangeStatus) -> Summary:
    """What started a change: drift, a commit by a person, or the reason of its first job."""
    commits = sorted(change.commits, key=lambda commit: commit.started_at)
    jobs = sorted(change.jobs, key=lambda job: job.created_at)
    times = [c.started_at for c in commits[:1]] + [j.created_at for j in jobs[:1]]
    title, place = "A change", ""
    committed = next((c for c in commits if c.message and not c.provenance), None)
    raw = committed or next((c for c in commits if not c.provenance), None)
    if change.drift_reports:
        title, place = "Drift seen", change.drift_reports[0].endpoint
    elif committed is not None:
        title, place = committed.message, committed.repo
    elif jobs:
        title = jobs[0].reason or jobs[0].step
        place = raw.repo if raw else f"{jobs[0].pipeline}/{jobs[0].step}"
    elif raw is not None:
        title, place = "Data committed", raw.repo
    elif change.events:
        title = change.events[0].kind.replace(".", " ").replace("_", " ").capitalize()
    return Summary(change=change, title=title, place=place, at=min(times, default=None))


def timeline(change: ChangeStatus) -> list[Entry]:
    """Everything that a change caused, oldest first."""
    saved = tuple(c for c in change.commits if c.repo.endswith(_CHECKPOINTS))
    told = [c for c in change.commits if c not in saved]
    entries = [
        *(Entry(at=_end(saved[-1:]), kind="checkpoints", thing=saved) for _ in saved[:1]),
        *(Entry(at=_end([c]), kind="commit", thing=c) for c in told),
        *(Entry(at=j.finished_at or j.created_at, kind="job", thing=j) for j in change.jobs),
        *(Entry(at=e.created_at, kind="experiment", thing=e) for e in change.experiments),
        *(Entry(at=m.created_at, kind="model_version", thing=m) for m in change.model_versions),
        *(Entry(at=v.created_at, kind="verdict", thing=v) for v in change.verdicts),
        *(Entry(at=r.created_at, kind="revision", thing=r) for r in change.revisions),
        *(Entry(at=d.created_at, kind="drift_report", thing=d) for d in change.drift_reports),
    ]
    return sorted(entries, key=lambda entry: entry.at)


def _end(commits: Sequence[Commit]) -> datetime:
    return commits[0].finished_at or commits[0].started_at
