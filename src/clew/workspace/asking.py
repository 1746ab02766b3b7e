"""Answers over several rooms: the status, and all that a change caused.

Knows which room to ask for what; it changes nothing.
"""

from __future__ import annotations

from clew.base.records import ChangeStatus, Commit, Endpoint, Job, Status
from clew.workspace.rooms import Rooms

RECENT = 20


def commit_at(rooms: Rooms, ref: str) -> Commit:
    """The commit of ``repo@ref`` or of an id."""
    if "/" in ref or "@" in ref:
        return rooms.repos.resolve(ref)
    return rooms.repos.commit_by_id(ref)


def status(rooms: Rooms, endpoints: list[Endpoint]) -> Status:
    """The workspace at a glance."""
    jobs = rooms.pipelines.jobs(limit=200)

    def in_state(*states: str) -> tuple[Job, ...]:
        return tuple(job for job in jobs if job.state in states)[:RECENT]

    broken, before = rooms.pipelines.broken()
    return Status(
        workspace=str(rooms.settings.home),
        running=in_state("running"),
        waiting=in_state("waiting"),
        recent=in_state("done"),
        refused=tuple(broken[:RECENT]),
        refused_before=before + len(broken[RECENT:]),
        endpoints=tuple(endpoints),
        drift=tuple(rooms.monitoring.reports(limit=5)),
        global_ids=tuple(rooms.lineage.latest_changes(RECENT)),
    )


def pending(rooms: Rooms, global_id: str | None) -> bool:
    """Whether jobs are left that will end by themselves: of one change, or at all.

    Of one change also where a commit that somebody writes step by step is still open.
    """
    if global_id is not None and any(
        commit.state == "open" and commit.tree for commit in rooms.repos.of_change(global_id)
    ):
        return True
    return rooms.pipelines.control.is_pending(global_id)


def change(rooms: Rooms, global_id: str) -> ChangeStatus:
    """All that carries one global id (or a unique beginning of it).

    Raises:
        NotFound: ``change.unknown``.
    """
    full = rooms.lineage.change(global_id)
    experiments, trials = rooms.experiments.of_change(full)
    return ChangeStatus(
        global_id=full,
        commits=tuple(rooms.repos.of_change(full)),
        jobs=tuple(rooms.pipelines.of_change(full)),
        experiments=experiments,
        trials=trials,
        model_versions=tuple(rooms.models.versions(global_id=full)),
        verdicts=tuple(rooms.models.verdicts(global_id=full)),
        revisions=tuple(rooms.serving.of_change(full)),
        drift_reports=tuple(rooms.monitoring.of_change(full)),
        predictions=rooms.serving.count_of_change(full),
        events=tuple(rooms.db.events.after(0, global_id=full, limit=500)),
    )
